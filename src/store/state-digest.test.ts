/** Checkpoints over restarts: the same root everywhere, and the kept one served or recognised as damaged. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { equalBytes, toByteString, toHex } from "../base/bytes.ts";
import { Prng } from "../base/prng.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { type Engine, EngineCorruptError, Table } from "./engine.ts";
import { encodeOperation } from "./operation.ts";
import { COMPUTED_MAX } from "./state-digest.ts";
import { StateInstaller } from "./state-transfer.ts";
import { decodeLeaves, decodeManifest, leafHash, rootHash } from "./state-tree.ts";
import { Store } from "./store.ts";
import { operation } from "./test-arbitraries.test.ts";
import { fetchAll, finishAll, op, weakHasher } from "./test-kit.ts";
import type { Operation } from "./types.ts";

const POSITION = "test/position";
const NO_EXTRA = new Uint8Array(0);

function open(engine: Engine, recentSizeBytes = 1_000_000): Store {
  return new Store({ engine, hasher: weakHasher, recentSizeBytes });
}

function execute(store: Store, timeMs: number, operations: readonly Operation[], cid = 0): void {
  store.beginBatch(timeMs);
  for (const each of operations) store.executeBytes(encodeOperation(each));
  store.setMeta(POSITION, Uint8Array.of(cid));
  store.endBatch();
}

function proofOf(cid: number): Uint8Array {
  return Uint8Array.of(9, cid);
}

/** Reads all of the kept checkpoint as a peer does; the number of chunks that are not to be had. */
function readKept(store: Store): number {
  const { root, proof, cid } = store.checkpoint()!;
  assert.deepEqual(proof, proofOf(cid));
  const manifest = decodeManifest(store.manifest()!);
  assert.deepEqual(rootHash(weakHasher, manifest), root);
  let missing = 0;
  for (const { group, hash } of manifest.groups) {
    const encoded = store.groupLeaves(group)!;
    assert.deepEqual(weakHasher.hash(encoded), hash);
    for (const leaf of decodeLeaves(group, encoded)) {
      const bytes = store.chunkPart(leaf.chunk, 0, Number.POSITIVE_INFINITY);
      if (bytes === undefined) missing++;
      else assert.deepEqual(leafHash(weakHasher, leaf.chunk, bytes), leaf.hash, `chunk ${leaf.chunk}`);
    }
  }
  return missing;
}

interface Batch {
  readonly operations: readonly Operation[];
  readonly passMs: number;
  readonly checkpoint: boolean;
  readonly budget: number;
  /** Keeps a computed checkpoint so many before the newest. */
  readonly keep: number | undefined;
  /** Restarts; of the units that are not flushed, this share is lost. */
  readonly lose: number | undefined;
}

const batch: fc.Arbitrary<Batch> = fc.record({
  operations: fc.array(operation, { minLength: 1, maxLength: 5 }),
  passMs: fc.constantFrom(0, 1000, 4000),
  checkpoint: fc.constantFrom(false, true),
  budget: fc.nat({ max: 30 }),
  keep: fc.constantFrom(undefined, 0, 0, 1, 2),
  lose: fc.constantFrom(undefined, undefined, undefined, 0, 0.5, 1),
});

/** A store that is shaken by restarts, beside the roots of one that is not. */
class Shaken {
  readonly #batches: readonly Batch[];
  readonly #roots: ReadonlyMap<number, string>;
  #engine = new MemoryEngine({ crashable: true });
  #store = open(this.#engine, 200);
  #next = 0;
  #timeMs = 0;
  /** Instances of the checkpoints that were captured, and not lost since. */
  #captured: number[] = [];

  constructor(batches: readonly Batch[], roots: ReadonlyMap<number, string>) {
    this.#batches = batches;
    this.#roots = roots;
  }

  run(): Store {
    for (const each of this.#batches) {
      this.#executeUpTo(this.#batches.indexOf(each));
      this.#check();
      if (each.lose !== undefined) this.#restart(each.lose);
    }
    this.#executeUpTo(this.#batches.length - 1);
    return this.#store;
  }

  #executeUpTo(last: number): void {
    for (; this.#next <= last; this.#next++) {
      const { operations, passMs, checkpoint, budget, keep } = this.#batches[this.#next]!;
      const cid = this.#next + 1;
      this.#timeMs = this.#store.timeMs + passMs;
      execute(this.#store, this.#timeMs, operations, cid);
      if (checkpoint) {
        this.#store.captureCheckpoint(cid, Uint8Array.of(cid));
        this.#captured.push(cid);
      }
      for (let i = 0; i < budget && this.#store.work(1); i++);
      if (keep !== undefined)
        this.#store.keepCheckpoint(
          this.#captured.at(-1 - keep) ?? 0,
          proofOf(this.#captured.at(-1 - keep) ?? 0),
        );
    }
  }

  #check(): void {
    const kept = this.#store.checkpoint();
    for (const cid of this.#captured) {
      const computed = this.#store.computedCheckpoint(cid);
      if (computed !== undefined) assert.equal(toHex(computed.root), this.#roots.get(cid), `root ${cid}`);
    }
    if (kept === undefined) return;
    assert.ok(kept.cid <= this.#next);
    assert.equal(readKept(this.#store), 0);
  }

  #restart(lose: number): void {
    const before = this.#store.checkpoint()?.cid ?? 0;
    const units = this.#engine.unflushedUnits;
    this.#engine.flush(units - Math.floor(units * lose));
    this.#engine = this.#engine.crash();
    this.#store = open(this.#engine, 200);
    const kept = this.#store.checkpoint();
    if (lose === 0) assert.equal(kept?.cid ?? 0, before, "nothing lost, nothing forgotten");
    this.#next = this.#store.getMeta(POSITION)?.[0] ?? 0;
    this.#captured = this.#captured.filter((cid) => cid <= this.#next);
    if (kept === undefined) return;
    assert.ok(kept.cid <= before && kept.cid <= this.#next);
    assert.equal(toHex(kept.root), this.#roots.get(kept.cid));
    // What the crash left half done is not served, and comes back with some work.
    readKept(this.#store);
    while (this.#store.work(1));
    assert.equal(readKept(this.#store), 0);
  }
}

test("roots are the same over restarts that lose units, and all of what is kept is served", () => {
  fc.assert(
    fc.property(fc.array(batch, { minLength: 3, maxLength: 40 }), (batches) => {
      const calm = open(new MemoryEngine());
      const roots = new Map<number, string>();
      batches.forEach((each, i) => {
        execute(calm, calm.timeMs + each.passMs, each.operations, i + 1);
        if (!each.checkpoint) return;
        calm.captureCheckpoint(i + 1, Uint8Array.of(i + 1));
        while (calm.work(1000));
        roots.set(i + 1, toHex(calm.computedCheckpoint(i + 1)!.root));
        assert.ok(calm.keepCheckpoint(i + 1, proofOf(i + 1)));
      });
      const shaken = new Shaken(batches, roots).run();
      const last = batches.length + 1;
      for (const store of [calm, shaken]) {
        store.captureCheckpoint(last, NO_EXTRA);
        while (store.work(1000));
      }
      assert.deepEqual(shaken.computedCheckpoint(last)!.root, calm.computedCheckpoint(last)!.root);
    }),
    { numRuns: Number(process.env.KMMR_TEST_RUNS ?? 400) },
  );
});

/** Batches, compactions and kept checkpoints over many chunks. */
function grow(store: Store, seed: number, batches: number): void {
  const prng = new Prng(seed);
  for (let i = 1; i <= batches; i++) {
    const operations = Array.from({ length: 20 }, () =>
      op.put(`k${prng.below(60)}`, "v".repeat(prng.below(60))),
    );
    const compact = op.compact(Math.max(1, store.revision - 200));
    execute(store, store.timeMs + 1, i % 10 === 0 ? [...operations, compact] : operations);
    if (i % 15 === 0) store.captureCheckpoint(i, Uint8Array.of(i));
    store.work(40);
    if (i % 15 === 14) store.keepCheckpoint(i - 14, proofOf(i - 14));
  }
}

function recordsOf(engine: Engine) {
  return engine.range(Table.record, Uint8Array.of(0), new Uint8Array(13).fill(255), 1e6);
}

test("a restart in the middle of a removal ends with the same engine", () => {
  let unfinished = 0;
  for (let seed = 0; seed < 40; seed++) {
    const engine = new MemoryEngine({ crashable: true });
    const store = open(engine);
    grow(store, 1, 100);
    while (store.work(1000));
    assert.ok(store.keepCheckpoint(90, proofOf(90)));
    engine.flush();
    while (store.work(1));
    const clean = recordsOf(engine).length;
    engine.flush(new Prng(seed).below(engine.unflushedUnits + 1));
    const found = engine.crash();
    if (recordsOf(found).length > clean) unfinished++;
    const again = open(found);
    assert.equal(again.checkpoint()!.cid, 90);
    while (again.work(3));
    assert.equal(recordsOf(found).length, clean);
    assert.equal(readKept(again), 0);
    assert.equal(open(found).hasWork, false, "done once and for all");
  }
  assert.ok(unfinished > 0 && unfinished < 40, `${unfinished} unfinished`);
});

test("of many computed checkpoints the newest can be kept, whatever became of the others", () => {
  const engines = [new MemoryEngine(), new MemoryEngine()];
  const [patient, busy] = engines.map((engine) => open(engine)) as [Store, Store];
  const last = 2 * COMPUTED_MAX;
  for (let cid = 1; cid <= last; cid++) {
    for (const store of [patient, busy]) {
      const prng = new Prng(cid);
      // Never touched again: whole chunks that only this checkpoint hashes.
      execute(
        store,
        cid,
        Array.from({ length: 130 }, (_, i) => op.put(`${cid}/${i}`, "")),
      );
      for (let i = 0; i < 10; i++) {
        const puts = Array.from({ length: 20 }, () => op.put(`k${prng.below(90)}`, `${prng.below(9)}`));
        execute(store, cid, [...puts, op.compact(Math.max(1, store.revision - 150))]);
      }
      store.captureCheckpoint(cid, NO_EXTRA);
      while (store.work(100));
    }
    assert.ok(patient.keepCheckpoint(cid, proofOf(cid)));
    while (patient.work(100));
    assert.deepEqual(busy.computedCheckpoint(cid)!.root, patient.checkpoint()!.root);
  }
  assert.ok(!busy.keepCheckpoint(last - COMPUTED_MAX, proofOf(1)), "given up");
  assert.ok(busy.computedCheckpoint(last - COMPUTED_MAX + 1) !== undefined);
  assert.ok(busy.keepCheckpoint(last, proofOf(last)));
  while (busy.work(100));
  assert.deepEqual(busy.checkpoint(), patient.checkpoint());
  for (const store of [patient, busy]) assert.equal(readKept(store), 0);
  assert.deepEqual(recordsOf(engines[1]!), recordsOf(engines[0]!));
});

test("nothing leaves the engine while a state is transferred, and it goes on when that was given up", () => {
  const engine = new MemoryEngine();
  const store = open(engine);
  grow(store, 4, 90);
  while (store.work(1000));
  assert.ok(store.keepCheckpoint(90, proofOf(90)));
  const count = recordsOf(engine).length;
  new StateInstaller(store, new Uint8Array(32));
  assert.ok(!store.work(1000) && !store.hasWork);
  assert.equal(recordsOf(engine).length, count);
  store.captureCheckpoint(91, NO_EXTRA);
  while (store.work(1000));
  assert.ok(recordsOf(engine).length < count);
  assert.equal(readKept(store), 0);
});

test("a state that is installed brings its compaction with it, also an older one", () => {
  const [calm, fallen] = [open(new MemoryEngine()), open(new MemoryEngine())];
  for (const store of [calm, fallen]) {
    grow(store, 5, 20);
    store.captureCheckpoint(21, NO_EXTRA);
    while (store.work(1000));
    assert.ok(store.keepCheckpoint(21, proofOf(21)));
    while (store.work(1000));
  }
  const source = open(new MemoryEngine());
  grow(source, 5, 20);
  const compact = op.compact(fallen.revision);
  execute(fallen, fallen.timeMs, [compact]);
  fallen.captureCheckpoint(22, NO_EXTRA);
  while (fallen.work(1000));
  assert.ok(fallen.keepCheckpoint(22, proofOf(22)));
  while (fallen.work(1000));
  const installer = new StateInstaller(fallen, calm.checkpoint()!.root);
  fetchAll(installer, calm);
  finishAll(installer, 21, proofOf(21));
  assert.deepEqual(fallen.checkpoint(), calm.checkpoint());
  assert.ok(!fallen.hasWork);
  const roots = [calm, fallen].map((store) => {
    execute(store, store.timeMs, [compact]);
    store.captureCheckpoint(22, NO_EXTRA);
    while (store.work(1000));
    return store.computedCheckpoint(22)!.root;
  });
  assert.deepEqual(roots[1], roots[0]);
});

/** An engine that counts the records it gives out. */
function counting(engine: MemoryEngine): { engine: Engine; records: () => number } {
  let records = 0;
  const range: Engine["range"] = (table, ...rest) => {
    const entries = engine.range(table, ...rest);
    if (table === Table.record) records += entries.length;
    return entries;
  };
  const methods = ["get", "put", "delete", "commit", "clear", "sizeBytes"] as const;
  const bound = Object.fromEntries(methods.map((name) => [name, engine[name].bind(engine)]));
  return { engine: { ...bound, range } as Engine, records: () => records };
}

test("the first checkpoint after a restart reads only what came after the kept one", () => {
  const engine = new MemoryEngine();
  const store = open(engine);
  grow(store, 2, 98);
  while (store.work(1000));
  assert.ok(store.keepCheckpoint(90, proofOf(90)));
  while (store.work(1000));
  const counted = counting(engine);
  const again = open(counted.engine);
  execute(again, again.timeMs, [op.put("k", "v")]);
  const before = counted.records();
  again.captureCheckpoint(101, NO_EXTRA);
  while (again.work(1000));
  assert.ok(again.computedCheckpoint(101) !== undefined);
  const read = counted.records() - before;
  assert.ok(read > 0 && read < 350, `${read} records read`);
});

test("damaged rows of the kept checkpoint are recognised, not served, and replaced by the next one", () => {
  const prng = new Prng(7);
  const pristine = () => {
    const engine = new MemoryEngine();
    const store = open(engine);
    grow(store, 3, 80);
    while (store.work(1000));
    assert.ok(store.keepCheckpoint(75, proofOf(75)));
    while (store.work(1000));
    return engine;
  };
  const rowsOf = (engine: Engine) =>
    engine
      .range(Table.meta, new Uint8Array(0), new Uint8Array(40).fill(255), 1000)
      .filter(({ key }) => /store\/(checkpoint|leaves\/|clean)/.test(toByteString(key)));
  const reference = open(pristine());
  reference.captureCheckpoint(81, NO_EXTRA);
  while (reference.work(1000));
  const { root } = reference.computedCheckpoint(81)!;
  const before = reference.checkpoint()!;
  let dropped = 0;
  for (let i = 0; i < 60; i++) {
    const memory = pristine();
    const rows = rowsOf(memory);
    assert.ok(rows.length >= 3);
    const { key, value } = rows[i % rows.length]!;
    const damage = prng.below(4);
    const bytes = damage === 1 ? value.slice(0, prng.below(value.length)) : value.slice();
    if (damage === 0) bytes[prng.below(bytes.length)]! ^= 1 << prng.below(8);
    let { engine } = counting(memory);
    if (damage <= 1) memory.put(Table.meta, key, bytes);
    else if (damage === 2) memory.delete(Table.meta, key);
    else {
      const get: Engine["get"] = (table, asked) => {
        if (table === Table.meta && equalBytes(asked, key)) throw new EngineCorruptError("checksum");
        return memory.get(table, asked);
      };
      engine = { ...engine, get };
    }
    const store = open(engine);
    const found = store.checkpoint();
    if (found === undefined) {
      dropped++;
      const served = [store.manifest(), store.groupLeaves(0), store.chunkPart(0, 0, 100)];
      assert.ok(served.every((part) => part === undefined));
    } else {
      assert.deepEqual(found, before);
      readKept(store);
    }
    store.captureCheckpoint(81, NO_EXTRA);
    while (store.work(1000));
    assert.deepEqual(store.computedCheckpoint(81)!.root, root);
    assert.ok(store.keepCheckpoint(81, proofOf(81)));
    const again = open(memory);
    assert.deepEqual(again.checkpoint(), store.checkpoint());
    while (again.work(1000));
    assert.equal(readKept(again), 0);
  }
  assert.ok(dropped >= 20, `${dropped} dropped`);
  const older = new MemoryEngine();
  for (const { key, value } of rowsOf(pristine())) older.put(Table.meta, key, value);
  assert.equal(open(older).checkpoint(), undefined, "not of a state that is not here");
});
