/**
 * Watch streams of the two stores, side by side. How events are packed into responses is the server's business,
 * so the events of each watcher are compared one by one as they come; the promises about packing (a revision is
 * never torn, progress is never ahead of events) are checked on each side by itself.
 */
import type { Answer, WatchCall } from "./client.ts";
import { type Divergence, describe, firstDivergence, normalizeMessage } from "./normalize.ts";
import type { Side } from "./side.ts";
import type { Message } from "./wire.ts";

/** Progress asked for is answered only once all watchers of a stream caught up, so it is asked again. */
const progressRetryMs = 25;
const waitMs = 15_000;

/** What went wrong on a stream: a divergence of both sides, or a promise that one side broke. */
export type WatchProblem = (problem: Divergence) => void;

interface WatcherState {
  /** Items that the other side has not matched yet. */
  readonly items: Message[];
  /** Revision of the last event, and of the last progress told. */
  lastRevision: number;
  promisedRevision: number;
  /** Inside a response that goes on in the next one. */
  fragmentOpen: boolean;
}

/** One store's end of a stream. */
class StreamSide {
  readonly side: Side;
  readonly watchers = new Map<number, WatcherState>();
  /** Watchers that the server said are canceled. */
  readonly canceled = new Set<number>();
  readonly #problem: (what: string, found: string) => void;
  readonly #changed: (watchId: number) => void;
  readonly #call: WatchCall;
  #waiters: {
    readonly wanted: (message: Message) => boolean;
    readonly resolve: (message: Message) => void;
  }[] = [];
  /** Sizes of the fragments seen, for the coverage table. */
  fragments = 0;

  constructor(
    side: Side,
    member: number,
    problem: (what: string, found: string) => void,
    changed: (watchId: number) => void,
  ) {
    this.side = side;
    this.#problem = problem;
    this.#changed = changed;
    this.#call = side.member(member).openWatch({
      response: (message) => {
        const spoiled = side.plant?.watch === undefined ? message : side.plant.watch(message);
        if (spoiled !== undefined) this.#response(spoiled);
      },
      end: (answer) => this.#problem("stream ended", describeEnd(answer)),
    });
  }

  send(message: Message): void {
    this.#call.send(message);
  }

  /** The next response that is wanted; undefined when none comes in time. */
  wait(wanted: (message: Message) => boolean, timeoutMs: number): Promise<Message | undefined> {
    return new Promise((resolve) => {
      const waiter = {
        wanted,
        resolve: (message: Message) => {
          clearTimeout(timer);
          resolve(message);
        },
      };
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        resolve(undefined);
      }, timeoutMs);
      this.#waiters.push(waiter);
    });
  }

  watcher(watchId: number): WatcherState {
    let state = this.watchers.get(watchId);
    if (state === undefined) {
      state = { items: [], lastRevision: 0, promisedRevision: 0, fragmentOpen: false };
      this.watchers.set(watchId, state);
    }
    return state;
  }

  #response(message: Message): void {
    const watchId = Number(message.watch_id ?? 0);
    const revision = Number((message.header as Message | undefined)?.revision ?? 0);
    const events = (message.events ?? []) as Message[];
    if (message.created !== true) {
      if (revision === 0 && message.canceled !== true) {
        this.#problem("watch response without a revision", describe(message));
      }
      if (events.length > 0) this.#events(watchId, revision, message, events);
      else if (message.canceled !== true) this.#progress(watchId, revision);
      if (message.canceled === true) {
        this.canceled.add(watchId);
        this.#item(watchId, message);
      }
    }
    const waiter = this.#waiters.find(({ wanted }) => wanted(message));
    if (waiter !== undefined) {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
      waiter.resolve(message);
    }
  }

  #events(watchId: number, revision: number, message: Message, events: readonly Message[]): void {
    const state = this.watcher(watchId);
    for (const [index, event] of events.entries()) {
      const eventRevision = Number((event.kv as Message | undefined)?.mod_revision ?? 0);
      const torn = index === 0 && eventRevision === state.lastRevision && !state.fragmentOpen;
      if (torn) this.#problem("one revision in two responses", describe(message));
      if (eventRevision < state.lastRevision) this.#problem("events go back in revision", describe(message));
      if (eventRevision <= state.promisedRevision) {
        this.#problem(
          `an event at or below the progress told (${state.promisedRevision})`,
          describe(message),
        );
      }
      if (eventRevision > revision) this.#problem("header revision below an event", describe(message));
      state.lastRevision = eventRevision;
      this.#item(watchId, { event });
    }
    state.fragmentOpen = message.fragment === true;
    if (state.fragmentOpen) this.fragments += 1;
  }

  #progress(watchId: number, revision: number): void {
    const told = watchId === -1 ? [...this.watchers.values()] : [this.watcher(watchId)];
    for (const state of told) state.promisedRevision = Math.max(state.promisedRevision, revision);
  }

  #item(watchId: number, item: Message): void {
    this.watcher(watchId).items.push(normalizeMessage(this.side, item));
    this.#changed(watchId);
  }

  close(): void {
    this.#call.close();
  }
}

function describeEnd(answer: Answer | undefined): string {
  if (answer === undefined) return "without an error";
  return answer.ok ? "ok" : `${answer.code} ${answer.text}`;
}

/** Counts what watchers were told, for the coverage table. */
export type WatchCount = (what: string) => void;

/** The same stream on both stores. */
export class StreamPair {
  readonly member: number;
  readonly #sides: readonly [StreamSide, StreamSide];
  readonly #problem: WatchProblem;
  readonly #count: WatchCount;
  /** Live watchers, in the order of their creation. */
  watchIds: number[] = [];
  /** The revision that its watcher waits for, counted from the start of the comparison; no progress before. */
  futureRevision = 0;

  constructor(sides: readonly [Side, Side], member: number, problem: WatchProblem, count: WatchCount) {
    this.member = member;
    this.#problem = problem;
    this.#count = count;
    const open = (side: Side, isLeft: boolean): StreamSide =>
      new StreamSide(
        side,
        member,
        (what, found) =>
          problem({
            path: `watch: ${what}`,
            left: isLeft ? found : "(see the other side)",
            right: isLeft ? "(see the other side)" : found,
          }),
        (watchId) => this.#match(watchId),
      );
    this.#sides = [open(sides[0], true), open(sides[1], false)];
  }

  #match(watchId: number): void {
    const [left, right] = this.#sides.map((side) => side.watcher(watchId).items) as [Message[], Message[]];
    while (left.length > 0 && right.length > 0) {
      const [a, b] = [left.shift()!, right.shift()!];
      const found = firstDivergence(a, b);
      if (found !== undefined) {
        this.#problem({ path: `watch ${watchId}: ${found.path}`, left: describe(a), right: describe(b) });
        return;
      }
      this.#countItem(a);
    }
  }

  #countItem(item: Message): void {
    const event = item.event as Message | undefined;
    if (event === undefined) {
      this.#count(`canceled ${item.compact_revision === undefined ? "" : "by compaction"}`.trim());
      return;
    }
    const type = event.type === 1 ? "delete" : "put";
    this.#count(`event ${type}${event.prev_kv === undefined ? "" : " with prev_kv"}`);
  }

  /** Creates the watcher on both and returns both `created` answers. */
  async create(
    requests: readonly [Message, Message],
  ): Promise<readonly [Message | undefined, Message | undefined]> {
    const answers = this.#sides.map((side, index) => {
      const answer = side.wait((message) => message.created === true, waitMs);
      side.send({ create_request: requests[index]! });
      return answer;
    });
    const [left, right] = (await Promise.all(answers)) as [Message | undefined, Message | undefined];
    if (left !== undefined && left.canceled !== true) this.watchIds.push(Number(left.watch_id ?? 0));
    return [left, right];
  }

  /** Waits until both sides have canceled the watcher themselves. */
  async canceled(watchId: number): Promise<void> {
    const wanted = (message: Message): boolean =>
      message.canceled === true && Number(message.watch_id ?? 0) === watchId;
    const waits = this.#sides.map(async (side) => {
      if (side.canceled.has(watchId)) return;
      if ((await side.wait(wanted, waitMs)) === undefined)
        this.#missing(side, `no cancel of watcher ${watchId}`);
    });
    await Promise.all(waits);
  }

  #missing(side: StreamSide, what: string): void {
    const isLeft = side === this.#sides[0];
    this.#problem({
      path: "watch: nothing came",
      left: isLeft ? what : "(came or not waited for)",
      right: isLeft ? "(came or not waited for)" : what,
    });
  }

  async cancel(watchId: number): Promise<void> {
    const wanted = (message: Message): boolean =>
      message.canceled === true && Number(message.watch_id ?? 0) === watchId;
    const waits = this.#sides.map(async (side) => {
      const answer = side.wait(wanted, waitMs);
      side.send({ cancel_request: { watch_id: watchId } });
      if ((await answer) === undefined) this.#missing(side, `no answer to the cancel of watcher ${watchId}`);
    });
    this.watchIds = this.watchIds.filter((other) => other !== watchId);
    await Promise.all(waits);
    // The id may be used again.
    for (const side of this.#sides) {
      side.watchers.delete(watchId);
      side.canceled.delete(watchId);
    }
  }

  /** Cancels a watcher that is not there: no server answers that. */
  cancelUnknown(watchId: number): void {
    for (const side of this.#sides) side.send({ cancel_request: { watch_id: watchId } });
  }

  /**
   * Asks both for progress until they tell it, which says that all events up to `heads` came; then whatever is
   * not matched is missing on the other side.
   */
  async drain(heads: readonly [number, number]): Promise<void> {
    if (this.watchIds.length === 0) return;
    await Promise.all(this.#sides.map((side, index) => this.#askProgress(side, heads[index]!)));
    for (const watchId of this.watchIds) {
      for (const [index, side] of this.#sides.entries()) {
        const rest = side.watcher(watchId).items;
        if (rest.length === 0) continue;
        const found = rest.slice(0, 5).map(describe).join(" ");
        this.#problem({
          path: `watch ${watchId}: on one side only`,
          left: index === 0 ? found : "(nothing)",
          right: index === 1 ? found : "(nothing)",
        });
        rest.length = 0;
      }
    }
  }

  async #askProgress(side: StreamSide, head: number): Promise<void> {
    const wanted = (message: Message): boolean =>
      message.watch_id === -1 && message.created !== true && message.canceled !== true;
    for (let waitedMs = 0; waitedMs < waitMs; waitedMs += progressRetryMs) {
      const answer = side.wait(wanted, progressRetryMs);
      side.send({ progress_request: {} });
      const told = await answer;
      if (told === undefined) continue;
      const revision = Number((told.header as Message | undefined)?.revision ?? 0);
      if (revision > head)
        this.#missing(side, `progress told at ${revision}, above the newest revision ${head}`);
      // An answer to a request of an earlier time that was asked again.
      if (revision >= head) return;
    }
    this.#missing(side, "no progress told");
  }

  close(): void {
    const fragments = this.#sides.map((side) => side.fragments);
    if (fragments.some((count) => count > 0)) this.#count("fragments");
    for (const side of this.#sides) side.close();
  }
}
