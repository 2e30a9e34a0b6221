import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { IntervalTree } from "./interval-tree.ts";
import { type Watched, WatchIndex } from "./watch-index.ts";

const key = fc.string({ minLength: 1, maxLength: 3, unit: fc.constantFrom("a", "b", "c", "\xff") });
const watched: fc.Arbitrary<Watched> = fc.record({
  key,
  rangeEnd: fc.oneof(fc.constant(""), fc.constant("\0"), key),
});

function holds({ key: start, rangeEnd }: Watched, wanted: string): boolean {
  if (rangeEnd === "") return start === wanted;
  return start <= wanted && (rangeEnd === "\0" || wanted < rangeEnd);
}

test("the index finds exactly the watchers whose range holds the key, while they come and go", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(watched, fc.boolean()), { maxLength: 60 }), key, (changes, wanted) => {
      const index = new WatchIndex<Watched>();
      const present = new Set<Watched>();
      for (const [watcher, remove] of changes) {
        index.add(watcher);
        present.add(watcher);
        const victim = [...present][present.size >> 1];
        if (remove && victim !== undefined) {
          index.remove(victim);
          present.delete(victim);
        }
      }
      assert.equal(index.size, present.size);
      const found: Watched[] = [];
      index.match(wanted, (group) => found.push(...group));
      assert.equal(new Set(found).size, found.length);
      const expected = [...present].filter((watcher) => holds(watcher, wanted));
      assert.deepEqual(new Set(found), new Set(expected));
    }),
    { numRuns: 500 },
  );
});

test("ten thousand disjoint prefixes are searched in logarithmic time", () => {
  const tree = new IntervalTree<number>();
  const prefix = (i: number): string => `/registry/${String(i).padStart(5, "0")}/`;
  for (let i = 0; i < 10_000; i++) tree.add(prefix(i), `${prefix(i).slice(0, -1)}0`, i);
  assert.equal(tree.size, 10_000);
  const started = performance.now();
  let found = 0;
  for (let i = 0; i < 10_000; i++) {
    tree.stab(`${prefix(i)}object`, (value) => {
      assert.equal(value, i);
      found++;
    });
  }
  assert.equal(found, 10_000);
  // A scan of all ranges for every key would take 10^8 steps, seconds of them.
  assert.ok(performance.now() - started < 1_000);
});
