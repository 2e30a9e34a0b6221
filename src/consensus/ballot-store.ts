/** The states that an exploration of the ballot model (ballot-model.ts) has found: tens of millions of them. */
import type { State } from "./ballot-state.ts";

/** All states seen, in the order in which they were found, each with the one it was found from. */
export class StateStore {
  #states = new Float64Array(4096);
  #parents = new Int32Array(4096);
  /**
   * Open addressing: a state plus one, 0 for an empty slot. At most half full. It holds the states themselves and
   * not their indices, because memory is what takes the time, and most states that come are there already.
   */
  #slots = new Float64Array(8192);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** True if the state was not there yet. */
  insert(state: State, parent: number): boolean {
    const slot = this.#slotFor(state);
    if (this.#slots[slot] !== 0) return false;
    this.#slots[slot] = state + 1;
    if (this.#count === this.#parents.length) this.#growStates();
    this.#states[this.#count] = state;
    this.#parents[this.#count] = parent;
    this.#count += 1;
    if (this.#count * 2 > this.#slots.length) this.#growSlots();
    return true;
  }

  /** The state with the given index, counted from 0 in the order of discovery. */
  at(index: number): State {
    return this.#states[index]!;
  }

  /** Index of the state from which this one was first reached; -1 for the start. */
  parent(index: number): number {
    return this.#parents[index]!;
  }

  /** Where the state is, or the empty slot that it belongs in. */
  #slotFor(state: State): number {
    const slots = this.#slots;
    let h = Math.imul(state | 0, 0x9e3779b1) ^ Math.imul((state / 2 ** 32) | 0, 0x85ebca77);
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
    h = Math.imul(h ^ (h >>> 13), 0x297a2d39);
    let slot = (h ^ (h >>> 16)) & (slots.length - 1);
    while (slots[slot] !== 0 && slots[slot] !== state + 1) slot = (slot + 1) & (slots.length - 1);
    return slot;
  }

  #growStates(): void {
    const states = new Float64Array(this.#states.length * 2);
    states.set(this.#states);
    this.#states = states;
    const parents = new Int32Array(this.#parents.length * 2);
    parents.set(this.#parents);
    this.#parents = parents;
  }

  #growSlots(): void {
    this.#slots = new Float64Array(this.#slots.length * 2);
    for (let index = 0; index < this.#count; index++) {
      const state = this.#states[index]!;
      this.#slots[this.#slotFor(state)] = state + 1;
    }
  }
}
