/**
 * Fenced linearizable reads: one question to all voters, "which is the highest instance that you have sent
 * ACCEPT for?", serves every read that waits. Any quorum of answers shares a correct member with the quorum
 * of ACCEPTs behind every acknowledged write, so after executing up to the highest of a quorum's answers the
 * own store shows all that was acknowledged before the question. Since any quorum does, the lowest answers are
 * gone by, as they come in: a liar can name an instance far ahead, but the correct members are a quorum.
 */

/** Unanswered questions are asked again after this long. */
const ASK_AGAIN_MS = 100;
/** Least time that a named instance may take before an empty operation is ordered instead. */
const PATIENCE_MIN_MS = 50;
/** Instances' usual duration counts this often for the patience. */
const PATIENCE_FACTOR = 8;
/** However slow instances have been, a read waits no longer than this before it is ordered. */
const PATIENCE_MAX_MS = 1_000;
/** Reads that may wait at once, those that are ordered included. */
export const FENCES_MAX = 100_000;

/** The instance that each member named in its answer. */
export type NamedInstances = ReadonlyMap<number, number>;

interface Round {
  readonly nonce: number;
  readonly ids: readonly number[];
  readonly answers: Map<number, number>;
  askedAtMs: number;
}

/** A round that a quorum has answered; further answers may show that a lower instance will do. */
interface Waiting {
  readonly nonce: number;
  readonly ids: readonly number[];
  readonly answers: Map<number, number>;
  cid: number;
  readonly sinceMs: number;
}

export interface FenceHost {
  readonly n: number;
  readonly quorum: number;
  readonly self: number;
  /** Highest instance that this member has sent ACCEPT for. */
  accepted(): number;
  executed(): number;
  ask(nonce: number, members: readonly number[]): void;
  fenced(ids: readonly number[]): void;
  /**
   * Orders an empty operation; its execution answers these reads. An instance that was `named` before and is
   * above the one that the operation comes to was invented.
   */
  order(ids: readonly number[], named: NamedInstances): void;
}

/**
 * The nonce before the first one that a process uses. Nonces differ from those of its earlier lives: an answer to
 * one of those, late on its way, would tell of a time before the reads that wait now.
 */
export function nonceBase(incarnation: number): number {
  return (incarnation % 2 ** 20) * 2 ** 32;
}

export class Fences {
  readonly #host: FenceHost;
  #next: number[] = [];
  #nonce: number;
  #round: Round | undefined;
  #waiting: Waiting[] = [];
  /** Reads in `#waiting`. */
  #waitingCount = 0;
  #instanceMs = 1;

  constructor(host: FenceHost, incarnation: number) {
    this.#host = host;
    this.#nonce = nonceBase(incarnation);
  }

  /** Reads that are not answered, but for those that are ordered. */
  get size(): number {
    return this.#next.length + (this.#round?.ids.length ?? 0) + this.#waitingCount;
  }

  /** A read wants to know; it joins the next round. */
  add(id: number): void {
    this.#next.push(id);
  }

  /** Starts a round when reads wait and none is under way. */
  begin(nowMs: number): void {
    if (this.#round !== undefined || this.#next.length === 0) return;
    const { n, self } = this.#host;
    this.#nonce += 1;
    const answers = new Map([[self, this.#host.accepted()]]);
    this.#round = { nonce: this.#nonce, ids: this.#next, askedAtMs: nowMs, answers };
    this.#next = [];
    const others: number[] = [];
    for (let member = 0; member < n; member++) if (member !== self) others.push(member);
    this.#host.ask(this.#nonce, others);
  }

  onReply(member: number, nonce: number, accepted: number, nowMs: number): void {
    const round = this.#round;
    if (round?.nonce !== nonce) {
      this.#onLateReply(member, nonce, accepted);
      return;
    }
    if (!round.answers.has(member)) round.answers.set(member, accepted);
    if (round.answers.size < this.#host.quorum) return;
    this.#round = undefined;
    const cid = this.#neededFor(round.answers);
    if (cid <= this.#host.executed()) this.#host.fenced(round.ids);
    else {
      this.#waiting.push({ ...round, cid, sinceMs: nowMs });
      this.#waitingCount += round.ids.length;
    }
    this.begin(nowMs);
  }

  /** With more answers than a quorum the highest ones are not needed: one faulty member's delays nobody. */
  #onLateReply(member: number, nonce: number, accepted: number): void {
    const waiting = this.#waiting.find((candidate) => candidate.nonce === nonce);
    if (waiting === undefined || waiting.answers.has(member)) return;
    waiting.answers.set(member, accepted);
    waiting.cid = this.#neededFor(waiting.answers);
    this.#release(({ cid }) => cid <= this.#host.executed());
  }

  /** The instance up to which to execute: the highest that the quorum with the lowest answers has named. */
  #neededFor(answers: NamedInstances): number {
    return [...answers.values()].sort((a, b) => a - b)[this.#host.quorum - 1]!;
  }

  /** An instance was executed; `durationMs` is how long it took from its proposal, where that was seen. */
  onExecuted(cid: number, durationMs: number | undefined): void {
    if (durationMs !== undefined) this.#instanceMs += (durationMs - this.#instanceMs) / 16;
    this.#release((waiting) => waiting.cid <= cid);
  }

  #release(isDone: (waiting: Waiting) => boolean): void {
    for (const { ids } of this.#take(isDone)) this.#host.fenced(ids);
  }

  #take(isTaken: (waiting: Waiting) => boolean): Waiting[] {
    const taken = this.#waiting.filter(isTaken);
    if (taken.length === 0) return taken;
    this.#waiting = this.#waiting.filter((waiting) => !taken.includes(waiting));
    for (const { ids } of taken) this.#waitingCount -= ids.length;
    return taken;
  }

  tick(nowMs: number): void {
    const round = this.#round;
    if (round !== undefined && nowMs - round.askedAtMs >= ASK_AGAIN_MS) {
      round.askedAtMs = nowMs;
      const silent: number[] = [];
      for (let member = 0; member < this.#host.n; member++) {
        if (!round.answers.has(member)) silent.push(member);
      }
      this.#host.ask(round.nonce, silent);
    }
    const usualMs = Math.max(PATIENCE_MIN_MS, PATIENCE_FACTOR * this.#instanceMs);
    const patienceMs = Math.min(PATIENCE_MAX_MS, usualMs);
    // While correct members do not answer, a liar can still name an instance that never comes; ordering the reads
    // is always right. All that are late share one empty operation.
    const late = this.#take(({ sinceMs }) => nowMs - sinceMs >= patienceMs);
    if (late.length === 0) return;
    const named = new Map<number, number>();
    for (const { answers } of late) {
      for (const [member, cid] of answers) named.set(member, Math.max(cid, named.get(member) ?? 0));
    }
    this.#host.order(
      late.flatMap(({ ids }) => ids),
      named,
    );
  }

  /** Gives up everything that waits. Returns the ids. */
  clear(): number[] {
    const ids = [...this.#next, ...(this.#round?.ids ?? []), ...this.#waiting.flatMap((w) => w.ids)];
    this.#next = [];
    this.#round = undefined;
    this.#waiting = [];
    this.#waitingCount = 0;
    return ids;
  }
}
