/**
 * Fenced linearizable reads: one question to all voters, "which is the highest instance that you have sent
 * ACCEPT for?", serves every read that waits. Any quorum of answers shares a correct member with the quorum
 * of ACCEPTs behind every acknowledged write, so after executing up to the highest answer the own store
 * shows all that was acknowledged before the question.
 */

/** Unanswered questions are asked again after this long. */
const ASK_AGAIN_MS = 100;
/** Least time that a named instance may take before an empty operation is ordered instead. */
const PATIENCE_MIN_MS = 50;
/** Instances' usual duration counts this often for the patience. */
const PATIENCE_FACTOR = 8;
/** Reads that may wait at once. */
export const FENCES_MAX = 100_000;

interface Waiting {
  readonly cid: number;
  readonly ids: number[];
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
  /** Orders an empty operation; its execution answers these reads. */
  order(ids: readonly number[]): void;
  /** A member named an instance that did not come. */
  suspect(member: number): void;
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
  #round: { ids: number[]; askedAtMs: number; answers: Map<number, number> } | undefined;
  #waiting: Waiting[] = [];
  #instanceMs = 1;

  constructor(host: FenceHost, incarnation: number) {
    this.#host = host;
    this.#nonce = nonceBase(incarnation);
  }

  get size(): number {
    return this.#next.length + (this.#round?.ids.length ?? 0);
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
    this.#round = { ids: this.#next, askedAtMs: nowMs, answers };
    this.#next = [];
    const others: number[] = [];
    for (let member = 0; member < n; member++) if (member !== self) others.push(member);
    this.#host.ask(this.#nonce, others);
  }

  onReply(member: number, nonce: number, accepted: number, nowMs: number): void {
    const round = this.#round;
    if (round === undefined || nonce !== this.#nonce) return;
    round.answers.set(member, accepted);
    if (round.answers.size < this.#host.quorum) return;
    this.#round = undefined;
    const cid = Math.max(...round.answers.values());
    if (cid <= this.#host.executed()) this.#host.fenced(round.ids);
    else this.#waiting.push({ cid, ids: round.ids, sinceMs: nowMs });
    this.begin(nowMs);
  }

  /** An instance was executed; `durationMs` is how long it took from its proposal. */
  onExecuted(cid: number, durationMs: number): void {
    this.#instanceMs += (durationMs - this.#instanceMs) / 16;
    if (this.#waiting.length === 0) return;
    const done = this.#waiting.filter((waiting) => waiting.cid <= cid);
    if (done.length === 0) return;
    this.#waiting = this.#waiting.filter((waiting) => waiting.cid > cid);
    for (const { ids } of done) this.#host.fenced(ids);
  }

  tick(nowMs: number): void {
    const round = this.#round;
    if (round !== undefined && nowMs - round.askedAtMs >= ASK_AGAIN_MS) {
      round.askedAtMs = nowMs;
      const silent: number[] = [];
      for (let member = 0; member < this.#host.n; member++) {
        if (!round.answers.has(member)) silent.push(member);
      }
      this.#host.ask(this.#nonce, silent);
    }
    const patienceMs = Math.max(PATIENCE_MIN_MS, PATIENCE_FACTOR * this.#instanceMs);
    if (this.#waiting.length === 0 || nowMs - this.#waiting[0]!.sinceMs < patienceMs) return;
    // A liar can name an instance that never comes; ordering the read is always right.
    const late = this.#waiting.filter((waiting) => nowMs - waiting.sinceMs >= patienceMs);
    this.#waiting = this.#waiting.filter((waiting) => nowMs - waiting.sinceMs < patienceMs);
    for (const { ids } of late) this.#host.order(ids);
  }

  /** Gives up everything that waits. Returns the ids. */
  clear(): number[] {
    const ids = [...this.#next, ...(this.#round?.ids ?? []), ...this.#waiting.flatMap((w) => w.ids)];
    this.#next = [];
    this.#round = undefined;
    this.#waiting = [];
    return ids;
  }
}
