import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Histogram } from "./histogram.ts";

const durations = fc.array(fc.double({ min: 0, max: 100_000, noNaN: true }), {
  minLength: 1,
  maxLength: 300,
});

test("quantiles are within 1.6 % or 1 us of the exact ones", () => {
  fc.assert(
    fc.property(durations, fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
      const histogram = new Histogram();
      for (const value of values) histogram.record(value);
      const sorted = [...values].sort((left, right) => left - right);
      const exactMs = sorted[Math.max(1, Math.ceil(share * sorted.length)) - 1]!;
      const errorMs = Math.abs(histogram.quantileMs(share) - exactMs);
      assert.ok(errorMs <= exactMs * 0.016 + 0.001, `${histogram.quantileMs(share)} for ${exactMs}`);
    }),
  );
});

test("merging equals recording into one", () => {
  fc.assert(
    fc.property(durations, durations, (left, right) => {
      const [merged, other, whole] = [new Histogram(), new Histogram(), new Histogram()];
      for (const value of left) merged.record(value);
      for (const value of right) other.record(value);
      for (const value of [...left, ...right]) whole.record(value);
      merged.merge(other);
      assert.equal(merged.count, whole.count);
      assert.equal(merged.maxMs(), whole.maxMs());
      assert.ok(Math.abs(merged.meanMs() - whole.meanMs()) <= 1e-6 * whole.meanMs());
      for (const share of [0, 0.5, 0.99, 1]) assert.equal(merged.quantileMs(share), whole.quantileMs(share));
    }),
  );
});

test("an empty histogram answers 0, a negative duration counts as 0, hours are kept", () => {
  const histogram = new Histogram();
  assert.equal(histogram.quantileMs(0.5), 0);
  assert.equal(histogram.meanMs(), 0);
  histogram.record(-5);
  assert.equal(histogram.meanMs(), 0);
  assert.equal(histogram.count, 1);
  histogram.record(3 * 3600_000);
  assert.ok(Math.abs(histogram.quantileMs(1) / (3 * 3600_000) - 1) < 0.016);
});
