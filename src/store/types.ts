/**
 * etcd's data model as plain values. Keys and range ends are byte strings (see base/bytes.ts), revisions and
 * versions numbers (below 2^53), lease ids bigints (etcd's are any int64).
 *
 * A range is `key` alone when `rangeEnd` is "", every key >= `key` when it is "\0", else [key, rangeEnd).
 */

/** One key at one revision. */
export interface KeyValue {
  readonly key: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly value: Uint8Array;
  /** 0n when no lease is attached. */
  readonly lease: bigint;
}

export const SortOrder = { none: 0, ascend: 1, descend: 2 } as const;
export type SortOrder = (typeof SortOrder)[keyof typeof SortOrder];

export const SortTarget = { key: 0, version: 1, create: 2, mod: 3, value: 4 } as const;
export type SortTarget = (typeof SortTarget)[keyof typeof SortTarget];

/** etcd's RangeRequest; 0, "" and false are the wire defaults. */
export interface RangeRequest {
  readonly key: string;
  readonly rangeEnd: string;
  readonly limit: number;
  readonly revision: number;
  readonly sortOrder: SortOrder;
  readonly sortTarget: SortTarget;
  readonly serializable: boolean;
  readonly keysOnly: boolean;
  readonly countOnly: boolean;
  readonly minModRevision: number;
  readonly maxModRevision: number;
  readonly minCreateRevision: number;
  readonly maxCreateRevision: number;
}

export interface PutRequest {
  readonly key: string;
  readonly value: Uint8Array;
  readonly lease: bigint;
  readonly prevKv: boolean;
  readonly ignoreValue: boolean;
  readonly ignoreLease: boolean;
}

export interface DeleteRangeRequest {
  readonly key: string;
  readonly rangeEnd: string;
  readonly prevKv: boolean;
}

export const CompareResult = { equal: 0, greater: 1, less: 2, notEqual: 3 } as const;
export type CompareResult = (typeof CompareResult)[keyof typeof CompareResult];

export const CompareTarget = { version: 0, create: 1, mod: 2, value: 3, lease: 4 } as const;
export type CompareTarget = (typeof CompareTarget)[keyof typeof CompareTarget];

/** One condition of a Txn. Only the operand that `target` names is read. */
export interface Compare {
  readonly result: CompareResult;
  readonly target: CompareTarget;
  readonly key: string;
  readonly rangeEnd: string;
  /** Operand for version, create and mod. */
  readonly number: number;
  /** Operand for lease. */
  readonly lease: bigint;
  /** Operand for value. */
  readonly value: Uint8Array;
}

export type RequestOp =
  | { readonly type: "range"; readonly range: RangeRequest }
  | { readonly type: "put"; readonly put: PutRequest }
  | { readonly type: "deleteRange"; readonly deleteRange: DeleteRangeRequest }
  | { readonly type: "txn"; readonly txn: TxnRequest };

export interface TxnRequest {
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

/** `revision` of every result is what goes into the etcd response header. */
export interface RangeResult {
  readonly revision: number;
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
  readonly count: number;
}

export interface PutResult {
  readonly revision: number;
  readonly prevKv: KeyValue | undefined;
}

export interface DeleteRangeResult {
  readonly revision: number;
  readonly deleted: number;
  readonly prevKvs: readonly KeyValue[];
}

export type ResponseOp =
  | { readonly type: "range"; readonly range: RangeResult }
  | { readonly type: "put"; readonly put: PutResult }
  | { readonly type: "deleteRange"; readonly deleteRange: DeleteRangeResult }
  | { readonly type: "txn"; readonly txn: TxnResult };

export interface TxnResult {
  readonly revision: number;
  readonly succeeded: boolean;
  readonly responses: readonly ResponseOp[];
}

/** What a client asked to change, after the door checked it; agreed on, then executed by every replica. */
export type Operation =
  | { readonly type: "put"; readonly put: PutRequest }
  | { readonly type: "deleteRange"; readonly deleteRange: DeleteRangeRequest }
  | { readonly type: "txn"; readonly txn: TxnRequest }
  | { readonly type: "compact"; readonly revision: number }
  /** `id` is drawn by the origin before ordering; never 0n here. `ttlSeconds` as asked for. */
  | { readonly type: "leaseGrant"; readonly id: bigint; readonly ttlSeconds: number }
  | { readonly type: "leaseRevoke"; readonly id: bigint }
  | { readonly type: "leaseKeepAlive"; readonly id: bigint }
  /** Changes nothing: orders a read (a fence that a liar delays, `--read-mode ordered`). */
  | { readonly type: "noop" };

export type OperationResult =
  | { readonly type: "put"; readonly put: PutResult }
  | { readonly type: "deleteRange"; readonly deleteRange: DeleteRangeResult }
  | { readonly type: "txn"; readonly txn: TxnResult }
  | { readonly type: "compact"; readonly revision: number }
  | {
      readonly type: "leaseGrant";
      readonly revision: number;
      readonly id: bigint;
      readonly ttlSeconds: number;
    }
  | { readonly type: "leaseRevoke"; readonly revision: number }
  /** `ttlSeconds` is 0 when the lease is unknown or expired (etcd's normal answer). */
  | {
      readonly type: "leaseKeepAlive";
      readonly revision: number;
      readonly id: bigint;
      readonly ttlSeconds: number;
    }
  | { readonly type: "noop"; readonly revision: number }
  | { readonly type: "error"; readonly error: StoreErrorCode };

/** Why the store refuses; the door maps each to etcd's gRPC code and text. */
export const StoreErrorCode = {
  emptyKey: "emptyKey",
  keyNotFound: "keyNotFound",
  valueProvided: "valueProvided",
  leaseProvided: "leaseProvided",
  tooManyOps: "tooManyOps",
  duplicateKey: "duplicateKey",
  invalidSortOption: "invalidSortOption",
  compacted: "compacted",
  futureRevision: "futureRevision",
  leaseNotFound: "leaseNotFound",
  leaseExists: "leaseExists",
  leaseTtlTooLarge: "leaseTtlTooLarge",
  noSpace: "noSpace",
  /** Operation bytes that no correct origin sends. */
  malformed: "malformed",
} as const;
export type StoreErrorCode = (typeof StoreErrorCode)[keyof typeof StoreErrorCode];

/** A refused read; writes carry the code in their result instead. */
export class StoreError extends Error {
  override name = "StoreError";
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode) {
    super(`store refused: ${code}`);
    this.code = code;
  }
}

/** One change, as watchers see it. A delete's `kv` has only key and modRevision set (etcd's rule). */
export interface WatchEvent {
  readonly type: "put" | "delete";
  readonly kv: KeyValue;
  /** The version before; undefined for a creation or when it was compacted. Looked up only when asked. */
  readonly prevKv: KeyValue | undefined;
}

export interface LeaseInfo {
  readonly id: bigint;
  readonly grantedTtlSeconds: number;
  /** Agreed time (milliseconds since 1970, of the last executed batch) at which it expires. */
  readonly expiresAtMs: number;
  /** Sorted. */
  readonly keys: readonly string[];
}

/** Why an operation or a fence got no answer; see gateway/backend.ts for the texts. */
export const BackendErrorCode = {
  timeout: "timeout",
  noLeader: "noLeader",
  stopped: "stopped",
  tooManyRequests: "tooManyRequests",
  requestTooLarge: "requestTooLarge",
} as const;
export type BackendErrorCode = (typeof BackendErrorCode)[keyof typeof BackendErrorCode];
