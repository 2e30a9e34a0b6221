/**
 * The sending half of an HTTP/2 connection: frames of many streams, flow control in both sizes, and one write
 * to the socket per turn.
 */
import type { Socket } from "node:net";
import {
  ErrorCode,
  Flag,
  FRAME_HEADER_SIZE_BYTES,
  FRAME_SIZE_DEFAULT_BYTES,
  FrameType,
  WINDOW_DEFAULT_BYTES,
  WINDOW_MAX_BYTES,
} from "./constants.ts";
import { EMPTY_TABLE_UPDATE } from "./hpack.ts";
import { Output } from "./output.ts";
import { ConnectionError } from "./protocol-error.ts";
import type { Http2Stream } from "./stream.ts";

/** Above this the socket has enough to do: payload stays in the streams. */
const SOCKET_BUFFER_BYTES = 256 * 1024;
/** Above this a client makes us answer control frames that it does not read: it is read no more. */
const SOCKET_BUFFER_BYTES_MAX = 4 * 1024 * 1024;
/** Payload up to this size is copied next to its frame header; larger goes to the socket as it is. */
const COPIED_PAYLOAD_BYTES = 4095;
/** Larger frames would only keep other streams waiting. */
const FRAME_SIZE_BYTES_MAX = 4 * FRAME_SIZE_DEFAULT_BYTES;
const EMPTY = Buffer.alloc(0);

export class FrameSender {
  readonly #socket: Socket;
  readonly #output = new Output();
  #windowBytes = WINDOW_DEFAULT_BYTES;
  #frameSizeBytesMax = FRAME_SIZE_DEFAULT_BYTES;
  /** Streams with payload that their own window allows to go. */
  readonly #ready = new Set<Http2Stream>();
  #drained: Http2Stream[] = [];
  #tableUpdateDue = false;
  #flushScheduled = false;
  #congested = false;
  #readingPaused = false;
  #closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("drain", () => this.#socketDrained());
  }

  // Frames

  /** Room for a frame of this size; fills its header. Returns where its payload goes in the slab. */
  #frame(type: number, flags: number, streamId: number, sizeBytes: number, inSlab: boolean): number {
    const at = this.#output.reserve(FRAME_HEADER_SIZE_BYTES + (inSlab ? sizeBytes : 0));
    const { slab } = this.#output;
    slab[at] = sizeBytes >>> 16;
    slab[at + 1] = sizeBytes >>> 8;
    slab[at + 2] = sizeBytes;
    slab[at + 3] = type;
    slab[at + 4] = flags;
    slab[at + 5] = streamId >>> 24;
    slab[at + 6] = streamId >>> 16;
    slab[at + 7] = streamId >>> 8;
    slab[at + 8] = streamId;
    return at + FRAME_HEADER_SIZE_BYTES;
  }

  /** Sends a frame that no flow control concerns. */
  frame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (this.#closed) return;
    const small = payload.length <= COPIED_PAYLOAD_BYTES;
    const at = this.#frame(type, flags, streamId, payload.length, small);
    if (small) this.#output.slab.set(payload, at);
    else this.#output.add(payload);
    this.#scheduleFlush();
  }

  #numberFrame(type: number, streamId: number, value: number): void {
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32BE(value, 0);
    this.frame(type, 0, streamId, payload);
  }

  /** Lets the client send so much more, on a stream or (0) on the connection. */
  windowUpdate(streamId: number, increment: number): void {
    this.#numberFrame(FrameType.windowUpdate, streamId, increment);
  }

  reset(streamId: number, code: ErrorCode): void {
    this.#numberFrame(FrameType.rstStream, streamId, code);
  }

  /** Ends a stream without trailers. */
  endStream(streamId: number): void {
    this.frame(FrameType.data, Flag.endStream, streamId, EMPTY);
  }

  /** Sends a header block; one that is too long for a frame is split. */
  headerBlock(streamId: number, block: Buffer, endStream: boolean): void {
    const whole = this.#tableUpdateDue ? Buffer.concat([Buffer.from([EMPTY_TABLE_UPDATE]), block]) : block;
    this.#tableUpdateDue = false;
    const end = endStream ? Flag.endStream : 0;
    let at = 0;
    do {
      const part = whole.subarray(at, at + FRAME_SIZE_DEFAULT_BYTES);
      const last = at + part.length >= whole.length ? Flag.endHeaders : 0;
      if (at === 0) this.frame(FrameType.headers, end | last, streamId, part);
      else this.frame(FrameType.continuation, last, streamId, part);
      at += part.length;
    } while (at < whole.length);
  }

  /**
   * Sends a whole response at once if nothing stands in its way: headers, one data frame, trailers. Returns
   * false when it has to take the long way.
   */
  responseAtOnce(stream: Http2Stream, headers: Buffer, payload: Buffer, trailers: Buffer): boolean {
    const { length } = payload;
    if (
      length > COPIED_PAYLOAD_BYTES ||
      length > stream.sendWindowBytes ||
      length > this.#windowBytes ||
      this.#tableUpdateDue ||
      this.#closed ||
      !stream.isIdle ||
      this.#isCongested()
    ) {
      return false;
    }
    stream.sendWindowBytes -= length;
    this.#windowBytes -= length;
    const { id } = stream;
    let at = this.#frame(FrameType.headers, Flag.endHeaders, id, headers.length, true);
    this.#output.slab.set(headers, at);
    at = this.#frame(FrameType.data, 0, id, length, true);
    this.#output.slab.set(payload, at);
    at = this.#frame(FrameType.headers, Flag.endHeaders | Flag.endStream, id, trailers.length, true);
    this.#output.slab.set(trailers, at);
    this.#scheduleFlush();
    stream.endedAtOnce();
    return true;
  }

  // What the client told us

  /** The client's header table may be smaller now. We use none, but have to say so. */
  headerTableResized(): void {
    this.#tableUpdateDue = true;
  }

  /** The client takes frames of this size. */
  set frameSizeBytesMax(value: number) {
    this.#frameSizeBytesMax = Math.min(value, FRAME_SIZE_BYTES_MAX);
  }

  /** The client takes so much more on the connection. Throws ConnectionError. */
  openWindow(increment: number): void {
    this.#windowBytes += increment;
    if (increment === 0 || this.#windowBytes > WINDOW_MAX_BYTES) {
      throw new ConnectionError(ErrorCode.flowControlError, "no window");
    }
    this.pump();
  }

  // Payload

  /** The stream has payload to send, or a larger window for it. */
  wantsToSend(stream: Http2Stream): void {
    if (stream.canSend) {
      this.#ready.add(stream);
      this.pump();
    }
    if (stream.queuedBytes > 0) stream.waits = true;
  }

  /** The stream is over. */
  forget(stream: Http2Stream): void {
    this.#ready.delete(stream);
  }

  /** The socket, with what is on its way to it, has enough to do. */
  #isCongested(): boolean {
    return this.#congested || this.#output.sizeBytes + this.#socket.writableLength > SOCKET_BUFFER_BYTES;
  }

  /** Sends payload, a frame of each stream in turn, as far as windows and the socket allow. */
  pump(): void {
    while (this.#ready.size > 0 && this.#windowBytes > 0 && !this.#isCongested()) {
      for (const stream of this.#ready) {
        if (this.#windowBytes <= 0 || this.#isCongested()) break;
        this.#sendPiece(stream);
      }
    }
    if (this.#drained.length === 0) return;
    const drained = this.#drained;
    this.#drained = [];
    for (const stream of drained) if (!stream.closed && stream.queuedBytes === 0) stream.events?.drained();
  }

  #sendPiece(stream: Http2Stream): void {
    if (stream.canSend) {
      const piece = stream.takePayload(Math.min(this.#windowBytes, this.#frameSizeBytesMax));
      this.#windowBytes -= piece.length;
      this.frame(FrameType.data, 0, stream.id, piece);
      // To the end of the row, so that the next round begins with another stream.
      this.#ready.delete(stream);
    }
    if (stream.canSend) {
      this.#ready.add(stream);
      return;
    }
    this.#ready.delete(stream);
    if (stream.queuedBytes > 0 || stream.closed) return;
    if (stream.waits) this.#drained.push(stream);
    stream.waits = false;
    stream.payloadSent();
  }

  // The socket

  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    process.nextTick(flush, this);
  }

  /** Hands to the socket what this turn has produced. */
  flush(): void {
    this.#flushScheduled = false;
    if (this.#socket.destroyed) return;
    this.#output.flush(this.#socket);
    const waiting = this.#socket.writableLength;
    if (waiting > SOCKET_BUFFER_BYTES) this.#congested = true;
    else if (this.#ready.size > 0) this.pump();
    if (waiting > SOCKET_BUFFER_BYTES_MAX && !this.#readingPaused) {
      this.#readingPaused = true;
      this.#socket.pause();
    }
  }

  #socketDrained(): void {
    this.#congested = false;
    if (this.#readingPaused) {
      this.#readingPaused = false;
      this.#socket.resume();
    }
    this.pump();
  }

  /** Sends what there is, and nothing after it. */
  close(): void {
    this.flush();
    this.#closed = true;
  }
}

function flush(sender: FrameSender): void {
  sender.flush();
}
