/** One gRPC call on an HTTP/2 stream of node:http2. The hot path of the door: no closures, few listeners. */
import type { ServerHttp2Stream } from "node:http2";
import { constants } from "node:http2";
import { DEADLINE_EXCEEDED } from "../errors.ts";
import type { DeadlineQueue, Expiring } from "./deadline.ts";
import { checkPrefix, MessageAssembler, type PartialBytes } from "./message-assembler.ts";
import type { Method, StreamCall, StreamHandler, StreamMethod, UnaryCall, UnaryMethod } from "./method.ts";
import { encodeGrpcMessage, GrpcCode, type GrpcStatus } from "./status.ts";

/** What all calls of a server share. */
export interface CallContext {
  readonly messageSizeBytesMax: number;
  readonly partialRequestsSizeBytesMax: number;
  readonly partial: PartialBytes;
  /** Bytes of large responses that wait in HTTP/2 streams. */
  readonly pendingResponses: PartialBytes;
  readonly deadlines: DeadlineQueue;
  /** Turns what a handler threw into a status; errors of our own go to the log and end as Unknown. */
  readonly statusOfThrown: (error: unknown, path: string) => GrpcStatus;
}

const RESPONSE_HEADERS: readonly string[] = [":status", "200", "content-type", "application/grpc"];
const RESPONSE_OPTIONS = { waitForTrailers: true, sendDate: false };
const TRAILERS_ONLY_OPTIONS = { endStream: true, sendDate: false };
const OK_TRAILERS = { "grpc-status": "0" };
/** Responses from this size on are counted until they went out. */
const LARGE_RESPONSE_BYTES = 65_536;

const EMPTY_REQUEST: GrpcStatus = {
  code: GrpcCode.internal,
  message: "grpc: the client half-closed without a complete request message",
};
const TOO_MUCH_UNREAD: GrpcStatus = {
  code: GrpcCode.resourceExhausted,
  message: "etcdserver: too many requests",
};

/** The HTTP/2 stream with the call that it carries. */
type CallStream = ServerHttp2Stream & { call: BaseCall };

abstract class BaseCall implements Expiring {
  finished = false;
  deadlineSlot = -1;
  readonly method: Method;
  protected readonly stream: ServerHttp2Stream;
  protected readonly context: CallContext;
  protected readonly encoding: string | undefined;
  protected failure: GrpcStatus | undefined;
  protected assembler: MessageAssembler | undefined;
  readonly #startedMs: number;

  constructor(stream: ServerHttp2Stream, method: Method, context: CallContext, encoding: string | undefined) {
    this.stream = stream;
    this.method = method;
    this.context = context;
    this.encoding = encoding;
    this.#startedMs = performance.now();
    method.stats.started++;
    (stream as CallStream).call = this;
    stream.on("error", ignoreError);
    stream.on("wantTrailers", onWantTrailers);
    stream.on("close", onClose);
    stream.on("data", onData);
    stream.on("end", onEnd);
  }

  abstract data(chunk: Buffer): void;
  abstract halfClosed(): void;
  /** The HTTP/2 stream is gone. */
  abstract closed(): void;

  /** Runs out after so many milliseconds. */
  expireAfter(timeoutMs: number): void {
    if (!this.finished) this.context.deadlines.add(this, timeoutMs);
  }

  expire(): void {
    this.deadlineSlot = -1;
    this.fail(DEADLINE_EXCEEDED);
  }

  /** Ends the call with an error: in the headers when nothing was sent, else in the trailers. */
  fail(status: GrpcStatus): void {
    if (this.finished) return;
    this.end(status.code);
    const { stream } = this;
    if (stream.destroyed || stream.closed) return;
    if (stream.headersSent) {
      this.failure = status;
      stream.end();
      return;
    }
    const headers = [...RESPONSE_HEADERS, ...statusHeaders(status)];
    stream.respond(headers, TRAILERS_ONLY_OPTIONS);
  }

  trailers(): Record<string, string> {
    const { failure } = this;
    if (failure === undefined) return OK_TRAILERS;
    return { "grpc-status": String(failure.code), "grpc-message": encodeGrpcMessage(failure.message) };
  }

  /** Books the end of the call, once. */
  protected end(code: GrpcCode): void {
    this.finished = true;
    if (this.deadlineSlot >= 0) this.context.deadlines.remove(this);
    this.assembler?.clear();
    this.method.stats.end(code, performance.now() - this.#startedMs);
  }

  /** Puts chunks together; returns false when the call failed over it. */
  protected assemble(chunk: Buffer, take: (message: Buffer) => void): boolean {
    const { context } = this;
    this.assembler ??= new MessageAssembler(context.messageSizeBytesMax, context.partial);
    const failure = this.assembler.push(chunk, this.encoding, take);
    if (failure !== undefined) this.fail(failure);
    else if (this.assembler.incomplete && context.partial.sizeBytes > context.partialRequestsSizeBytesMax) {
      this.fail(TOO_MUCH_UNREAD);
    }
    return !this.finished;
  }
}

/** A call with one request and one response. */
export class UnaryHttp2Call extends BaseCall implements UnaryCall {
  #dispatched = false;
  #pendingBytes = 0;

  data(chunk: Buffer): void {
    if (this.finished || this.#dispatched) return;
    // Nearly every request arrives in one piece.
    if (this.assembler === undefined && chunk.length >= 5 && chunk.readUInt32BE(1) === chunk.length - 5) {
      const failure = checkPrefix(
        chunk[0]!,
        chunk.length - 5,
        this.context.messageSizeBytesMax,
        this.encoding,
      );
      if (failure !== undefined) this.fail(failure);
      else this.#dispatch(chunk.subarray(5));
      return;
    }
    this.assemble(chunk, (message) => this.#dispatch(message));
  }

  #dispatch(message: Buffer): void {
    if (this.#dispatched || this.finished) return;
    this.#dispatched = true;
    const method = this.method as UnaryMethod;
    try {
      method.handle(message, this);
    } catch (error) {
      this.fail(this.context.statusOfThrown(error, method.path));
    }
  }

  halfClosed(): void {
    if (!this.#dispatched) this.fail(EMPTY_REQUEST);
  }

  reply(frame: Buffer): void {
    if (this.finished) return;
    this.end(GrpcCode.ok);
    const { stream } = this;
    if (stream.destroyed || stream.closed) return;
    if (frame.length >= LARGE_RESPONSE_BYTES) {
      this.#pendingBytes = frame.length;
      this.context.pendingResponses.sizeBytes += frame.length;
    }
    stream.respond(RESPONSE_HEADERS, RESPONSE_OPTIONS);
    stream.end(frame);
  }

  attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.fail(this.context.statusOfThrown(error, this.method.path));
    }
  }

  closed(): void {
    this.context.pendingResponses.sizeBytes -= this.#pendingBytes;
    this.#pendingBytes = 0;
    if (!this.finished) this.end(GrpcCode.canceled);
  }
}

/** A call with any number of requests and responses. */
export class StreamHttp2Call extends BaseCall implements StreamCall {
  #handler: StreamHandler | undefined;
  #over = false;

  start(requireLeader: boolean): void {
    const method = this.method as StreamMethod;
    this.stream.on("drain", onDrain);
    try {
      this.#handler = method.open(this, { requireLeader });
    } catch (error) {
      this.fail(this.context.statusOfThrown(error, method.path));
    }
  }

  get bufferedBytes(): number {
    return this.stream.writableLength;
  }

  data(chunk: Buffer): void {
    if (this.finished) return;
    this.assemble(chunk, (message) => {
      if (this.finished) return;
      try {
        this.#handler?.message(message);
      } catch (error) {
        this.fail(this.context.statusOfThrown(error, this.method.path));
      }
    });
  }

  halfClosed(): void {
    if (!this.finished) this.#handler?.halfClose();
  }

  drained(): void {
    if (!this.finished) this.#handler?.drain();
  }

  write(frames: Buffer): void {
    const { stream } = this;
    if (this.finished || stream.destroyed || stream.closed) return;
    if (!stream.headersSent) stream.respond(RESPONSE_HEADERS, RESPONSE_OPTIONS);
    stream.write(frames);
  }

  finish(status?: GrpcStatus): void {
    if (this.finished) return;
    if (status !== undefined) this.fail(status);
    else {
      this.end(GrpcCode.ok);
      const { stream } = this;
      if (stream.destroyed || stream.closed) return;
      if (!stream.headersSent) stream.respond(RESPONSE_HEADERS, RESPONSE_OPTIONS);
      stream.end();
    }
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    this.stream.resume();
  }

  protected override end(code: GrpcCode): void {
    super.end(code);
    this.#close();
  }

  closed(): void {
    if (!this.finished) this.end(GrpcCode.canceled);
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler?.close();
  }
}

function statusHeaders(status: GrpcStatus): string[] {
  return ["grpc-status", String(status.code), "grpc-message", encodeGrpcMessage(status.message)];
}

/** Answers a stream that no method takes. */
export function refuse(stream: ServerHttp2Stream, status: GrpcStatus): void {
  stream.on("error", ignoreError);
  if (stream.destroyed || stream.closed) return;
  stream.respond([...RESPONSE_HEADERS, ...statusHeaders(status)], TRAILERS_ONLY_OPTIONS);
  stream.resume();
}

/** Resets and broken connections are the client's business; `close` follows and ends the call. */
function ignoreError(): void {}

function onWantTrailers(this: ServerHttp2Stream): void {
  if (this.destroyed || this.closed) return;
  this.sendTrailers((this as CallStream).call.trailers());
}

function onClose(this: ServerHttp2Stream): void {
  (this as CallStream).call.closed();
}

function onData(this: ServerHttp2Stream, chunk: Buffer | string): void {
  (this as CallStream).call.data(chunk as Buffer);
}

function onEnd(this: ServerHttp2Stream): void {
  (this as CallStream).call.halfClosed();
}

function onDrain(this: ServerHttp2Stream): void {
  ((this as CallStream).call as StreamHttp2Call).drained();
}

/** HTTP/2's NO_ERROR, for closing sessions. */
export const NO_ERROR: number = constants.NGHTTP2_NO_ERROR;
