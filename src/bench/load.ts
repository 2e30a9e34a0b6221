/**
 * Drives requests against connections. Closed loop: a fixed number in flight, each answer is followed by the next
 * request. Open loop: a fixed rate whatever the answers do, and a latency counts from the moment the request was
 * due, so that a pause of the server is seen by all requests that fell into it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Histogram } from "./histogram.ts";
import type { Http2Connection } from "./http2-connection.ts";
import type { Outcome, Requester } from "./requester.ts";

/** Closed loop with so many in flight, or open loop at a rate. */
export type LoadShape = { readonly inFlight: number } | { readonly ratePerSecond: number };

/** What to drive and for how long. */
export interface LoadOptions {
  readonly shape: LoadShape;
  /** Connections by member. */
  readonly connections: readonly (readonly Http2Connection[])[];
  readonly createRequester: () => Requester;
  /** Time before the window that is measured. */
  readonly warmupMs: number;
  readonly durationMs: number;
  /** Called when the window opens and when it closes. */
  readonly onWindow?: (open: boolean) => void;
}

/** What was seen of the requests that ended inside the window. */
export interface LoadResult {
  readonly windowMs: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly latency: Histogram;
  /** Open loop: how much later than due the generator sent. */
  readonly lag: Histogram;
  /** Different failures, during the whole run, with their number. */
  readonly failures: ReadonlyMap<string, number>;
}

/** Requests that never ended, or failures without end: the run says nothing. */
export class LoadError extends Error {
  override name = "LoadError";
}

/** In open loop, requests that are due but above this are sent later; their latency counts all the same. */
const openInFlightMax = 4096;
const drainTimeoutMs = 20_000;
const failuresMax = 10_000;
/** A failed slot pauses, so that a server that refuses is not flooded. */
const failurePauseMs = 20;
const failureTextsMax = 20;

/** When the requests of an open loop are due. */
export class OpenLoopSchedule {
  /** Requests handed out. */
  sent = 0;
  private readonly startMs: number;
  private readonly ratePerSecond: number;
  constructor(startMs: number, ratePerSecond: number) {
    this.startMs = startMs;
    this.ratePerSecond = ratePerSecond;
  }

  /** When the next request is or was due. */
  nextDueMs(): number {
    return this.startMs + (this.sent * 1000) / this.ratePerSecond;
  }

  /** Takes the next request if it is due; returns when it was, else undefined. */
  take(nowMs: number): number | undefined {
    const dueMs = this.nextDueMs();
    if (dueMs > nowMs) return undefined;
    this.sent++;
    return dueMs;
  }
}

/** Runs until the window is over and every request has ended. Throws LoadError. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const run = new LoadRun(options);
  return run.run();
}

class LoadRun {
  private readonly options: LoadOptions;
  private readonly latency = new Histogram();
  private readonly lag = new Histogram();
  private readonly failures = new Map<string, number>();
  private succeeded = 0;
  private failed = 0;
  private failedInAll = 0;
  private outstanding = 0;
  private stopping = false;
  private windowOpen = false;
  private rotation = 0;

  constructor(options: LoadOptions) {
    this.options = options;
  }

  async run(): Promise<LoadResult> {
    const { shape, warmupMs, durationMs, onWindow } = this.options;
    if ("inFlight" in shape) this.startClosed(shape.inFlight);
    else this.startOpen(shape.ratePerSecond);
    await sleep(warmupMs);
    onWindow?.(true);
    this.windowOpen = true;
    const openedMs = performance.now();
    await sleep(durationMs);
    this.windowOpen = false;
    const windowMs = performance.now() - openedMs;
    onWindow?.(false);
    this.stopping = true;
    await this.drain();
    const { succeeded, failed, latency, lag, failures } = this;
    return { windowMs, succeeded, failed, latency, lag, failures };
  }

  private startClosed(inFlight: number): void {
    for (let slot = 0; slot < inFlight; slot++) {
      const requester = this.options.createRequester();
      // Few clients go around the members, many stay with one each, as an API server does.
      const fixed = inFlight < this.options.connections.length ? undefined : this.connectionOf(slot);
      let startedMs = 0;
      const issue = (): void => {
        if (this.stopping) return;
        this.outstanding++;
        startedMs = performance.now();
        requester.send(fixed ?? this.connectionOf(this.rotation++), done);
      };
      const done = (outcome: Outcome): void => {
        this.finish(performance.now() - startedMs, outcome);
        if (outcome === undefined) issue();
        else setTimeout(issue, failurePauseMs);
      };
      issue();
    }
  }

  private startOpen(ratePerSecond: number): void {
    const schedule = new OpenLoopSchedule(performance.now(), ratePerSecond);
    const idle: Requester[] = [];
    const send = (dueMs: number): void => {
      const requester = idle.pop() ?? this.options.createRequester();
      this.outstanding++;
      if (this.windowOpen) this.lag.record(performance.now() - dueMs);
      requester.send(this.connectionOf(this.rotation++), (outcome) => {
        this.finish(performance.now() - dueMs, outcome);
        idle.push(requester);
      });
    };
    const tick = (): void => {
      if (this.stopping) return;
      while (this.outstanding < openInFlightMax) {
        const dueMs = schedule.take(performance.now());
        if (dueMs === undefined) break;
        send(dueMs);
      }
      setTimeout(tick, Math.max(1, Math.floor(schedule.nextDueMs() - performance.now())));
    };
    tick();
  }

  private connectionOf(slot: number): Http2Connection {
    const { connections } = this.options;
    const ofMember = connections[slot % connections.length]!;
    return ofMember[Math.floor(slot / connections.length) % ofMember.length]!;
  }

  private finish(durationMs: number, outcome: Outcome): void {
    this.outstanding--;
    if (outcome !== undefined) {
      this.failedInAll++;
      if (this.failures.has(outcome) || this.failures.size < failureTextsMax)
        this.failures.set(outcome, (this.failures.get(outcome) ?? 0) + 1);
      if (this.failedInAll > failuresMax) this.stopping = true;
    }
    if (!this.windowOpen) return;
    if (outcome !== undefined) {
      this.failed++;
      return;
    }
    this.succeeded++;
    this.latency.record(durationMs);
  }

  private async drain(): Promise<void> {
    const deadlineMs = performance.now() + drainTimeoutMs;
    while (this.outstanding > 0 && performance.now() < deadlineMs) await sleep(5);
    const described = [...this.failures].map(([text, count]) => `${count} x ${text}`).join("; ");
    if (this.outstanding > 0)
      throw new LoadError(`${this.outstanding} requests got no answer in ${drainTimeoutMs} ms. ${described}`);
    if (this.failedInAll > failuresMax) throw new LoadError(`too many failures: ${described}`);
  }
}
