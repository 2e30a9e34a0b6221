/**
 * Watchers as the watch caches of API servers are: several per member, on all keys, with previous values and
 * progress. They count, check the order, and measure how long after its acknowledgement a write is delivered.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { connectTo, methodHeaders } from "./connect.ts";
import { Histogram } from "./histogram.ts";
import type { CallStatus, Http2Connection, StreamListener } from "./http2-connection.ts";
import { keyPrefix, keyPrefixEnd } from "./keyspace.ts";
import type { Target } from "./target.ts";
import { encodeWatchCreate, readWatch, type WatchSummary } from "./wire.ts";

const createTimeoutMs = 10_000;
const deliveryTimeoutMs = 30_000;
/** Writes in flight are fewer; more can only be those that failed. */
const earlyRevisionsMax = 100_000;

/** What the watchers saw. */
export interface WatchResult {
  readonly watchers: number;
  /** Events delivered to all of them. */
  readonly events: number;
  /** What is wrong, one line each; empty when every watcher got every write once, in order, with its previous value. */
  readonly faults: readonly string[];
  /** From the sending of a write to the delivery of its event. */
  readonly delay: Histogram;
  /** From the acknowledgement of a write to the delivery of its event; 0 when the event came first. */
  readonly delayAfterAnswer: Histogram;
}

/** When the write of each revision was sent and acknowledged. */
class WriteTimes {
  /** Two numbers per revision; 0 when it is not acknowledged yet. */
  private times = new Float64Array(131_072);
  private readonly firstRevision: number;
  constructor(firstRevision: number) {
    this.firstRevision = firstRevision;
  }

  set(revision: number, sentMs: number, acknowledgedMs: number): void {
    const index = (revision - this.firstRevision) * 2;
    if (index < 0) return;
    if (index >= this.times.length) {
      const larger = new Float64Array(Math.max(index + 2, this.times.length * 2));
      larger.set(this.times);
      this.times = larger;
    }
    this.times[index] = sentMs;
    this.times[index + 1] = acknowledgedMs;
  }

  sentMs(revision: number): number {
    return this.times[(revision - this.firstRevision) * 2] ?? 0;
  }

  acknowledgedMs(revision: number): number {
    return this.times[(revision - this.firstRevision) * 2 + 1] ?? 0;
  }
}

class Watcher implements StreamListener {
  created = false;
  events = 0;
  lastRevision = 0;
  fault: string | undefined;
  private readonly summary: WatchSummary = {
    created: false,
    canceled: false,
    events: 0,
    eventsWithPrevious: 0,
    headerRevision: 0,
  };
  private nowMs = 0;
  private readonly fleet: WatchFleet;
  private readonly onEvent = (modRevision: number): void => {
    if (modRevision <= this.lastRevision)
      this.fault ??= `event of revision ${modRevision} after one of ${this.lastRevision}`;
    this.lastRevision = modRevision;
    this.fleet.delivered(modRevision, this.nowMs);
  };

  constructor(fleet: WatchFleet) {
    this.fleet = fleet;
  }

  message(bytes: Buffer): void {
    this.nowMs = performance.now();
    const summary = readWatch(bytes, this.summary, this.onEvent);
    if (summary.created) this.created = true;
    if (summary.canceled) this.fault ??= "canceled by the server";
    this.events += summary.events;
    if (summary.eventsWithPrevious !== summary.events) this.fault ??= "event without its previous value";
  }

  end(status: CallStatus): void {
    if (!this.fleet.closing) this.fault ??= `ended: ${status.text} (gRPC code ${status.code})`;
  }
}

/** All watchers on one cluster; every write to it from now on must be reported with `acknowledged`. */
export class WatchFleet {
  closing = false;
  private readonly delay = new Histogram();
  private readonly delayAfterAnswer = new Histogram();
  private readonly times: WriteTimes;
  /** When events were delivered whose write is not acknowledged yet, by revision. */
  private readonly early = new Map<number, number[]>();
  private readonly watchers: Watcher[] = [];
  private readonly connections: Http2Connection[] = [];
  private writes = 0;
  private lastRevision = 0;
  private measuring = false;

  private constructor(startRevision: number) {
    this.times = new WriteTimes(startRevision);
  }

  /** Opens the watchers behind the given revision and waits until every one is created. */
  static async open(target: Target, perMember: number, revision: number): Promise<WatchFleet> {
    const fleet = new WatchFleet(revision + 1);
    for (const member of target.members) {
      const connection = await connectTo(member.clientUrl, target.tls);
      fleet.connections.push(connection);
      for (let index = 0; index < perMember; index++) {
        const watcher = new Watcher(fleet);
        fleet.watchers.push(watcher);
        const send = connection.stream(methodHeaders.watch, watcher);
        send(encodeWatchCreate(keyPrefix, keyPrefixEnd, revision + 1));
      }
    }
    const deadlineMs = performance.now() + createTimeoutMs;
    while (!fleet.watchers.every((watcher) => watcher.created || watcher.fault !== undefined)) {
      if (performance.now() > deadlineMs) break;
      await sleep(5);
    }
    const missing = fleet.watchers.filter((watcher) => !watcher.created);
    if (missing.length === 0) return fleet;
    fleet.close();
    throw new Error(`${missing.length} watchers were not created: ${missing[0]!.fault ?? "no answer"}`);
  }

  /** Delays count only while this is on. */
  measure(on: boolean): void {
    this.measuring = on;
  }

  /** A write that was sent at `sentMs` was acknowledged just now. */
  acknowledged(revision: number, sentMs: number): void {
    const nowMs = performance.now();
    this.times.set(revision, sentMs, nowMs);
    this.writes++;
    if (revision > this.lastRevision) this.lastRevision = revision;
    const early = this.early.get(revision);
    if (early === undefined) return;
    this.early.delete(revision);
    for (const deliveredMs of early) {
      this.delay.record(deliveredMs - sentMs);
      this.delayAfterAnswer.record(0);
    }
  }

  /** A watcher got an event. */
  delivered(revision: number, nowMs: number): void {
    if (!this.measuring) return;
    const acknowledgedMs = this.times.acknowledgedMs(revision);
    if (acknowledgedMs !== 0) {
      this.delay.record(nowMs - this.times.sentMs(revision));
      this.delayAfterAnswer.record(nowMs - acknowledgedMs);
      return;
    }
    const early = this.early.get(revision);
    if (early !== undefined) early.push(nowMs);
    else if (this.early.size < earlyRevisionsMax) this.early.set(revision, [nowMs]);
  }

  /** Waits for what is still under way, compares, and closes. `doubtful` writes may have happened or not. */
  async finish(doubtful: number): Promise<WatchResult> {
    const deadlineMs = performance.now() + deliveryTimeoutMs;
    const behind = () =>
      this.watchers.some((watcher) => !watcher.fault && watcher.lastRevision < this.lastRevision);
    while (behind() && performance.now() < deadlineMs) await sleep(10);
    this.close();
    const faults: string[] = [];
    for (const [index, watcher] of this.watchers.entries()) {
      if (watcher.fault !== undefined) faults.push(`watcher ${index}: ${watcher.fault}`);
      else if (watcher.events < this.writes || watcher.events > this.writes + doubtful)
        faults.push(`watcher ${index}: ${watcher.events} events of ${this.writes} acknowledged writes`);
    }
    const events = this.watchers.reduce((sum, watcher) => sum + watcher.events, 0);
    return {
      watchers: this.watchers.length,
      events,
      faults,
      delay: this.delay,
      delayAfterAnswer: this.delayAfterAnswer,
    };
  }

  close(): void {
    this.closing = true;
    for (const connection of this.connections) connection.close();
  }
}
