import assert from "node:assert/strict";
import { test } from "node:test";
import type { Measurement } from "./measurement.ts";
import { renderPage } from "./page.ts";
import { formatReport, type Report } from "./report.ts";
import { goals, median, summarize } from "./summary.ts";

function measurement(
  workload: string,
  target: "etcd" | "kmmr",
  round: number,
  operationsPerSecond: number,
  meanMs: number,
): Measurement {
  const latency = { meanMs, p50Ms: meanMs, p99Ms: meanMs * 3, maxMs: meanMs * 5 };
  const member = { cpuMs: 500, rssBytes: 100 * 2 ** 20, anonymousBytes: 2 ** 20, writtenBytes: 1000 };
  return {
    workload,
    target,
    round,
    windowMs: 1000,
    operations: operationsPerSecond,
    failed: 0,
    failures: {},
    operationsPerSecond,
    latency,
    lagP99Ms: 0,
    members: [
      { name: "a", ...member },
      { name: "b", ...member },
    ],
    generatorCpuMs: 100,
    verifiedKeys: 10,
    ...(workload === "mix-64" && {
      watch: { watchers: 4, events: 9, delay: latency, delayAfterAnswer: latency },
    }),
  };
}

function reportOf(measurements: Measurement[], names: ("etcd" | "kmmr")[]): Report {
  const machine = { processors: 2, processorModel: "A & B <c>", memoryBytes: 1, kernel: "6", node: "24" };
  return {
    startedAt: "2026-01-01T00:00:00.000Z",
    durationS: 1,
    command: "npm run bench",
    machine: { ...machine, dataInMemory: false },
    members: 4,
    clientTls: false,
    keys: 1000,
    valueBytes: 256,
    connectionsPerMember: 4,
    seed: 1,
    clusters: names.map((name) => ({ name, description: name === "etcd" ? "etcd 3.6.16" : "KmMR" })),
    workloads: summarize(measurements),
    memoryWithKeys: {},
    measurements,
  };
}

const drifting: Measurement[] = [
  // The machine slows down from round to round; the ratio of each round stays.
  measurement("put-64", "etcd", 1, 4000, 1),
  measurement("put-64", "kmmr", 1, 6000, 0.7),
  measurement("put-64", "etcd", 2, 2000, 2),
  measurement("put-64", "kmmr", 2, 3000, 1.4),
  measurement("put-64", "etcd", 3, 1000, 4),
  measurement("put-64", "kmmr", 3, 1500, 2.8),
  measurement("mix-64", "etcd", 1, 1000, 4),
  measurement("mix-64", "kmmr", 1, 1500, 2.8),
  measurement("put-1", "etcd", 1, 1000, 1),
  measurement("put-1", "kmmr", 1, 830, 1.21),
];

test("medians", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test("ratios are those of the rounds, and goals are held against them", () => {
  const [put, mix, single] = summarize(drifting);
  assert.equal(put!.throughputRatio, 1.5);
  assert.ok(Math.abs(put!.meanLatencyRatio! - 0.7) < 1e-9);
  assert.equal(put!.etcd!.operationsPerSecond, 2000);
  assert.equal(put!.etcd!.cpuMicrosecondsPerOperation, 500);
  assert.equal(put!.reached, true);
  assert.equal(mix!.reached, false);
  assert.equal(single!.reached, false, "1.21 is above 1.2");
  assert.equal(mix!.kmmr!.watchDelay!.meanMs, 2.8);
});

test("one cluster alone has figures and neither ratios nor verdicts", () => {
  const [entry] = summarize(drifting.filter((one) => one.target === "etcd"));
  assert.equal(entry!.throughputRatio, undefined);
  assert.equal(entry!.reached, undefined);
  assert.equal(entry!.kmmr, undefined);
});

test("the text names every workload, and what was missed", () => {
  const text = formatReport(reportOf(drifting, ["etcd", "kmmr"]));
  for (const wanted of ["put-64", "1.50x", "throughput >= 2x", "MISSED", "reached", "watch delivery"])
    assert.ok(text.includes(wanted), `${wanted} is missing in\n${text}`);
  assert.ok(!formatReport(reportOf(drifting, ["etcd"])).includes("MISSED"));
});

test("the page is whole, loads nothing and shows no number that is none", () => {
  for (const names of [["etcd", "kmmr"], ["etcd"]] as ("etcd" | "kmmr")[][]) {
    const measurements = drifting.filter((one) => names.includes(one.target));
    const page = renderPage(reportOf(measurements, names));
    assert.ok(page.startsWith("<!doctype html>") && page.trimEnd().endsWith("</html>"));
    assert.ok(page.includes("A &amp; B &lt;c&gt;"), "text from elsewhere is escaped");
    assert.doesNotMatch(page, /https?:|<script|url\(|NaN|Infinity|undefined/);
    for (const tag of ["svg", "div", "table", "p"])
      assert.equal(page.split(new RegExp(`<${tag}[ >]`)).length, page.split(`</${tag}>`).length, tag);
  }
});

test("there is a goal for each figure that the project promised", () => {
  assert.deepEqual(
    goals.map((goal) => goal.workload),
    ["put-1", "put-64", "put-512", "get-64", "mix-64"],
  );
});
