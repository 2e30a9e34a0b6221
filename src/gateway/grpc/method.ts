/** What a service implements, and what it is told about a call. */
import type { MethodStats } from "./method-stats.ts";
import type { GrpcStatus } from "./status.ts";

/** One unary call: exactly one of `reply` and `fail` is called, at once or later. */
export interface UnaryCall {
  /** `frame`: the gRPC message with its prefix. */
  reply(frame: Buffer): void;
  fail(status: GrpcStatus): void;
  /** Runs a later part of the handler: what it throws fails the call. */
  attempt(work: () => void): void;
  /** The client gave up or the deadline passed: whatever comes is dropped. */
  readonly finished: boolean;
}

/** The server side of one streaming call. */
export interface StreamCall {
  /** Sends frames (gRPC messages with their prefixes). */
  write(frames: Buffer): void;
  /** Bytes written that the connection did not take yet. */
  readonly bufferedBytes: number;
  /** Ends the call, with OK when there is no status. */
  finish(status?: GrpcStatus): void;
  /** Stops and restarts the reading of requests (back-pressure on the client). */
  pause(): void;
  resume(): void;
  readonly finished: boolean;
}

/** What a streaming service does about what happens to its call. */
export interface StreamHandler {
  message(message: Buffer): void;
  /** The client sends no more. */
  halfClose(): void;
  /** All that was written went out, after some of it had to wait. */
  drain(): void;
  /** The call is over, whoever ended it. */
  close(): void;
}

/** Metadata that services look at. */
export interface CallMetadata {
  /** `hasleader: true`: the client would rather have an error than wait without a leader. */
  readonly requireLeader: boolean;
}

export interface UnaryMethod {
  readonly kind: "unary";
  readonly path: string;
  readonly handle: (message: Buffer, call: UnaryCall) => void;
  readonly stats: MethodStats;
}

export interface StreamMethod {
  readonly kind: "stream";
  readonly path: string;
  /** Whether the server answers a single request with a stream (as Health.Watch does). */
  readonly open: (call: StreamCall, metadata: CallMetadata) => StreamHandler;
  readonly stats: MethodStats;
}

export type Method = UnaryMethod | StreamMethod;
