/**
 * Requests that wait for an answer, by id. Bounded; every one is answered exactly once: by its result, by a
 * time-out, or because the process stops.
 */
import { assert } from "../base/assert.ts";

interface Waiting<Answer> {
  readonly done: (answer: Answer) => void;
  readonly deadlineMs: number;
}

/** All requests of one kind have the same time-out, so they end in the order in which they were added. */
export class Pending<Answer> {
  readonly #waiting = new Map<number, Waiting<Answer>>();
  readonly #timeoutMs: number;
  readonly #limit: number;
  #nextId = 1;

  constructor(options: { readonly timeoutMs: number; readonly limit: number }) {
    this.#timeoutMs = options.timeoutMs;
    this.#limit = options.limit;
  }

  get size(): number {
    return this.#waiting.size;
  }

  get full(): boolean {
    return this.#waiting.size >= this.#limit;
  }

  /** The id under which `done` is answered. The caller has checked `full`. */
  add(done: (answer: Answer) => void, nowMs: number): number {
    assert(!this.full, "more requests are pending than the limit allows");
    const id = this.#nextId++;
    this.#waiting.set(id, { done, deadlineMs: nowMs + this.#timeoutMs });
    return id;
  }

  /** Answers one request; false when it was answered before (it timed out, and its result came after all). */
  answer(id: number, answer: Answer): boolean {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return false;
    this.#waiting.delete(id);
    waiting.done(answer);
    return true;
  }

  /** Answers all that have waited too long; the number of them. */
  expire(nowMs: number, answer: Answer): number {
    let expired = 0;
    for (const [id, waiting] of this.#waiting) {
      if (waiting.deadlineMs > nowMs) break;
      this.answer(id, answer);
      expired++;
    }
    return expired;
  }

  /** Answers all. */
  end(answer: Answer): void {
    for (const id of [...this.#waiting.keys()]) this.answer(id, answer);
  }
}
