import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toByteString } from "../base/bytes.ts";
import { testMembership } from "../replica/testing/cluster.ts";
import { Forge } from "../replica/testing/forge.ts";
import type { Bundle } from "./bundle.ts";
import { BundlePool } from "./bundle-pool.ts";
import { OriginTable } from "./origin-table.ts";
import type { BundleReference } from "./value.ts";

const ORIGINS = 4;
const SIZE_BYTES_MAX = 3_000;
const forge = new Forge(testMembership(ORIGINS));

function makeBundle(origin: number, incarnation: number, seq: number, size: number): Bundle {
  const digest = new Uint8Array(32);
  digest.set([origin, incarnation, seq & 255, seq >> 8, size & 255, size >> 8]);
  return {
    origin,
    incarnation,
    seq,
    operations: [],
    signature: new Uint8Array(64),
    digest,
    encoded: new Uint8Array(size),
  };
}

/** The bundles that are kept, in a list; the rules one after the other. */
class NaivePool {
  kept: { bundle: Bundle; atMs: number }[] = [];
  readonly newest = new Array<number>(ORIGINS).fill(0);
  readonly table: OriginTable;

  constructor(table: OriginTable) {
    this.table = table;
  }

  add(bundle: Bundle, atMs: number): boolean {
    const { origin, incarnation, seq } = bundle;
    if (origin >= ORIGINS || seq < 1 || this.table.isPast(origin, incarnation, seq)) return false;
    if (this.get(toByteString(bundle.digest)) !== undefined) return true;
    const decided = this.table.at(origin);
    const before = decided.incarnation === incarnation ? decided.seq : 0;
    const isNext = seq === before + 1;
    const giveUp = () => {
      this.kept = this.kept.filter((one) => one.bundle.origin !== origin);
    };
    if (incarnation !== this.newest[origin]!) {
      // What can be proposed gives way only to what can be proposed and is newer; anything else to both kinds.
      const isNewer = incarnation > this.newest[origin]!;
      if (!isNewer && !isNext) return false;
      if (this.proposable(origin).length > 0 && !(isNewer && isNext)) return false;
      this.newest[origin] = incarnation;
      giveUp();
    }
    const own = this.kept.filter((one) => one.bundle.origin === origin);
    if (own.some((one) => one.bundle.seq === seq)) return false;
    if (seq > before + 4096) return false;
    const held = own.reduce((sum, one) => sum + one.bundle.encoded.length, 0);
    if (held + bundle.encoded.length > SIZE_BYTES_MAX) {
      if (!isNext || bundle.encoded.length > SIZE_BYTES_MAX) return false;
      giveUp();
    }
    this.kept.push({ bundle, atMs });
    return true;
  }

  get(key: string): Bundle | undefined {
    return this.kept.find((one) => toByteString(one.bundle.digest) === key)?.bundle;
  }

  decided(references: readonly BundleReference[]): void {
    for (const { origin, incarnation } of references) {
      this.newest[origin] = Math.max(this.newest[origin]!, incarnation);
    }
    this.kept = this.kept.filter(
      ({ bundle }) => !this.table.isPast(bundle.origin, bundle.incarnation, bundle.seq),
    );
  }

  /** Bundles of an origin that may be proposed one after the other. */
  proposable(origin: number): { bundle: Bundle; atMs: number }[] {
    const decided = this.table.at(origin);
    const own = this.kept.filter((one) => one.bundle.origin === origin);
    const incarnation = own[0]?.bundle.incarnation ?? 0;
    const run: { bundle: Bundle; atMs: number }[] = [];
    for (let seq = (decided.incarnation === incarnation ? decided.seq : 0) + 1; ; seq++) {
      const next = own.find((one) => one.bundle.seq === seq);
      if (next === undefined) return run;
      run.push(next);
    }
  }
}

/** What every list that a leader takes must be, whatever it was taken from. */
function checkTaken(
  naive: NaivePool,
  taken: readonly BundleReference[],
  bundlesMax: number,
  sizeBytesMax: number,
): void {
  assert.ok(naive.table.accepts(taken), "contiguous for each origin");
  const runs = Array.from({ length: ORIGINS }, (_, origin) => naive.proposable(origin));
  const counts = new Array<number>(ORIGINS).fill(0);
  let sizeBytes = 0;
  for (const { origin, digest } of taken) {
    const { bundle } = runs[origin]![counts[origin]!]!;
    assert.equal(toByteString(bundle.digest), toByteString(digest));
    counts[origin]! += 1;
    sizeBytes += bundle.encoded.length;
  }
  assert.ok(taken.length <= Math.max(1, bundlesMax));
  assert.ok(taken.length === 1 || sizeBytes <= sizeBytesMax);
  const waiting = runs.map((run, origin) => run[counts[origin]!]);
  for (let a = 0; a < ORIGINS; a++) {
    for (let b = 0; b < ORIGINS; b++) {
      if (counts[a]! > counts[b]! + 1) assert.equal(waiting[b], undefined, "no origin starves another");
    }
  }
  const left = waiting.filter((one) => one !== undefined);
  if (taken.length < bundlesMax && left.length > 0) {
    const fits = left.filter((one) => sizeBytes + one.bundle.encoded.length <= sizeBytesMax);
    assert.ok(fits.length < left.length, "what fits is taken, up to the first that does not");
  }
  if (left.length > 0 || runs.some((run) => run.length > 0)) assert.ok(taken.length > 0);
}

const origin = fc.nat({ max: ORIGINS - 1 });
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant("add" as const),
      origin: fc.nat({ max: ORIGINS }),
      incarnation: fc.constantFrom(1, 1, 1, 2, 3),
      seq: fc.oneof({ weight: 9, arbitrary: fc.nat({ max: 9 }) }, fc.constantFrom(4096, 4097, 4105, 5000)),
      size: fc.constantFrom(100, 100, 400, 401, 2_500, 3_001),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("take" as const),
      bundlesMax: fc.constantFrom(1, 2, 3, 100),
      sizeBytesMax: fc.constantFrom(100, 900, 10_000),
      decide: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("drop" as const), origin, size: fc.constant(100) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant("jump" as const),
      origin,
      incarnation: fc.constantFrom(1, 2, 4),
      seq: fc.nat({ max: 12 }),
    }),
  },
);

test("the pool agrees with a plain list of bundles, and takes from it fairly and within bounds", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      const table = new OriginTable(ORIGINS);
      const pool = new BundlePool(ORIGINS, table, SIZE_BYTES_MAX);
      const naive = new NaivePool(table);
      const seen = new Set<string>();
      for (const [nowMs, one] of steps.entries()) {
        if (one.type === "add") {
          const bundle = makeBundle(one.origin, one.incarnation, one.seq, one.size);
          seen.add(toByteString(bundle.digest));
          assert.equal(pool.add(bundle, nowMs), naive.add(bundle, nowMs));
        } else if (one.type === "take") {
          const taken = pool.take(one.bundlesMax, one.sizeBytesMax);
          checkTaken(naive, taken, one.bundlesMax, one.sizeBytesMax);
          if (one.decide) {
            table.advance(taken);
            pool.prune(taken);
            naive.decided(taken);
          }
        } else if (one.type === "drop") {
          const passes = (bundle: Bundle) => bundle.encoded.length !== one.size;
          pool.keepOnly(one.origin, passes);
          naive.kept = naive.kept.filter(({ bundle }) => bundle.origin !== one.origin || passes(bundle));
        } else if (!table.isPast(one.origin, one.incarnation, one.seq)) {
          // A state was transferred: the table is somewhere else all at once.
          table.advance([{ ...one, digest: new Uint8Array(32) }]);
          pool.pruneAll();
          naive.decided([]);
        }
        for (const key of seen) assert.equal(pool.get(key), naive.get(key));
        const runs = Array.from({ length: ORIGINS }, (_, i) => naive.proposable(i));
        const first = runs.flatMap((run) => run.slice(0, 1));
        assert.equal(pool.hasProposable(), first.length > 0);
        assert.equal(
          pool.oldestProposable()?.arrivedAtMs,
          first.map(({ atMs }) => atMs).sort((a, b) => a - b)[0],
        );
      }
    }),
    { numRuns: 300 },
  );
});

test("an origin with a backlog is served within n turns, whatever the others bring", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 4, maxLength: 4 }), (backlogs) => {
      const table = new OriginTable(ORIGINS);
      const pool = new BundlePool(ORIGINS, table, 1 << 20);
      for (const [from, count] of backlogs.entries()) {
        for (let seq = 1; seq <= count; seq++) pool.add(makeBundle(from, 1, seq, 100), seq);
      }
      const left = [...backlogs];
      const lastServed = new Array<number>(ORIGINS).fill(0);
      for (let turn = 1; left.some((count) => count > 0); turn++) {
        const [taken, ...more] = pool.take(1, 1 << 20);
        assert.ok(taken !== undefined && more.length === 0);
        table.advance([taken]);
        pool.prune([taken]);
        left[taken.origin]! -= 1;
        lastServed[taken.origin] = turn;
        for (const [from, count] of left.entries()) {
          if (count > 0) assert.ok(turn - lastServed[from]! <= ORIGINS, `origin ${from} starves`);
        }
      }
    }),
    { numRuns: 100 },
  );
});

test("whatever an origin sent before, there is room for its next bundle", () => {
  const make = () => {
    const table = new OriginTable(ORIGINS);
    return new BundlePool(ORIGINS, table, SIZE_BYTES_MAX);
  };
  // A later incarnation of which nothing can be decided yet.
  const pool = make();
  assert.ok(pool.add(makeBundle(2, 11, 2, 100), 0));
  assert.ok(pool.add(makeBundle(2, 10, 1, 100), 1));
  assert.equal(pool.add(makeBundle(2, 11, 3, 100), 2), false);
  assert.deepEqual(pool.oldestProposable()?.bundle.incarnation, 10);
  // Bytes that lie ahead.
  const full = make();
  for (let seq = 2; full.add(makeBundle(2, 1, seq, 400), 0); seq++) assert.ok(seq < 100);
  assert.ok(full.add(makeBundle(2, 1, 1, 400), 1));
  assert.deepEqual(full.oldestProposable()?.bundle.seq, 1);
});

test("an origin that restarts gives up what it had pending, and only the origin itself can do so", () => {
  const table = new OriginTable(ORIGINS);
  const pool = new BundlePool(ORIGINS, table, SIZE_BYTES_MAX);
  const decode = (from: number, seq: number, incarnation: number) => {
    const { encoded, reference } = forge.bundle(from, seq, { incarnation });
    return { ...makeBundle(from, incarnation, seq, 0), encoded, digest: reference.digest };
  };
  const old = [1, 2, 3].map((seq) => decode(2, seq, 5));
  for (const bundle of old) assert.ok(pool.add(bundle, 0));
  const other = decode(1, 1, 9);
  assert.ok(pool.add(other, 0));
  const anew = decode(2, 1, 6);
  assert.ok(pool.add(anew, 1));
  for (const bundle of old) assert.equal(pool.get(toByteString(bundle.digest)), undefined);
  assert.equal(pool.add(old[0]!, 2), false);
  assert.deepEqual(
    pool
      .take(10, 10_000)
      .map(({ origin: from, incarnation, seq }) => [from, incarnation, seq])
      .sort(),
    [
      [1, 9, 1],
      [2, 6, 1],
    ],
  );
});
