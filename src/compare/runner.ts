/**
 * Runs operations on two stores and compares every answer and every watch event. Writes go one by one, to both
 * stores at once; reads between two writes go together.
 */
import type { Answer } from "./client.ts";
import { Coverage } from "./coverage.ts";
import { type Divergence, describe, firstDivergence, normalizeResponse } from "./normalize.ts";
import { isLocal, isRead, type LeaseReference, type Operation, type SymbolicMessage } from "./operation.ts";
import type { Progress, Side } from "./side.ts";
import { StreamPair } from "./watching.ts";
import type { Message, Value } from "./wire.ts";

/** The first difference of a run. */
export interface Difference extends Divergence {
  /** Index of the operation after which it showed; events may show some operations after their cause. */
  readonly index: number;
  readonly operation: Operation | undefined;
  readonly requests: readonly [string, string];
  readonly answers: readonly [string, string];
}

/** Reads under way at once; the servers' limits are far above. */
const readsAtOnce = 16;
/** Operations between two times that all watch streams are drained. */
const drainEvery = 400;
/** Streams from this number on hold one watcher each, which may never be answered progress. */
const soloStreams = 1000;
/** Leases below this term might expire while they are compared. */
const shortLeaseSeconds = 60;

type Pair<T> = readonly [T, T];

export class Runner {
  readonly coverage = new Coverage();
  readonly #sides: Pair<Side>;
  readonly #progress: Progress = { head: 0, compacted: 0, keyRevisions: new Map() };
  readonly #streams = new Map<number, StreamPair>();
  #difference: Difference | undefined;
  #index = 0;
  /** The member that took the last write; the others may lag behind it. */
  #writer = 0;

  constructor(left: Side, right: Side) {
    this.#sides = [left, right];
  }

  /** Starts counting revisions from where the stores are now. */
  async begin(): Promise<void> {
    for (const side of this.#sides) side.baseRevision = await side.revision();
  }

  /**
   * Runs operations until they end or a difference shows, and returns it. `next` is asked for one at a time.
   */
  async run(next: () => Operation | undefined): Promise<Difference | undefined> {
    let waiting = next();
    while (waiting !== undefined && this.#difference === undefined) {
      const batch: Operation[] = [];
      const first = waiting;
      do {
        batch.push(waiting);
        waiting = next();
      } while (waiting !== undefined && isRead(first) && isRead(waiting) && batch.length < readsAtOnce);
      const drain =
        Math.floor(this.#index / drainEvery) !== Math.floor((this.#index + batch.length) / drainEvery);
      await this.#fence(batch);
      await Promise.all(batch.map((operation, offset) => this.#runOne(operation, this.#index + offset)));
      this.#index += batch.length;
      if (drain) await this.#drainAll();
    }
    if (this.#difference === undefined) await this.#drainAll();
    return this.#difference;
  }

  /** Closes all streams; the stores can be used for another run. */
  close(): void {
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
  }

  #differ(
    index: number,
    operation: Operation | undefined,
    found: Divergence,
    details?: Partial<Difference>,
  ): void {
    this.#difference ??= { index, operation, requests: ["", ""], answers: ["", ""], ...found, ...details };
  }

  /** Makes members catch up that are about to answer from their own state. */
  async #fence(batch: readonly Operation[]): Promise<void> {
    const members = new Set<number>();
    for (const operation of batch) {
      if (isLocal(operation) && "member" in operation) members.add(this.#memberOf(operation));
      else if ("stream" in operation)
        members.add(this.#streams.get(operation.stream)?.member ?? this.#writer);
    }
    await this.#fenceMembers(members);
  }

  /**
   * Most local answers are asked of the member that took the last write, which needs no catching up and so no
   * time; every fourth of whichever the operation names.
   */
  #memberOf(operation: Operation & { readonly member: number }): number {
    return isLocal(operation) && operation.member % 4 !== 0 ? this.#writer : operation.member >> 2;
  }

  async #fenceMembers(members: ReadonlySet<number>): Promise<void> {
    const calls: Promise<Answer>[] = [];
    for (const side of this.#sides) {
      const distinct = new Set([...members].map((member) => member % side.members.length));
      distinct.delete(this.#writer % side.members.length);
      for (const member of distinct) {
        calls.push(side.member(member).call("range", { key: "fence", count_only: true }));
      }
    }
    await Promise.all(calls);
  }

  async #runOne(operation: Operation, index: number): Promise<void> {
    switch (operation.kind) {
      case "call":
        return this.#call(operation, index);
      case "watch":
        return this.#watch(operation, index);
      case "watchCancel":
        return this.#watchCancel(operation);
      case "watchProgress":
        return this.#drain(this.#streams.get(operation.stream));
      case "watchClose": {
        const stream = this.#streams.get(operation.stream);
        await this.#drain(stream);
        stream?.close();
        this.#streams.delete(operation.stream);
        return;
      }
    }
  }

  async #call(operation: Extract<Operation, { kind: "call" }>, index: number): Promise<void> {
    const { rpc } = operation;
    const member = this.#memberOf(operation);
    // Watchers read previous values when they send an event, which a compaction may have taken away.
    if (rpc === "compact") await this.#drainAll();
    const requests = this.#sides.map((side) => side.resolve(this.#progress, operation.request));
    const [left, right] = (await Promise.all(
      this.#sides.map((side, i) => side.call(member, rpc, requests[i]!)),
    )) as unknown as Pair<Answer>;
    this.coverage.call(operation, requests[0]!, left);
    if (left.ok && right.ok && rpc === "leaseGrant") await this.#granted(operation.request, left, right);
    // A request that was refused need not have gone further than the door: that member may lag behind the last write.
    if (!isRead(operation) && left.ok && right.ok) this.#writer = member;
    const pair = [left, right].map((answer, i) => comparable(this.#sides[i]!, requests[i]!, answer));
    if (rpc === "leaseTimeToLive") toleratePassingTime(pair as unknown as Pair<Value>);
    const found = firstDivergence(pair[0], pair[1]);
    if (found !== undefined) {
      const texts = (items: readonly Value[]): Pair<string> => items.map(describe) as unknown as Pair<string>;
      this.#differ(
        index,
        operation,
        { ...found, path: `${rpc}: ${found.path}` },
        {
          requests: texts(requests),
          answers: texts(pair as Value[]),
        },
      );
      return;
    }
    if (left.ok) this.#learn(rpc, requests[0]!, left.message);
  }

  /** Names leases whose ids the servers chose, and ends those that would expire while they are compared. */
  async #granted(
    request: SymbolicMessage,
    left: Extract<Answer, { ok: true }>,
    right: Extract<Answer, { ok: true }>,
  ): Promise<void> {
    const ids = [left, right].map((answer) => answer.message.ID as bigint | undefined);
    const asked = request.ID as LeaseReference | undefined;
    const chosen = asked === undefined || (asked.$lease === "id" && asked.number === 0);
    for (const [i, id] of ids.entries()) {
      if (id === undefined) continue;
      if (chosen) this.#sides[i]!.addChosenLease(id);
      if (Number(request.TTL) < shortLeaseSeconds)
        await this.#sides[i]!.call(this.#writer, "leaseRevoke", { ID: id });
    }
  }

  /** Keeps in mind what later operations refer to. */
  #learn(rpc: string, request: Message, message: Message): void {
    const base = this.#sides[0].baseRevision;
    const revision = Number((message.header as Message).revision) - base;
    this.#progress.head = Math.max(this.#progress.head, revision);
    if (rpc === "put") this.#progress.keyRevisions.set(String(request.key), revision);
    if (rpc === "compact") this.#progress.compacted = Number(request.revision) - base;
    if (rpc === "range") {
      for (const kv of (message.kvs ?? []) as Message[]) {
        this.#progress.keyRevisions.set(String(kv.key), Number(kv.mod_revision) - base);
      }
    }
  }

  #heads(): Pair<number> {
    return this.#sides.map((side) => side.baseRevision + this.#progress.head) as unknown as Pair<number>;
  }

  async #watch(operation: Extract<Operation, { kind: "watch" }>, index: number): Promise<void> {
    const requests = this.#sides.map((side) =>
      side.resolve(this.#progress, operation.request),
    ) as unknown as Pair<Message>;
    const start = Number(requests[0].start_revision ?? 0);
    const relative = start - this.#sides[0].baseRevision;
    const future = relative > this.#progress.head;
    const compacted = start > 0 && relative < this.#progress.compacted;
    const name = future || compacted ? operation.stream + soloStreams : operation.stream;
    if (name >= soloStreams) {
      this.#streams.get(name)?.close();
      this.#streams.delete(name);
    }
    const stream = this.#stream(name, this.#memberOf(operation));
    await this.#fenceMembers(new Set([stream.member]));
    const [left, right] = await stream.create(requests);
    if (left === undefined || right === undefined) {
      this.#differ(index, operation, {
        path: "watch: created",
        left: left === undefined ? "no answer" : describe(left),
        right: right === undefined ? "no answer" : describe(right),
      });
      return;
    }
    this.coverage.watch(requests[0], left);
    const pair = [left, right].map((message, i) => normalizeResponse(this.#sides[i]!, {}, message));
    const found = firstDivergence(pair[0], pair[1]);
    if (found !== undefined) {
      this.#differ(
        index,
        operation,
        { ...found, path: `watch created: ${found.path}` },
        {
          requests: requests.map(describe) as unknown as Pair<string>,
          answers: pair.map(describe) as unknown as Pair<string>,
        },
      );
      return;
    }
    if (compacted && left.canceled !== true) await stream.canceled(Number(left.watch_id ?? 0));
    if (compacted) {
      stream.close();
      this.#streams.delete(name);
    } else if (future) {
      stream.futureRevision = relative;
    }
  }

  #stream(name: number, member: number): StreamPair {
    let stream = this.#streams.get(name);
    if (stream === undefined) {
      stream = new StreamPair(
        this.#sides,
        member,
        (problem) => this.#differ(this.#index, undefined, problem),
        (what) => this.coverage.count(`watch: ${what}`),
      );
      this.#streams.set(name, stream);
    }
    return stream;
  }

  async #watchCancel(operation: Extract<Operation, { kind: "watchCancel" }>): Promise<void> {
    const stream = this.#streams.get(operation.stream);
    if (stream === undefined) return;
    if (operation.unknown) {
      stream.cancelUnknown(7777);
      return;
    }
    const watchId = stream.watchIds[operation.nth % stream.watchIds.length];
    if (watchId === undefined) return;
    // A cancel overtakes events that are on their way, and those are then dropped.
    await this.#drain(stream);
    await stream.cancel(watchId);
  }

  async #drain(stream: StreamPair | undefined): Promise<void> {
    if (stream === undefined || stream.watchIds.length === 0) return;
    await this.#mark();
    await this.#fenceMembers(new Set([stream.member]));
    await stream.drain(this.#heads());
  }

  /** Waits until all watchers were told all events; those from a future revision only once it has come. */
  async #drainAll(): Promise<void> {
    const streams = [...this.#streams.values()].filter((stream) => stream.watchIds.length > 0);
    if (streams.length === 0) return;
    await this.#mark();
    const due = streams.filter((stream) => stream.futureRevision <= this.#progress.head);
    await this.#fenceMembers(new Set(due.map((stream) => stream.member)));
    await Promise.all(due.map((stream) => stream.drain(this.#heads())));
  }

  /**
   * Makes a new revision. An answer to an earlier request for progress, from before a watcher was there, may still
   * be on its way; it cannot name this revision.
   */
  async #mark(): Promise<void> {
    const request = { key: "drain-marker" };
    await this.#call({ kind: "call", rpc: "put", member: this.#writer << 2, request }, this.#index);
  }
}

/** What is compared of an answer: the response in normal form, or the error's code and text. */
function comparable(side: Side, request: Message, answer: Answer): Value {
  if (!answer.ok) return { error: answer.code, text: answer.text };
  return normalizeResponse(side, request, answer.message);
}

/** The remaining time to live may differ by the moment of the question. */
function toleratePassingTime(pair: Pair<Value>): void {
  const [left, right] = pair as Pair<Message>;
  const [a, b] = [Number(left.TTL ?? 0), Number(right.TTL ?? 0)];
  if (a > 0 && b > 0 && Math.abs(a - b) <= 2) right.TTL = a;
}
