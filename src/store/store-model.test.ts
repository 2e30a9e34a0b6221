import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { NaiveModel } from "./naive-model.ts";
import { decodeOperation, encodeOperation } from "./operation.ts";
import { Store } from "./store.ts";
import { operation, plain, range } from "./test-arbitraries.test.ts";
import { rangeOf, weakHasher } from "./test-kit.ts";
import { type Operation, type RangeRequest, StoreError } from "./types.ts";

type Step =
  | { readonly type: "batch"; readonly passMs: number; readonly operations: readonly Operation[] }
  | { readonly type: "read"; readonly range: RangeRequest }
  | { readonly type: "events"; readonly from: number; readonly countMax: number }
  | { readonly type: "checkpoint"; readonly budget: number }
  | { readonly type: "keep"; readonly back: number }
  | { readonly type: "restart" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      type: fc.constant("batch" as const),
      passMs: fc.constantFrom(0, 1, 1000, 5000),
      operations: fc.array(operation, { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ type: fc.constant("read" as const), range }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant("events" as const),
      from: fc.integer({ min: -1, max: 20 }),
      countMax: fc.constantFrom(1, 2, 100),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant("checkpoint" as const), budget: fc.nat({ max: 50 }) }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("keep" as const), back: fc.nat({ max: 2 }) }) },
  { weight: 1, arbitrary: fc.constant({ type: "restart" as const }) },
);

class Pair {
  readonly model = new NaiveModel();
  readonly #recentSizeBytes: number;
  engine = new MemoryEngine({ crashable: true });
  store: Store;
  #cid = 0;

  constructor(recentSizeBytes: number) {
    this.#recentSizeBytes = recentSizeBytes;
    this.store = this.#open();
  }

  #open(): Store {
    return new Store({ engine: this.engine, hasher: weakHasher, recentSizeBytes: this.#recentSizeBytes });
  }

  run(each: Step): void {
    const { store, model } = this;
    if (each.type === "batch") {
      const timeMs = model.timeMs + each.passMs;
      store.beginBatch(timeMs);
      model.beginBatch(timeMs);
      for (const one of each.operations) {
        const expected = model.execute(one);
        assert.deepEqual(plain(store.executeBytes(encodeOperation(one))), plain(expected));
      }
      store.endBatch();
    } else if (each.type === "read") {
      this.#read(each.range);
    } else if (each.type === "events") {
      this.#events(each.from, each.countMax);
    } else if (each.type === "checkpoint") {
      store.captureCheckpoint(this.#cid++, new Uint8Array(0));
      for (let i = 0; i < each.budget && store.work(1); i++);
    } else if (each.type === "keep") {
      store.keepCheckpoint(this.#cid - 1 - each.back, new Uint8Array(0));
    } else {
      const used = store.quotaUsedBytes;
      this.engine.flush();
      this.engine = this.engine.crash();
      this.store = this.#open();
      assert.equal(this.store.quotaUsedBytes, used, "the quota counts the same after a restart");
    }
    this.#compareState();
  }

  #read(request: RangeRequest): void {
    const expected = this.model.range(request);
    let found: unknown;
    try {
      found = this.store.range(request);
    } catch (error) {
      assert.ok(error instanceof StoreError);
      found = error.code;
    }
    assert.deepEqual(plain(found), plain(expected));
  }

  #events(from: number, countMax: number): void {
    const { store, model } = this;
    if (from < model.compactRevision) {
      assert.throws(() => store.events(from, store.revision, countMax), StoreError);
      return;
    }
    const all = model.events(from);
    const whole = all.findIndex(
      (event, i) => i >= countMax && event.kv.modRevision !== all[i - 1]!.kv.modRevision,
    );
    const expected = whole < 0 ? all : all.slice(0, whole);
    // Revisions at or above the compaction may still be partly there; those below may be gone.
    const found = store.events(from, store.revision, countMax);
    const events = found.map(({ type, kv, prevKv }) => ({ type, kv, prevKv }));
    assert.deepEqual(plain(events), plain(expected));
  }

  #compareState(): void {
    const { store, model } = this;
    assert.equal(store.revision, model.revision);
    assert.equal(store.compactRevision, model.compactRevision);
    assert.equal(store.keyCount, model.keys.size);
    assert.deepEqual(
      store.leases(),
      [...model.leases]
        .sort(([a, one], [b, other]) => one.expiresAtMs - other.expiresAtMs || (a < b ? -1 : 1))
        .map(([id]) => id),
    );
    for (const [id, { ttl, expiresAtMs }] of model.leases) {
      const keys = [...model.keys.values()].filter((kv) => kv.lease === id).map((kv) => kv.key);
      const expected = { id, grantedTtlSeconds: ttl, expiresAtMs, keys: keys.sort() };
      assert.deepEqual(store.leaseTimeToLive(id), expected);
    }
    const expiries = [...model.leases.values()].map((each) => each.expiresAtMs);
    assert.equal(store.nextExpiryMs(), expiries.length === 0 ? undefined : Math.min(...expiries));
    this.#read(rangeOf("a", "\0"));
  }
}

test("the store agrees with a naive model, through restarts, compactions and checkpoints", () => {
  const steps = fc.array(step, { minLength: 5, maxLength: 50 });
  fc.assert(
    fc.property(steps, fc.constantFrom(0, 300, 1_000_000), (all, recentSizeBytes) => {
      const pair = new Pair(recentSizeBytes);
      for (const each of all) pair.run(each);
    }),
    { numRuns: Number(process.env.KMMR_TEST_RUNS ?? 400) },
  );
});

test("operations have one encoding, and decoding is its inverse", () => {
  fc.assert(
    fc.property(operation, (one) => {
      assert.deepEqual(plain(decodeOperation(encodeOperation(one))), plain(one));
    }),
  );
  // Every accepted encoding is the canonical one, also when it was damaged on the way.
  const damage = fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 3 });
  fc.assert(
    fc.property(operation, damage, fc.integer({ min: -3, max: 1 }), (one, changes, grow) => {
      const bytes = encodeOperation(one);
      for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte;
      const cut = grow <= 0 ? bytes.subarray(0, bytes.length + grow) : Uint8Array.of(...bytes, 7);
      let decoded: Operation;
      try {
        decoded = decodeOperation(cut);
      } catch {
        return;
      }
      assert.deepEqual([...encodeOperation(decoded)], [...cut]);
    }),
    { numRuns: 2000 },
  );
});
