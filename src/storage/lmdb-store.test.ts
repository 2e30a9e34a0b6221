import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Prng } from "../base/prng.ts";
import { installStaged } from "../store/staging.ts";
import { StateInstaller } from "../store/state-transfer.ts";
import { Store } from "../store/store.ts";
import { answer, finishAll, give, op, rangeOf, weakHasher } from "../store/test-kit.ts";
import type { Operation } from "../store/types.ts";
import { LmdbEngine } from "./lmdb-engine.ts";
import { MemoryEngine } from "./memory-engine.ts";

const base = mkdtempSync(join(tmpdir(), "kmmr-lmdb-store-"));
after(() => rmSync(base, { recursive: true, force: true }));

function open(engine: MemoryEngine | LmdbEngine): Store {
  return new Store({ engine, hasher: weakHasher, recentSizeBytes: 3000 });
}

function randomBatch(prng: Prng, revision: number): Operation[] {
  return Array.from({ length: 8 }, () => {
    const key = `key-${prng.below(60)}`;
    if (prng.chance(0.15)) return op.delete(key);
    if (prng.chance(0.01)) return op.compact(revision - prng.below(200));
    return op.put(key, "v".repeat(prng.below(80)));
  });
}

test("the store on LMDB, with restarts, is the store in memory", async () => {
  const path = join(base, "same");
  const prng = new Prng(4);
  const inMemory = open(new MemoryEngine());
  let engine = new LmdbEngine({ path, writeIntervalMs: 2 });
  let onDisk = open(engine);
  for (let cid = 1; cid <= 300; cid++) {
    const operations = randomBatch(prng, inMemory.revision);
    for (const store of [inMemory, onDisk]) {
      store.beginBatch(cid);
      for (const each of operations) store.execute(each);
      store.endBatch();
    }
    assert.deepEqual(onDisk.takeBatchDigest(), inMemory.takeBatchDigest());
    if (cid % 40 === 0) {
      for (const store of [inMemory, onDisk]) {
        store.captureCheckpoint(cid, new Uint8Array(0));
        while (store.work(50)) await new Promise((resolve) => setImmediate(resolve));
        if (cid % 80 === 0) store.keepCheckpoint(cid, Uint8Array.of(cid));
      }
      const { root } = inMemory.computedCheckpoint(cid)!;
      assert.deepEqual(onDisk.computedCheckpoint(cid)!.root, root);
      if (cid % 80 === 0) assert.deepEqual(onDisk.checkpoint(), inMemory.checkpoint());
    }
    if (cid % 50 === 0) {
      await engine.close();
      const kept = onDisk.checkpoint();
      engine = new LmdbEngine({ path, writeIntervalMs: 2 });
      onDisk = open(engine);
      assert.deepEqual(onDisk.checkpoint(), kept);
    }
    const revision = Math.max(inMemory.revision - prng.below(150), inMemory.compactRevision, 1);
    const range = rangeOf("\0", "\0", { revision });
    assert.deepEqual(onDisk.range(range), inMemory.range(range));
  }
  const from = Math.max(inMemory.compactRevision, 1);
  const eventsOf = (store: Store) =>
    store
      .events(from, store.revision, Number.POSITIVE_INFINITY)
      .map(({ type, kv, prevKv }) => ({ type, kv, prevKv }));
  assert.deepEqual(eventsOf(onDisk), eventsOf(inMemory));
  await engine.close();
});

test("a state is transferred from memory to LMDB and found again after a restart", async () => {
  const prng = new Prng(5);
  const source = open(new MemoryEngine());
  for (let cid = 1; cid <= 200; cid++) {
    source.beginBatch(cid);
    for (const each of randomBatch(prng, source.revision)) source.execute(each);
    source.endBatch();
  }
  source.captureCheckpoint(200, Uint8Array.of(1, 2));
  while (source.work(1000));
  source.keepCheckpoint(200, new Uint8Array(0));
  const { root } = source.checkpoint()!;
  const path = join(base, "transfer");
  const engine = new LmdbEngine({ path, writeIntervalMs: 2 });
  const target = open(engine);
  const installer = new StateInstaller(target, root);
  while (!installer.isComplete) {
    for (const request of installer.requests(8)) {
      give(installer, request, answer(source, request, 900)!);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(finishAll(installer, 200, Uint8Array.of(7)), Uint8Array.of(1, 2));
  assert.deepEqual(target.range(rangeOf("\0", "\0")), source.range(rangeOf("\0", "\0")));
  await engine.close();
  const again = new LmdbEngine({ path });
  const found = open(again);
  assert.deepEqual(found.range(rangeOf("\0", "\0")), source.range(rangeOf("\0", "\0")));
  assert.deepEqual(found.checkpoint(), { ...source.checkpoint()!, proof: Uint8Array.of(7) });
  assert.deepEqual(found.chunkPart(0, 0, 900), source.chunkPart(0, 0, 900));
  found.captureCheckpoint(201, Uint8Array.of(1, 2));
  while (found.work(1000));
  assert.deepEqual(found.computedCheckpoint(201)!.root, root);
  await again.close();
});

test("a large state is installed without all of it in memory, also at a start behind a crash", async () => {
  const source = open(new MemoryEngine());
  for (let cid = 1; cid <= 3600; cid++) {
    source.beginBatch(cid);
    source.execute(op.put(`key-${cid}`, new Uint8Array(16 * 1024).fill(cid)));
    source.endBatch();
  }
  source.captureCheckpoint(1, new Uint8Array(0));
  while (source.work(1000));
  source.keepCheckpoint(1, new Uint8Array(0));
  const { root } = source.checkpoint()!;
  const path = join(base, "large");
  const nextTurn = () => new Promise((resolve) => setImmediate(resolve));
  for (const stops of [false, true]) {
    let engine = new LmdbEngine({ path });
    const installer = new StateInstaller(open(engine), root);
    while (!installer.isComplete) {
      for (const request of installer.requests(8))
        give(installer, request, answer(source, request, 1 << 20)!);
      await engine.flushed();
    }
    const buffered: number[] = [];
    const steps = installer.finish(1, new Uint8Array(0));
    for (let i = 0; (!stops || i < 3) && steps.next().done !== true; i++) {
      buffered.push(engine.bufferedSizeBytes);
      await nextTurn();
    }
    await engine.close();
    engine = new LmdbEngine({ path });
    for (const _ of installStaged(engine)) {
      buffered.push(engine.bufferedSizeBytes);
      await engine.flushed();
    }
    assert.ok(buffered.length > 10, `${buffered.length} steps`);
    assert.ok(Math.max(...buffered) < 44 * 2 ** 20, `${Math.max(...buffered)} bytes in memory`);
    const found = open(engine);
    assert.deepEqual(found.checkpoint()?.root, root);
    assert.equal(found.keyCount, source.keyCount);
    assert.deepEqual(found.range(rangeOf("key-77")), source.range(rangeOf("key-77")));
    // The second time all of it has to be installed again.
    engine.clear();
    engine.commit();
    await engine.close();
  }
});
