import type { Violation } from "./history.ts";

/** What a run came to. */
export interface Verdict {
  readonly seed: number;
  /** Empty when all is well. */
  readonly violations: readonly Violation[];
  /** Two runs of one seed have the same. */
  readonly fingerprint: number;
  readonly counts: RunCounts;
}

export interface RunCounts {
  readonly virtualMs: number;
  readonly events: number;
  readonly decided: number;
  readonly revision: number;
  readonly asked: number;
  readonly answered: number;
  readonly regency: number;
  readonly starts: number;
  readonly transfers: number;
  /** How long the healed cluster needed until every client was served. */
  readonly healedMs: number;
  /** Faults by kind, and what Byzantine members were caught at. */
  readonly faults: Readonly<Record<string, number>>;
  readonly caught: Readonly<Record<string, number>>;
  /** How often each behaviour of a Byzantine member did something. */
  readonly acted: Readonly<Record<string, number>>;
}
