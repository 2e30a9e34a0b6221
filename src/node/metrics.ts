/**
 * Figures of agreement, log and process for Prometheus; the door adds its own to the same registry. Names are etcd's
 * where the meaning is the same, so that its boards and alerts go on working; what only KmMR has starts with kmmr_.
 */
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { DurationHistogram } from "../gateway/duration-histogram.ts";
import { registerComputed } from "../gateway/metrics.ts";
import type { TraceEvent } from "../replica/contract.ts";

/** What is asked of the process when Prometheus scrapes: nothing of it is kept up to date in between. */
export interface MetricsSource {
  /** Names of the members, by index. */
  readonly members: readonly string[];
  serving(): boolean;
  regency(): number;
  lastDecided(): number;
  lastExecuted(): number;
  pending(): number;
  /** Bytes of records that are not durable yet. */
  logBufferedBytes(): number;
}

/** etcd's buckets of the log sync: 1 ms doubling to 8 s, and three finer ones for fast disks. */
const SYNC_BOUNDS_S = [0.000125, 0.00025, 0.0005, ...Array.from({ length: 14 }, (_, i) => 0.001 * 2 ** i)];

/** Each sample wakes the process up, also when it has nothing to do. */
const EVENT_LOOP_SAMPLE_INTERVAL_MS = 100;

/** All figures of one process. */
export class Metrics {
  readonly registry = new Registry();
  readonly #leaderChanges = this.#counter("etcd_server_leader_changes_seen_total", "Leader changes seen.");
  readonly #failed = this.#counter("etcd_server_proposals_failed_total", "Requests that got no agreement.");
  readonly #stops = this.#counter(
    "kmmr_stops_total",
    "Times this master asked for another leader, by reason.",
    ["reason"],
  );
  readonly #misbehaviour = this.#counter(
    "kmmr_misbehaviour_total",
    "Messages of another master that no correct one sends.",
    ["member"],
  );
  readonly #transfers = this.#counter("kmmr_transfers_total", "State transfers, by phase.", ["phase"]);
  readonly #slowTurns = this.#counter(
    "kmmr_slow_turns_total",
    "Turns of the event loop of more than 100 ms.",
  );
  #fast = 0;
  readonly #sync = new DurationHistogram(SYNC_BOUNDS_S);
  readonly #members: readonly string[];
  #leader: number | undefined;

  constructor(source: MetricsSource) {
    this.#members = source.members;
    registerComputed(this.registry, {
      name: "etcd_disk_wal_fsync_duration_seconds",
      help: "Duration of one sync of the log.",
      type: "histogram",
      samples: (name) => this.#sync.samples(name),
    });
    registerComputed(this.registry, {
      name: "kmmr_fast_instances_total",
      help: "Instances that all masters together decided in two steps; the others took three.",
      type: "counter",
      samples: () => [{ labels: {}, value: this.#fast }],
    });
    collectDefaultMetrics({
      register: this.registry,
      eventLoopMonitoringPrecision: EVENT_LOOP_SAMPLE_INTERVAL_MS,
    });
    this.#gauges(source);
  }

  #counter(name: string, help: string, labelNames: string[] = []): Counter {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  #gauges(source: MetricsSource): void {
    const flag = (value: boolean) => (value ? 1 : 0);
    this.#gauge("etcd_server_proposals_committed_total", "Last decided instance.", () =>
      source.lastDecided(),
    );
    this.#gauge("etcd_server_proposals_applied_total", "Last executed instance.", () =>
      source.lastExecuted(),
    );
    this.#gauge("etcd_server_proposals_pending", "Requests that wait for agreement.", () => source.pending());
    this.#gauge("kmmr_regency", "Number of the present leader's regency.", () => source.regency());
    this.#gauge("kmmr_log_buffered_bytes", "Bytes of the log that are not durable yet.", () =>
      source.logBufferedBytes(),
    );
    this.#gauge("kmmr_serving", "1 when this master answers clients.", () => flag(source.serving()));
  }

  /** Counts what happened inside the replica. */
  trace(event: TraceEvent): void {
    switch (event.kind) {
      case "decided":
        if (event.fast) this.#fast += 1;
        break;
      case "regency":
        if (this.#leader !== undefined && this.#leader !== event.leader) this.#leaderChanges.inc();
        this.#leader = event.leader;
        break;
      case "stop":
        this.#stops.inc({ reason: event.reason });
        break;
      case "misbehaviour":
        this.#misbehaviour.inc({ member: this.#members[event.member] ?? String(event.member) });
        break;
      case "transfer":
        this.#transfers.inc({ phase: event.phase });
        break;
      default:
    }
  }

  requestFailed(count = 1): void {
    this.#failed.inc(count);
  }

  slowTurn(): void {
    this.#slowTurns.inc();
  }

  logSynced(durationMs: number): void {
    this.#sync.observe(durationMs);
  }

  /** The text that Prometheus reads. */
  text(): Promise<string> {
    return this.registry.metrics();
  }
}
