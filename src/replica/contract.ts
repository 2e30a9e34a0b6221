/**
 * A replica (one voter: agreement, store, transfer, fences) as a pure state machine, and what its host must
 * do for it. The process (node/) and the simulator are the two hosts.
 *
 * The host calls `step(input, now, out)` one input at a time and then carries out the outputs in order.
 */
import type { ConsensusTrace } from "../consensus/effects.ts";
import type { BackendErrorCode, Operation, OperationResult } from "../store/types.ts";

/** Index of a member in the membership's list, 0 to n-1. */
export type MemberIndex = number;

/** Both clocks in milliseconds. Timers use `monotonicMs`; batch timestamps use `wallMs` (since 1970). */
export interface Now {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

export type ReplicaInput =
  /** Bytes of one message from a peer, whose identity the link has proved. */
  | { readonly type: "message"; readonly from: MemberIndex; readonly bytes: Uint8Array }
  /** At least every 20 ms. */
  | { readonly type: "tick" }
  /** All records with a sequence up to and including this one are on disk. */
  | { readonly type: "durable"; readonly sequence: number }
  /** Order this operation; answered by a `result` with the same id, at most once, maybe never. */
  | { readonly type: "submit"; readonly id: number; readonly operation: Operation }
  /** Answered by `fenced` once all that was acknowledged before is executed here, or by `failed`. */
  | { readonly type: "fence"; readonly id: number }
  | { readonly type: "linkUp"; readonly peer: MemberIndex }
  | { readonly type: "linkDown"; readonly peer: MemberIndex }
  /**
   * Called when all other inputs are handled and their outputs carried out: closes the bundle of this turn,
   * signs what may be signed late, checks certificates, digests state. Work is done in slices; the host
   * calls again soon when `moreWork` came out.
   */
  | { readonly type: "work" };

/** Votes travel on a connection of their own, so that bodies and state never delay them. */
export type Lane = "vote" | "bulk";

export type ReplicaOutput =
  | { readonly type: "send"; readonly to: MemberIndex; readonly lane: Lane; readonly bytes: Uint8Array }
  /**
   * Append to the log; the first record of a log ever has sequence 1 and each next one more. With `sync` the
   * host answers `durable` once this record and all before it are on disk (one fdatasync for all that wait).
   */
  | {
      readonly type: "append";
      readonly sequence: number;
      readonly record: Uint8Array;
      readonly sync: boolean;
    }
  /** Records below this sequence are not needed any more (once the engine has flushed; see Replica). */
  | { readonly type: "truncate"; readonly before: number }
  | { readonly type: "result"; readonly id: number; readonly result: OperationResult }
  | { readonly type: "fenced"; readonly id: number }
  | { readonly type: "failed"; readonly id: number; readonly reason: BackendErrorCode }
  /** The store's revision grew (or changed by transfer): watchers may read on. */
  | { readonly type: "revision"; readonly revision: number }
  | { readonly type: "trace"; readonly event: TraceEvent }
  /**
   * Ask for `work` again: `now`, before anything else arrives, because clients or other members wait for what
   * is left to do; or when all that has arrived is handled.
   */
  | { readonly type: "moreWork"; readonly when: "now" | "later" };

/** What happened inside, one event a line; hosts log, count or check them. */
export type TraceEvent =
  | ConsensusTrace
  | {
      readonly kind: "executed";
      readonly cid: number;
      readonly revision: number;
      /** Chained hash of the value and of every change it made. */
      readonly executionHash: Uint8Array;
    }
  | { readonly kind: "checkpoint"; readonly cid: number; readonly root: Uint8Array; readonly stable: boolean }
  | { readonly kind: "transfer"; readonly cid: number; readonly phase: "start" | "done" | "failed" }
  /** Execution here differs from a quorum's: this replica has stopped serving. */
  | { readonly kind: "diverged"; readonly cid: number };

/** A record of the log as it was found at start. */
export interface LogRecord {
  readonly sequence: number;
  readonly record: Uint8Array;
}

/** What was found when the log was opened. */
export interface LogRecovery {
  readonly records: Iterable<LogRecord>;
  /** Sequence the next appended record gets. */
  readonly nextSequence: number;
  /**
   * - `clean`: nothing promised is missing (an incomplete last write was cut; it was never acknowledged).
   * - `uncertain`: the last records were damaged and cut, and they may have been acknowledged as durable.
   * - `fresh`: a new member of a new cluster, marked so by whoever made the data directory.
   * - `lost`: there is no log and no mark of a fresh start: whatever was promised is forgotten.
   */
  readonly state: "clean" | "uncertain" | "fresh" | "lost";
}
