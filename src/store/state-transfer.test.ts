import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../base/prng.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { encodeOperation } from "./operation.ts";
import { StateInstaller, TransferError } from "./state-transfer.ts";
import { Store } from "./store.ts";
import { plain } from "./test-arbitraries.test.ts";
import { answer, fetchAll, finishAll, give, op, rangeOf, weakHasher } from "./test-kit.ts";
import type { Operation } from "./types.ts";

const NO_EXTRA = new Uint8Array(0);
const PROOF = Uint8Array.of(1, 2, 3);

function open(engine: MemoryEngine, recentSizeBytes = 1_000_000): Store {
  return new Store({ engine, hasher: weakHasher, recentSizeBytes });
}

function execute(store: Store, timeMs: number, operations: readonly Operation[]): void {
  store.beginBatch(timeMs);
  for (const each of operations) store.executeBytes(encodeOperation(each));
  store.endBatch();
}

function checkpointOf(store: Store, cid: number, extra = NO_EXTRA) {
  store.captureCheckpoint(cid, extra);
  while (store.work(1000));
  assert.ok(store.keepCheckpoint(cid, PROOF));
  while (store.work(1000));
  return store.checkpoint()!;
}

/** A store with some history: puts, rewrites, deletes, leases and a compaction, over many chunks. */
function grownStore(seed: number, revisions: number): Store {
  const store = open(new MemoryEngine({ crashable: true }), 5_000);
  grow(store, seed, revisions);
  return store;
}

function grow(store: Store, seed: number, revisions: number): void {
  const prng = new Prng(seed);
  const end = store.revision + revisions;
  while (store.revision < end) {
    const operations: Operation[] = [];
    for (let i = 0; i < 10; i++) {
      const key = `k${prng.below(40)}`;
      if (prng.chance(0.2)) operations.push(op.delete(key));
      else if (prng.chance(0.02)) operations.push(op.delete("k", "l"));
      else if (prng.chance(0.05)) operations.push(op.grant(BigInt(prng.below(9) + 1), 2 + prng.below(50)));
      else operations.push(op.put(key, "v".repeat(prng.below(60)), { lease: BigInt(prng.below(4)) }));
    }
    if (prng.chance(0.02)) operations.push(op.compact(store.revision - 300 - prng.below(1000)));
    execute(store, store.timeMs + prng.below(300), operations);
  }
}

/** Every part of the kept checkpoint is there and fits its root. */
function assertServed(store: Store): void {
  const reader = new StateInstaller(open(new MemoryEngine()), store.checkpoint()!.root);
  fetchAll(reader, store);
}

function assertSameState(a: Store, b: Store): void {
  for (const name of ["revision", "compactRevision", "timeMs", "keyCount", "quotaUsedBytes"] as const) {
    assert.equal(a[name], b[name], name);
  }
  assert.deepEqual(
    plain(a.leases().map((id) => a.leaseTimeToLive(id))),
    plain(b.leases().map((id) => b.leaseTimeToLive(id))),
  );
  for (let revision = Math.max(a.compactRevision, 1); revision <= a.revision; revision += 97) {
    const range = rangeOf("\0", "\0", { revision });
    assert.deepEqual(plain(a.range(range)), plain(b.range(range)), `at revision ${revision}`);
  }
  const eventsOf = (store: Store) =>
    store
      .events(Math.max(store.compactRevision, 1), store.revision, Number.POSITIVE_INFINITY)
      .map(({ type, kv, prevKv }) => ({ type, kv, prevKv }));
  assert.deepEqual(plain(eventsOf(a)), plain(eventsOf(b)));
}

test("a different execution gives a different digest", () => {
  const [a, b] = [open(new MemoryEngine()), open(new MemoryEngine())];
  execute(a, 5, [op.put("k", "1")]);
  execute(b, 5, [op.put("k", "2")]);
  assert.notDeepEqual(a.takeBatchDigest(), b.takeBatchDigest());
  assert.notDeepEqual(checkpointOf(a, 1).root, checkpointOf(b, 1).root);
  execute(a, 6, [op.put("k", "3")]);
  execute(b, 6, [op.put("k", "3")]);
  assert.deepEqual(a.takeBatchDigest().length, 32);
  assert.notDeepEqual(checkpointOf(a, 2).root, checkpointOf(b, 2).root, "the older version still counts");
  const [c, d] = [open(new MemoryEngine()), open(new MemoryEngine())];
  execute(c, 5, [op.grant(1n, 10)]);
  execute(d, 5, [op.grant(1n, 11)]);
  assert.notDeepEqual(c.takeBatchDigest(), d.takeBatchDigest());
  assert.notDeepEqual(checkpointOf(c, 1).root, checkpointOf(d, 1).root, "leases count");
});

test("a new store takes over a whole state, serves it on and goes on like the others", () => {
  const source = grownStore(1, 1500);
  const extra = Uint8Array.of(7, 8, 9);
  const { root } = checkpointOf(source, 10, extra);
  const target = open(new MemoryEngine());
  target.setMeta("own", Uint8Array.of(1));
  const installer = new StateInstaller(target, root);
  assert.ok(fetchAll(installer, source) > 20);
  const given = finishAll(installer, 10, PROOF, (store) => store.setMeta("applied", Uint8Array.of(10)));
  assert.deepEqual(given, extra);
  assert.deepEqual(target.getMeta("applied"), Uint8Array.of(10));
  assert.deepEqual(target.getMeta("own"), Uint8Array.of(1), "the replica's own values stay");
  assertSameState(source, target);
  assert.deepEqual(target.checkpoint(), source.checkpoint());
  const third = open(new MemoryEngine());
  const onward = new StateInstaller(third, root);
  fetchAll(onward, target);
  finishAll(onward, 10, PROOF);
  for (const store of [source, target, third]) grow(store, 2, 300);
  for (const store of [target, third]) {
    assertSameState(source, store);
    assert.deepEqual(checkpointOf(store, 20), checkpointOf(source, 20));
  }
});

test("only what differs is fetched, and what is too much goes away", () => {
  const source = grownStore(3, 2000);
  const target = grownStore(3, 2000);
  grow(source, 4, 100);
  grow(target, 5, 400);
  const { root } = checkpointOf(source, 1);
  const installer = new StateInstaller(target, root);
  const parts = fetchAll(installer, source, 1_000_000);
  assert.ok(parts <= 40, `${parts} chunks fetched of ${Math.ceil(source.revision / 64)}`);
  finishAll(installer, 1, PROOF);
  assertSameState(source, target);
  const again = new StateInstaller(target, root);
  assert.equal(fetchAll(again, source), 0, "nothing differs any more");
});

test("a lying peer is refused part by part and changes nothing", () => {
  const source = grownStore(6, 1200);
  const { root } = checkpointOf(source, 1);
  const liar = grownStore(7, 1200);
  checkpointOf(liar, 1);
  const target = grownStore(8, 300);
  const before = plain(target.range(rangeOf("\0", "\0")));
  const prng = new Prng(9);
  const installer = new StateInstaller(target, root);
  let refused = 0;
  while (!installer.isComplete) {
    for (const request of installer.requests(3)) {
      const truth = answer(source, request, 3000)!.slice();
      const lie = prng.below(12);
      let bytes = truth;
      if (lie === 0) bytes[prng.below(bytes.length)]! ^= 1 << prng.below(8);
      if (lie === 1) bytes = bytes.subarray(0, prng.below(bytes.length));
      if (lie === 2) bytes = Uint8Array.of(...bytes, 0);
      if (lie === 3) bytes = answer(liar, request, 3000)?.slice() ?? bytes;
      try {
        give(installer, request, bytes);
      } catch (error) {
        assert.ok(error instanceof TransferError, String(error));
        refused++;
      }
      if (prng.chance(0.1)) assert.deepEqual(plain(target.range(rangeOf("\0", "\0"))), before);
    }
  }
  assert.ok(refused > 5, `${refused} lies refused`);
  finishAll(installer, 1, PROOF);
  assertSameState(source, target);
});

test("a transfer goes on after a break, and a crash leaves the old state or the new one", () => {
  const source = grownStore(10, 900);
  const { root } = checkpointOf(source, 5);
  for (let seed = 0; seed < 12; seed++) {
    const prng = new Prng(seed);
    let engine = new MemoryEngine({ crashable: true });
    const first = open(engine);
    grow(first, 11, 200);
    const oldCheckpoint = checkpointOf(first, 3);
    grow(first, 16, 20);
    const oldRevision = first.revision;
    const old = plain(first.range(rangeOf("\0", "\0")));
    engine.flush();
    // A first attempt that breaks off after some parts.
    const broken = new StateInstaller(first, root);
    const rounds = prng.below(20);
    for (let i = 0; i < rounds && !broken.isComplete; i++) {
      for (const request of broken.requests(2)) give(broken, request, answer(source, request, 4000)!.slice());
    }
    engine.flush(prng.below(engine.unflushedUnits + 1));
    engine = engine.crash();
    const second = open(engine);
    assert.equal(second.revision, oldRevision);
    assert.deepEqual(second.checkpoint(), oldCheckpoint);
    const installer = new StateInstaller(second, root);
    fetchAll(installer, source);
    finishAll(installer, 5, PROOF);
    assertSameState(source, second);
    // The machine loses the newest units of the installation.
    engine.flush(prng.below(engine.unflushedUnits + 1));
    const found = open(engine.crash());
    if (found.revision === oldRevision) assert.deepEqual(plain(found.range(rangeOf("\0", "\0"))), old);
    else assertSameState(source, found);
    assert.deepEqual(
      found.checkpoint(),
      found.revision === oldRevision ? oldCheckpoint : source.checkpoint(),
    );
    assertServed(found);
  }
});

test("an installation goes in bounded units, and a crash between any two of them is made good at the next start", () => {
  const source = open(new MemoryEngine());
  // 11 MiB: two units and a rest.
  for (let i = 0; i < 350; i++) execute(source, i, [op.put(`k${i}`, new Uint8Array(32 * 1024).fill(i))]);
  const { root } = checkpointOf(source, 9);
  const staged = new MemoryEngine({ crashable: true });
  grow(open(staged), 22, 100);
  fetchAll(new StateInstaller(open(staged), root), source, 10_000_000);
  staged.flush();
  const assertAlike = (store: Store) => {
    assert.equal(store.keyCount, source.keyCount);
    for (let i = 0; i < 350; i++) {
      assert.deepEqual(store.range(rangeOf(`k${i}`)), source.range(rangeOf(`k${i}`)), `k${i}`);
    }
  };
  for (let stopAfter = 1; ; stopAfter++) {
    const engine = staged.crash();
    const target = open(engine);
    checkpointOf(target, 3);
    target.captureCheckpoint(4, NO_EXTRA);
    while (target.work(1000));
    const installer = new StateInstaller(target, root);
    fetchAll(installer, source);
    engine.flush();
    const steps = installer.finish(9, PROOF);
    let done = false;
    for (let i = 0; i < stopAfter && !done; i++) {
      const before = engine.unflushedUnits;
      done = steps.next().done === true;
      assert.ok(engine.unflushedUnits - before <= 2, "a step makes few units");
    }
    assert.equal(target.keepCheckpoint(4, PROOF), false, "none of the state before is kept any more");
    // A crash that takes the newest unit, which may be the one that switches over, and one that takes nothing.
    for (const lost of [1, 0]) {
      engine.flush(engine.unflushedUnits - lost);
      const found = open(engine.crash());
      const isNew = stopAfter > 1 || lost === 0;
      assert.equal(found.checkpoint()?.cid, isNew ? 9 : 3);
      if (isNew) assertAlike(found);
    }
    if (!done) continue;
    assertAlike(target);
    assert.ok(stopAfter >= 4, `${stopAfter} steps`);
    return;
  }
});

test("no more chunks have memory than are asked for at once", () => {
  const source = grownStore(11, 3_000);
  const { root } = checkpointOf(source, 5);
  const store = open(new MemoryEngine());
  const target = store.installTarget();
  let compared = 0;
  // A chunk gets its memory when it turns out not to be there already.
  store.installTarget = () => ({
    ...target,
    leafNow: (chunk) => {
      compared += 1;
      return target.leafNow(chunk);
    },
  });
  const installer = new StateInstaller(store, root);
  while (compared === 0) {
    for (const request of installer.requests(2))
      give(installer, request, answer(source, request, 4000)!.slice());
  }
  // Nobody answers for a while.
  for (let i = 0; i < 10; i++) assert.equal(installer.requests(2).length, 2);
  assert.ok(compared <= 4, `${compared} chunks are compared, and two of them asked for`);
  fetchAll(installer, source);
  assert.ok(compared > 10, `${compared} chunks`);
});

test("the checkpoint before is served until the next is kept", () => {
  const source = grownStore(12, 900);
  const { root } = checkpointOf(source, 1);
  grow(source, 13, 1500);
  execute(source, source.timeMs, [op.compact(source.revision - 10)]);
  source.captureCheckpoint(2, NO_EXTRA);
  let steps = 0;
  while (source.checkpoint()!.cid === 1) {
    const isComputed = source.computedCheckpoint(2) !== undefined;
    if (steps++ % 5 === 0 || isComputed) {
      const target = open(new MemoryEngine());
      const installer = new StateInstaller(target, root);
      fetchAll(installer, source, 10_000);
      finishAll(installer, 1, PROOF);
      assert.deepEqual(target.checkpoint(), source.checkpoint());
    }
    if (isComputed) assert.ok(source.keepCheckpoint(2, PROOF));
    source.work(3);
  }
  assert.ok(steps > 10);
  // While removed records leave the engine, the new one is served.
  const next = source.checkpoint()!;
  while (source.work(1)) {
    const target = open(new MemoryEngine());
    const installer = new StateInstaller(target, next.root);
    fetchAll(installer, source, 10_000);
    finishAll(installer, 2, PROOF);
    assertSameState(source, target);
  }
});

test("a transfer that is given up in the middle of a checkpoint leaves no garbage behind", () => {
  for (let steps = 0; steps < 60; steps += 3) {
    const [calm, disturbed] = [grownStore(14, 600), grownStore(14, 600)];
    for (const store of [calm, disturbed]) {
      execute(store, store.timeMs, [op.compact(store.revision - 5)]);
      store.captureCheckpoint(1, NO_EXTRA);
    }
    while (calm.work(1000));
    for (let i = 0; i < steps; i++) disturbed.work(2);
    if (steps % 2 === 0) disturbed.keepCheckpoint(1, PROOF);
    new StateInstaller(disturbed, new Uint8Array(32));
    for (const store of [calm, disturbed]) grow(store, 15, 50);
    assert.deepEqual(checkpointOf(disturbed, 2), checkpointOf(calm, 2));
    assertSameState(disturbed, calm);
  }
});
