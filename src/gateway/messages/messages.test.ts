/** The hand-written codecs against protobufjs with a schema of its own: every message both ways. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  type KeyValue,
  type ResponseOp,
  StoreError,
  type TxnResult,
  type WatchEvent,
} from "../../store/types.ts";
import { decodeMessage, encodeMessage, type Message, schema } from "../testing/client.ts";
import { ProtoError, ProtoReader } from "../wire/proto-reader.ts";
import { varint64Size, varintSize, writer } from "../wire/proto-writer.ts";
import {
  checkStatusRequest,
  encodeMemberList,
  encodeStatus,
  readAlarmAction,
  readMemberListRequest,
} from "./cluster-messages.ts";
import { HeaderEncoder } from "./header.ts";
import {
  readCompactionRequest,
  readDeleteRangeRequest,
  readMessage,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
  TxnTooDeepError,
} from "./kv-requests.ts";
import {
  encodeDeleteRangeResponse,
  encodePutResponse,
  encodeRangeResponse,
  encodeTxnResponse,
} from "./kv-responses.ts";
import {
  checkLeaseLeasesRequest,
  encodeLeases,
  encodeLeaseTimeToLive,
  encodeLeaseTtl,
  readLeaseGrantRequest,
  readLeaseKeepAliveRequest,
  readLeaseRevokeRequest,
  readLeaseTimeToLiveRequest,
} from "./lease-messages.ts";
import {
  encodeControlResponse,
  encodeEvent,
  encodeEventsResponses,
  readWatchRequest,
} from "./watch-messages.ts";

const header = new HeaderEncoder(0xffff_ffff_ffff_fff1n, 7n);
const HEADER = (revision: number, term: number) => ({
  cluster_id: "18446744073709551601",
  member_id: "7",
  revision: String(revision),
  raft_term: String(term),
});
const INNER = (revision: number) => ({
  cluster_id: "0",
  member_id: "0",
  revision: String(revision),
  raft_term: "0",
});

const byteString = (maxLength: number) =>
  fc.uint8Array({ maxLength }).map((bytes) => Buffer.from(bytes).toString("latin1"));
const key = fc.oneof(byteString(6), byteString(60));
const natural = fc.oneof(fc.nat(300), fc.nat(), fc.maxSafeNat());
const positive = natural.map((value) => Math.max(value, 1));
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const keyValue: fc.Arbitrary<KeyValue> = fc.record({
  key,
  createRevision: natural,
  modRevision: natural,
  version: natural,
  value: fc.uint8Array({ maxLength: 300 }),
  lease: fc.oneof(fc.constant(0n), int64),
});

/** The message of a frame whose prefix is right. */
function unframe(frame: Buffer): Buffer {
  assert.equal(frame[0], 0);
  assert.equal(frame.readUInt32BE(1), frame.length - 5);
  return frame.subarray(5);
}

const plainKv = (kv: KeyValue): Message => ({
  key: kv.key,
  create_revision: String(kv.createRevision),
  mod_revision: String(kv.modRevision),
  version: String(kv.version),
  value: Buffer.from(kv.value).toString("latin1"),
  lease: String(kv.lease),
});
const plainKvOrNull = (kv: KeyValue | undefined): Message => (kv === undefined ? null : plainKv(kv));

const runs = { numRuns: 150 };

test("varint sizes are those of the bytes written", () => {
  const sizes = fc.oneof(fc.integer({ min: -5, max: 5 }), fc.maxSafeInteger());
  fc.assert(
    fc.property(sizes, (value) => {
      writer.begin(varintSize(value));
      writer.varint(value);
      const reader = new ProtoReader(writer.finish());
      assert.equal(reader.int64(), value);
      assert.equal(reader.at, reader.end);
    }),
  );
  fc.assert(
    fc.property(int64, (value) => {
      writer.begin(varint64Size(value));
      writer.varint64(value);
      assert.equal(new ProtoReader(writer.finish()).int64Exact(), value);
    }),
  );
});

test("int64 gives the nearest number beyond 2^53", () => {
  for (const value of [2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n, -1n, 0n, 2n ** 32n, 2n ** 31n]) {
    writer.begin(varint64Size(value));
    writer.varint64(value);
    assert.equal(new ProtoReader(writer.finish()).int64(), Number(value));
  }
});

test("range requests are read as protobufjs writes them", () => {
  const shape = fc.record({
    key,
    range_end: key,
    limit: natural,
    revision: natural,
    sort_order: fc.nat(2),
    sort_target: fc.nat(4),
    serializable: fc.boolean(),
    keys_only: fc.boolean(),
    count_only: fc.boolean(),
    min_mod_revision: natural,
    max_mod_revision: natural,
    min_create_revision: natural,
    max_create_revision: natural,
  });
  fc.assert(
    fc.property(shape, (request) => {
      assert.deepEqual(readMessage(encodeMessage("etcdserverpb.RangeRequest", request), readRangeRequest), {
        key: request.key,
        rangeEnd: request.range_end,
        limit: request.limit,
        revision: request.revision,
        sortOrder: request.sort_order,
        sortTarget: request.sort_target,
        serializable: request.serializable,
        keysOnly: request.keys_only,
        countOnly: request.count_only,
        minModRevision: request.min_mod_revision,
        maxModRevision: request.max_mod_revision,
        minCreateRevision: request.min_create_revision,
        maxCreateRevision: request.max_create_revision,
      });
    }),
    runs,
  );
});

test("numbers of a range request keep their sign, and beyond 2^53 become the largest exact one", () => {
  const read = (request: Message) =>
    readMessage(encodeMessage("etcdserverpb.RangeRequest", request), readRangeRequest);
  const negative = read({ limit: -3, revision: -4, min_mod_revision: -1 });
  assert.deepEqual([negative.limit, negative.revision, negative.minModRevision], [-3, -4, -1]);
  assert.equal(read({ revision: "9223372036854775807" }).revision, Number.MAX_SAFE_INTEGER);
  assert.equal(read({ revision: "-9223372036854775808" }).revision, -Number.MAX_SAFE_INTEGER);
});

test("put and delete requests are read as protobufjs writes them", () => {
  const put = fc.record({
    key,
    value: byteString(200),
    lease: int64,
    prev_kv: fc.boolean(),
    ignore_value: fc.boolean(),
    ignore_lease: fc.boolean(),
  });
  fc.assert(
    fc.property(put, (request) => {
      const bytes = encodeMessage("etcdserverpb.PutRequest", { ...request, lease: String(request.lease) });
      const got = readMessage(bytes, readPutRequest);
      assert.equal(Buffer.from(got.value).toString("latin1"), request.value);
      assert.deepEqual(
        { ...got, value: null },
        {
          key: request.key,
          value: null,
          lease: request.lease,
          prevKv: request.prev_kv,
          ignoreValue: request.ignore_value,
          ignoreLease: request.ignore_lease,
        },
      );
    }),
    runs,
  );
  const bytes = encodeMessage("etcdserverpb.DeleteRangeRequest", {
    key: "a\xff",
    range_end: "b",
    prev_kv: true,
  });
  assert.deepEqual(readMessage(bytes, readDeleteRangeRequest), { key: "a\xff", rangeEnd: "b", prevKv: true });
});

test("transactions are read with nesting, all targets and all operations", () => {
  const bytes = encodeMessage("etcdserverpb.TxnRequest", {
    compare: [
      { result: 1, target: 2, key: "k", mod_revision: 7, range_end: "l" },
      { result: 3, target: 3, key: "k", value: "v" },
      { result: 0, target: 4, key: "k", lease: "-9223372036854775808" },
    ],
    success: [
      { request_put: { key: "p", value: "x" } },
      { request_txn: { success: [{ request_delete_range: { key: "d" } }] } },
    ],
    failure: [{ request_range: { key: "r" } }],
  });
  const txn = readMessage(bytes, (reader, end) => readTxnRequest(reader, end));
  assert.equal(txn.compare[0]!.number, 7);
  assert.equal(txn.compare[0]!.rangeEnd, "l");
  assert.equal(Buffer.from(txn.compare[1]!.value).toString(), "v");
  assert.equal(txn.compare[2]!.lease, -(2n ** 63n));
  const [put, nested] = txn.success;
  assert.equal(put!.type === "put" && put!.put.key, "p");
  assert.ok(nested!.type === "txn" && nested!.txn.success[0]!.type === "deleteRange");
  assert.equal(txn.failure[0]!.type, "range");
});

test("compares that the store need not know are put in its words", () => {
  const compare = (fields: Message) =>
    readMessage(encodeMessage("etcdserverpb.TxnRequest", { compare: [fields] }), (reader, end) =>
      readTxnRequest(reader, end),
    ).compare[0]!;
  // A comparison of an unknown kind holds, and an unknown target is equal to anything.
  const always = compare({ result: 9, target: 0, key: "k", version: 1 });
  assert.deepEqual([always.target, always.result, always.number], [0, 3, Number.MAX_SAFE_INTEGER]);
  const never = compare({ result: 3, target: 9, key: "k", create_revision: 1 });
  assert.deepEqual([never.target, never.result, never.number], [0, 0, Number.MAX_SAFE_INTEGER]);
  // An operand of another target than the one named counts as zero.
  const mismatched = compare({ result: 0, target: 2, key: "k", version: 5 });
  assert.deepEqual([mismatched.target, mismatched.number], [2, 0]);
});

test("a transaction nested too deep is refused, not overflowed", () => {
  let bytes: Buffer = Buffer.alloc(0);
  for (let depth = 0; depth < 2_000; depth++) {
    const op = lengthDelimited(0x22, bytes);
    bytes = lengthDelimited(0x12, op);
  }
  assert.throws(() => readMessage(bytes, (reader, end) => readTxnRequest(reader, end)), TxnTooDeepError);
});

function lengthDelimited(tag: number, content: Buffer): Buffer {
  writer.begin(1 + varintSize(content.length) + content.length);
  writer.open(tag, content.length);
  writer.raw(content);
  return writer.finish();
}

test("bytes that are no message raise ProtoError and nothing else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      const attempts = [
        () => readMessage(Buffer.from(bytes), readRangeRequest),
        () => readMessage(Buffer.from(bytes), readPutRequest),
        () => readMessage(Buffer.from(bytes), readDeleteRangeRequest),
        () => readMessage(Buffer.from(bytes), (reader, end) => readTxnRequest(reader, end)),
        () => readWatchRequest(Buffer.from(bytes)),
      ];
      for (const attempt of attempts) {
        try {
          attempt();
        } catch (error) {
          const known = error instanceof ProtoError || (error as Error).name === "EmptyRequestOpError";
          assert.ok(known, String(error));
          assert.ok(!(error instanceof StoreError));
        }
      }
    }),
    { numRuns: 2_000 },
  );
});

test("a request cut anywhere is refused or read as a shorter one, never beyond its end", () => {
  const bytes = encodeMessage("etcdserverpb.PutRequest", { key: "key", value: "value", lease: 77 });
  const padded = Buffer.concat([bytes, Buffer.from("beyond")]);
  for (let size = 0; size < bytes.length; size++) {
    try {
      const got = readMessage(padded.subarray(0, size), readPutRequest);
      assert.ok("key".startsWith(got.key) && "value".startsWith(Buffer.from(got.value).toString()));
    } catch (error) {
      assert.ok(error instanceof ProtoError);
    }
  }
});

test("KV responses are read by protobufjs as they were meant", () => {
  const range = fc.record({
    revision: positive,
    kvs: fc.array(keyValue, { maxLength: 4 }),
    more: fc.boolean(),
    count: natural,
  });
  fc.assert(
    fc.property(range, natural, (result, term) => {
      assert.deepEqual(
        decodeMessage("etcdserverpb.RangeResponse", unframe(encodeRangeResponse(header, term, result))),
        {
          header: HEADER(result.revision, term),
          kvs: result.kvs.map(plainKv),
          more: result.more,
          count: String(result.count),
        },
      );
    }),
    runs,
  );
  fc.assert(
    fc.property(positive, fc.option(keyValue, { nil: undefined }), (revision, prevKv) => {
      assert.deepEqual(
        decodeMessage(
          "etcdserverpb.PutResponse",
          unframe(encodePutResponse(header, 3, { revision, prevKv })),
        ),
        { header: HEADER(revision, 3), prev_kv: plainKvOrNull(prevKv) },
      );
    }),
    runs,
  );
  fc.assert(
    fc.property(positive, natural, fc.array(keyValue, { maxLength: 3 }), (revision, deleted, prevKvs) => {
      assert.deepEqual(
        decodeMessage(
          "etcdserverpb.DeleteRangeResponse",
          unframe(encodeDeleteRangeResponse(header, 3, { revision, deleted, prevKvs })),
        ),
        { header: HEADER(revision, 3), deleted: String(deleted), prev_kvs: prevKvs.map(plainKv) },
      );
    }),
    runs,
  );
});

const responseOp: fc.Arbitrary<ResponseOp> = fc.letrec<{ op: ResponseOp; txn: TxnResult }>((tie) => ({
  op: fc.oneof(
    { maxDepth: 3 },
    fc.record({
      type: fc.constant("put" as const),
      put: fc.record({ revision: positive, prevKv: fc.option(keyValue, { nil: undefined }) }),
    }),
    fc.record({
      type: fc.constant("range" as const),
      range: fc.record({
        revision: positive,
        kvs: fc.array(keyValue, { maxLength: 2 }),
        more: fc.boolean(),
        count: natural,
      }),
    }),
    fc.record({
      type: fc.constant("deleteRange" as const),
      deleteRange: fc.record({
        revision: positive,
        deleted: natural,
        prevKvs: fc.array(keyValue, { maxLength: 2 }),
      }),
    }),
    fc.record({ type: fc.constant("txn" as const), txn: tie("txn") }),
  ),
  txn: fc.record({
    revision: positive,
    succeeded: fc.boolean(),
    responses: fc.array(tie("op"), { maxLength: 3 }),
  }),
})).op;

function plainOp(op: ResponseOp): Message {
  switch (op.type) {
    case "put":
      return { response_put: { header: INNER(op.put.revision), prev_kv: plainKvOrNull(op.put.prevKv) } };
    case "range":
      return {
        response_range: {
          header: INNER(op.range.revision),
          kvs: op.range.kvs.map(plainKv),
          more: op.range.more,
          count: String(op.range.count),
        },
      };
    case "deleteRange":
      return {
        response_delete_range: {
          header: INNER(op.deleteRange.revision),
          deleted: String(op.deleteRange.deleted),
          prev_kvs: op.deleteRange.prevKvs.map(plainKv),
        },
      };
    case "txn":
      return {
        response_txn: {
          header: INNER(op.txn.revision),
          succeeded: op.txn.succeeded,
          responses: op.txn.responses.map(plainOp),
        },
      };
  }
}

test("transaction responses are read by protobufjs as they were meant, nested ones too", () => {
  fc.assert(
    fc.property(
      fc.array(responseOp, { maxLength: 4 }),
      positive,
      fc.boolean(),
      (responses, revision, succeeded) => {
        assert.deepEqual(
          decodeMessage(
            "etcdserverpb.TxnResponse",
            unframe(encodeTxnResponse(header, 9, { revision, succeeded, responses })),
          ),
          { header: HEADER(revision, 9), succeeded, responses: responses.map(plainOp) },
        );
      },
    ),
    runs,
  );
});

test("watch requests are read as protobufjs writes them", () => {
  const read = (request: Message) => readWatchRequest(encodeMessage("etcdserverpb.WatchRequest", request));
  assert.deepEqual(
    read({
      create_request: {
        key: "a",
        range_end: "b",
        start_revision: -3,
        progress_notify: true,
        filters: [0, 1],
        prev_kv: true,
        watch_id: "9223372036854775807",
        fragment: true,
      },
    }),
    {
      type: "create",
      create: {
        key: "a",
        rangeEnd: "b",
        startRevision: -3,
        progressNotify: true,
        noPut: true,
        noDelete: true,
        prevKv: true,
        watchId: 9223372036854775807n,
        fragment: true,
      },
    },
  );
  assert.deepEqual(read({ cancel_request: { watch_id: -1 } }), { type: "cancel", watchId: -1 });
  assert.deepEqual(read({ progress_request: {} }), { type: "progress" });
  assert.deepEqual(read({}), { type: "unknown" });
});

test("watch responses are read by protobufjs as they were meant", () => {
  const event: fc.Arbitrary<WatchEvent> = fc.record({
    type: fc.constantFrom("put" as const, "delete" as const),
    kv: keyValue,
    prevKv: fc.option(keyValue, { nil: undefined }),
  });
  fc.assert(
    fc.property(
      fc.array(event, { maxLength: 4 }),
      natural,
      positive,
      fc.boolean(),
      (events, id, revision, withPrev) => {
        const bytes = events.map((item) => encodeEvent(item, withPrev));
        const eventsSizeBytes = bytes.reduce((sum, { length }) => sum + length, 0);
        const response = { watchId: id, revision, events: bytes, eventsSizeBytes, fragment: withPrev };
        const frames = encodeEventsResponses(header, 2, [response, response]);
        const half = frames.length / 2;
        assert.deepEqual(frames.subarray(0, half), frames.subarray(half));
        assert.deepEqual(decodeMessage("etcdserverpb.WatchResponse", unframe(frames.subarray(0, half))), {
          header: HEADER(revision, 2),
          watch_id: String(id),
          created: false,
          canceled: false,
          compact_revision: "0",
          cancel_reason: "",
          fragment: withPrev,
          events: events.map((item) => ({
            type: item.type === "put" ? "PUT" : "DELETE",
            kv: plainKv(item.kv),
            prev_kv: withPrev ? plainKvOrNull(item.prevKv) : null,
          })),
        });
      },
    ),
    runs,
  );
  const canceled = encodeControlResponse(header, 2, {
    watchId: -1,
    revision: 5,
    created: true,
    canceled: true,
    compactRevision: 4,
    cancelReason: "gründlich",
  });
  assert.deepEqual(decodeMessage("etcdserverpb.WatchResponse", unframe(canceled)), {
    header: HEADER(5, 2),
    watch_id: "-1",
    created: true,
    canceled: true,
    compact_revision: "4",
    cancel_reason: "gründlich",
    fragment: false,
    events: [],
  });
});

test("lease, member and status responses are read by protobufjs as they were meant", () => {
  const id = -(2n ** 62n);
  assert.deepEqual(
    decodeMessage(
      "etcdserverpb.LeaseGrantResponse",
      unframe(encodeLeaseTtl(header, 1, { revision: 4, id, ttlSeconds: 60 })),
    ),
    { header: HEADER(4, 1), ID: String(id), TTL: "60", error: "" },
  );
  assert.deepEqual(
    decodeMessage(
      "etcdserverpb.LeaseTimeToLiveResponse",
      unframe(
        encodeLeaseTimeToLive(header, 1, {
          revision: 4,
          id: 5n,
          ttlSeconds: -1,
          grantedTtlSeconds: 0,
          keys: ["a", ""],
        }),
      ),
    ),
    { header: HEADER(4, 1), ID: "5", TTL: "-1", grantedTTL: "0", keys: ["a", ""] },
  );
  assert.deepEqual(
    decodeMessage("etcdserverpb.LeaseLeasesResponse", unframe(encodeLeases(header, 1, 4, [1n, id]))),
    { header: HEADER(4, 1), leases: [{ ID: "1" }, { ID: String(id) }] },
  );
  const member = { id: 2n ** 64n - 1n, name: "m", peerUrls: ["https://p"], clientUrls: ["a", "b"] };
  assert.deepEqual(
    decodeMessage("etcdserverpb.MemberListResponse", unframe(encodeMemberList(header, 1, [member]))),
    {
      header: HEADER(0, 1),
      members: [
        {
          ID: "18446744073709551615",
          name: "m",
          peerURLs: ["https://p"],
          clientURLs: ["a", "b"],
          isLearner: false,
        },
      ],
    },
  );
  const status = encodeStatus(header, {
    revision: 3,
    term: 8,
    version: "3.6.16",
    dbSizeBytes: 1,
    leaderId: 2n ** 63n,
    raftIndex: 4,
    raftAppliedIndex: 5,
    errors: ["one"],
    dbSizeInUseBytes: 6,
    storageVersion: "3.6.0",
    dbSizeQuotaBytes: 7,
  });
  assert.deepEqual(decodeMessage("etcdserverpb.StatusResponse", unframe(status)), {
    header: HEADER(3, 8),
    version: "3.6.16",
    dbSize: "1",
    leader: "9223372036854775808",
    raftIndex: "4",
    raftTerm: "8",
    raftAppliedIndex: "5",
    errors: ["one"],
    dbSizeInUse: "6",
    isLearner: false,
    storageVersion: "3.6.0",
    dbSizeQuota: "7",
    downgradeInfo: { enabled: false, targetVersion: "" },
  });
});

/** Go's name of a field. */
const goName = (name: string): string =>
  name.replace(/(^|_)([a-zA-Z])/g, (_, __, letter: string) => letter.toUpperCase());

test("known fields of a wrong type are refused by name, and unknown ones of any type are skipped", () => {
  const whole =
    <T>(read: (reader: ProtoReader, end: number) => T) =>
    (bytes: Buffer): T =>
      readMessage(bytes, read);
  const inside =
    (tag: number, read: (bytes: Buffer) => unknown) =>
    (bytes: Buffer): unknown =>
      read(Buffer.concat([Buffer.from([tag, bytes.length]), bytes]));
  const txn = whole((reader, end) => readTxnRequest(reader, end));
  const readers: Record<string, (bytes: Buffer) => unknown> = {
    RangeRequest: whole(readRangeRequest),
    PutRequest: whole(readPutRequest),
    DeleteRangeRequest: whole(readDeleteRangeRequest),
    TxnRequest: txn,
    Compare: inside(0x0a, txn),
    CompactionRequest: readCompactionRequest,
    WatchRequest: readWatchRequest,
    WatchCreateRequest: inside(0x0a, readWatchRequest),
    WatchCancelRequest: inside(0x12, readWatchRequest),
    WatchProgressRequest: inside(0x1a, readWatchRequest),
    LeaseGrantRequest: readLeaseGrantRequest,
    LeaseRevokeRequest: readLeaseRevokeRequest,
    LeaseKeepAliveRequest: readLeaseKeepAliveRequest,
    LeaseTimeToLiveRequest: readLeaseTimeToLiveRequest,
    LeaseLeasesRequest: checkLeaseLeasesRequest,
    MemberListRequest: readMemberListRequest,
    AlarmRequest: readAlarmAction,
    StatusRequest: checkStatusRequest,
  };
  const message = (text: string) => ({ name: "ProtoError", message: text });
  const field = (number: number, wireType: number): number[] => {
    const tag = number * 8 + wireType;
    return tag < 0x80 ? [tag] : [(tag & 0x7f) | 0x80, tag >>> 7];
  };
  const fixed = (number: number): Buffer => Buffer.from([...field(number, 5), 0, 0, 0, 0]);
  for (const [name, read] of Object.entries(readers)) {
    for (const { id, name: fieldName } of schema.lookupType(`etcdserverpb.${name}`).fieldsArray) {
      const text = `proto: wrong wireType = 5 for field ${goName(fieldName)}`;
      assert.throws(() => read(fixed(id)), message(text), name);
    }
    read(fixed(100));
    read(Buffer.from([...field(100, 3), ...fixed(1), ...field(7, 3), 0x0a, 1, 0, 0x0c, ...field(9, 4)]));
    const end = `proto: ${name}: wiretype end group for non-group`;
    assert.throws(() => read(Buffer.from([0x0c])), message(end));
    assert.throws(() => read(Buffer.from([0x05])), message(`proto: ${name}: illegal tag 0 (wire type 5)`));
    assert.throws(() => read(Buffer.from(field(100, 6))), message("proto: illegal wireType 6"));
    assert.throws(() => read(Buffer.from(field(100, 3))), message("unexpected EOF"));
  }
  const ops = ["RequestRange", "RequestPut", "RequestDeleteRange", "RequestTxn"];
  for (const [i, op] of ops.entries()) {
    const text = `proto: wrong wireType = 5 for field ${op}`;
    assert.throws(() => txn(Buffer.from([0x12, 5, ...fixed(i + 1)])), message(text));
  }
});

test("lengths and tags of more than 32 bits are what they are in etcd", () => {
  const range = (bytes: number[]) => readMessage(Buffer.from(bytes), readRangeRequest);
  // Its low half would make it an empty key.
  assert.throws(() => range([0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]), /unexpected EOF/);
  const minusOne = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
  assert.throws(() => range([0x0a, ...minusOne]), /negative length/);
  assert.throws(() => range([0x18, ...minusOne.with(9, 0xff), 0x01]), /integer overflow/);
  // 2^32 + 10: the field 2^29 + 1, not a key.
  assert.equal(range([0x8a, 0x80, 0x80, 0x80, 0x10, 1, 0x61]).key, "");
  assert.equal(range([0x8a, 0x80, 0x80, 0x80, 0x00, 1, 0x61]).key, "a");
});
