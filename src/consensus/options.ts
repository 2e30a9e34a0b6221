import { MAX_BODIES_SIZE_BYTES, MAX_BUNDLES_PER_VALUE } from "./messages.ts";

/** Times and bounds of the protocol. Times are milliseconds of monotonic time unless named wall. */
export interface ConsensusOptions {
  /** Every member says this often that it is alive and how far it is. */
  readonly heartbeatIntervalMs: number;
  /**
   * Silence of the leader after which a member asks for the next regency. Eight heartbeats: a member that is
   * starved of CPU for half a second is not replaced, and a dead one still is within a second.
   */
  readonly leaderTimeoutMs: number;
  /** The same once the link to the leader is down: a closed connection is a stronger hint than silence. */
  readonly leaderUnlinkedTimeoutMs: number;
  /** A request that waits longer than this for its decision accuses the leader. */
  readonly requestTimeoutMs: number;
  /** A new leader has this long to come up with a SYNC. */
  readonly syncTimeoutMs: number;
  /** Highest factor that back-off puts on the timeouts above. */
  readonly timeoutFactorMax: number;
  /** Unanswered messages are sent again this often: links may lose what was queued when they broke (W18). */
  readonly resendIntervalMs: number;
  /** A missing body or value is asked for after this long; it usually is just behind. */
  readonly fetchDelayMs: number;
  /** A member that sees others ahead asks for the log after this long. */
  readonly catchUpDelayMs: number;
  /** A batch timestamp may differ by this much from a voter's wall clock. */
  readonly clockBoundMs: number;
  /**
   * A leader that lets requests wait longer than this between batches, on average, is replaced though it is
   * alive (W17). Measured round trips are added to it eight-fold.
   */
  readonly turnaroundLimitMs: number;
  /** Bundles and bytes that this member proposes at once, as leader; no more than voters take (messages.ts). */
  readonly batchBundlesMax: number;
  readonly batchSizeBytesMax: number;
  /** Bodies that a member holds for one origin before it drops more. */
  readonly poolSizeBytesPerOrigin: number;
  /**
   * Every instance with a number that this divides is the certificate of those before it, and may have a checkpoint
   * behind it: all sign ACCEPTs for it, afterwards where it was a fast one (fast-path.ts). The same for all members; 1
   * means that none is fast, and more than 32 would leave too many decisions without a certificate.
   */
  readonly certifyInstances: number;
  /** In a fast instance a quorum of WRITEs waits this long for those of all, before ACCEPTs are sent. */
  readonly fastWaitMs: number;
  /** A checkpoint is due after so many instances, or so many bytes of bodies, at the next one that may have it. */
  readonly checkpointInstances: number;
  readonly checkpointSizeBytes: number;
  /**
   * Stable checkpoints back to which decisions are kept while a member has not come to the newest but one; one
   * when all have.
   */
  readonly keptCheckpoints: number;
  /** A planted bug for the simulator's self-test; never set in production. */
  readonly mutation: string;
}

export const DEFAULT_OPTIONS: ConsensusOptions = {
  heartbeatIntervalMs: 100,
  leaderTimeoutMs: 800,
  leaderUnlinkedTimeoutMs: 250,
  requestTimeoutMs: 2000,
  syncTimeoutMs: 1000,
  timeoutFactorMax: 32,
  resendIntervalMs: 200,
  fetchDelayMs: 20,
  catchUpDelayMs: 60,
  clockBoundMs: 5000,
  turnaroundLimitMs: 300,
  batchBundlesMax: MAX_BUNDLES_PER_VALUE,
  batchSizeBytesMax: MAX_BODIES_SIZE_BYTES,
  poolSizeBytesPerOrigin: 32 << 20,
  certifyInstances: 32,
  fastWaitMs: 20,
  checkpointInstances: 4096,
  checkpointSizeBytes: 16 << 20,
  keptCheckpoints: 4,
  mutation: "",
};
