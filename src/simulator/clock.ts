/**
 * The clocks that a member sees: a wall clock with an offset, a drift and sudden steps, and a monotonic clock
 * that starts anew with each start of the process.
 */
import type { Prng } from "../base/prng.ts";
import type { Now } from "../replica/contract.ts";

/** Wall time at the start of every run: an ordinary day, so that nothing depends on small numbers. */
export const EPOCH_MS = 1_700_000_000_000;

export interface ClockOptions {
  /** Largest distance of a good wall clock from true time, drift included. */
  readonly skewMaxMs: number;
  /** Parts per million by which a clock may run fast or slow. */
  readonly driftMaxPpm: number;
  /** Probability per second that a wall clock is stepped to another place within the skew. */
  readonly stepChancePerSecond: number;
}

/** One member's clocks. */
export class SimulatedClock {
  readonly #prng: Prng;
  readonly #options: ClockOptions;
  readonly #rate: number;
  #offsetMs: number;
  #startedMs = 0;
  #brokenMs = 0;

  constructor(options: ClockOptions, prng: Prng) {
    this.#prng = prng;
    this.#options = options;
    this.#rate = 1 + (prng.between(-1000, 1000) / 1000) * (options.driftMaxPpm / 1e6);
    this.#offsetMs = this.#drawOffset();
  }

  #drawOffset(): number {
    return Math.floor((this.#prng.between(-1000, 1000) / 1000) * this.#options.skewMaxMs);
  }

  /** The monotonic clock of a new process starts again. */
  restart(trueMs: number): void {
    this.#startedMs = trueMs;
  }

  /** Called about once a second of true time: now and then somebody sets the wall clock. */
  maybeStep(): void {
    if (this.#prng.chance(this.#options.stepChancePerSecond)) this.#offsetMs = this.#drawOffset();
  }

  /** Puts the wall clock out of every bound (0 repairs it). Such a member counts as a faulty one. */
  breakBy(offsetMs: number): void {
    this.#brokenMs = offsetMs;
  }

  read(trueMs: number): Now {
    // Drift moves the wall clock too, but time service holds it within the skew: only the rest may drift.
    const drifted = trueMs * (this.#rate - 1);
    const bounded = Math.max(
      -this.#options.skewMaxMs,
      Math.min(this.#options.skewMaxMs, this.#offsetMs + drifted),
    );
    return {
      monotonicMs: (trueMs - this.#startedMs) * this.#rate,
      wallMs: Math.floor(EPOCH_MS + trueMs + bounded + this.#brokenMs),
    };
  }
}
