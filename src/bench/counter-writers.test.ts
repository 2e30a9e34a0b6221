import assert from "node:assert/strict";
import { createServer, type Http2Server } from "node:http2";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import protobuf from "protobufjs";
import { AcknowledgementLog, CounterWriters } from "./counter-writers.ts";
import type { Target } from "./target.ts";

const types = protobuf.parse(
  `syntax = "proto3";
  message Header { int64 revision = 3; }
  message Kv { bytes key = 1; int64 mod_revision = 3; int64 version = 4; bytes value = 5; }
  message Range { bytes key = 1; }
  message RangeAnswer { Header header = 1; repeated Kv kvs = 2; int64 count = 4; }
  message Put { bytes key = 1; bytes value = 2; }
  message Compare { bytes key = 3; int64 mod_revision = 6; }
  message Op { Range request_range = 1; Put request_put = 2; }
  message OpAnswer { RangeAnswer response_range = 1; }
  message Txn { repeated Compare compare = 1; repeated Op success = 2; }
  message TxnAnswer { Header header = 1; bool succeeded = 2; repeated OpAnswer responses = 3; }`,
  { keepCase: true },
).root;

interface StoredKey {
  mod_revision: number;
  version: number;
  value: Uint8Array;
}
/** What goes wrong with a write: "doubt" does it and answers Unavailable, "lost" answers and does not do it. */
type Mischief = "none" | "doubt" | "lost" | "twice";

const servers: Http2Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

/** A store of one member that knows the two requests of the writers. */
async function startStore(mischiefOf: (write: number) => Mischief): Promise<Target> {
  const keys = new Map<string, StoredKey>();
  let revision = 1;
  let writes = 0;
  const rangeOf = (key: string) => {
    const stored = keys.get(key);
    return {
      header: { revision },
      kvs: stored ? [{ key: Buffer.from(key), ...stored }] : [],
      count: stored ? 1 : 0,
    };
  };
  const apply = (key: string, value: Uint8Array): void => {
    revision++;
    keys.set(key, { mod_revision: revision, version: (keys.get(key)?.version ?? 0) + 1, value });
  };
  const handle = (path: string, message: Buffer): Uint8Array | undefined => {
    const decode = (name: string) => {
      const type = types.lookupType(name);
      return type.toObject(type.decode(message), { longs: Number, defaults: true });
    };
    const encode = (name: string, value: object) =>
      types.lookupType(name).encode(types.lookupType(name).fromObject(value)).finish();
    if (path.endsWith("/Range"))
      return encode("RangeAnswer", rangeOf(Buffer.from(decode("Range").key).toString()));
    const txn = decode("Txn");
    const key = Buffer.from(txn.compare[0].key).toString();
    if ((keys.get(key)?.mod_revision ?? 0) !== txn.compare[0].mod_revision)
      return encode("TxnAnswer", { header: { revision }, responses: [{ response_range: rangeOf(key) }] });
    const mischief = mischiefOf(writes++);
    const value = Uint8Array.from(txn.success[0].request_put.value);
    const before = keys.get(key);
    apply(key, value);
    if (mischief === "twice") apply(key, value);
    const answer = encode("TxnAnswer", { header: { revision }, succeeded: true });
    if (mischief === "lost" && before !== undefined) keys.set(key, before);
    return mischief === "doubt" ? undefined : answer;
  };
  const server = createServer();
  servers.push(server);
  server.on("stream", (stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const answer = handle(String(headers[":path"]), Buffer.concat(chunks).subarray(5));
      if (answer === undefined) return stream.respond({ "grpc-status": "14" }, { endStream: true });
      stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(answer.length, 1);
      return stream.end(Buffer.concat([prefix, answer]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const clientUrl = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  const members = [{ name: "only", pid: undefined, clientUrl, dataDir: "" }];
  const nothing = async (): Promise<void> => {};
  return {
    name: "etcd",
    description: "",
    members,
    tls: undefined,
    kill: () => {},
    restart: nothing,
    stop: nothing,
  };
}

async function verdictOf(mischiefOf: (write: number) => Mischief) {
  const writers = new CounterWriters(await startStore(mischiefOf), 4);
  await sleep(400);
  return writers.finish();
}

test("a store that keeps its word passes, also when answers get lost", async () => {
  const calm = await verdictOf(() => "none");
  assert.deepEqual(calm.faults, []);
  assert.ok(calm.acknowledged > 20);
  const doubtful = await verdictOf((write) => (write % 7 === 3 ? "doubt" : "none"));
  assert.deepEqual(doubtful.faults, []);
  assert.ok(doubtful.acknowledged > 20);
});

test("a lost acknowledged write is found", async () => {
  const { faults } = await verdictOf((write) => (write === 9 ? "lost" : "none"));
  assert.equal(faults.length >= 1, true);
  assert.match(faults.join(), /was refused by counter|is lost/);
});

test("a write that is done twice is found", async () => {
  const { faults } = await verdictOf((write) => (write === 9 ? "twice" : "none"));
  assert.match(faults.join(), /writes were done for a counter/);
});

test("the longest pause is that of a plain search", () => {
  const gaps = fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 60 });
  fc.assert(
    fc.property(
      gaps,
      fc.integer({ min: 0, max: 2000 }),
      fc.integer({ min: 0, max: 2000 }),
      (steps, from, length) => {
        const log = new AcknowledgementLog();
        const times: number[] = [];
        let nowMs = 0;
        for (const step of steps) {
          nowMs += step;
          times.push(nowMs);
          log.record(nowMs);
        }
        const to = from + length;
        const before = times.filter((time) => time <= from).at(-1) ?? from;
        const marks = [before, ...times.filter((time) => time > from && time <= to), to];
        const wanted = Math.max(...marks.slice(1).map((time, index) => time - marks[index]!));
        assert.equal(log.longestPauseMs(from, to), wanted);
        assert.equal(log.countBetween(from, to), marks.length - 2);
        assert.equal(
          log.firstAfter(from),
          times.find((time) => time > from),
        );
      },
    ),
  );
});
