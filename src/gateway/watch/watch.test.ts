/** Watches through an independent client: every rule of etcd's Watch service that the door keeps. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Message } from "../testing/client.ts";
import { KV, startGateway, WATCH } from "../testing/fixture.ts";
import { brief, create, put, putAll, remove } from "../testing/watching.ts";

test("events come after created, with prev_kv, and the header of their revision", async (context) => {
  const { client, backend } = await startGateway(context);
  put(backend, "a", "1");
  const watch = create(client, { key: "a", prev_kv: true });
  assert.deepEqual(await watch.next(), {
    header: {
      cluster_id: "54324593195745281",
      member_id: "13758215386640154626",
      revision: "2",
      raft_term: "1",
    },
    watch_id: "0",
    created: true,
    canceled: false,
    compact_revision: "0",
    cancel_reason: "",
    fragment: false,
    events: [],
  });
  put(backend, "a", "2");
  put(backend, "b");
  remove(backend, "a");
  const seen: Message[] = [];
  while (seen.length < 2) {
    const response = await watch.next();
    assert.equal(response.header.revision, response.events.at(-1).kv.mod_revision);
    seen.push(...response.events);
  }
  assert.deepEqual(
    seen.map((event) => [event.type, event.kv.value, event.prev_kv.value, event.prev_kv.mod_revision]),
    [
      ["PUT", "2", "1", "2"],
      ["DELETE", "", "2", "3"],
    ],
  );
  assert.deepEqual(
    [seen[1].kv.mod_revision, seen[1].kv.create_revision, seen[1].kv.version],
    ["5", "0", "0"],
  );
});

test("a start in the past gets all of the past, then the present, each event once and in order", async (context) => {
  const { client, backend } = await startGateway(context);
  for (let i = 0; i < 3_000; i++) put(backend, `k${i % 7}`, String(i));
  const watch = create(client, { key: "k", range_end: "l", start_revision: 2 });
  assert.equal((await watch.next()).created, true);
  const revisions: number[] = [];
  let written = 0;
  while (revisions.length < 3_500) {
    const response = await watch.next();
    for (const event of response.events) revisions.push(Number(event.kv.mod_revision));
    // Writes go on while it catches up.
    for (let i = 0; i < 100 && written < 500; i++, written++) put(backend, `k${i % 7}`, "late");
  }
  assert.deepEqual(
    revisions,
    Array.from({ length: 3_500 }, (_, i) => i + 2),
  );
});

test("a start in the future is silent until then, also about progress", async (context) => {
  const { client, backend } = await startGateway(context);
  put(backend, "a");
  const watch = create(client, { key: "a", start_revision: 5 });
  assert.equal((await watch.next()).created, true);
  put(backend, "a");
  put(backend, "a");
  watch.send({ progress_request: {} });
  assert.ok(await watch.silent(80));
  put(backend, "a");
  assert.deepEqual(brief(await watch.next()), ["PUT a 5"]);
  watch.send({ progress_request: {} });
  const progress = await watch.next();
  assert.deepEqual([progress.watch_id, progress.header.revision, progress.events], ["-1", "5", []]);
});

test("a compacted start is created and then canceled with the compact revision", async (context) => {
  const { client, backend } = await startGateway(context);
  for (let i = 0; i < 5; i++) put(backend, "a", String(i));
  backend.execute({ type: "compact", revision: 4 });
  const watch = create(client, { key: "a", start_revision: 3 });
  assert.equal((await watch.next()).created, true);
  const canceled = await watch.next();
  assert.deepEqual([canceled.canceled, canceled.compact_revision, canceled.cancel_reason], [true, "4", ""]);
  // The compact revision itself can be watched from.
  watch.send({ create_request: { key: "a", start_revision: 4 } });
  assert.equal((await watch.next()).created, true);
  assert.deepEqual(brief(await watch.next()), ["PUT a 4", "PUT a 5", "PUT a 6"]);
});

test("a compaction in the same batch takes no event from a watcher that keeps up", async (context) => {
  const { client, backend } = await startGateway(context);
  put(backend, "a", "old");
  const watch = create(client, { key: "a", prev_kv: true });
  await watch.next();
  const change = (value: string) => ({
    type: "put" as const,
    put: {
      key: "a",
      value: Buffer.from(value),
      lease: 0n,
      prevKv: false,
      ignoreValue: false,
      ignoreLease: false,
    },
  });
  backend.execute(change("1"), change("2"), { type: "compact", revision: 4 }, change("3"));
  const seen: Message[] = [];
  while (seen.length < 3) seen.push(...(await watch.next()).events);
  assert.deepEqual(
    seen.map(({ kv, prev_kv }) => [kv.mod_revision, kv.value, prev_kv?.value]),
    // What was before the compacted ones is gone, as in etcd.
    [
      ["3", "1", undefined],
      ["4", "2", undefined],
      ["5", "3", "2"],
    ],
  );
});

test("requests that make no watcher are created and canceled with id -1 and etcd's reasons", async (context) => {
  const { client } = await startGateway(context);
  const watch = create(client, { key: "b", range_end: "a" });
  const expect = async (reason: string): Promise<void> => {
    const { watch_id, created, canceled, cancel_reason } = await watch.next();
    assert.deepEqual([watch_id, created, canceled, cancel_reason], ["-1", true, true, reason]);
  };
  await expect("mvcc: watcher range is empty");
  watch.send({ create_request: { key: "a", range_end: "a" } });
  await expect("mvcc: watcher range is empty");
  watch.send({ create_request: { key: "a", start_revision: -1 } });
  await expect("etcdserver: mvcc: required revision has been compacted");
  watch.send({ create_request: { key: "a", watch_id: 1 } });
  assert.equal((await watch.next()).watch_id, "1");
  watch.send({ create_request: { key: "a", watch_id: 1 } });
  await expect("mvcc: duplicate watch ID provided on the WatchStream");
  // Ids that the server chooses go around those that are taken.
  for (const id of ["0", "2", "3"]) {
    watch.send({ create_request: { key: "a" } });
    assert.equal((await watch.next()).watch_id, id);
  }
});

test("filters keep out puts or deletes", async (context) => {
  const { client, backend } = await startGateway(context);
  const puts = create(client, { key: "a", filters: ["NODELETE"] });
  const deletes = create(client, { key: "a", filters: ["NOPUT"] });
  await puts.next();
  await deletes.next();
  put(backend, "a");
  remove(backend, "a");
  put(backend, "a");
  const seen = [...brief(await puts.next())];
  while (seen.length < 2) seen.push(...brief(await puts.next()));
  assert.deepEqual(seen, ["PUT a 2", "PUT a 4"]);
  assert.deepEqual(brief(await deletes.next()), ["DELETE a 3"]);
});

test("an empty key with an open end watches everything", async (context) => {
  const { client, backend } = await startGateway(context);
  const watch = create(client, { key: "", range_end: "\0" });
  await watch.next();
  putAll(backend, ["\0", "a", "\xff\xff"]);
  assert.deepEqual(brief(await watch.next()), ["PUT \0 2", "PUT a 2", "PUT \xff\xff 2"]);
});

test("cancel ends a watcher and only that one", async (context) => {
  const { client, backend } = await startGateway(context);
  const watch = create(client, { key: "a" });
  await watch.next();
  watch.send({ create_request: { key: "a" } });
  assert.equal((await watch.next()).watch_id, "1");
  watch.send({ cancel_request: { watch_id: 0 } });
  const { watch_id, canceled, cancel_reason } = await watch.next();
  assert.deepEqual([watch_id, canceled, cancel_reason], ["0", true, ""]);
  watch.send({ cancel_request: { watch_id: 77 } });
  put(backend, "a");
  const response = await watch.next();
  assert.deepEqual([response.watch_id, brief(response)], ["1", ["PUT a 2"]]);
  assert.ok(await watch.silent(50));
});

test("progress is told only when all watchers of the stream have everything", async (context) => {
  const { client, backend } = await startGateway(context);
  const watch = client.duplex(WATCH);
  watch.send({ progress_request: {} });
  assert.ok(await watch.silent(50), "a stream without watchers gets no answer");
  watch.send({ create_request: { key: "a" } });
  await watch.next();
  put(backend, "z");
  watch.send({ progress_request: {} });
  const progress = await watch.next();
  assert.deepEqual([progress.watch_id, progress.header.revision], ["-1", "2"]);
});

test("progress never overtakes an event", async (context) => {
  const { client, backend } = await startGateway(context);
  const watch = create(client, { key: "a" });
  await watch.next();
  let asked = 0;
  const asking = setInterval(() => {
    watch.send({ progress_request: {} });
    if (++asked === 60) clearInterval(asking);
  }, 1);
  let progressed = 0;
  let delivered = 1;
  for (let i = 0; i < 60; i++) {
    put(backend, "a");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  while (delivered < 61 || progressed < 61) {
    const response = await watch.next();
    const revision = Number(response.header.revision);
    if (response.events.length === 0) {
      assert.ok(revision <= delivered, "all events up to the progress revision came before");
      progressed = revision;
      if (progressed < 61 && asked === 60) watch.send({ progress_request: {} });
    } else {
      for (const event of response.events) assert.equal(Number(event.kv.mod_revision), ++delivered);
      assert.ok(delivered > progressed, "no event at or below a progress revision comes later");
    }
  }
});

test("progress_notify tells idle watchers, at its interval, and not those that got events", async (context) => {
  const { client, backend } = await startGateway(context, { limits: { progressNotifyIntervalMs: 100 } });
  const watch = create(client, { key: "a", progress_notify: true });
  await watch.next();
  put(backend, "z");
  const progress = await watch.next();
  assert.deepEqual([progress.watch_id, progress.header.revision, progress.events], ["0", "2", []]);
  const plain = create(client, { key: "a" });
  await plain.next();
  assert.ok(await plain.silent(250));
});

test("one revision stays in one response unless fragments were asked for", async (context) => {
  const { client, backend } = await startGateway(context);
  const whole = create(client, { key: "a", range_end: "b" });
  const parts = create(client, { key: "a", range_end: "b", fragment: true });
  await whole.next();
  await parts.next();
  putAll(
    backend,
    Array.from({ length: 9 }, (_, i) => `a${i}`),
    new Uint8Array(512 * 1024),
  );
  assert.equal((await whole.next()).events.length, 9);
  const sizes: number[] = [];
  for (;;) {
    const response = await parts.next();
    sizes.push(response.events.length);
    if (!response.fragment) break;
  }
  assert.deepEqual(sizes, [3, 3, 3]);
});

test("a thousand watchers of many ranges get each their own", async (context) => {
  const { client, backend } = await startGateway(context);
  const watch = client.duplex(WATCH);
  for (let i = 0; i < 1_000; i++) watch.send({ create_request: { key: `p${i}/`, range_end: `p${i}0` } });
  for (let i = 0; i < 1_000; i++) assert.equal((await watch.next()).created, true);
  putAll(
    backend,
    Array.from({ length: 100 }, (_, i) => `p${i * 10}/x`),
  );
  const seen = new Map<string, string>();
  for (let i = 0; i < 100; i++) {
    const response = await watch.next();
    seen.set(response.watch_id, response.events[0].kv.key);
  }
  assert.equal(seen.size, 100);
  for (const [id, key] of seen) assert.equal(key, `p${id}/x`);
  await client.unary(`${KV}/Range`, { key: "a" });
  watch.stream.on("error", () => {});
  watch.cancel();
});
