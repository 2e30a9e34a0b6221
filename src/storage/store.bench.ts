/**
 * What the store costs, alone: `node src/storage/store.bench.ts [memory|lmdb] [keys] [puts]`. Run by hand, on
 * a quiet machine; not part of the tests.
 */
import { hash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concatBytes } from "../base/bytes.ts";
import type { Hasher } from "../base/crypto.ts";
import type { Engine } from "../store/engine.ts";
import { encodeOperation } from "../store/operation.ts";
import { Store } from "../store/store.ts";
import { compareOf, op, rangeOf } from "../store/test-kit.ts";
import { LmdbEngine } from "./lmdb-engine.ts";
import { MemoryEngine } from "./memory-engine.ts";

const [kind = "lmdb", keysText = "100000", putsText = "200000"] = process.argv.slice(2);
const keyCount = Number(keysText);
const putCount = Number(putsText);
const BATCH = 64;
const VALUE = new Uint8Array(256).fill(7);

const hasher: Hasher = {
  hash: (...parts) => hash("sha256", parts.length === 1 ? parts[0]! : concatBytes(parts), "buffer"),
};

const directory = mkdtempSync(join(tmpdir(), "kmmr-bench-"));
const engine: Engine = kind === "lmdb" ? new LmdbEngine({ path: join(directory, "db") }) : new MemoryEngine();
const store = new Store({ engine, hasher });

function keyOf(i: number): string {
  return `/registry/pods/namespace-${i % 100}/pod-${String(i).padStart(8, "0")}`;
}

function report(what: string, count: number, startedMs: number, cpu: NodeJS.CpuUsage): void {
  const wallUs = ((performance.now() - startedMs) * 1000) / count;
  const used = process.cpuUsage(cpu);
  const cpuUs = (used.user + used.system) / count;
  console.log(`${what.padEnd(44)} ${wallUs.toFixed(2)} us wall, ${cpuUs.toFixed(2)} us CPU each`);
}

/** Executes encoded operations in batches, with the digest of each batch and now and then a pause. */
async function run(what: string, count: number, encodedOf: (i: number) => Uint8Array): Promise<void> {
  const encoded = Array.from({ length: Math.min(count, 20_000) }, (_, i) => encodedOf(i));
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  for (let i = 0; i < count; ) {
    store.beginBatch(store.timeMs + 1);
    for (let j = 0; j < BATCH; j++, i++) store.executeBytes(encoded[i % encoded.length]!, j % 4 === 0);
    store.endBatch();
    store.takeBatchDigest();
    if ((i / BATCH) % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  report(what, count, startedMs, cpu);
}

const scatter = (i: number) => (i * 7919) % keyCount;
for (let start = 0; start < keyCount; start += 20_000) {
  const count = Math.min(20_000, keyCount - start);
  await run(`first puts from ${start}`, count, (i) =>
    encodeOperation(op.put(keyOf(scatter(start + i)), VALUE)),
  );
}
for (let round = 0; round < 3; round++) {
  await run(`puts over ${keyCount} keys`, putCount, (i) => encodeOperation(op.put(keyOf(scatter(i)), VALUE)));
}
await run("compare-and-puts that succeed", putCount, (i) => {
  const key = keyOf(scatter(i));
  const compare = [compareOf(key, { target: 2, result: 1, number: 1 })];
  return encodeOperation(op.txn({ compare, success: [op.put(key, VALUE)], failure: [op.range(key)] }));
});

function read(what: string, count: number, each: (i: number) => unknown): void {
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  for (let i = 0; i < count; i++) each(i);
  report(what, count, startedMs, cpu);
}

read("gets", 50_000, (i) => store.range(rangeOf(keyOf(scatter(i)))));
read("lists of 500", 200, () => store.range(rangeOf("/registry/pods/", "/registry/pods0", { limit: 500 })));
read("counts of everything", 200, () => store.range(rangeOf("/", "0", { countOnly: true })));
const past = store.revision - Math.floor(putCount / 2);
read("lists of 500, in the past", 100, () =>
  store.range(rangeOf("/registry/pods/", "/registry/pods0", { limit: 500, revision: past })),
);
read("1000 events from the engine", 50, (i) => store.events(10 + i * 1000, store.revision, 1000));
read("1000 recent events with previous", 20, (i) => {
  for (const event of store.events(store.revision - 1000 - i * 1000, store.revision, 1000)) event.prevKv;
});

const records = store.revision;
let cpu = process.cpuUsage();
let startedMs = performance.now();
store.captureCheckpoint(1, new Uint8Array(0));
while (store.work(256));
store.keepCheckpoint(1, new Uint8Array(0));
report("first checkpoint, per record", records, startedMs, cpu);
await run("puts", 10_048, (i) => encodeOperation(op.put(keyOf(scatter(i)), VALUE)));
cpu = process.cpuUsage();
startedMs = performance.now();
store.captureCheckpoint(2, new Uint8Array(0));
while (store.work(256));
store.keepCheckpoint(2, new Uint8Array(0));
report("next checkpoint, per new record", 10_048, startedMs, cpu);
store.beginBatch(store.timeMs);
store.execute(op.compact(store.revision - 1000));
store.endBatch();
cpu = process.cpuUsage();
startedMs = performance.now();
store.captureCheckpoint(3, new Uint8Array(0));
let longestMs = 0;
for (let more = true; more; ) {
  const sliceMs = performance.now();
  more = store.work(256);
  longestMs = Math.max(longestMs, performance.now() - sliceMs);
  if (!more && store.checkpoint()?.cid === 2) more = store.keepCheckpoint(3, new Uint8Array(0));
  await new Promise((resolve) => setImmediate(resolve));
}
report(
  `checkpoint with compaction (slice <= ${longestMs.toFixed(1)} ms), per record`,
  records,
  startedMs,
  cpu,
);
console.log("memory MiB", Math.round(process.memoryUsage().rss / 1048576), "disk", engine.sizeBytes());
if (engine instanceof LmdbEngine) {
  await engine.close();
  const again = new LmdbEngine({ path: join(directory, "db") });
  startedMs = performance.now();
  new Store({ engine: again, hasher });
  console.log(`opened in ${Math.round(performance.now() - startedMs)} ms`);
  await again.close();
}
rmSync(directory, { recursive: true, force: true });
