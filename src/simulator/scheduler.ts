/**
 * Virtual time: a queue of things to do, ordered by time and then by the order in which they were planned, so
 * that one seed always gives one run.
 */
import { assert } from "../base/assert.ts";

interface Planned {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** The clock and the event loop of a simulated world. Times are milliseconds since the start of the run. */
export class Scheduler {
  readonly #heap: Planned[] = [];
  #nowMs = 0;
  #order = 0;
  #handled = 0;

  /** True time, which no member sees. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events carried out so far. */
  get handled(): number {
    return this.#handled;
  }

  /** Events that wait. */
  get pending(): number {
    return this.#heap.length;
  }

  /** Plans `run` after a delay of at least 0. */
  after(delayMs: number, run: () => void): void {
    this.at(this.#nowMs + delayMs, run);
  }

  /** Plans `run` at a time that has not passed. */
  at(atMs: number, run: () => void): void {
    assert(atMs >= this.#nowMs, "nothing is planned for the past");
    const heap = this.#heap;
    const item: Planned = { atMs, order: this.#order++, run };
    let i = heap.length;
    heap.push(item);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent]!;
      if (!isBefore(item, above)) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = item;
  }

  /** Carries out the next event if it is due by `untilMs`; false when there is none. */
  step(untilMs: number): boolean {
    const next = this.#heap[0];
    if (next === undefined || next.atMs > untilMs) {
      if (untilMs > this.#nowMs) this.#nowMs = untilMs;
      return false;
    }
    this.#removeFirst();
    this.#nowMs = next.atMs;
    this.#handled++;
    next.run();
    return true;
  }

  /** Carries out events until `untilMs` has come or `stop` says so after one of them. */
  run(untilMs: number, stop: () => boolean): void {
    while (!stop() && this.step(untilMs)) {
      // step has done the work
    }
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    const size = heap.length;
    if (size === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

function isBefore(a: Planned, b: Planned): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
