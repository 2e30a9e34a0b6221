/**
 * etcd's errors: clients match code and text, so both are exactly etcd's (api/v3rpc/rpctypes/error.go).
 */
import { EngineCorruptError } from "../store/engine.ts";
import { type BackendErrorCode, StoreError, type StoreErrorCode } from "../store/types.ts";
import type { Method } from "./grpc/method.ts";
import { GrpcCode, type GrpcStatus } from "./grpc/status.ts";
import { TxnTooDeepError } from "./messages/kv-requests.ts";
import { ProtoError } from "./wire/proto-reader.ts";

const status = (code: GrpcCode, text: string): GrpcStatus => ({ code, message: `etcdserver: ${text}` });

/** The refusals of the store. */
export const STORE_STATUS: Readonly<Record<StoreErrorCode, GrpcStatus>> = {
  emptyKey: status(GrpcCode.invalidArgument, "key is not provided"),
  keyNotFound: status(GrpcCode.invalidArgument, "key not found"),
  valueProvided: status(GrpcCode.invalidArgument, "value is provided"),
  leaseProvided: status(GrpcCode.invalidArgument, "lease is provided"),
  tooManyOps: status(GrpcCode.invalidArgument, "too many operations in txn request"),
  duplicateKey: status(GrpcCode.invalidArgument, "duplicate key given in txn request"),
  invalidSortOption: status(GrpcCode.invalidArgument, "invalid sort option"),
  compacted: status(GrpcCode.outOfRange, "mvcc: required revision has been compacted"),
  futureRevision: status(GrpcCode.outOfRange, "mvcc: required revision is a future revision"),
  leaseNotFound: status(GrpcCode.notFound, "requested lease not found"),
  leaseExists: status(GrpcCode.failedPrecondition, "lease already exists"),
  leaseTtlTooLarge: status(GrpcCode.outOfRange, "too large lease TTL"),
  noSpace: status(GrpcCode.resourceExhausted, "mvcc: database space exceeded"),
  // The door never sends such an operation; the agreement refused what it could not read.
  malformed: status(GrpcCode.invalidArgument, "malformed operation"),
};

export const REQUEST_TOO_LARGE: GrpcStatus = status(GrpcCode.invalidArgument, "request is too large");

/** Why the process behind gave no answer. All but the last two are Unavailable, which clients retry. */
export const BACKEND_STATUS: Readonly<Record<BackendErrorCode, GrpcStatus>> = {
  timeout: status(GrpcCode.unavailable, "request timed out"),
  noLeader: status(GrpcCode.unavailable, "no leader"),
  stopped: status(GrpcCode.unavailable, "server stopped"),
  tooManyRequests: status(GrpcCode.resourceExhausted, "too many requests"),
  requestTooLarge: REQUEST_TOO_LARGE,
};

const CORRUPT: GrpcStatus = status(GrpcCode.dataLoss, "corrupt cluster");
export const DEADLINE_EXCEEDED: GrpcStatus = {
  code: GrpcCode.deadlineExceeded,
  message: "context deadline exceeded",
};

/** grpc-go's words for a message that is none, by the kind of the method. */
const UNREADABLE = {
  unary: "grpc: error unmarshalling request",
  stream: "grpc: failed to unmarshal the received message",
} as const;

/** The status of what a handler of a method threw at a request, or undefined for an error of our own. */
export function statusOfThrown(error: unknown, kind: Method["kind"]): GrpcStatus | undefined {
  if (error instanceof StoreError) return STORE_STATUS[error.code];
  if (error instanceof ProtoError) {
    return { code: GrpcCode.internal, message: `${UNREADABLE[kind]}: ${error.message}` };
  }
  // Data at rest that is damaged is never served; the log tells more.
  if (error instanceof EngineCorruptError) return CORRUPT;
  if (error instanceof TxnTooDeepError) return STORE_STATUS.tooManyOps;
  return undefined;
}
