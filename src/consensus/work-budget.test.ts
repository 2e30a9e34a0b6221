import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { WorkBudget } from "./work-budget.ts";

test("a peer that takes all it can get causes no more than is earned, whatever it does in between", () => {
  const steps = fc.array(fc.record({ waitMs: fc.nat(5000), units: fc.nat(3000) }), { maxLength: 200 });
  fc.assert(
    fc.property(steps, (taken) => {
      const budget = new WorkBudget(2);
      let nowMs = 0;
      let spent = 0;
      for (const { waitMs, units } of taken) {
        nowMs += waitMs;
        if (!budget.allows(0, nowMs)) continue;
        budget.charge(0, units);
        spent += units;
        // The last message may cost more than was left.
        assert.ok(spent <= 8192 + 1.024 * nowMs + 3000);
      }
      assert.ok(budget.allows(1, nowMs), "the other peer's is its own");
    }),
  );
});

test("what is spent comes back with time", () => {
  const budget = new WorkBudget(1);
  budget.charge(0, 9000);
  assert.equal(budget.allows(0, 0), false);
  assert.equal(budget.allows(0, 500), false);
  assert.equal(budget.allows(0, 1000), true);
});
