/** One Watch call: its watchers, what it was asked, and what it is fed. */
import type { BackendErrorCode } from "../../store/types.ts";
import { BACKEND_STATUS, STORE_STATUS } from "../errors.ts";
import type { StreamCall, StreamHandler } from "../grpc/method.ts";
import type { HeaderEncoder } from "../messages/header.ts";
import {
  type ControlResponse,
  type EventsResponse,
  encodeControlResponse,
  encodeEventsResponses,
  INVALID_WATCH_ID,
  readWatchRequest,
  type WatchCreateRequest,
  type WatchId,
} from "../messages/watch-messages.ts";
import type { WatchHub } from "./watch-hub.ts";
import { Watcher } from "./watcher.ts";

/** Texts of etcd's watchable store, which clients see as cancel reasons. */
const EMPTY_RANGE = "mvcc: watcher range is empty";
const DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream";

export class WatchStream implements StreamHandler {
  readonly requireLeader: boolean;
  readonly #hub: WatchHub;
  readonly #call: StreamCall;
  readonly #header: HeaderEncoder;
  readonly #watchers = new Map<WatchId, Watcher>();
  /** Watchers with events to be sent at the next flush. */
  readonly #touched: Watcher[] = [];
  #nextId = 0;
  #paused = false;
  #progressTimer: NodeJS.Timeout | undefined;

  constructor(hub: WatchHub, call: StreamCall, header: HeaderEncoder, requireLeader: boolean) {
    this.#hub = hub;
    this.#call = call;
    this.#header = header;
    this.requireLeader = requireLeader;
  }

  get watchers(): Iterable<Watcher> {
    return this.#watchers.values();
  }

  /** The client takes less than is sent: feed no more until all of it went out. */
  get blocked(): boolean {
    return this.#call.bufferedBytes >= this.#hub.bufferSizeBytesMax;
  }

  message(message: Buffer): void {
    const request = readWatchRequest(message);
    if (request.type === "create") this.#create(request.create);
    else if (request.type === "cancel") this.#cancel(request.watchId);
    else if (request.type === "progress") this.#progressRequested();
    this.#balance();
  }

  #create(request: WatchCreateRequest): void {
    // etcd's reading of a request without a key: every key from the smallest on (or that one alone).
    const create = request.key === "" ? { ...request, key: "\0" } : request;
    const refusal = this.#refusalOf(create);
    if (refusal !== undefined) {
      this.#control({ watchId: INVALID_WATCH_ID, created: true, canceled: true, cancelReason: refusal });
      return;
    }
    const { revision } = this.#hub;
    const start = create.startRevision;
    const id = create.watchId === 0 ? this.#freeId() : create.watchId;
    const watcher = new Watcher(this, id, create, create.rangeEnd, start === 0 ? revision + 1 : start);
    this.#watchers.set(id, watcher);
    this.#control({ watchId: id, created: true });
    if (watcher.progressNotify) this.#startProgress();
    this.#hub.add(watcher);
  }

  /** Why no watcher is made of the request, in etcd's words. */
  #refusalOf(request: WatchCreateRequest): string | undefined {
    const { key, rangeEnd, startRevision, watchId } = request;
    if (startRevision < 0) return STORE_STATUS.compacted.message;
    if (rangeEnd !== "" && rangeEnd !== "\0" && key >= rangeEnd) return EMPTY_RANGE;
    if (watchId !== 0 && this.#watchers.has(watchId)) return DUPLICATE_ID;
    if (this.#watchers.size >= this.#hub.watchersPerStreamMax) return BACKEND_STATUS.tooManyRequests.message;
    return undefined;
  }

  #freeId(): number {
    while (this.#watchers.has(this.#nextId)) this.#nextId++;
    return this.#nextId++;
  }

  #cancel(id: WatchId): void {
    const watcher = this.#watchers.get(id);
    if (watcher === undefined) return;
    // What was matched before the cancel goes out before it.
    this.flush();
    this.#forget(watcher);
    this.#control({ watchId: id, canceled: true });
  }

  /** Ends a watcher whose next revision was compacted. */
  cancelCompacted(watcher: Watcher, compactRevision: number): void {
    this.flush();
    this.#forget(watcher);
    // etcd leaves the revision out of this one.
    this.#control({ watchId: watcher.id, canceled: true, compactRevision }, 0);
  }

  #forget(watcher: Watcher): void {
    this.#watchers.delete(watcher.id);
    this.#hub.remove(watcher);
    if (watcher.progressNotify && ![...this.#watchers.values()].some((other) => other.progressNotify)) {
      clearTimeout(this.#progressTimer);
      this.#progressTimer = undefined;
    }
  }

  /** Marks a watcher that has pending events. */
  touch(watcher: Watcher): void {
    if (this.#touched.length === 0) this.#hub.touch(this);
    this.#touched.push(watcher);
  }

  /** Sends the pending events of all watchers, in one write. */
  flush(): void {
    if (this.#touched.length === 0) return;
    const responses: EventsResponse[] = [];
    for (const watcher of this.#touched) watcher.drainTo(responses, this.#hub.responseSizeBytesMax);
    this.#touched.length = 0;
    if (responses.length === 0) return;
    this.#call.write(encodeEventsResponses(this.#header, this.#hub.term, responses));
  }

  /** Answers a RequestProgress: only if every watcher has got all there is, else not at all. */
  #progressRequested(): void {
    this.#hub.pump();
    if (this.#watchers.size === 0 || this.blocked) return;
    for (const watcher of this.#watchers.values()) if (!this.#isBookmarkable(watcher)) return;
    this.#control({ watchId: INVALID_WATCH_ID }, this.#hub.deliveredRevision);
  }

  /** All events of the watcher up to the hub's revision are on the stream. */
  #isBookmarkable(watcher: Watcher): boolean {
    return watcher.state === "synced" && watcher.startRevision <= this.#hub.deliveredRevision;
  }

  #startProgress(): void {
    if (this.#progressTimer !== undefined) return;
    this.#progressTimer = setTimeout(() => {
      this.#progressTimer = undefined;
      this.#notifyProgress();
      this.#startProgress();
    }, this.#hub.progressDelayMs());
    this.#progressTimer.unref();
  }

  #notifyProgress(): void {
    this.#hub.pump();
    for (const watcher of this.#watchers.values()) {
      if (!watcher.progressNotify) continue;
      const quiet = !watcher.active;
      watcher.active = false;
      if (!quiet || this.blocked || !this.#isBookmarkable(watcher)) continue;
      this.#control({ watchId: watcher.id }, this.#hub.deliveredRevision);
    }
  }

  #control(response: Omit<ControlResponse, "revision">, revision: number = this.#hub.revision): void {
    this.#call.write(encodeControlResponse(this.#header, this.#hub.term, { ...response, revision }));
  }

  /** Reads no further requests while the client does not take the answers. */
  #balance(): void {
    const { blocked } = this;
    if (blocked === this.#paused || this.#call.finished) return;
    this.#paused = blocked;
    if (blocked) this.#call.pause();
    else this.#call.resume();
  }

  /** Ends the whole call because this process can not serve it; the client goes on elsewhere. */
  abort(reason: BackendErrorCode): void {
    this.#call.finish(BACKEND_STATUS[reason]);
  }

  halfClose(): void {
    // The client asks for nothing more but goes on listening, as in etcd.
  }

  drain(): void {
    this.#balance();
    this.#hub.catchUp();
  }

  close(): void {
    clearTimeout(this.#progressTimer);
    for (const watcher of this.#watchers.values()) this.#hub.remove(watcher);
    this.#watchers.clear();
    this.#touched.length = 0;
    this.#hub.closed(this);
  }
}
