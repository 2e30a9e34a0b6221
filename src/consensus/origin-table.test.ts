import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { OriginTable } from "./origin-table.ts";
import type { BundleReference } from "./value.ts";

const ORIGINS = 4;
const reference: fc.Arbitrary<BundleReference> = fc.record({
  origin: fc.nat({ max: ORIGINS }),
  incarnation: fc.integer({ min: 0, max: 3 }),
  seq: fc.nat({ max: 4 }),
  digest: fc.constant(new Uint8Array(32)),
});

/** Lists as a leader makes them, mostly, so that some are accepted. */
const list = fc.array(reference, { maxLength: 4 });
const likely = fc
  .array(fc.tuple(fc.nat({ max: ORIGINS - 1 }), fc.boolean()), { maxLength: 4 })
  .map((choices) => ({ choices }));

/** All decided references in order: the whole truth that the table sums up. */
class NaiveTable {
  readonly decided: BundleReference[] = [];

  last(origin: number, pending: readonly BundleReference[] = []): { incarnation: number; seq: number } {
    const found = [...this.decided, ...pending].findLast((one) => one.origin === origin);
    return { incarnation: found?.incarnation ?? 0, seq: found?.seq ?? 0 };
  }

  /** A bundle was decided, or one after it of its incarnation, or a later incarnation has begun. */
  isPast(origin: number, incarnation: number, seq: number): boolean {
    const last = this.last(origin);
    return incarnation < last.incarnation || (incarnation === last.incarnation && seq <= last.seq);
  }

  accepts(references: readonly BundleReference[]): boolean {
    return references.every(({ origin, incarnation, seq }, i) => {
      const last = this.last(origin, references.slice(0, i));
      const continues = incarnation === last.incarnation && seq === last.seq + 1;
      const begins = incarnation > last.incarnation && seq === 1;
      return origin < ORIGINS && (continues || begins);
    });
  }

  /** What a correct leader might propose next of these origins. */
  continued(choices: readonly (readonly [number, boolean])[]): BundleReference[] {
    const references: BundleReference[] = [];
    for (const [origin, restarts] of choices) {
      const { incarnation, seq } = this.last(origin, references);
      const digest = new Uint8Array(32);
      references.push(
        restarts || incarnation === 0
          ? { origin, incarnation: incarnation + 1, seq: 1, digest }
          : { origin, incarnation, seq: seq + 1, digest },
      );
    }
    return references;
  }
}

test("the table agrees with the list of all that was decided", () => {
  let accepted = 0;
  fc.assert(
    fc.property(fc.array(fc.oneof(list, likely), { maxLength: 12, size: "max" }), (proposals) => {
      const table = new OriginTable(ORIGINS);
      const naive = new NaiveTable();
      for (const proposal of proposals) {
        const references = Array.isArray(proposal) ? proposal : naive.continued(proposal.choices);
        assert.equal(table.accepts(references), naive.accepts(references));
        if (!Array.isArray(proposal)) assert.ok(table.accepts(references));
        if (!naive.accepts(references)) continue;
        accepted += 1;
        table.advance(references);
        naive.decided.push(...references);
        for (let origin = 0; origin < ORIGINS; origin++) {
          assert.deepEqual({ ...table.at(origin) }, naive.last(origin));
          for (let incarnation = 0; incarnation <= 4; incarnation++) {
            for (let seq = 0; seq <= 4; seq++) {
              assert.equal(
                table.isPast(origin, incarnation, seq),
                naive.isPast(origin, incarnation, seq),
                `${origin}/${incarnation}/${seq}`,
              );
            }
          }
        }
        // At most once: none of what was decided is ever accepted again.
        for (const one of naive.decided) assert.equal(table.accepts([one]), false);
      }
    }),
    { numRuns: 300 },
  );
  assert.ok(accepted > 300);
});

test("the table comes back from its bytes, and from those of another membership it does not", () => {
  const positions = fc.array(fc.tuple(fc.maxSafeNat(), fc.maxSafeNat()), { minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(positions, (all) => {
      const table = new OriginTable(ORIGINS);
      const digest = new Uint8Array(32);
      table.advance(all.map(([incarnation, seq], origin) => ({ origin, incarnation, seq, digest })));
      const w = new Writer();
      table.write(w);
      const bytes = w.finish();
      const copy = new OriginTable(ORIGINS);
      copy.read(new Reader(bytes));
      for (let origin = 0; origin < ORIGINS; origin++) assert.deepEqual(copy.at(origin), table.at(origin));
      assert.throws(() => new OriginTable(7).read(new Reader(bytes)), DecodeError);
      assert.throws(() => new OriginTable(ORIGINS).read(new Reader(bytes.subarray(1))), DecodeError);
    }),
    { numRuns: 100 },
  );
});
