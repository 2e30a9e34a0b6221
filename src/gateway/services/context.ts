/** What every service of the door shares. */
import type { BackendErrorCode, Operation, OperationResult } from "../../store/types.ts";
import type { Backend } from "../backend.ts";
import { BACKEND_STATUS, REQUEST_TOO_LARGE, STORE_STATUS } from "../errors.ts";
import type { PartialBytes } from "../grpc/message-assembler.ts";
import type { Method, StreamMethod, UnaryCall, UnaryMethod } from "../grpc/method.ts";
import { MethodStats } from "../grpc/method-stats.ts";
import type { GatewayLimits } from "../limits.ts";
import { HeaderEncoder } from "../messages/header.ts";
import { varintSize } from "../wire/proto-writer.ts";

/** The versions that the door reports: etcd's whose API it speaks. */
export const SERVER_VERSION = "3.6.16";
export const CLUSTER_VERSION = "3.6.0";
export const STORAGE_VERSION = "3.6.0";

/** What etcd adds to a request when it marshals it for agreement: a header with an id, tag and length. */
const PROPOSAL_OVERHEAD_BYTES = 15;

export class ServiceContext {
  readonly backend: Backend;
  readonly limits: GatewayLimits;
  readonly header: HeaderEncoder;
  /** Bytes of large responses that clients did not take yet. */
  readonly pendingResponses: PartialBytes = { sizeBytes: 0 };

  constructor(backend: Backend, limits: GatewayLimits) {
    this.backend = backend;
    this.limits = limits;
    this.header = new HeaderEncoder(backend.clusterId, backend.memberId);
  }

  /** etcd's raft_term. */
  get term(): number {
    return this.backend.regency();
  }

  get revision(): number {
    return this.backend.store.revision;
  }

  /** Fails the call and returns true when this process may not answer now. */
  refused(call: UnaryCall): boolean {
    const reason = this.backend.unavailable();
    if (reason === undefined) return false;
    call.fail(BACKEND_STATUS[reason]);
    return true;
  }

  /** Orders a write of so many bytes on the wire; `reply` gets a result that is no error. */
  submit(
    call: UnaryCall,
    sizeBytes: number,
    operation: Operation,
    reply: (result: OperationResult) => void,
  ): void {
    if (PROPOSAL_OVERHEAD_BYTES + varintSize(sizeBytes) + sizeBytes > this.limits.requestSizeBytesMax) {
      call.fail(REQUEST_TOO_LARGE);
      return;
    }
    if (this.refused(call)) return;
    this.backend.submit(operation, (result: OperationResult | BackendErrorCode) => {
      if (call.finished) return;
      if (typeof result === "string") call.fail(BACKEND_STATUS[result]);
      else if (result.type === "error") call.fail(STORE_STATUS[result.error]);
      else call.attempt(() => reply(result));
    });
  }

  /** Runs `read` once all that was acknowledged before is executed here; what it throws fails the call. */
  fenced(call: UnaryCall, read: () => void): void {
    if (this.refused(call)) return;
    this.backend.fence((error) => {
      if (call.finished) return;
      if (error !== undefined) call.fail(BACKEND_STATUS[error]);
      else if (!this.refused(call)) call.attempt(read);
    });
  }
}

/** Declares a unary method. */
export function unary(path: string, handle: UnaryMethod["handle"]): Method {
  return { kind: "unary", path, handle, stats: new MethodStats(path, "unary") };
}

/** Declares a streaming method. */
export function streaming(path: string, open: StreamMethod["open"]): Method {
  return { kind: "stream", path, open, stats: new MethodStats(path, "stream") };
}
