/** KV, Lease, Cluster, Maintenance and Health through an independent client. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import test from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { KV, LEASE, startGateway, until } from "./testing/fixture.ts";

test("put, range, delete and txn answer as etcd does", async (context) => {
  const { client } = await startGateway(context);
  const empty = await client.unary(`${KV}/Range`, { key: "a" });
  assert.deepEqual([empty.header.revision, empty.kvs, empty.count], ["1", [], "0"]);
  const first = await client.unary(`${KV}/Put`, { key: "a", value: "1" });
  assert.deepEqual(first, {
    header: {
      cluster_id: "54324593195745281",
      member_id: "13758215386640154626",
      revision: "2",
      raft_term: "1",
    },
    prev_kv: null,
  });
  const second = await client.unary(`${KV}/Put`, { key: "a", value: "2", prev_kv: true });
  assert.equal(second.prev_kv.value, "1");
  await client.unary(`${KV}/Put`, { key: "a\xff\0", value: "3" });
  const range = await client.unary(`${KV}/Range`, { key: "a", range_end: "b", limit: 1 });
  assert.deepEqual([range.kvs.length, range.more, range.count], [1, true, "2"]);
  assert.deepEqual(
    [range.kvs[0].version, range.kvs[0].create_revision, range.kvs[0].mod_revision],
    ["2", "2", "3"],
  );
  const local = await client.unary(`${KV}/Range`, { key: "\0", range_end: "\0", serializable: true });
  assert.deepEqual(
    local.kvs.map((kv: { key: string }) => kv.key),
    ["a", "a\xff\0"],
  );
  const past = await client.unary(`${KV}/Range`, { key: "a", revision: 2 });
  assert.deepEqual([past.header.revision, past.kvs[0].value], ["4", "1"]);
  const txn = await client.unary(`${KV}/Txn`, {
    compare: [{ target: 2, key: "a", mod_revision: 3 }],
    success: [{ request_put: { key: "a", value: "4" } }, { request_range: { key: "a" } }],
    failure: [{ request_range: { key: "a" } }],
  });
  assert.equal(txn.succeeded, true);
  assert.deepEqual(txn.responses[0].response_put.header, {
    cluster_id: "0",
    member_id: "0",
    revision: "5",
    raft_term: "0",
  });
  assert.equal(txn.responses[1].response_range.kvs[0].value, "4");
  const removed = await client.unary(`${KV}/DeleteRange`, { key: "a", range_end: "b", prev_kv: true });
  assert.deepEqual([removed.header.revision, removed.deleted, removed.prev_kvs.length], ["6", "2", 2]);
});

test("a read-only txn is a read, and one without operations too", async (context) => {
  const { client, backend } = await startGateway(context);
  backend.execute({ type: "noop" });
  const txn = await client.unary(`${KV}/Txn`, {
    compare: [{ target: 0, key: "a", version: 0 }],
    success: [{ request_range: { key: "a", serializable: true } }],
  });
  assert.deepEqual([txn.succeeded, txn.header.revision], [true, "1"]);
  const bare = await client.unary(`${KV}/Txn`, {});
  assert.deepEqual([bare.succeeded, bare.responses], [true, []]);
});

test("refusals carry etcd's codes and texts", async (context) => {
  const { client } = await startGateway(context);
  const expectations: [string, object, number, string][] = [
    ["Range", {}, 3, "key is not provided"],
    ["Range", { key: "a", sort_order: 7 }, 3, "invalid sort option"],
    ["Range", { key: "a", revision: 99 }, 11, "mvcc: required revision is a future revision"],
    [
      "Range",
      { key: "a", revision: 99, serializable: true },
      11,
      "mvcc: required revision is a future revision",
    ],
    ["Put", {}, 3, "key is not provided"],
    ["Put", { key: "a", value: "v", ignore_value: true }, 3, "value is provided"],
    ["Put", { key: "a", lease: 5, ignore_lease: true }, 3, "lease is provided"],
    ["Put", { key: "none", ignore_value: true }, 3, "key not found"],
    ["Put", { key: "a", lease: 5 }, 5, "requested lease not found"],
    ["DeleteRange", {}, 3, "key is not provided"],
    ["Compact", { revision: 99 }, 11, "mvcc: required revision is a future revision"],
    [
      "Txn",
      { success: [{ request_put: { key: "a" } }, { request_put: { key: "a" } }] },
      3,
      "duplicate key given in txn request",
    ],
    [
      "Txn",
      { success: Array.from({ length: 129 }, (_, i) => ({ request_put: { key: `k${i}` } })) },
      3,
      "too many operations in txn request",
    ],
    ["Txn", { success: [{}] }, 3, "key not found"],
    ["Txn", { compare: [{ key: "" }], success: [{}] }, 3, "key is not provided"],
    ["Txn", { success: [{ request_put: {} }], failure: [{}] }, 3, "key is not provided"],
    ["Txn", { success: [{}], failure: [{ request_put: {} }] }, 3, "key not found"],
    [
      "Txn",
      { success: [{ request_put: { key: "a" } }, { request_range: { key: "a", revision: 99 } }] },
      11,
      "mvcc: required revision is a future revision",
    ],
  ];
  for (const [method, request, code, text] of expectations) {
    const failure = await client.failure(`${KV}/${method}`, request);
    assert.deepEqual(failure, { code, details: `etcdserver: ${text}` }, JSON.stringify(request));
  }
  await client.unary(`${KV}/Put`, { key: "a", value: "1" });
  await client.unary(`${KV}/Put`, { key: "a", value: "2" });
  const compacted = await client.unary(`${KV}/Compact`, { revision: 3 });
  assert.equal(compacted.header.revision, "3");
  const text = "etcdserver: mvcc: required revision has been compacted";
  assert.deepEqual(await client.failure(`${KV}/Compact`, { revision: 2 }), { code: 11, details: text });
  assert.deepEqual(await client.failure(`${KV}/Range`, { key: "a", revision: 2 }), {
    code: 11,
    details: text,
  });
});

test("requests that are too large are refused, as a request and as a message", async (context) => {
  const { client } = await startGateway(context);
  const mib = 1024 * 1024;
  await client.unary(`${KV}/Put`, { key: "a", value: "x".repeat(1.5 * mib - 64) });
  assert.deepEqual(await client.failure(`${KV}/Put`, { key: "a", value: "x".repeat(1.5 * mib) }), {
    code: 3,
    details: "etcdserver: request is too large",
  });
  const failure = await client.failure(`${KV}/Put`, { key: "a", value: "x".repeat(2 * mib) });
  assert.equal(failure.code, 8);
  assert.match(failure.details, /^grpc: received message larger than max \(20971\d\d vs\. 2097152\)$/);
});

test("what is no message, no method, no service and no known compression is refused properly", async (context) => {
  const { client } = await startGateway(context);
  await assert.rejects(client.raw(`${KV}/Put`, Buffer.from([0x0a, 0x7f])), {
    code: 13,
    details: "grpc: error unmarshalling request: unexpected EOF",
  });
  await assert.rejects(client.raw("/etcdserverpb.Maintenance/Defragment", Buffer.alloc(0)), {
    code: 12,
    details: "unknown method Defragment for service etcdserverpb.Maintenance",
  });
  await assert.rejects(client.raw("/etcdserverpb.Auth/AuthStatus", Buffer.alloc(0)), {
    code: 12,
    details: "unknown service etcdserverpb.Auth",
  });
  const compressed = new Metadata();
  compressed.set("x", "y");
  assert.deepEqual(await client.failure("/etcdserverpb.Cluster/MemberAdd"), {
    code: 12,
    details: "unknown method MemberAdd for service etcdserverpb.Cluster",
  });
});

test("without a quorum the answer is Unavailable, never Unknown or Internal", async (context) => {
  const { client, backend } = await startGateway(context);
  for (const [reason, text] of [
    ["timeout", "request timed out"],
    ["noLeader", "no leader"],
    ["stopped", "server stopped"],
  ] as const) {
    backend.failWith = reason;
    const expected = { code: 14, details: `etcdserver: ${text}` };
    assert.deepEqual(await client.failure(`${KV}/Put`, { key: "a" }), expected);
    assert.deepEqual(await client.failure(`${KV}/Range`, { key: "a" }), expected);
    assert.deepEqual(await client.failure(`${LEASE}/LeaseGrant`, { TTL: 5 }), expected);
    assert.deepEqual(
      await client.failure("/etcdserverpb.Cluster/MemberList", { linearizable: true }),
      expected,
    );
    await client.unary(`${KV}/Range`, { key: "a", serializable: true });
  }
  backend.failWith = "tooManyRequests";
  assert.deepEqual(await client.failure(`${KV}/Put`, { key: "a" }), {
    code: 8,
    details: "etcdserver: too many requests",
  });
  backend.failWith = undefined;
  backend.reason = "stopped";
  assert.equal((await client.failure(`${KV}/Range`, { key: "a", serializable: true })).code, 14);
  backend.reason = undefined;
  backend.leader = false;
  const metadata = new Metadata();
  metadata.set("hasleader", "true");
  assert.deepEqual(await client.failure(`${KV}/Range`, { key: "a" }, { metadata }), {
    code: 14,
    details: "etcdserver: no leader",
  });
});

test("a deadline ends a call that waits, and its late result is dropped", async (context) => {
  const { client, backend } = await startGateway(context);
  await client.unary(`${KV}/Range`, { key: "a" });
  backend.held = true;
  const started = performance.now();
  const failing = client.failure(`${KV}/Put`, { key: "a", value: "late" }, { timeoutMs: 500 });
  await until(() => backend.waiting === 1);
  assert.equal((await failing).code, 4);
  assert.ok(performance.now() - started < 3_000);
  backend.release();
  // The operation itself was ordered: a deadline does not take it back.
  assert.equal((await client.unary(`${KV}/Range`, { key: "a" })).kvs[0].value, "late");
});

test("the door ends a call at its deadline by itself", async (context) => {
  const { port, backend } = await startGateway(context);
  backend.held = true;
  const session = http2.connect(`http://127.0.0.1:${port}`);
  context.after(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": `${KV}/Put`,
    "content-type": "application/grpc",
    "grpc-timeout": "100m",
  });
  // A PutRequest with the key "a".
  stream.end(Buffer.from([0, 0, 0, 0, 3, 0x0a, 1, 0x61]));
  const headers = await new Promise<http2.IncomingHttpHeaders>((resolve) => stream.on("response", resolve));
  assert.deepEqual([headers["grpc-status"], headers["grpc-message"]], ["4", "context deadline exceeded"]);
});

test("a full store refuses puts with etcd's words and shows the alarm", async (context) => {
  const { client } = await startGateway(context, { quotaBytes: 4096 });
  let failure: { code: number; details: string } | undefined;
  for (let i = 0; i < 40 && failure === undefined; i++) {
    await client
      .unary(`${KV}/Put`, { key: `k${i}`, value: "x".repeat(200) })
      .catch((error) => (failure = error));
  }
  assert.equal(failure?.code, 8);
  assert.equal(failure?.details, "etcdserver: mvcc: database space exceeded");
  const { alarms } = await client.unary("/etcdserverpb.Maintenance/Alarm", {});
  assert.deepEqual(alarms, [{ memberID: "13758215386640154626", alarm: 1 }]);
});

test("leases are granted, kept alive in order, shown and revoked", async (context) => {
  const { client, backend } = await startGateway(context);
  const granted = await client.unary(`${LEASE}/LeaseGrant`, { TTL: 100, ID: 7 });
  assert.deepEqual([granted.ID, granted.TTL, granted.header.revision], ["7", "100", "1"]);
  const drawn = await client.unary(`${LEASE}/LeaseGrant`, { TTL: 60 });
  assert.notEqual(drawn.ID, "0");
  assert.deepEqual(await client.failure(`${LEASE}/LeaseGrant`, { TTL: 5, ID: 7 }), {
    code: 9,
    details: "etcdserver: lease already exists",
  });
  assert.deepEqual(await client.failure(`${LEASE}/LeaseGrant`, { TTL: "9000000001" }), {
    code: 11,
    details: "etcdserver: too large lease TTL",
  });
  await client.unary(`${KV}/Put`, { key: "leased", lease: 7 });
  backend.clockAheadMs = 40_000;
  backend.execute({ type: "noop" });
  const shown = await client.unary(`${LEASE}/LeaseTimeToLive`, { ID: 7, keys: true });
  assert.ok(Number(shown.TTL) >= 58 && Number(shown.TTL) <= 60);
  assert.deepEqual([shown.grantedTTL, shown.keys], ["100", ["leased"]]);
  const alive = client.duplex(`${LEASE}/LeaseKeepAlive`);
  for (const ID of [7, 99, 7]) alive.send({ ID });
  const answers = [await alive.next(), await alive.next(), await alive.next()];
  assert.deepEqual(
    answers.map(({ ID, TTL }) => [ID, TTL]),
    [
      ["7", "100"],
      ["99", "0"],
      ["7", "100"],
    ],
  );
  alive.end();
  await assert.rejects(alive.next(), /the stream ended/);
  assert.deepEqual((await client.unary(`${LEASE}/LeaseLeases`)).leases.length, 2);
  const revoked = await client.unary(`${LEASE}/LeaseRevoke`, { ID: 7 });
  assert.equal(revoked.header.revision, "3");
  assert.deepEqual(await client.failure(`${LEASE}/LeaseRevoke`, { ID: 7 }), {
    code: 5,
    details: "etcdserver: requested lease not found",
  });
  assert.equal((await client.unary(`${LEASE}/LeaseTimeToLive`, { ID: 7 })).TTL, "-1");
});

test("a keep-alive stream ends with Unavailable when there is no quorum", async (context) => {
  const { client, backend } = await startGateway(context);
  const alive = client.duplex(`${LEASE}/LeaseKeepAlive`);
  backend.failWith = "timeout";
  alive.send({ ID: 7 });
  await assert.rejects(alive.next(), { code: 14, details: "etcdserver: request timed out" });
});

test("leases are listed by the time that they have left", async (context) => {
  const { client } = await startGateway(context);
  for (const [ID, TTL] of [
    [1, 300],
    [2, 200],
    [4, 100],
    [3, 400],
  ]) {
    await client.unary(`${LEASE}/LeaseGrant`, { ID, TTL });
  }
  const { leases } = await client.unary(`${LEASE}/LeaseLeases`);
  assert.deepEqual(
    leases.map(({ ID }: { ID: string }) => ID),
    ["4", "2", "1", "3"],
  );
});

test("members, status and health are what the backend says", async (context) => {
  const { client, backend } = await startGateway(context);
  const { header, members } = await client.unary("/etcdserverpb.Cluster/MemberList", { linearizable: true });
  assert.equal(header.revision, "0");
  assert.deepEqual(members, [
    {
      ID: "13758215386640154626",
      name: "local",
      peerURLs: ["https://127.0.0.1:2380"],
      clientURLs: ["http://127.0.0.1:2379"],
      isLearner: false,
    },
  ]);
  const status = await client.unary("/etcdserverpb.Maintenance/Status");
  assert.deepEqual(
    [status.version, status.storageVersion, status.dbSize, status.leader, status.errors],
    ["3.6.16", "3.6.0", "20480", "13758215386640154626", []],
  );
  backend.leader = false;
  assert.deepEqual((await client.unary("/etcdserverpb.Maintenance/Status")).errors, [
    "etcdserver: no leader",
  ]);
  assert.equal((await client.unary("/grpc.health.v1.Health/Check")).status, "SERVING");
  assert.deepEqual(await client.failure("/grpc.health.v1.Health/Check", { service: "x" }), {
    code: 5,
    details: "unknown service",
  });
  const watch = client.serverStream("/grpc.health.v1.Health/Watch", {});
  assert.equal((await watch.next()).status, "SERVING");
  backend.reason = "stopped";
  assert.equal((await watch.next()).status, "NOT_SERVING");
  watch.stream.on("error", () => {});
  watch.cancel();
});
