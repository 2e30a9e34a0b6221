/** One HTTP/2 stream of the server side: a request as it comes in and the response to it. */
import type { Http2Connection } from "./connection.ts";
import { ErrorCode } from "./constants.ts";

/** What the user of a stream is told. */
export interface StreamEvents {
  /** More of the request's body; a view that is only valid during the call unless it is kept whole. */
  data(chunk: Buffer): void;
  /** The client sends no more. */
  end(): void;
  /** All that had to wait went out. */
  drained(): void;
  /** The stream is over: ended on both sides, reset, or its connection is gone. Comes once, last. */
  closed(): void;
}

/** Received bytes of a stream are acknowledged in portions of this size. */
export const WINDOW_UPDATE_BYTES: number = 512 * 1024;

const NO_BLOCK: Buffer = Buffer.alloc(0);

export class Http2Stream {
  readonly id: number;
  readonly #connection: Http2Connection;
  events: StreamEvents | undefined;
  /** The client has ended its side. */
  remoteEnded = false;
  /** The response is complete, maybe not sent. */
  ended = false;
  /** Over; nothing is sent or received any more. */
  closed = false;
  headersSent = false;

  // Receiving
  /** What the client may still send. */
  receiveWindowBytes: number;
  #unacknowledgedBytes = 0;
  #paused = false;
  /** What came while it was paused. */
  #held: Buffer[] = [];

  // Sending
  /** What we may still send. */
  sendWindowBytes: number;
  /** Payload had to wait: the user wants to know when it went out. */
  waits = false;
  /** Payload that waits for windows or the socket. */
  #queue: Buffer[] = [];
  #queueHead = 0;
  #queuedBytes = 0;
  /** Header block that ends the stream, once all payload went out. */
  #trailers: Buffer | undefined;

  constructor(connection: Http2Connection, id: number, receiveWindowBytes: number, sendWindowBytes: number) {
    this.#connection = connection;
    this.id = id;
    this.receiveWindowBytes = receiveWindowBytes;
    this.sendWindowBytes = sendWindowBytes;
  }

  // Receiving

  /** Takes payload off the wire; `sizeBytes` is what it counts for flow control (with padding). */
  receive(chunk: Buffer, sizeBytes: number, end: boolean): void {
    this.receiveWindowBytes -= sizeBytes;
    this.#unacknowledgedBytes += sizeBytes;
    if (end) this.remoteEnded = true;
    if (this.#paused) this.#held.push(chunk);
    else this.#deliver(chunk);
    if (end) this.#deliverEnd();
  }

  #deliver(chunk: Buffer): void {
    if (!this.ended && chunk.length > 0) this.events?.data(chunk);
    if (this.#unacknowledgedBytes < WINDOW_UPDATE_BYTES || this.remoteEnded || this.closed) return;
    this.#connection.sender.windowUpdate(this.id, this.#unacknowledgedBytes);
    this.receiveWindowBytes += this.#unacknowledgedBytes;
    this.#unacknowledgedBytes = 0;
  }

  /** The client ended its side without payload. */
  receiveEnd(): void {
    this.remoteEnded = true;
    this.#deliverEnd();
  }

  #deliverEnd(): void {
    if (this.#held.length === 0 && !this.ended && !this.closed) this.events?.end();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    const held = this.#held;
    if (held.length === 0) return;
    this.#held = [];
    for (const [i, chunk] of held.entries()) {
      if (this.#paused) {
        this.#held = held.slice(i);
        return;
      }
      this.#deliver(chunk);
    }
    if (this.remoteEnded) this.#deliverEnd();
  }

  // Sending

  /** Payload that did not go out yet. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Sends the header block of the response. */
  sendHeaders(block: Buffer): void {
    if (this.ended || this.closed) return;
    this.headersSent = true;
    this.#connection.sender.headerBlock(this.id, block, false);
  }

  /** Sends payload; the buffer must not change any more. */
  write(payload: Buffer): void {
    if (this.ended || this.closed || payload.length === 0) return;
    this.#queue.push(payload);
    this.#queuedBytes += payload.length;
    this.#connection.sender.wantsToSend(this);
  }

  /**
   * Ends the response with this header block (trailers, or headers when nothing was sent before); without one
   * just so.
   */
  end(block: Buffer = NO_BLOCK): void {
    if (this.ended || this.closed) return;
    this.ended = true;
    this.#trailers = block;
    if (this.#queuedBytes > 0) return;
    this.#sendTrailers();
  }

  /** The response went out as a whole by the quick way. */
  endedAtOnce(): void {
    this.ended = true;
    this.headersSent = true;
    this.#afterEnd();
  }

  /** Whether nothing waits, so that the quick way keeps the order. */
  get isIdle(): boolean {
    return this.#queuedBytes === 0 && !this.ended && !this.closed && !this.headersSent;
  }

  /** Whether it has payload and may send some. */
  get canSend(): boolean {
    return this.#queuedBytes > 0 && this.sendWindowBytes > 0 && !this.closed;
  }

  /** The next piece of payload, at most so long. */
  takePayload(sizeBytesMax: number): Buffer {
    const first = this.#queue[this.#queueHead]!;
    const size = Math.min(sizeBytesMax, first.length, this.sendWindowBytes);
    this.#queuedBytes -= size;
    this.sendWindowBytes -= size;
    if (size < first.length) {
      this.#queue[this.#queueHead] = first.subarray(size);
      return first.subarray(0, size);
    }
    this.#queueHead++;
    if (this.#queueHead === this.#queue.length) {
      this.#queue.length = 0;
      this.#queueHead = 0;
    } else if (this.#queueHead >= 64) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    return first;
  }

  /** All payload went out: what ends the stream may follow. */
  payloadSent(): void {
    if (this.#trailers !== undefined) this.#sendTrailers();
  }

  #sendTrailers(): void {
    const block = this.#trailers!;
    this.#trailers = undefined;
    this.headersSent = true;
    if (block.length === 0) this.#connection.sender.endStream(this.id);
    else this.#connection.sender.headerBlock(this.id, block, true);
    this.#afterEnd();
  }

  #afterEnd(): void {
    // A client that still sends is told that nobody listens, as grpc-go does.
    if (!this.remoteEnded) this.#connection.sender.reset(this.id, ErrorCode.noError);
    this.#connection.forget(this);
  }

  /** Resets the stream. */
  reset(code: ErrorCode): void {
    if (this.closed) return;
    this.#connection.sender.reset(this.id, code);
    this.#connection.forget(this);
  }

  /** Called by the connection when it forgets the stream. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#held = [];
    this.#trailers = undefined;
    this.events?.closed();
  }
}
