import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Admission } from "./admission.ts";
import { Backoff } from "./backoff.ts";

const LIMITS = { maxUnproven: 5, maxUnprovenPerSource: 3, burstPerSource: 4, ratePerSource: 2 };

describe("admission", () => {
  it("bounds strangers per source and in all", () => {
    const admission = new Admission(LIMITS);
    assert.deepEqual(
      [1, 2, 3, 4].map(() => admission.enter("a", 0)),
      [true, true, true, false],
    );
    assert.deepEqual(
      [1, 2, 3].map(() => admission.enter("b", 0)),
      [true, true, false],
    );
    admission.leave("a");
    assert.ok(admission.enter("b", 0));
    assert.equal(admission.unproven, 5);
    assert.equal(admission.refused, 2);
  });

  it("bounds the rate of a source, and forgives with time", () => {
    const admission = new Admission(LIMITS);
    const tryOnce = (nowMs: number): boolean => {
      const isIn = admission.enter("a", nowMs);
      if (isIn) admission.leave("a");
      return isIn;
    };
    assert.deepEqual(
      [1, 2, 3, 4, 5].map(() => tryOnce(0)),
      [true, true, true, true, false],
    );
    assert.equal(tryOnce(400), false);
    assert.deepEqual(
      [1, 2, 3].map(() => tryOnce(1000)),
      [true, true, false],
    );
    assert.equal(admission.enter("b", 0), true);
  });

  it("does not remember more sources than it has room for", () => {
    const admission = new Admission(LIMITS);
    for (let i = 0; i < 4096; i++) {
      assert.ok(admission.enter(String(i), 0));
      admission.leave(String(i));
    }
    assert.equal(admission.enter("one more", 1), false);
    assert.ok(admission.enter("later", 10_000));
  });
});

describe("backoff", () => {
  it("doubles up to its bound, jitters, and starts anew", () => {
    const backoff = new Backoff(10, 60, () => 1);
    assert.deepEqual(
      [1, 2, 3, 4, 5].map(() => backoff.next()),
      [10, 20, 40, 60, 60],
    );
    backoff.reset();
    assert.equal(backoff.next(), 10);
    assert.equal(new Backoff(10, 60, () => 0).next(), 5);
  });
});
