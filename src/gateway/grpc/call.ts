/** One gRPC call on an HTTP/2 stream. The hot path of the door: constant header blocks, no closures. */

import { DEADLINE_EXCEEDED } from "../errors.ts";
import type { Http2Connection } from "../http2/connection.ts";
import { encodeHeaders } from "../http2/hpack.ts";
import type { Http2Stream, StreamEvents } from "../http2/stream.ts";
import type { DeadlineQueue, Expiring } from "./deadline.ts";
import {
  ACCEPTED_ENCODINGS,
  MessageAssembler,
  type PartialBytes,
  PREFIX_SIZE_BYTES,
} from "./message-assembler.ts";
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
  /** Bytes of gRPC messages, with their prefixes. */
  readonly traffic: Traffic;
  /** Turns what a handler threw into a status; errors of our own go to the log and end as Unknown. */
  readonly statusOfThrown: (error: unknown, method: Method) => GrpcStatus;
}

/** Counts what clients sent and got. */
export interface Traffic {
  receivedBytes: number;
  sentBytes: number;
}

/** Where a call runs. */
export interface CallPlace {
  readonly connection: Http2Connection;
  readonly stream: Http2Stream;
  readonly context: CallContext;
  /** Compression that the client says it uses. */
  readonly encoding: string | undefined;
}

const HEADERS: readonly (readonly [string, string])[] = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];
const RESPONSE_HEADERS = encodeHeaders(HEADERS);
const OK_TRAILERS = encodeHeaders([["grpc-status", "0"]]);
/** Responses from this size on are counted until they went out. */
const LARGE_RESPONSE_BYTES = 65_536;
/** Longer error texts are cut, so that trailers stay what they are. */
const MESSAGE_LENGTH_MAX = 4096;

/** grpc-go's words for requests that end too soon. */
const CUT_SHORT = "unexpected EOF";
const EMPTY_REQUEST: GrpcStatus = { code: GrpcCode.unknown, message: "EOF" };
const HALF_REQUEST: GrpcStatus = { code: GrpcCode.unknown, message: CUT_SHORT };
const HALF_MESSAGE: GrpcStatus = { code: GrpcCode.internal, message: CUT_SHORT };
const TOO_MUCH_UNREAD: GrpcStatus = {
  code: GrpcCode.resourceExhausted,
  message: "etcdserver: too many requests",
};

function statusFields(status: GrpcStatus): (readonly [string, string])[] {
  return [
    ["grpc-status", String(status.code)],
    ["grpc-message", encodeGrpcMessage(status.message.slice(0, MESSAGE_LENGTH_MAX))],
  ];
}

/** Answers a stream that no call is made of; with an HTTP status of its own where grpc-go has one. */
export function refuse(stream: Http2Stream, status: GrpcStatus, httpStatus = 200): void {
  const [, contentType] = HEADERS;
  const fields = [[":status", String(httpStatus)] as const, contentType!, ...statusFields(status)];
  stream.end(encodeHeaders(fields));
}

/** Answers a stream whose messages are compressed in a way that is not known. */
export function refuseEncoding(stream: Http2Stream, encoding: string): void {
  const message = `grpc: Decompressor is not installed for grpc-encoding ${JSON.stringify(encoding)}`;
  const fields = statusFields({ code: GrpcCode.unimplemented, message });
  stream.end(encodeHeaders([...HEADERS, ["grpc-accept-encoding", ACCEPTED_ENCODINGS], ...fields]));
}

abstract class BaseCall<M extends Method> implements Expiring, StreamEvents {
  finished = false;
  deadlineSlot = -1;
  protected readonly method: M;
  protected readonly stream: Http2Stream;
  protected readonly connection: Http2Connection;
  protected readonly context: CallContext;
  protected readonly encoding: string | undefined;
  protected assembler: MessageAssembler | undefined;
  readonly #startedMs: number;

  constructor(method: M, place: CallPlace) {
    this.stream = place.stream;
    this.connection = place.connection;
    this.method = method;
    this.context = place.context;
    this.encoding = place.encoding;
    this.#startedMs = performance.now();
    method.stats.started++;
    place.stream.events = this;
  }

  abstract data(chunk: Buffer): void;
  abstract end(): void;
  abstract drained(): void;

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
    this.settle(status.code);
    const fields = statusFields(status);
    this.stream.end(encodeHeaders(this.stream.headersSent ? fields : [...HEADERS, ...fields]));
  }

  closed(): void {
    if (!this.finished) this.settle(GrpcCode.canceled);
  }

  /** Books the end of the call, once. */
  protected settle(code: GrpcCode): void {
    this.finished = true;
    if (this.deadlineSlot >= 0) this.context.deadlines.remove(this);
    this.assembler?.clear();
    this.method.stats.end(code, performance.now() - this.#startedMs);
  }

  /** Puts chunks together. */
  protected assemble(chunk: Buffer, take: (message: Buffer) => void): void {
    const { context } = this;
    this.assembler ??= new MessageAssembler(context.messageSizeBytesMax, context.partial);
    const failure = this.assembler.push(chunk, this.encoding, take);
    if (this.finished) this.assembler.clear();
    else if (failure !== undefined) this.fail(failure);
    else if (this.assembler.incomplete && context.partial.sizeBytes > context.partialRequestsSizeBytesMax) {
      this.fail(TOO_MUCH_UNREAD);
    }
  }
}

/** A call with one request and one response. */
export class UnaryHttp2Call extends BaseCall<UnaryMethod> implements UnaryCall {
  #dispatched = false;
  #pendingBytes = 0;

  data(chunk: Buffer): void {
    this.context.traffic.receivedBytes += chunk.length;
    if (this.finished || this.#dispatched) return;
    const sizeBytes = chunk.length - PREFIX_SIZE_BYTES;
    // Nearly every request arrives in one piece, and not compressed.
    if (
      this.assembler === undefined &&
      sizeBytes >= 0 &&
      sizeBytes <= this.context.messageSizeBytesMax &&
      chunk[0] === 0 &&
      chunk.readUInt32BE(1) === sizeBytes
    ) {
      this.#dispatch(chunk.subarray(PREFIX_SIZE_BYTES));
      return;
    }
    this.assemble(chunk, (message) => this.#dispatch(message));
  }

  #dispatch(message: Buffer): void {
    if (this.#dispatched || this.finished) return;
    this.#dispatched = true;
    try {
      this.method.handle(message, this);
    } catch (error) {
      this.fail(this.context.statusOfThrown(error, this.method));
    }
  }

  end(): void {
    if (!this.#dispatched) this.fail(this.assembler?.begun === true ? HALF_REQUEST : EMPTY_REQUEST);
  }

  drained(): void {}

  reply(frame: Buffer): void {
    if (this.finished) return;
    this.settle(GrpcCode.ok);
    this.context.traffic.sentBytes += frame.length;
    const { stream } = this;
    if (this.connection.sender.responseAtOnce(stream, RESPONSE_HEADERS, frame, OK_TRAILERS) || stream.closed)
      return;
    if (frame.length >= LARGE_RESPONSE_BYTES) {
      this.#pendingBytes = frame.length;
      this.context.pendingResponses.sizeBytes += frame.length;
    }
    stream.sendHeaders(RESPONSE_HEADERS);
    stream.write(frame);
    stream.end(OK_TRAILERS);
  }

  attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.fail(this.context.statusOfThrown(error, this.method));
    }
  }

  override closed(): void {
    this.context.pendingResponses.sizeBytes -= this.#pendingBytes;
    this.#pendingBytes = 0;
    super.closed();
  }
}

/** A call with any number of requests and responses. */
export class StreamHttp2Call extends BaseCall<StreamMethod> implements StreamCall {
  #handler: StreamHandler | undefined;
  #over = false;

  /** Hands the call to its service. */
  start(requireLeader: boolean): void {
    try {
      this.#handler = this.method.open(this, { requireLeader });
    } catch (error) {
      this.fail(this.context.statusOfThrown(error, this.method));
    }
    // The service may have ended the call before there was a handler to tell.
    if (this.finished) this.#close();
  }

  get bufferedBytes(): number {
    return this.stream.queuedBytes;
  }

  data(chunk: Buffer): void {
    this.context.traffic.receivedBytes += chunk.length;
    if (this.finished) return;
    this.assemble(chunk, (message) => {
      if (this.finished) return;
      try {
        this.#handler?.message(message);
      } catch (error) {
        this.fail(this.context.statusOfThrown(error, this.method));
      }
    });
  }

  end(): void {
    if (this.assembler?.begun === true) this.fail(HALF_MESSAGE);
    if (!this.finished) this.#handler?.halfClose();
  }

  drained(): void {
    if (!this.finished) this.#handler?.drain();
  }

  write(frames: Buffer): void {
    if (this.finished) return;
    this.context.traffic.sentBytes += frames.length;
    if (!this.stream.headersSent) this.stream.sendHeaders(RESPONSE_HEADERS);
    this.stream.write(frames);
  }

  finish(status?: GrpcStatus): void {
    if (this.finished) return;
    if (status !== undefined) {
      this.fail(status);
      return;
    }
    this.settle(GrpcCode.ok);
    if (!this.stream.headersSent) this.stream.sendHeaders(RESPONSE_HEADERS);
    this.stream.end(OK_TRAILERS);
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    this.stream.resume();
  }

  protected override settle(code: GrpcCode): void {
    super.settle(code);
    this.#close();
  }

  #close(): void {
    if (this.#over || this.#handler === undefined) return;
    this.#over = true;
    this.#handler.close();
  }
}
