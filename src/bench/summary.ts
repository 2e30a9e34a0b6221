/**
 * From single rounds to figures: medians per workload and cluster, ratios between the clusters, and how they stand
 * to the goals.
 */
import type { LatencySummary, Measurement, MemberUsage } from "./measurement.ts";

/** Medians over the rounds of one workload on one cluster. */
export interface Figures {
  readonly operationsPerSecond: number;
  readonly latency: LatencySummary;
  /** Of all members together, per request. */
  readonly cpuMicrosecondsPerOperation: number;
  readonly writtenBytesPerOperation: number;
  /** Mean over the members, at the end of the window. */
  readonly rssBytesPerMember: number;
  /** Processor time of one member, as a share of one processor: mean over the members. */
  readonly memberCpuShare: number;
  /** Processor time of the load generator, as a share of one processor. */
  readonly generatorCpuShare: number;
  readonly failed: number;
  readonly watchDelay: LatencySummary | undefined;
  readonly watchDelayAfterAnswer: LatencySummary | undefined;
}

/** A figure that must be reached, as a ratio KmMR / etcd. */
export interface Goal {
  readonly workload: string;
  readonly measure: "mean latency" | "throughput";
  readonly relation: "atMost" | "atLeast";
  readonly ratio: number;
}

/** One workload on both clusters. */
export interface WorkloadSummary {
  readonly workload: string;
  readonly etcd: Figures | undefined;
  readonly kmmr: Figures | undefined;
  /** KmMR / etcd: medians of the ratios of the single rounds, so that drift of the machine cancels out. */
  readonly throughputRatio: number | undefined;
  readonly meanLatencyRatio: number | undefined;
  readonly goal: Goal | undefined;
  /** Undefined without a goal or without both clusters. */
  readonly reached: boolean | undefined;
}

/** What KmMR is to reach beside an etcd of as many members. */
export const goals: readonly Goal[] = [
  { workload: "put-1", measure: "mean latency", relation: "atMost", ratio: 1.2 },
  { workload: "put-64", measure: "throughput", relation: "atLeast", ratio: 1 },
  { workload: "put-512", measure: "throughput", relation: "atLeast", ratio: 1 },
  { workload: "get-64", measure: "throughput", relation: "atLeast", ratio: 0.8 },
  { workload: "mix-64", measure: "throughput", relation: "atLeast", ratio: 2 },
];

/** Of an even number of values the mean of the middle two; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** One entry per workload, in the order in which they were measured first. */
export function summarize(measurements: readonly Measurement[]): WorkloadSummary[] {
  const names = [...new Set(measurements.map((measurement) => measurement.workload))];
  return names.map((workload) => {
    const of = (target: "etcd" | "kmmr") =>
      measurements.filter((candidate) => candidate.workload === workload && candidate.target === target);
    const etcd = of("etcd");
    const kmmr = of("kmmr");
    const throughputRatio = pairedRatio(kmmr, etcd, (round) => round.operationsPerSecond);
    const meanLatencyRatio = pairedRatio(kmmr, etcd, (round) => round.latency.meanMs);
    const goal = goals.find((candidate) => candidate.workload === workload);
    const ratio = goal?.measure === "throughput" ? throughputRatio : meanLatencyRatio;
    return {
      workload,
      etcd: figuresOf(etcd),
      kmmr: figuresOf(kmmr),
      throughputRatio,
      meanLatencyRatio,
      goal,
      reached: goal === undefined || ratio === undefined ? undefined : isReached(goal, ratio),
    };
  });
}

function isReached(goal: Goal, ratio: number): boolean {
  return goal.relation === "atMost" ? ratio <= goal.ratio : ratio >= goal.ratio;
}

function pairedRatio(
  above: readonly Measurement[],
  below: readonly Measurement[],
  measure: (measurement: Measurement) => number,
): number | undefined {
  const ratios = above.flatMap((one) => {
    const other = below.find((candidate) => candidate.round === one.round);
    return other === undefined || measure(other) === 0 ? [] : [measure(one) / measure(other)];
  });
  return ratios.length === 0 ? undefined : median(ratios);
}

function figuresOf(rounds: readonly Measurement[]): Figures | undefined {
  if (rounds.length === 0) return undefined;
  const middle = (measure: (round: Measurement) => number) => median(rounds.map(measure));
  const latencyOf = (measure: (round: Measurement) => LatencySummary): LatencySummary => ({
    meanMs: middle((round) => measure(round).meanMs),
    p50Ms: middle((round) => measure(round).p50Ms),
    p99Ms: middle((round) => measure(round).p99Ms),
    maxMs: Math.max(...rounds.map((round) => measure(round).maxMs)),
  });
  const total = (members: readonly MemberUsage[], field: "cpuMs" | "writtenBytes" | "rssBytes") =>
    members.reduce((sum, member) => sum + member[field], 0);
  const watched = rounds.every((round) => round.watch !== undefined);
  return {
    operationsPerSecond: middle((round) => round.operationsPerSecond),
    latency: latencyOf((round) => round.latency),
    cpuMicrosecondsPerOperation: middle((round) => (total(round.members, "cpuMs") * 1000) / round.operations),
    writtenBytesPerOperation: middle((round) => total(round.members, "writtenBytes") / round.operations),
    rssBytesPerMember: middle((round) => total(round.members, "rssBytes") / round.members.length),
    memberCpuShare: middle((round) => total(round.members, "cpuMs") / round.members.length / round.windowMs),
    generatorCpuShare: middle((round) => round.generatorCpuMs / round.windowMs),
    failed: rounds.reduce((sum, round) => sum + round.failed, 0),
    watchDelay: watched ? latencyOf((round) => round.watch!.delay) : undefined,
    watchDelayAfterAnswer: watched ? latencyOf((round) => round.watch!.delayAfterAnswer) : undefined,
  };
}
