/**
 * Takes records that no kept checkpoint contains out of the engine, in bounded units, oldest first, so that a
 * crash in between never brings a deleted key back.
 */
import { toByteString } from "../base/bytes.ts";
import { type Engine, Table } from "./engine.ts";

/** Deletions that go to the engine in one unit. */
const REMOVALS_PER_UNIT = 256;

/** Garbage of one chunk. */
export interface ChunkGarbage {
  readonly chunk: number;
  /** Keys of the records, ascending: neighbours lie on one page. */
  readonly keys: readonly Uint8Array[];
}

export class GarbageRemoval {
  readonly #engine: Engine;
  #queue: ChunkGarbage[] = [];
  #head = 0;
  /** Keys of the first chunk that are removed already. */
  #removed = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  get isEmpty(): boolean {
    return this.#head === this.#queue.length;
  }

  /** Garbage of a later checkpoint goes behind that of the one before. */
  add(garbage: readonly ChunkGarbage[]): void {
    for (const each of garbage) this.#queue.push(each);
  }

  /** Keys that are still to be removed from a chunk, as byte strings. */
  keysOf(chunk: number): ReadonlySet<string> {
    const keys = new Set<string>();
    for (let i = this.#head; i < this.#queue.length; i++) {
      const each = this.#queue[i]!;
      if (each.chunk === chunk) for (const key of each.keys) keys.add(toByteString(key));
    }
    return keys;
  }

  /** Deletes some records in the open unit, which the caller ends; gives their number. */
  removeSome(): number {
    let count = 0;
    while (count < REMOVALS_PER_UNIT && !this.isEmpty) {
      const { keys } = this.#queue[this.#head]!;
      const end = Math.min(keys.length, this.#removed + REMOVALS_PER_UNIT - count);
      for (let i = this.#removed; i < end; i++) this.#engine.delete(Table.record, keys[i]!);
      count += end - this.#removed;
      this.#removed = end;
      if (end < keys.length) break;
      this.#removed = 0;
      this.#head++;
    }
    if (this.isEmpty) this.clear();
    return count;
  }

  clear(): void {
    this.#queue = [];
    this.#head = 0;
    this.#removed = 0;
  }
}
