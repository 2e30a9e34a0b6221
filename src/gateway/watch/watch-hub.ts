/**
 * Feeds all watchers from the store. Events are read once and encoded once; watchers that keep up share them
 * as they happen, those that start in the past or do not take what they are sent read up from the store, in
 * slices between other work.
 */
import { assert } from "../../base/assert.ts";
import { type BackendErrorCode, StoreError, type WatchEvent } from "../../store/types.ts";
import type { StreamCall } from "../grpc/method.ts";
import type { ServiceContext } from "../services/context.ts";
import { SharedEvent } from "./shared-event.ts";
import { WatchIndex } from "./watch-index.ts";
import { WatchStream } from "./watch-stream.ts";
import type { Watcher } from "./watcher.ts";

/** Events read from the store at a time; fewer when they are large. */
/**
 * Least time between two deliveries: under load one response then carries many revisions, and its cost is
 * shared; a change after a pause goes out at once.
 */
const PUMP_INTERVAL_MS = 8;
const SLICE_EVENTS_MAX = 256;
const SLICE_EVENTS_MIN = 16;
/** Bytes that a slice should not exceed by much. */
const SLICE_SIZE_BYTES = 4 * 1024 * 1024;
/** Room that etcd gives a message above the request limit, and fragments with it. */
const RESPONSE_OVERHEAD_BYTES = 512 * 1024;
const PROGRESS_JITTER = 0.1;

/** Some whole revisions of events. */
interface Slice {
  readonly events: readonly SharedEvent[];
  /** The events are complete up to and including this revision. */
  readonly to: number;
}

export class WatchHub {
  readonly watchersPerStreamMax: number;
  readonly bufferSizeBytesMax: number;
  readonly responseSizeBytesMax: number;
  readonly #context: ServiceContext;
  readonly #progressIntervalMs: number;
  readonly #synced = new WatchIndex<Watcher>();
  readonly #behind = new WatchIndex<Watcher>();
  readonly #behindSet = new Set<Watcher>();
  readonly #streams = new Set<WatchStream>();
  readonly #touchedStreams: WatchStream[] = [];
  /** Synced watchers have every event up to here. */
  #delivered: number;
  #sliceEvents = SLICE_EVENTS_MIN;
  #pumpedAtMs = Number.NEGATIVE_INFINITY;
  #pumpScheduled = false;
  #catchUpScheduled = false;
  /** Alternates between the watcher that is furthest behind and the nearest. */
  #nearestFirst = false;
  #closed = false;
  /** Events sent, of all watchers. */
  eventsTotal = 0;

  constructor(context: ServiceContext) {
    this.#context = context;
    const { limits } = context;
    this.watchersPerStreamMax = limits.watchersPerStreamMax;
    this.bufferSizeBytesMax = limits.watchBufferSizeBytesMax;
    this.responseSizeBytesMax = limits.requestSizeBytesMax + RESPONSE_OVERHEAD_BYTES - 256;
    this.#progressIntervalMs = Math.max(100, limits.progressNotifyIntervalMs);
    this.#delivered = context.revision;
    context.backend.onRevision(() => this.#schedulePump());
  }

  /** The store's revision. */
  get revision(): number {
    return this.#context.revision;
  }

  get deliveredRevision(): number {
    return this.#delivered;
  }

  get term(): number {
    return this.#context.term;
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  get watcherCount(): number {
    return this.#synced.size + this.#behind.size;
  }

  /** Watchers that read up from the store (etcd's slow watchers). */
  get behindCount(): number {
    return this.#behindSet.size;
  }

  /** Milliseconds until the next progress notifications of a stream, spread so that not all come at once. */
  progressDelayMs(): number {
    return this.#progressIntervalMs * (1 + PROGRESS_JITTER * Math.random());
  }

  open(call: StreamCall, requireLeader: boolean): WatchStream {
    const stream = new WatchStream(this, call, this.#context.header, requireLeader);
    this.#streams.add(stream);
    return stream;
  }

  closed(stream: WatchStream): void {
    this.#streams.delete(stream);
  }

  /** Ends the calls of all streams, or of those that would rather have an error than no leader. */
  abort(reason: BackendErrorCode, onlyRequiringLeader: boolean): void {
    for (const stream of [...this.#streams]) {
      if (!onlyRequiringLeader || stream.requireLeader) stream.abort(reason);
    }
  }

  /** Begins to feed a watcher that was announced to the client. */
  add(watcher: Watcher): void {
    if (watcher.nextRevision > this.#delivered) {
      watcher.state = "synced";
      this.#synced.add(watcher);
    } else this.#fallBehind(watcher, watcher.nextRevision);
  }

  remove(watcher: Watcher): void {
    if (watcher.state === "synced") this.#synced.remove(watcher);
    else if (watcher.state === "behind") this.#leaveBehind(watcher);
    watcher.state = "gone";
  }

  /** Notes that a stream has events to flush. */
  touch(stream: WatchStream): void {
    this.#touchedStreams.push(stream);
  }

  #flush(): void {
    for (const stream of this.#touchedStreams) stream.flush();
    this.#touchedStreams.length = 0;
  }

  #schedulePump(): void {
    if (this.#pumpScheduled || this.#closed) return;
    this.#pumpScheduled = true;
    const sinceMs = performance.now() - this.#pumpedAtMs;
    if (sinceMs >= PUMP_INTERVAL_MS) setImmediate(this.#runPump);
    else setTimeout(this.#runPump, PUMP_INTERVAL_MS - sinceMs);
  }

  readonly #runPump = (): void => {
    this.#pumpScheduled = false;
    this.#pumpedAtMs = performance.now();
    this.pump();
  };

  /** Gives synced watchers what has happened. At most a slice; more follows by itself. */
  pump(): void {
    const { revision } = this.#context;
    if (this.#closed || revision === this.#delivered) return;
    if (this.#context.backend.unavailable() !== undefined) return;
    if (revision < this.#delivered) {
      // Only a repaired state goes back: what was sent may not hold, so clients have to begin anew.
      this.#delivered = revision;
      this.abort("stopped", false);
      return;
    }
    if (this.#synced.size === 0) {
      this.#delivered = revision;
      return;
    }
    const slice = this.#readRecent(this.#delivered + 1, revision);
    if (slice === undefined) {
      this.#overtaken(revision);
      return;
    }
    const lagging: Watcher[] = [];
    for (const event of slice.events) this.#feedSynced(event, lagging);
    this.#delivered = slice.to;
    for (const watcher of lagging) {
      this.#synced.remove(watcher);
      this.#fallBehind(watcher, watcher.nextRevision);
    }
    this.#flush();
    if (slice.to < revision) this.#schedulePump();
  }

  #feedSynced(event: SharedEvent, lagging: Watcher[]): void {
    const { revision } = event;
    this.#synced.match(event.key, (watchers) => {
      for (const watcher of watchers) {
        if (watcher.state !== "synced" || revision < watcher.nextRevision) continue;
        if (watcher.stream.blocked) {
          watcher.nextRevision = revision;
          watcher.state = "behind";
          lagging.push(watcher);
        } else this.#feed(watcher, event);
      }
    });
  }

  #feed(watcher: Watcher, event: SharedEvent): void {
    const first = !watcher.hasPending;
    if (watcher.take(event) === 0) return;
    this.eventsTotal++;
    if (first) watcher.stream.touch(watcher);
  }

  /** Compaction got ahead of what synced watchers have: they find out, one by one, when they catch up. */
  #overtaken(revision: number): void {
    const next = this.#delivered + 1;
    for (const stream of this.#streams) {
      for (const watcher of stream.watchers) {
        if (watcher.state !== "synced" || watcher.nextRevision > revision) continue;
        this.#synced.remove(watcher);
        this.#fallBehind(watcher, Math.max(watcher.nextRevision, next));
      }
    }
    this.#delivered = revision;
    this.catchUp();
  }

  #fallBehind(watcher: Watcher, nextRevision: number): void {
    watcher.state = "behind";
    watcher.nextRevision = nextRevision;
    this.#behind.add(watcher);
    this.#behindSet.add(watcher);
    this.catchUp();
  }

  #leaveBehind(watcher: Watcher): void {
    this.#behind.remove(watcher);
    this.#behindSet.delete(watcher);
  }

  /** Goes on reading up for watchers that are behind, a slice at a time, between other work. */
  catchUp(): void {
    if (this.#catchUpScheduled || this.#closed || this.#behindSet.size === 0) return;
    this.#catchUpScheduled = true;
    setImmediate(() => {
      this.#catchUpScheduled = false;
      if (this.#closed || this.#context.backend.unavailable() !== undefined) return;
      if (this.#catchUpSlice()) this.catchUp();
    });
  }

  /** Returns whether there is more to do now. */
  #catchUpSlice(): boolean {
    const ready = [...this.#behindSet].filter((watcher) => !watcher.stream.blocked);
    const { compactRevision } = this.#context.backend.store;
    const following: Watcher[] = [];
    for (const watcher of ready) {
      if (watcher.nextRevision < compactRevision) {
        watcher.stream.cancelCompacted(watcher, compactRevision);
      } else following.push(watcher);
    }
    if (following.length === 0) return false;
    this.#nearestFirst = !this.#nearestFirst;
    let from = following[0]!.nextRevision;
    for (const { nextRevision } of following) {
      if (this.#nearestFirst ? nextRevision > from : nextRevision < from) from = nextRevision;
    }
    const slice =
      from > this.#delivered ? { events: [], to: this.#delivered } : this.#read(from, this.#delivered);
    // Compacted while it was read: the next round cancels whom it concerns.
    if (slice === undefined) return true;
    const group = new Set(
      following.filter(({ nextRevision }) => nextRevision >= from && nextRevision <= slice.to + 1),
    );
    for (const event of slice.events) {
      this.#behind.match(event.key, (watchers) => {
        for (const watcher of watchers) {
          if (group.has(watcher) && event.revision >= watcher.nextRevision) this.#feed(watcher, event);
        }
      });
    }
    for (const watcher of group) {
      watcher.nextRevision = Math.max(watcher.nextRevision, slice.to + 1);
      if (watcher.nextRevision <= this.#delivered) continue;
      this.#leaveBehind(watcher);
      watcher.state = "synced";
      this.#synced.add(watcher);
    }
    this.#flush();
    return this.#behindSet.size > 0;
  }

  /** For watchers that keep up: a compaction takes nothing from them that is still in memory. */
  #readRecent(from: number, to: number): Slice | undefined {
    const events = this.#context.backend.store.recentEvents(from, to, this.#sliceEvents);
    return events === undefined ? this.#read(from, to) : this.#slice(events, to);
  }

  /** Whole revisions of events from `from` to at most `to`; undefined when they were compacted. */
  #read(from: number, to: number): Slice | undefined {
    assert(from <= to, "events are read forwards");
    const { store } = this.#context.backend;
    try {
      return this.#slice(store.events(from, to, this.#sliceEvents), to);
    } catch (error) {
      if (error instanceof StoreError) return undefined;
      throw error;
    }
  }

  #slice(events: readonly WatchEvent[], to: number): Slice {
    let sizeBytes = 0;
    for (const { kv } of events) sizeBytes += kv.value.length;
    const full = events.length >= this.#sliceEvents;
    if (sizeBytes > SLICE_SIZE_BYTES) {
      const fitting = Math.floor((events.length * SLICE_SIZE_BYTES) / sizeBytes);
      this.#sliceEvents = Math.max(SLICE_EVENTS_MIN, fitting);
    } else if (full && sizeBytes * 2 <= SLICE_SIZE_BYTES) {
      this.#sliceEvents = Math.min(SLICE_EVENTS_MAX, this.#sliceEvents << 1);
    }
    return {
      events: events.map((event) => new SharedEvent(event)),
      to: full ? events.at(-1)!.kv.modRevision : to,
    };
  }

  close(): void {
    this.#closed = true;
  }
}
