/**
 * One TLS connection whose other end has proved its key: frames in, frames out, signs of life.
 *
 * All messages of one turn leave in one write. While the socket is full they wait in a bounded outbox, from
 * which the oldest are dropped: the protocol sends again what still matters.
 */
import type { TLSSocket } from "node:tls";
import { encodeFrameHeader, encodeFrames, FRAME_HEADER_SIZE_BYTES, FrameReader } from "./frame.ts";
import { HELLO_SIZE_BYTES } from "./identity.ts";
import { Outbox } from "./outbox.ts";

/** Messages up to this size are copied together into one write; larger ones are written as they are. */
const COPY_LIMIT_BYTES = 64 * 1024;
/** At most this much is handed to the socket in one write. */
const WRITE_SIZE_BYTES = 256 * 1024;
/** What a message costs its receiver beside its bytes: many small ones are a flood too. */
const MESSAGE_COST_BYTES = 100;
const SIGN_OF_LIFE = encodeFrameHeader(0);

/** Bounds of one lane. */
export interface LaneLimits {
  /** Larger messages are neither sent nor taken. */
  readonly maxFrameBytes: number;
  /** What may wait for a slow peer before the oldest messages are dropped. */
  readonly maxQueueBytes: number;
  /** What a peer may send in the long run; beyond, its socket is not read for a moment. */
  readonly maxReceivedBytesPerSecond: number;
}

/** Why a connection ended; counted. */
export type CloseReason = "closed" | "malformed" | "silent" | "replaced" | "refused" | "shutdown";

/** What a connection tells its owner. */
export interface ConnectionHandler {
  /** The first frame. Gives the bounds from now on, or undefined to refuse: the connection is closed. */
  hello(bytes: Uint8Array): LaneLimits | undefined;
  /** After a hello that was not refused: messages can be sent. */
  ready(): void;
  /** Each further frame; the bytes are a view of what was read, and only good until this returns. */
  message(bytes: Uint8Array): void;
  /** Once. */
  closed(reason: CloseReason): void;
}

/** Counters of a connection, in messages and bytes of messages. */
export interface ConnectionCounts {
  sentMessages: number;
  sentBytes: number;
  receivedMessages: number;
  receivedBytes: number;
}

/** A connection to one peer for one lane. */
export class Connection {
  readonly #socket: TLSSocket;
  readonly #handler: ConnectionHandler;
  readonly #reader: FrameReader;
  /** Undefined until the other end's hello. */
  #outbox: Outbox | undefined;
  readonly counts: ConnectionCounts = {
    sentMessages: 0,
    sentBytes: 0,
    receivedMessages: 0,
    receivedBytes: 0,
  };
  #closed = false;
  #flushScheduled = false;
  #full = false;
  /** Whether anything came or went since the last tick, and for how long nothing has. */
  #received = true;
  #sent = true;
  #silentMs = 0;
  /** What may still be received before the next tick. */
  #quotaBytes = 0;
  #quotaPerMs = 0;
  #throttled = 0;
  #quietMs = 0;
  readonly #flush = () => this.#flushNow();

  constructor(socket: TLSSocket, handler: ConnectionHandler) {
    this.#socket = socket;
    this.#handler = handler;
    this.#reader = new FrameReader(HELLO_SIZE_BYTES, (message) => this.#take(message));
    socket.setNoDelay(true);
    socket.on("drain", () => {
      this.#full = false;
      this.#flushNow();
    });
    socket.on("error", () => this.close("closed"));
    socket.on("end", () => this.close("closed"));
    socket.on("close", () => this.close("closed"));
    if (socket.destroyed) process.nextTick(() => this.close("closed"));
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Bytes that wait for the socket. */
  get queuedBytes(): number {
    return (this.#outbox?.sizeBytes ?? 0) + this.#socket.writableLength;
  }

  /** Messages dropped because the peer took them too slowly. */
  get dropped(): number {
    return this.#outbox?.dropped ?? 0;
  }

  /** Says this side's hello. */
  greet(hello: Uint8Array): void {
    this.#write(encodeFrames([hello], FRAME_HEADER_SIZE_BYTES + hello.length));
  }

  /** Times the peer was made to wait because it sent too much. */
  get throttled(): number {
    return this.#throttled;
  }

  /**
   * Sends a message, not empty and of at most the lane's frame size, which must not be changed afterwards.
   * Only once `ready` was called; lost when the connection is closed.
   */
  send(message: Uint8Array): void {
    if (this.#closed || this.#outbox === undefined) return;
    this.#outbox.push(message);
    if (this.#flushScheduled || this.#full) return;
    this.#flushScheduled = true;
    // After the code that runs now, before anything else is read: one write for all that it sends.
    process.nextTick(this.#flush);
  }

  /** Called at least every second: shows life when nothing else was sent, and ends a connection that is dead. */
  tick(elapsedMs: number, lifeSignMs: number, silenceMs: number): void {
    if (this.#closed) return;
    this.#silentMs = this.#received ? 0 : this.#silentMs + elapsedMs;
    this.#quietMs = this.#sent ? 0 : this.#quietMs + elapsedMs;
    this.#received = false;
    this.#sent = false;
    if (this.#quotaBytes <= 0) this.#socket.resume();
    this.#quotaBytes = Math.min(this.#quotaBytes + elapsedMs * this.#quotaPerMs, 1000 * this.#quotaPerMs);
    if (this.#silentMs >= silenceMs) {
      this.close("silent");
    } else if (this.#quietMs >= lifeSignMs && !this.#full) {
      this.#sent = true;
      this.#write(SIGN_OF_LIFE);
    }
  }

  /** Ends the connection at once; what waits is dropped. */
  close(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    this.#handler.closed(reason);
  }

  /** Takes what was read from the socket. */
  receive(chunk: Uint8Array): void {
    if (this.#closed) return;
    this.#received = true;
    if (!this.#reader.read(chunk)) {
      this.close("malformed");
    } else if (this.#quotaBytes <= 0 && this.#outbox !== undefined) {
      this.#throttled++;
      this.#socket.pause();
    }
  }

  #take(message: Uint8Array): boolean {
    if (this.#outbox !== undefined) {
      this.counts.receivedMessages++;
      this.counts.receivedBytes += message.length;
      this.#quotaBytes -= message.length + MESSAGE_COST_BYTES;
      this.#handler.message(message);
    } else {
      const limits = this.#handler.hello(message);
      if (limits) {
        this.#outbox = new Outbox(limits.maxQueueBytes);
        this.#reader.maxFrameBytes = limits.maxFrameBytes;
        this.#quotaPerMs = limits.maxReceivedBytesPerSecond / 1000;
        this.#quotaBytes = limits.maxReceivedBytesPerSecond;
        this.#handler.ready();
      } else {
        this.close("refused");
      }
    }
    return !this.#closed;
  }

  #flushNow(): void {
    this.#flushScheduled = false;
    const outbox = this.#outbox;
    while (outbox && !outbox.isEmpty && !this.#full && !this.#closed) {
      const { messages, sizeBytes } = outbox.take(COPY_LIMIT_BYTES);
      this.#sent = true;
      this.counts.sentMessages += messages.length;
      this.counts.sentBytes += sizeBytes - messages.length * FRAME_HEADER_SIZE_BYTES;
      if (sizeBytes <= COPY_LIMIT_BYTES) {
        this.#write(encodeFrames(messages, sizeBytes));
      } else {
        this.#write(encodeFrameHeader(messages[0]!.length));
        this.#write(messages[0]!);
      }
    }
  }

  #write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
    if (this.#socket.writableLength >= WRITE_SIZE_BYTES) this.#full = true;
  }
}
