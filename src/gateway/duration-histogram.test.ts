import assert from "node:assert/strict";
import { test } from "node:test";
import { DurationHistogram } from "./duration-histogram.ts";

test("duration histogram: cumulative buckets, sum and count, as Prometheus reads them", () => {
  const histogram = new DurationHistogram([0.001, 0.01]);
  for (const durationMs of [0.5, 1, 1.1, 50]) histogram.observe(durationMs);
  const samples = histogram.samples("x_seconds", { method: "Put" });
  const labels = { method: "Put" };
  assert.deepEqual(samples.slice(0, 3), [
    { metricName: "x_seconds_bucket", labels: { ...labels, le: 0.001 }, value: 2 },
    { metricName: "x_seconds_bucket", labels: { ...labels, le: 0.01 }, value: 3 },
    { metricName: "x_seconds_bucket", labels: { ...labels, le: "+Inf" }, value: 4 },
  ]);
  assert.equal(samples[3]!.metricName, "x_seconds_sum");
  assert.ok(Math.abs(samples[3]!.value - 0.0526) < 1e-9);
  assert.deepEqual(samples[4], { metricName: "x_seconds_count", labels, value: 4 });
});
