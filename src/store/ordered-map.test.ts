import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../base/prng.ts";
import { OrderedMap } from "./ordered-map.ts";

function nameOf(i: number): string {
  return String.fromCharCode(i >> 8, i & 255);
}

test("an ordered map agrees with a sorted array, through splits and emptied blocks", () => {
  for (const [seed, span] of [
    [1, 300],
    [2, 5000],
    [3, 60000],
  ] as const) {
    const prng = new Prng(seed);
    const map = new OrderedMap<{ weight: number }>((value) => value.weight);
    const model = new Map<string, { weight: number }>();
    const check = () => {
      const keys = [...model.keys()].sort();
      assert.equal(map.size, model.size);
      const from = nameOf(prng.below(span));
      const to = prng.chance(0.3) ? undefined : nameOf(prng.below(span));
      const inside = keys.filter((key) => key >= from && (to === undefined || key < to));
      const scanned: string[] = [];
      map.scan(from, to, (value, key) => {
        assert.equal(value, model.get(key));
        scanned.push(key);
        return scanned.length < 3000;
      });
      assert.deepEqual(scanned, inside.slice(0, 3000));
      const weight = inside.reduce((sum, key) => sum + model.get(key)!.weight, 0);
      assert.equal(map.weightBetween(from, to), weight);
    };
    for (let round = 0; round < 30; round++) {
      // Rounds that add, rounds that remove nearly all, and rounds in ascending order.
      const removing = prng.below(3) === 0;
      const start = prng.below(span);
      for (let i = 0; i < 700; i++) {
        const key = nameOf((prng.chance(0.5) ? start + i : prng.below(span)) % span);
        if (removing && prng.chance(0.95)) {
          assert.equal(map.delete(key), model.delete(key));
        } else if (model.has(key) && prng.chance(0.5)) {
          model.get(key)!.weight += 2;
          map.reweigh(key, 2);
        } else {
          const value = { weight: prng.below(3) };
          map.set(key, value);
          model.set(key, value);
        }
        assert.equal(map.get(key), model.get(key));
      }
      check();
    }
    map.clear();
    model.clear();
    check();
  }
});
