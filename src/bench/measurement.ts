/**
 * One workload on one cluster for one round, and what it cost.
 */
import { runLoad } from "./load.ts";
import { usageOf } from "./process-usage.ts";
import {
  MixRequester,
  PutRequester,
  RangeRequester,
  type Requester,
  type WriteListener,
} from "./requester.ts";
import type { Session } from "./session.ts";
import { WatchFleet } from "./watch-fleet.ts";
import { isWriting, type Workload } from "./workload.ts";

/** Durations of requests. */
export interface LatencySummary {
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** What a member used during the window; memory at its end. */
export interface MemberUsage {
  readonly name: string;
  readonly cpuMs: number;
  readonly rssBytes: number;
  readonly anonymousBytes: number;
  readonly writtenBytes: number;
}

/** One round. */
export interface Measurement {
  readonly workload: string;
  readonly target: "etcd" | "kmmr";
  readonly round: number;
  readonly windowMs: number;
  readonly operations: number;
  readonly failed: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly operationsPerSecond: number;
  readonly latency: LatencySummary;
  /** Open loop: the 99th percentile of how late the generator itself was. */
  readonly lagP99Ms: number;
  readonly members: readonly MemberUsage[];
  /** Processor time of the generator. */
  readonly generatorCpuMs: number;
  /** Keys read back and found right. */
  readonly verifiedKeys: number;
  readonly watch?: {
    readonly watchers: number;
    readonly events: number;
    /** From the sending of a write to the delivery of its event. */
    readonly delay: LatencySummary;
    /** From its acknowledgement; 0 when the event came first. */
    readonly delayAfterAnswer: LatencySummary;
  };
}

/** Runs the workload and checks what it left behind. Throws LoadError, WrongDataError. */
export async function measure(
  session: Session,
  workload: Workload,
  round: number,
  times: { readonly warmupMs: number; readonly durationMs: number },
): Promise<Measurement> {
  const { target } = session;
  const fleet =
    workload.watchersPerMember === 0
      ? undefined
      : await WatchFleet.open(target, workload.watchersPerMember, await session.revision());
  const windows = new UsageWindow(session);
  try {
    const load = await runLoad({
      ...times,
      shape: workload.shape,
      connections: session.connections,
      createRequester: requesterFactory(
        session,
        workload,
        fleet && ((revision, sentMs) => fleet.acknowledged(revision, sentMs)),
      ),
      onWindow: (open) => {
        windows.mark(open);
        fleet?.measure(open);
      },
    });
    const failuresInAll = [...load.failures.values()].reduce((sum, count) => sum + count, 0);
    const watched = await fleet?.finish(failuresInAll);
    if (watched !== undefined && watched.faults.length > 0)
      throw new Error(
        `watchers of ${target.name} during ${workload.name}: ${watched.faults.slice(0, 5).join("; ")}`,
      );
    const verifiedKeys = isWriting(workload) ? await session.verify() : 0;
    return {
      workload: workload.name,
      target: target.name,
      round,
      windowMs: load.windowMs,
      operations: load.succeeded,
      failed: load.failed,
      failures: Object.fromEntries(load.failures),
      operationsPerSecond: (load.succeeded * 1000) / load.windowMs,
      latency: summarize(load.latency),
      lagP99Ms: load.lag.quantileMs(0.99),
      members: windows.members(),
      generatorCpuMs: windows.generatorCpuMs(),
      verifiedKeys,
      ...(watched && {
        watch: {
          watchers: watched.watchers,
          events: watched.events,
          delay: summarize(watched.delay),
          delayAfterAnswer: summarize(watched.delayAfterAnswer),
        },
      }),
    };
  } finally {
    fleet?.close();
  }
}

function requesterFactory(
  session: Session,
  workload: Workload,
  onWrite: WriteListener | undefined,
): () => Requester {
  const { keyspace, prng } = session;
  switch (workload.kind) {
    case "put":
    case "watch":
      return () => new PutRequester(keyspace, onWrite);
    case "get":
      return () => new RangeRequester(keyspace, { serializable: false, list: false });
    case "serializable-get":
      return () => new RangeRequester(keyspace, { serializable: true, list: false });
    case "mix":
      return () => new MixRequester(keyspace, prng.fork(), onWrite);
  }
}

function summarize(histogram: {
  meanMs(): number;
  maxMs(): number;
  quantileMs(share: number): number;
}): LatencySummary {
  return {
    meanMs: histogram.meanMs(),
    p50Ms: histogram.quantileMs(0.5),
    p99Ms: histogram.quantileMs(0.99),
    maxMs: histogram.maxMs(),
  };
}

/** Memory of every member now, for the figure beside the stored keys. */
export function memoryOf(session: Session): MemberUsage[] {
  return session.target.members.map(({ name, pid }) => {
    if (pid === undefined) throw new Error(`${name} does not run any more`);
    return { name, ...usageOf(pid) };
  });
}

/** Differences of counters between the two ends of the window. */
class UsageWindow {
  private readonly session: Session;
  private before: MemberUsage[] = [];
  private after: MemberUsage[] = [];
  private ownBefore = process.cpuUsage();
  private own: NodeJS.CpuUsage = { user: 0, system: 0 };

  constructor(session: Session) {
    this.session = session;
  }

  mark(open: boolean): void {
    if (open) {
      this.before = memoryOf(this.session);
      this.ownBefore = process.cpuUsage();
    } else {
      this.own = process.cpuUsage(this.ownBefore);
      this.after = memoryOf(this.session);
    }
  }

  members(): MemberUsage[] {
    return this.after.map((after, index) => {
      const before = this.before[index]!;
      return {
        ...after,
        cpuMs: after.cpuMs - before.cpuMs,
        writtenBytes: after.writtenBytes - before.writtenBytes,
      };
    });
  }

  generatorCpuMs(): number {
    return (this.own.user + this.own.system) / 1000;
  }
}
