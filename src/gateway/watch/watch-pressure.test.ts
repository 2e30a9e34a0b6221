/** Watches when a client is slow, a leader is missing, or the process may not answer. */
import assert from "node:assert/strict";
import test from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { startGateway, WATCH } from "../testing/fixture.ts";
import { brief, create, put } from "../testing/watching.ts";

test("a client that does not read is fed no more, and later gets everything once and in order", async (context) => {
  const { client, backend, gateway } = await startGateway(context, {
    // Small responses too: the client takes sixteen of them before it stops reading.
    limits: { watchBufferSizeBytesMax: 64 * 1024, requestSizeBytesMax: 100_000 },
  });
  const watch = create(client, { key: "a", prev_kv: true });
  const quick = create(client, { key: "a" });
  await watch.next();
  await quick.next();
  watch.stream.pause();
  const value = "x".repeat(10_000);
  const total = 1_500;
  for (let i = 0; i < total; i++) {
    put(backend, "a", value);
    if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const behind = async (): Promise<number> => {
    const text = await gateway.registry.getSingleMetricAsString("etcd_debugging_mvcc_slow_watcher_total");
    return Number(/total (\d+)/.exec(text)?.[1]);
  };
  const quickRevisions: number[] = [];
  while (quickRevisions.length < total) {
    for (const event of (await quick.next()).events) quickRevisions.push(Number(event.kv.mod_revision));
  }
  assert.equal(await behind(), 1);
  watch.stream.resume();
  const revisions: number[] = [];
  while (revisions.length < total) {
    for (const event of (await watch.next()).events) revisions.push(Number(event.kv.mod_revision));
  }
  const expected = Array.from({ length: total }, (_, i) => i + 2);
  assert.deepEqual(revisions, expected);
  assert.deepEqual(quickRevisions, expected);
  assert.equal(await behind(), 0);
});

test("a slow client is canceled only when compaction overtakes it", async (context) => {
  const { client, backend } = await startGateway(context, { limits: { watchBufferSizeBytesMax: 32 * 1024 } });
  const watch = create(client, { key: "a" });
  await watch.next();
  watch.stream.pause();
  const value = "x".repeat(20_000);
  for (let i = 0; i < 600; i++) {
    put(backend, "a", value);
    if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  backend.execute({ type: "compact", revision: 590 });
  watch.stream.resume();
  let last = 1;
  for (;;) {
    const response = await watch.next();
    if (response.canceled) {
      assert.equal(response.compact_revision, "590");
      break;
    }
    for (const event of response.events) assert.equal(Number(event.kv.mod_revision), ++last);
  }
  assert.ok(last < 590);
});

test("a hasleader stream ends with Unavailable after a while without a leader, others go on", async (context) => {
  const { client, backend } = await startGateway(context, { limits: { noLeaderStreamTimeoutMs: 300 } });
  const metadata = new Metadata();
  metadata.set("hasleader", "true");
  const strict = client.duplex(WATCH, metadata);
  strict.send({ create_request: { key: "a" } });
  await strict.next();
  const patient = create(client, { key: "a" });
  await patient.next();
  backend.leader = false;
  await assert.rejects(strict.next(), { code: 14, details: "etcdserver: no leader" });
  put(backend, "a");
  assert.deepEqual(brief(await patient.next()), ["PUT a 2"]);
  const refused = client.duplex(WATCH, metadata);
  refused.send({ create_request: { key: "a" } });
  await assert.rejects(refused.next(), { code: 14, details: "etcdserver: no leader" });
});

test("while the process may not answer, watchers get nothing, then their call ends", async (context) => {
  const { client, backend } = await startGateway(context, { limits: { noLeaderStreamTimeoutMs: 400 } });
  const watch = create(client, { key: "a" });
  await watch.next();
  backend.reason = "stopped";
  put(backend, "a");
  assert.ok(await watch.silent(50));
  await assert.rejects(watch.next(), { code: 14, details: "etcdserver: server stopped" });
  const refused = create(client, { key: "a" });
  await assert.rejects(refused.next(), { code: 14, details: "etcdserver: server stopped" });
});
