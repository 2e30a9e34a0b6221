/** One watcher of a watch stream. */
import type { EventsResponse, WatchCreateRequest, WatchId } from "../messages/watch-messages.ts";
import type { SharedEvent } from "./shared-event.ts";
import type { WatchStream } from "./watch-stream.ts";

export class Watcher {
  readonly stream: WatchStream;
  readonly id: WatchId;
  readonly key: string;
  readonly rangeEnd: string;
  readonly prevKv: boolean;
  readonly progressNotify: boolean;
  readonly fragment: boolean;
  readonly #noPut: boolean;
  readonly #noDelete: boolean;
  /** As the client asked for it; no progress below it. 0 when it asked for what comes. */
  readonly startRevision: number;
  /**
   * `synced`: gets events as they happen. `behind`: reads up from the store. `gone`: canceled, or its stream
   * is closed.
   */
  state: "synced" | "behind" | "gone" = "behind";
  /** It has, or does not want, all events below this revision. */
  nextRevision: number;
  /** An event was sent since the last progress notification was due. */
  active = false;

  // Events that were matched and are not sent yet.
  #pending: Buffer[] = [];
  #pendingRevisions: number[] = [];

  constructor(
    stream: WatchStream,
    id: WatchId,
    request: WatchCreateRequest,
    rangeEnd: string,
    nextRevision: number,
  ) {
    this.stream = stream;
    this.id = id;
    this.key = request.key;
    this.rangeEnd = rangeEnd;
    this.prevKv = request.prevKv;
    this.progressNotify = request.progressNotify;
    this.fragment = request.fragment;
    this.#noPut = request.noPut;
    this.#noDelete = request.noDelete;
    this.startRevision = request.startRevision;
    this.nextRevision = nextRevision;
  }

  get hasPending(): boolean {
    return this.#pending.length > 0;
  }

  /** Takes an event for the next flush, unless a filter keeps it out. Returns the bytes taken. */
  take(event: SharedEvent): number {
    if (event.isDelete ? this.#noDelete : this.#noPut) return 0;
    const bytes = event.bytes(this.prevKv);
    this.#pending.push(bytes);
    this.#pendingRevisions.push(event.revision);
    return bytes.length;
  }

  /**
   * The pending events as responses, added to `responses`: as many revisions in one as fit, a revision split
   * only into fragments, and only if the client asked for those.
   */
  drainTo(responses: EventsResponse[], sizeBytesMax: number): void {
    const events = this.#pending;
    const revisions = this.#pendingRevisions;
    this.#pending = [];
    this.#pendingRevisions = [];
    let from = 0;
    let sizeBytes = 0;
    for (let at = 0; at < events.length; ) {
      // One revision at a time: it has to stay together.
      const revision = revisions[at]!;
      let revisionEnd = at;
      let revisionBytes = 0;
      while (revisionEnd < events.length && revisions[revisionEnd] === revision) {
        revisionBytes += events[revisionEnd]!.length;
        revisionEnd++;
      }
      if (at > from && sizeBytes + revisionBytes > sizeBytesMax) {
        responses.push(this.#response(events.slice(from, at), revisions[at - 1]!, sizeBytes, false));
        from = at;
        sizeBytes = 0;
      }
      if (this.fragment && revisionBytes > sizeBytesMax) {
        this.#fragments(responses, events.slice(at, revisionEnd), revision, sizeBytesMax);
        from = revisionEnd;
      } else sizeBytes += revisionBytes;
      at = revisionEnd;
    }
    if (from < events.length) {
      const rest = from === 0 ? events : events.slice(from);
      responses.push(this.#response(rest, revisions.at(-1)!, sizeBytes, false));
    }
    this.active = true;
  }

  #fragments(
    responses: EventsResponse[],
    events: readonly Buffer[],
    revision: number,
    sizeBytesMax: number,
  ): void {
    let from = 0;
    let sizeBytes = 0;
    for (let at = 0; at < events.length; at++) {
      const size = events[at]!.length;
      if (at > from && sizeBytes + size > sizeBytesMax) {
        responses.push(this.#response(events.slice(from, at), revision, sizeBytes, true));
        from = at;
        sizeBytes = 0;
      }
      sizeBytes += size;
    }
    responses.push(this.#response(events.slice(from), revision, sizeBytes, false));
  }

  #response(
    events: readonly Buffer[],
    revision: number,
    eventsSizeBytes: number,
    fragment: boolean,
  ): EventsResponse {
    return { watchId: this.id, revision, events, eventsSizeBytes, fragment };
  }
}
