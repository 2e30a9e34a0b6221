/**
 * The result of a bench run, and how it reads in a terminal.
 */
import { formatSize, formatTable } from "../cli/table.ts";
import type { Measurement, MemberUsage } from "./measurement.ts";
import type { Figures, Goal, WorkloadSummary } from "./summary.ts";

/** The machine the figures are from. */
export interface Machine {
  readonly processors: number;
  readonly processorModel: string;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  /** True when the data lay in memory, where a sync costs nothing: the figures then say little. */
  readonly dataInMemory: boolean;
}

/** What was run, everything that was measured, and what it comes to. */
export interface Report {
  readonly startedAt: string;
  readonly durationS: number;
  readonly command: string;
  readonly machine: Machine;
  readonly members: number;
  readonly clientTls: boolean;
  readonly keys: number;
  readonly valueBytes: number;
  readonly connectionsPerMember: number;
  readonly seed: number;
  readonly clusters: readonly { readonly name: "etcd" | "kmmr"; readonly description: string }[];
  readonly workloads: readonly WorkloadSummary[];
  /** After the keys were loaded, before the first workload. */
  readonly memoryWithKeys: Readonly<Partial<Record<"etcd" | "kmmr", readonly MemberUsage[]>>>;
  readonly measurements: readonly Measurement[];
}

/** Milliseconds with about three digits. */
export function formatMs(valueMs: number): string {
  return valueMs >= 100 ? valueMs.toFixed(0) : valueMs >= 10 ? valueMs.toFixed(1) : valueMs.toFixed(2);
}

/** A rate with thousands separated. */
export function formatRate(perSecond: number): string {
  return Math.round(perSecond).toLocaleString("en-US");
}

/** Such as "mean latency <= 1.2x". */
export function formatGoal(goal: Goal): string {
  return `${goal.measure} ${goal.relation === "atMost" ? "<=" : ">="} ${goal.ratio}x`;
}

const clusterTitles = { etcd: "etcd", kmmr: "KmMR" } as const;

/** The whole result as text. */
export function formatReport(report: Report): string {
  const names = report.clusters.map((cluster) => cluster.name);
  const lines = [
    `${report.clusters.map((cluster) => cluster.description).join(" and ")}, ${report.members} members, ` +
      `${report.keys.toLocaleString("en-US")} keys of ${report.valueBytes} B, client TLS ${report.clientTls ? "on" : "off"}, ` +
      `${report.machine.processors} processors (${report.machine.processorModel})`,
    ...(report.machine.dataInMemory
      ? ["The data lay in memory, where a sync costs nothing; set TMPDIR."]
      : []),
    "",
    formatFigures(report, names),
    ...(report.workloads.some((entry) => watchFigures(entry).length > 0)
      ? [formatWatches(report, names)]
      : []),
    formatMemory(report, names),
  ];
  if (names.length === 2) lines.push(formatRatios(report));
  return lines.join("\n");
}

function formatFigures(report: Report, names: readonly ("etcd" | "kmmr")[]): string {
  const header = ["workload", "cluster", "per s", "mean ms", "p50 ms", "p99 ms", "CPU us/op", "written B/op"];
  const more = ["RSS/member", "member CPU %", "generator CPU %", "failed"];
  const rows = report.workloads.flatMap((entry) =>
    names.flatMap((name) => {
      const figures = entry[name];
      return figures === undefined ? [] : [[entry.workload, clusterTitles[name], ...figureCells(figures)]];
    }),
  );
  return formatTable([...header, ...more], rows, [...header, ...more].slice(2));
}

function figureCells(figures: Figures): string[] {
  return [
    formatRate(figures.operationsPerSecond),
    formatMs(figures.latency.meanMs),
    formatMs(figures.latency.p50Ms),
    formatMs(figures.latency.p99Ms),
    formatRate(figures.cpuMicrosecondsPerOperation),
    formatRate(figures.writtenBytesPerOperation),
    formatSize(figures.rssBytesPerMember),
    (figures.memberCpuShare * 100).toFixed(0),
    (figures.generatorCpuShare * 100).toFixed(0),
    String(figures.failed),
  ];
}

function watchFigures(entry: WorkloadSummary): Figures[] {
  return [entry.etcd, entry.kmmr].filter((figures) => figures?.watchDelay !== undefined) as Figures[];
}

function formatWatches(report: Report, names: readonly ("etcd" | "kmmr")[]): string {
  const header = [
    "watch delivery",
    "cluster",
    "from send: p50 ms",
    "p99 ms",
    "from answer: p50 ms",
    "p99 ms ",
  ];
  const rows = report.workloads.flatMap((entry) =>
    names.flatMap((name) => {
      const delay = entry[name]?.watchDelay;
      const after = entry[name]?.watchDelayAfterAnswer;
      if (delay === undefined || after === undefined) return [];
      const cells = [delay.p50Ms, delay.p99Ms, after.p50Ms, after.p99Ms].map(formatMs);
      return [[entry.workload, clusterTitles[name], ...cells]];
    }),
  );
  return formatTable(header, rows, header.slice(2));
}

function formatMemory(report: Report, names: readonly ("etcd" | "kmmr")[]): string {
  const header = ["memory with all keys", "per member: mean", "largest", "not file-backed"];
  const rows = names.flatMap((name) => {
    const members = report.memoryWithKeys[name];
    if (members === undefined) return [];
    const mean = (sizes: readonly number[]) => sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
    const resident = members.map((member) => member.rssBytes);
    const anonymous = members.map((member) => member.anonymousBytes);
    return [
      [
        clusterTitles[name],
        ...[mean(resident), Math.max(...resident), mean(anonymous)].map((size) => formatSize(size)),
      ],
    ];
  });
  return formatTable(header, rows, header.slice(1));
}

function formatRatios(report: Report): string {
  const header = ["KmMR / etcd", "throughput", "mean latency", "goal", ""];
  const rows = report.workloads.map((entry) => [
    entry.workload,
    entry.throughputRatio === undefined ? "" : `${entry.throughputRatio.toFixed(2)}x`,
    entry.meanLatencyRatio === undefined ? "" : `${entry.meanLatencyRatio.toFixed(2)}x`,
    entry.goal === undefined ? "" : formatGoal(entry.goal),
    entry.reached === undefined ? "" : entry.reached ? "reached" : "MISSED",
  ]);
  return formatTable(header, rows, ["throughput", "mean latency"]);
}
