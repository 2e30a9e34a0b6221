/**
 * What the door needs of the process behind it. The real one is a voter of the cluster (node/); tests use a
 * store of their own.
 */
import type { Store } from "../store/store.ts";
import type { BackendErrorCode, Operation, OperationResult } from "../store/types.ts";

/**
 * Why an operation got no answer. It may or may not be executed later, except after the last two.
 * - timeout: no quorum in time ("etcdserver: request timed out")
 * - noLeader: no leader is known ("etcdserver: no leader")
 * - stopped: this process is behind, repairing or stopping ("etcdserver: server stopped")
 * - tooManyRequests: a bounded queue is full, the operation was not taken ("etcdserver: too many requests")
 * - requestTooLarge: it is more than one bundle may hold, and was not taken ("etcdserver: request is too large")
 */
export type { BackendErrorCode };

export interface MemberInfo {
  readonly id: bigint;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
}

export interface BackendStatus {
  /** etcd's `leader`: member id, 0n when none is known. */
  readonly leaderId: bigint;
  /** etcd's raft_term. */
  readonly regency: number;
  /** etcd's raft_index: last decided instance. */
  readonly lastDecided: number;
  /** etcd's raft_applied_index: last executed instance. */
  readonly lastExecuted: number;
  readonly dbSizeBytes: number;
  readonly dbSizeInUseBytes: number;
  readonly quotaBytes: number;
  readonly errors: readonly string[];
}

export interface Backend {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** The live store; only read by the door. */
  readonly store: Store;
  /** A fresh random positive lease id. */
  newLeaseId(): bigint;
  members(): readonly MemberInfo[];
  status(): BackendStatus;
  regency(): number;
  /** Whether a leader is known and heard of (etcd's `hasleader`, /health). */
  hasLeader(): boolean;
  /** Undefined when this process may answer; else why not (behind, repairing, stopping). */
  unavailable(): BackendErrorCode | undefined;
  /** Orders the operation; `done` is called exactly once, never before `submit` returns. */
  submit(operation: Operation, done: (result: OperationResult | BackendErrorCode) => void): void;
  /** Calls back once this process has executed all that was acknowledged before the call. */
  fence(done: (error: BackendErrorCode | undefined) => void): void;
  /**
   * Called after every executed batch that changed the revision, and again never concurrently; the listener
   * reads the new events from the store. Also called with the new revision after a state transfer.
   */
  onRevision(listener: (revision: number) => void): void;
}
