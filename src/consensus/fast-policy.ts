/** Whether fast instances pay at present, as their leader measures it (fast-path.ts). */

/**
 * Longest average wait for the last member, once a quorum has voted: beyond it the leader offers nothing for a
 * while. It is all the delay that a slow or Byzantine member can cause by this path.
 */
const WAIT_LIMIT_MS = 2;
/** Weight of the newest instance in that average. */
const WAIT_WEIGHT = 1 / 16;
/** What one wait counts at most: one member that pauses for long once is no reason to give up. */
const WAIT_COUNTED_MS = 20;
const BACK_OFF_MIN_MS = 250;
/**
 * A try costs a few instances their wait, some 40 ms: one per cent at this back-off. Longer, it would outlive the load
 * that was the reason for it.
 */
const BACK_OFF_MAX_MS = 4000;
/** So many instances without another back-off halve it. */
const INSTANCES_TO_RELAX = 256;

/** When the leader offers fast instances: not soon again after members kept the others waiting. */
export class FastPolicy {
  #fromMs = 0;
  #backOffMs = BACK_OFF_MIN_MS;
  #waitMs = 0;
  #good = 0;

  allows(nowMs: number): boolean {
    return nowMs >= this.#fromMs;
  }

  /** In an instance that was offered as fast some member waited so long after a quorum had voted. */
  note(waitedMs: number, nowMs: number): void {
    this.#waitMs += (Math.min(waitedMs, WAIT_COUNTED_MS) - this.#waitMs) * WAIT_WEIGHT;
    if (this.#waitMs > WAIT_LIMIT_MS) {
      this.#waitMs = 0;
      this.#good = 0;
      this.#fromMs = nowMs + this.#backOffMs;
      this.#backOffMs = Math.min(2 * this.#backOffMs, BACK_OFF_MAX_MS);
    } else if (++this.#good >= INSTANCES_TO_RELAX) {
      this.#good = 0;
      this.#backOffMs = Math.max(this.#backOffMs / 2, BACK_OFF_MIN_MS);
    }
  }
}
