/**
 * How much work each peer may cause. Most messages cost next to nothing; some make this member check signatures
 * or read its state, and a peer that sends such ones without end must not keep it from serving the others.
 *
 * The unit is one signature check, or what takes about as long.
 */

/** Saved up at most: several leader changes of the largest cluster, one right after the other. */
const CAPACITY_UNITS = 8192;
/** Earned in a second: about a tenth of a processor. */
const UNITS_PER_SECOND = 1024;

export class WorkBudget {
  /** What each peer has left; below zero when its last message cost more. */
  readonly #left: number[];
  readonly #countedAtMs: number[];

  constructor(n: number) {
    this.#left = new Array(n).fill(CAPACITY_UNITS);
    this.#countedAtMs = new Array(n).fill(0);
  }

  /** Whether the peer has anything left. */
  allows(peer: number, monotonicMs: number): boolean {
    const earned = ((monotonicMs - this.#countedAtMs[peer]!) * UNITS_PER_SECOND) / 1000;
    this.#countedAtMs[peer] = monotonicMs;
    this.#left[peer] = Math.min(CAPACITY_UNITS, this.#left[peer]! + Math.max(earned, 0));
    return this.#left[peer]! > 0;
  }

  /** Takes what a message of the peer has cost. */
  charge(peer: number, units: number): void {
    this.#left[peer]! -= units;
  }
}
