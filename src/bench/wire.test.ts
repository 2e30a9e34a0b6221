import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import protobuf from "protobufjs";
import * as wire from "./wire.ts";

/** An independent codec over the same definitions. */
const types = protobuf.parse(
  `syntax = "proto3";
  message Header { uint64 cluster_id = 1; uint64 member_id = 2; int64 revision = 3; uint64 raft_term = 4; }
  message Kv { bytes key = 1; int64 create_revision = 2; int64 mod_revision = 3; int64 version = 4; bytes value = 5; }
  message Range { bytes key = 1; bytes range_end = 2; int64 limit = 3; int64 revision = 4; bool serializable = 7; }
  message RangeAnswer { Header header = 1; repeated Kv kvs = 2; bool more = 3; int64 count = 4; }
  message Put { bytes key = 1; bytes value = 2; int64 lease = 3; }
  message PutAnswer { Header header = 1; Kv prev_kv = 2; }
  message Compare { int32 result = 1; int32 target = 2; bytes key = 3; oneof u { int64 mod_revision = 6; } }
  message Op { oneof o { Range request_range = 1; Put request_put = 2; } }
  message OpAnswer { oneof o { RangeAnswer response_range = 1; PutAnswer response_put = 2; } }
  message Txn { repeated Compare compare = 1; repeated Op success = 2; repeated Op failure = 3; }
  message TxnAnswer { Header header = 1; bool succeeded = 2; repeated OpAnswer responses = 3; }
  message Create { bytes key = 1; bytes range_end = 2; int64 start_revision = 3; bool progress_notify = 4;
    bool prev_kv = 6; }
  message Watch { oneof u { Create create_request = 1; } }
  message Event { int32 type = 1; Kv kv = 2; Kv prev_kv = 3; }
  message WatchAnswer { Header header = 1; int64 watch_id = 2; bool created = 3; bool canceled = 4;
    repeated Event events = 11; }
  message Status { Header header = 1; string version = 2; int64 dbSize = 3; uint64 leader = 4; }`,
  { keepCase: true },
).root;

/** As a plain Uint8Array, so that what is read from it compares to plain ones. */
const encode = (name: string, value: object): Uint8Array => {
  const type = types.lookupType(name);
  return Uint8Array.from(type.encode(type.fromObject(value)).finish());
};
const decode = (name: string, bytes: Uint8Array): unknown => {
  const options = { longs: Number, bytes: Array, defaults: false } as const;
  return types.lookupType(name).toObject(types.lookupType(name).decode(bytes), options);
};

const bytes = fc.uint8Array({ minLength: 1, maxLength: 400 });
const revision = fc.nat({ max: 2 ** 31 - 1 }).map((value) => value * 1_000_003);

test("requests decode to what was meant", () => {
  fc.assert(
    fc.property(bytes, bytes, revision, (key, value, modRevision) => {
      const [keyList, valueList] = [[...key], [...value]];
      assert.deepEqual(decode("Put", wire.encodePut(key, value)), { key: keyList, value: valueList });
      assert.deepEqual(
        decode("Range", wire.encodeRange({ key, rangeEnd: value, limit: 500, serializable: true })),
        {
          key: keyList,
          range_end: valueList,
          limit: 500,
          serializable: true,
        },
      );
      assert.deepEqual(decode("Txn", wire.encodeUpdate(key, modRevision, value)), {
        compare: [{ target: 2, key: keyList, mod_revision: modRevision }],
        success: [{ request_put: { key: keyList, value: valueList } }],
        failure: [{ request_range: { key: keyList } }],
      });
      assert.deepEqual(decode("Watch", wire.encodeWatchCreate(key, value, modRevision + 1)), {
        create_request: {
          key: keyList,
          range_end: valueList,
          start_revision: modRevision + 1,
          progress_notify: true,
          prev_kv: true,
        },
      });
    }),
  );
});

test("answers give the fields that are looked at", () => {
  fc.assert(
    fc.property(bytes, bytes, revision, fc.nat(1000), (key, value, modRevision, version) => {
      const header = { cluster_id: 7, member_id: 8, revision: modRevision, raft_term: 3 };
      const kv = { key, value, create_revision: 5, mod_revision: modRevision, version };
      assert.equal(wire.readPutRevision(encode("PutAnswer", { header, prev_kv: kv })), modRevision);
      const range = { header, kvs: [kv, kv], more: true, count: 9 };
      const read = wire.readRange(encode("RangeAnswer", range));
      assert.deepEqual([read.revision, read.count, read.kvs.length], [modRevision, 9, 2]);
      assert.deepEqual(read.kvs[1], { key, value, modRevision, version });
      assert.equal(wire.countRange(encode("RangeAnswer", range)), 2);
      const failed = encode("TxnAnswer", { header, responses: [{ response_range: { header, kvs: [kv] } }] });
      const update = wire.readUpdate(failed);
      assert.deepEqual(update, {
        succeeded: false,
        revision: modRevision,
        current: { key, value, modRevision, version },
      });
      const done = encode("TxnAnswer", {
        header,
        succeeded: true,
        responses: [{ response_put: { header } }],
      });
      assert.deepEqual(wire.readUpdate(done), { succeeded: true, revision: modRevision, current: undefined });
    }),
  );
});

test("watch answers give every event's revision and whether each has its previous value", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(revision, fc.boolean()), { maxLength: 20 }),
      fc.boolean(),
      (events, created) => {
        const kv = (modRevision: number) => ({
          key: [1],
          mod_revision: modRevision,
          value: [1, 2],
          version: 2,
        });
        const message = encode("WatchAnswer", {
          header: { revision: 77 },
          watch_id: 3,
          created,
          events: events.map(([modRevision, previous]) => ({
            kv: kv(modRevision),
            ...(previous && { prev_kv: kv(1) }),
          })),
        });
        const seen: number[] = [];
        const summary = {
          created: true,
          canceled: true,
          events: 9,
          eventsWithPrevious: 9,
          headerRevision: 0,
        };
        wire.readWatch(message, summary, (modRevision) => seen.push(modRevision));
        assert.deepEqual(
          seen,
          events.map(([modRevision]) => modRevision),
        );
        const eventsWithPrevious = events.filter(([, previous]) => previous).length;
        const wanted = {
          created,
          canceled: false,
          events: events.length,
          eventsWithPrevious,
          headerRevision: 77,
        };
        assert.deepEqual(summary, wanted);
      },
    ),
  );
});

test("member ids are exact", () => {
  const header = { member_id: "18446744073709551615", revision: 4 };
  const message = encode("Status", { header, version: "3.6.0", dbSize: 12, leader: "9337153620579124171" });
  assert.deepEqual(wire.readStatus(message), {
    memberId: 18446744073709551615n,
    leaderId: 9337153620579124171n,
    revision: 4,
    version: "3.6.0",
    dbSizeBytes: 12,
  });
});

test("any bytes are read or refused with WireError", () => {
  const readers: ((message: Uint8Array) => unknown)[] = [
    wire.readPutRevision,
    wire.readRange,
    wire.countRange,
    wire.readUpdate,
    wire.readStatus,
  ];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.constantFrom(...readers), (message, read) => {
      try {
        read(message);
      } catch (error) {
        assert.ok(error instanceof wire.WireError, String(error));
      }
    }),
  );
});

test("the end of a prefix is a copy one higher", () => {
  const prefix = Buffer.from("/a/");
  assert.deepEqual(Buffer.from(wire.prefixEnd(prefix)), Buffer.from("/a0"));
  assert.equal(prefix.toString(), "/a/");
});
