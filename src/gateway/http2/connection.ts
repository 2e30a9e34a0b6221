/**
 * The server side of one HTTP/2 connection (RFC 9113), for gRPC and a few small pages: written for many small
 * responses, which go out in one write per turn, and for clients that do not behave.
 */
import type { Socket } from "node:net";
import {
  ErrorCode,
  Flag,
  FRAME_HEADER_SIZE_BYTES,
  FRAME_SIZE_DEFAULT_BYTES,
  FrameType,
  PREFACE,
  Setting,
  WINDOW_DEFAULT_BYTES,
  WINDOW_MAX_BYTES,
} from "./constants.ts";
import { EMPTY_TABLE_UPDATE, HeaderBlockError, HeaderDecoder, type RequestHead } from "./hpack.ts";
import { Output } from "./output.ts";
import { Http2Stream } from "./stream.ts";
import { TokenBucket } from "./token-bucket.ts";

export interface ConnectionLimits {
  /** Open streams; more are refused. */
  readonly streamsMax: number;
  readonly headerListSizeBytesMax: number;
  /** What a client may send on one stream before we acknowledge. */
  readonly streamWindowBytes: number;
  /** The same for the connection. */
  readonly connectionWindowBytes: number;
  readonly resetBurst: number;
  readonly resetRatePerSecond: number;
  /** A new connection has so long to send its preface and settings. */
  readonly handshakeTimeoutMs: number;
}

export interface ConnectionEvents {
  /** A request; `stream.events` has to be set before it returns. */
  request(stream: Http2Stream, head: RequestHead): void;
  /** A fault of our own; the connection ends over it. */
  fault(error: unknown): void;
  closed(): void;
}

/** Above this the socket has enough to do: payload stays in the streams. */
const SOCKET_BUFFER_BYTES = 256 * 1024;
/** Above this a client makes us answer control frames that it does not read: it is read no more. */
const SOCKET_BUFFER_BYTES_MAX = 4 * 1024 * 1024;
/** Frames that carry nothing (pings, settings, empty data, priorities) of one connection. */
const IDLE_FRAMES_BURST = 10_000;
const IDLE_FRAMES_PER_SECOND = 1_000;
const CONTINUATIONS_MAX = 16;
const EMPTY = Buffer.alloc(0);

/** A breach of the protocol that ends the connection. */
class ConnectionError extends Error {
  override name = "ConnectionError";
  readonly code: ErrorCode;
  constructor(code: ErrorCode, reason: string) {
    super(reason);
    this.code = code;
  }
}

interface PendingHeaders {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly parts: Buffer[];
  sizeBytes: number;
}

export class Http2Connection {
  readonly #socket: Socket;
  readonly #limits: ConnectionLimits;
  readonly #events: ConnectionEvents;
  readonly #streams = new Map<number, Http2Stream>();
  readonly #decoder = new HeaderDecoder();
  readonly #output = new Output();
  readonly #resets: TokenBucket;
  readonly #idleFrames: TokenBucket;
  readonly #handshakeTimer: NodeJS.Timeout;

  // Receiving
  /** Bytes of a frame that is not complete. */
  #rest: Buffer = EMPTY;
  #prefaceSeen = false;
  #settingsSeen = false;
  #headers: PendingHeaders | undefined;
  #lastStreamId = 0;
  #receiveWindowBytes: number;
  #unacknowledgedBytes = 0;

  // Sending
  #sendWindowBytes = WINDOW_DEFAULT_BYTES;
  #initialSendWindowBytes = WINDOW_DEFAULT_BYTES;
  #frameSizeBytesMax = FRAME_SIZE_DEFAULT_BYTES;
  /** Streams with payload that their own window allows to go. */
  readonly #ready = new Set<Http2Stream>();
  #drained: Http2Stream[] = [];
  #tableUpdateDue = false;
  #flushScheduled = false;
  #congested = false;
  #readingPaused = false;
  #goingAway = false;
  #dead = false;

  constructor(socket: Socket, limits: ConnectionLimits, events: ConnectionEvents) {
    this.#socket = socket;
    this.#limits = limits;
    this.#events = events;
    const now = performance.now();
    this.#resets = new TokenBucket(limits.resetBurst, limits.resetRatePerSecond, now);
    this.#idleFrames = new TokenBucket(IDLE_FRAMES_BURST, IDLE_FRAMES_PER_SECOND, now);
    this.#receiveWindowBytes = limits.connectionWindowBytes;
    this.#handshakeTimer = setTimeout(() => this.destroy(), limits.handshakeTimeoutMs);
    this.#handshakeTimer.unref();
    socket.on("data", (chunk) => this.#receive(chunk as Buffer));
    socket.on("drain", () => this.#socketDrained());
    socket.on("end", () => this.destroy());
    socket.on("close", () => this.#closed());
    socket.resume();
    this.#sendSettings();
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  // Receiving

  #receive(chunk: Buffer): void {
    if (this.#dead) return;
    try {
      const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
      this.#rest = EMPTY;
      const at = this.#readFrames(bytes);
      if (at < bytes.length && !this.#dead) this.#rest = bytes.subarray(at);
    } catch (error) {
      if (error instanceof ConnectionError) this.#fail(error.code);
      else if (error instanceof HeaderBlockError) this.#fail(ErrorCode.compressionError);
      else {
        this.#events.fault(error);
        this.#fail(ErrorCode.internalError);
      }
    }
  }

  /** Handles all complete frames; returns where the first incomplete one begins. */
  #readFrames(bytes: Buffer): number {
    let at = 0;
    if (!this.#prefaceSeen) {
      const size = Math.min(bytes.length, PREFACE.length);
      if (!PREFACE.subarray(0, size).equals(bytes.subarray(0, size))) {
        throw new ConnectionError(ErrorCode.protocolError, "no preface");
      }
      if (size < PREFACE.length) return 0;
      this.#prefaceSeen = true;
      at = PREFACE.length;
    }
    while (bytes.length - at >= FRAME_HEADER_SIZE_BYTES && !this.#dead) {
      const size = bytes.readUIntBE(at, 3);
      if (size > FRAME_SIZE_DEFAULT_BYTES)
        throw new ConnectionError(ErrorCode.frameSizeError, "frame too long");
      const start = at + FRAME_HEADER_SIZE_BYTES;
      if (bytes.length - start < size) break;
      const streamId = bytes.readUInt32BE(at + 5) & 0x7fffffff;
      this.#readFrame(bytes[at + 3]!, bytes[at + 4]!, streamId, bytes.subarray(start, start + size));
      at = start + size;
    }
    return at;
  }

  #readFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (!this.#settingsSeen && type !== FrameType.settings) {
      throw new ConnectionError(ErrorCode.protocolError, "settings must come first");
    }
    if (this.#headers !== undefined && type !== FrameType.continuation) {
      throw new ConnectionError(ErrorCode.protocolError, "a header block was interrupted");
    }
    switch (type) {
      case FrameType.data:
        this.#readData(flags, streamId, payload);
        return;
      case FrameType.headers:
        this.#readHeaders(flags, streamId, payload);
        return;
      case FrameType.continuation:
        this.#readContinuation(flags, streamId, payload);
        return;
      case FrameType.rstStream:
        this.#readReset(streamId, payload);
        return;
      case FrameType.settings:
        this.#readSettings(flags, streamId, payload);
        return;
      case FrameType.ping:
        this.#readPing(flags, streamId, payload);
        return;
      case FrameType.windowUpdate:
        this.#readWindowUpdate(streamId, payload);
        return;
      case FrameType.pushPromise:
        throw new ConnectionError(ErrorCode.protocolError, "clients do not push");
      case FrameType.goAway:
        return;
      default:
        // Priorities and unknown frames say nothing to us.
        this.#countIdle();
    }
  }

  /** Counts a frame that does no work; a flood of them ends the connection. */
  #countIdle(): void {
    if (!this.#idleFrames.take(performance.now())) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, "too many frames that do nothing");
    }
  }

  /** Payload without its padding. */
  #unpadded(flags: number, payload: Buffer): Buffer {
    if ((flags & Flag.padded) === 0) return payload;
    const padding = payload[0] ?? 255;
    if (padding >= payload.length) throw new ConnectionError(ErrorCode.protocolError, "padding too long");
    return payload.subarray(1, payload.length - padding);
  }

  #readData(flags: number, streamId: number, payload: Buffer): void {
    if (streamId === 0) throw new ConnectionError(ErrorCode.protocolError, "data on stream 0");
    const sizeBytes = payload.length;
    if (sizeBytes > this.#receiveWindowBytes) {
      throw new ConnectionError(ErrorCode.flowControlError, "more than the connection's window");
    }
    this.#receiveWindowBytes -= sizeBytes;
    this.#acknowledge(sizeBytes);
    const content = this.#unpadded(flags, payload);
    const end = (flags & Flag.endStream) !== 0;
    if (content.length === 0 && !end) this.#countIdle();
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      // Of a stream that is over here, the client may not know it yet.
      if (streamId > this.#lastStreamId)
        throw new ConnectionError(ErrorCode.protocolError, "data without headers");
      return;
    }
    if (stream.remoteEnded) {
      stream.reset(ErrorCode.streamClosed);
      return;
    }
    if (sizeBytes > stream.receiveWindowBytes) {
      stream.reset(ErrorCode.flowControlError);
      return;
    }
    stream.receive(content, sizeBytes, end);
  }

  /** Gives back what was received, whatever became of it: streams have windows of their own. */
  #acknowledge(sizeBytes: number): void {
    this.#unacknowledgedBytes += sizeBytes;
    if (this.#unacknowledgedBytes < this.#limits.connectionWindowBytes / 4) return;
    this.sendWindowUpdate(0, this.#unacknowledgedBytes);
    this.#receiveWindowBytes += this.#unacknowledgedBytes;
    this.#unacknowledgedBytes = 0;
  }

  #readHeaders(flags: number, streamId: number, payload: Buffer): void {
    if (streamId % 2 === 0) throw new ConnectionError(ErrorCode.protocolError, "clients use odd streams");
    let block = this.#unpadded(flags, payload);
    if ((flags & Flag.priority) !== 0) {
      if (block.length < 5) throw new ConnectionError(ErrorCode.frameSizeError, "priority cut short");
      block = block.subarray(5);
    }
    const endStream = (flags & Flag.endStream) !== 0;
    if ((flags & Flag.endHeaders) !== 0) this.#headersComplete(streamId, endStream, block);
    else this.#headers = { streamId, endStream, parts: [block], sizeBytes: block.length };
  }

  #readContinuation(flags: number, streamId: number, payload: Buffer): void {
    const headers = this.#headers;
    if (headers === undefined || headers.streamId !== streamId) {
      throw new ConnectionError(ErrorCode.protocolError, "a continuation of nothing");
    }
    headers.parts.push(payload);
    headers.sizeBytes += payload.length;
    if (headers.parts.length > CONTINUATIONS_MAX || headers.sizeBytes > this.#limits.headerListSizeBytesMax) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, "headers too long");
    }
    if ((flags & Flag.endHeaders) === 0) return;
    this.#headers = undefined;
    this.#headersComplete(streamId, headers.endStream, Buffer.concat(headers.parts));
  }

  #headersComplete(streamId: number, endStream: boolean, block: Buffer): void {
    // Every block has to be decoded, or the table is out of step with the client's.
    const head = this.#decoder.decode(block);
    const open = this.#streams.get(streamId);
    if (open !== undefined) {
      // Trailers of a request.
      if (open.remoteEnded) open.reset(ErrorCode.streamClosed);
      else if (endStream) open.receiveEnd();
      else open.reset(ErrorCode.protocolError);
      return;
    }
    if (streamId <= this.#lastStreamId) {
      throw new ConnectionError(ErrorCode.streamClosed, "headers on a closed stream");
    }
    this.#lastStreamId = streamId;
    if (this.#goingAway) return;
    if (this.#streams.size >= this.#limits.streamsMax) {
      this.#countReset();
      this.sendReset(streamId, ErrorCode.refusedStream);
      return;
    }
    if (head.sizeBytes > this.#limits.headerListSizeBytesMax || head.method === "" || head.path === "") {
      this.#countReset();
      this.sendReset(streamId, ErrorCode.protocolError);
      return;
    }
    const { streamWindowBytes } = this.#limits;
    const stream = new Http2Stream(this, streamId, streamWindowBytes, this.#initialSendWindowBytes);
    this.#streams.set(streamId, stream);
    this.#events.request(stream, head);
    if (endStream) stream.receiveEnd();
  }

  #readReset(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionError(ErrorCode.frameSizeError, "reset of another size");
    if (streamId === 0 || streamId > this.#lastStreamId) {
      throw new ConnectionError(ErrorCode.protocolError, "reset of an idle stream");
    }
    this.#countReset();
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.forget(stream);
  }

  /** Streams that cost us work and are thrown away; a flood of them ends the connection. */
  #countReset(): void {
    if (!this.#resets.take(performance.now())) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, "too many resets");
    }
  }

  #readSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw new ConnectionError(ErrorCode.protocolError, "settings of a stream");
    if ((flags & Flag.ack) !== 0) {
      if (payload.length > 0)
        throw new ConnectionError(ErrorCode.frameSizeError, "an acknowledgement with content");
      return;
    }
    if (payload.length % 6 !== 0) throw new ConnectionError(ErrorCode.frameSizeError, "settings cut short");
    if (this.#settingsSeen) this.#countIdle();
    this.#settingsSeen = true;
    clearTimeout(this.#handshakeTimer);
    for (let at = 0; at < payload.length; at += 6) {
      this.#applySetting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    }
    this.#writeFrame(FrameType.settings, Flag.ack, 0, EMPTY);
    this.#pump();
  }

  #applySetting(setting: number, value: number): void {
    switch (setting) {
      case Setting.headerTableSize:
        // We use no dynamic table, but have to say so once it may have become smaller.
        this.#tableUpdateDue = true;
        return;
      case Setting.initialWindowSize:
        if (value > WINDOW_MAX_BYTES)
          throw new ConnectionError(ErrorCode.flowControlError, "window too large");
        this.#resizeWindows(value - this.#initialSendWindowBytes);
        this.#initialSendWindowBytes = value;
        return;
      case Setting.maxFrameSize:
        if (value < FRAME_SIZE_DEFAULT_BYTES || value > 0xffffff) {
          throw new ConnectionError(ErrorCode.protocolError, "no frame size");
        }
        // Larger frames would only keep other streams waiting.
        this.#frameSizeBytesMax = Math.min(value, 4 * FRAME_SIZE_DEFAULT_BYTES);
        return;
      default:
    }
  }

  #resizeWindows(differenceBytes: number): void {
    for (const stream of this.#streams.values()) {
      stream.sendWindowBytes += differenceBytes;
      if (stream.sendWindowBytes > WINDOW_MAX_BYTES) {
        throw new ConnectionError(ErrorCode.flowControlError, "window too large");
      }
      if (stream.canSend) this.#ready.add(stream);
    }
  }

  #readPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw new ConnectionError(ErrorCode.protocolError, "ping of a stream");
    if (payload.length !== 8) throw new ConnectionError(ErrorCode.frameSizeError, "ping of another size");
    if ((flags & Flag.ack) !== 0) return;
    this.#countIdle();
    this.#writeFrame(FrameType.ping, Flag.ack, 0, payload);
  }

  #readWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionError(ErrorCode.frameSizeError, "update of another size");
    const increment = payload.readUInt32BE(0) & 0x7fffffff;
    if (streamId === 0) {
      this.#sendWindowBytes += increment;
      if (increment === 0 || this.#sendWindowBytes > WINDOW_MAX_BYTES) {
        throw new ConnectionError(ErrorCode.flowControlError, "no window");
      }
    } else {
      if (streamId > this.#lastStreamId)
        throw new ConnectionError(ErrorCode.protocolError, "update of an idle stream");
      const stream = this.#streams.get(streamId);
      if (stream === undefined) return;
      stream.sendWindowBytes += increment;
      if (increment === 0 || stream.sendWindowBytes > WINDOW_MAX_BYTES) {
        stream.reset(ErrorCode.flowControlError);
        return;
      }
      if (stream.canSend) this.#ready.add(stream);
    }
    if (this.#ready.size > 0) this.#pump();
  }

  // Sending

  #sendSettings(): void {
    const { streamsMax, streamWindowBytes, connectionWindowBytes, headerListSizeBytesMax } = this.#limits;
    const values: readonly (readonly [number, number])[] = [
      [Setting.maxConcurrentStreams, streamsMax],
      [Setting.initialWindowSize, streamWindowBytes],
      [Setting.maxHeaderListSize, headerListSizeBytesMax],
    ];
    const payload = Buffer.alloc(6 * values.length);
    for (const [i, [setting, value]] of values.entries()) {
      payload.writeUInt16BE(setting, 6 * i);
      payload.writeUInt32BE(value, 6 * i + 2);
    }
    this.#writeFrame(FrameType.settings, 0, 0, payload);
    this.sendWindowUpdate(0, connectionWindowBytes - WINDOW_DEFAULT_BYTES);
  }

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

  #writeFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (this.#dead) return;
    const small = payload.length <= COPIED_PAYLOAD_BYTES;
    const at = this.#frame(type, flags, streamId, payload.length, small);
    if (small) this.#output.slab.set(payload, at);
    else this.#output.add(payload);
    this.#scheduleFlush();
  }

  sendWindowUpdate(streamId: number, increment: number): void {
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32BE(increment, 0);
    this.#writeFrame(FrameType.windowUpdate, 0, streamId, payload);
  }

  sendReset(streamId: number, code: ErrorCode): void {
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32BE(code, 0);
    this.#writeFrame(FrameType.rstStream, 0, streamId, payload);
  }

  /** Ends a stream without trailers. */
  sendEnd(streamId: number): void {
    this.#writeFrame(FrameType.data, Flag.endStream, streamId, EMPTY);
  }

  /** Sends a header block; one that is too long for a frame is split. */
  sendHeaderBlock(streamId: number, block: Buffer, endStream: boolean): void {
    const whole = this.#tableUpdateDue ? Buffer.concat([Buffer.from([EMPTY_TABLE_UPDATE]), block]) : block;
    this.#tableUpdateDue = false;
    const end = endStream ? Flag.endStream : 0;
    let at = 0;
    do {
      const part = whole.subarray(at, at + FRAME_SIZE_DEFAULT_BYTES);
      const last = at + part.length >= whole.length ? Flag.endHeaders : 0;
      if (at === 0) this.#writeFrame(FrameType.headers, end | last, streamId, part);
      else this.#writeFrame(FrameType.continuation, last, streamId, part);
      at += part.length;
    } while (at < whole.length);
  }

  /**
   * Sends a whole response at once if nothing stands in its way: headers, one data frame, trailers. Returns
   * false when it has to take the long way.
   */
  sendAtOnce(stream: Http2Stream, headers: Buffer, payload: Buffer, trailers: Buffer): boolean {
    const { length } = payload;
    if (
      length > COPIED_PAYLOAD_BYTES ||
      length > stream.sendWindowBytes ||
      length > this.#sendWindowBytes ||
      this.#tableUpdateDue ||
      this.#dead ||
      !stream.isIdle ||
      this.#isCongested()
    ) {
      return false;
    }
    stream.sendWindowBytes -= length;
    this.#sendWindowBytes -= length;
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

  /** The stream has payload to send. */
  wantsToSend(stream: Http2Stream): void {
    if (stream.canSend) {
      this.#ready.add(stream);
      this.#pump();
    }
    if (stream.queuedBytes > 0) stream.waits = true;
  }

  /** The socket, with what is on its way to it, has enough to do. */
  #isCongested(): boolean {
    return this.#congested || this.#output.sizeBytes + this.#socket.writableLength > SOCKET_BUFFER_BYTES;
  }

  /** Sends payload, a frame of each stream in turn, as far as windows and the socket allow. */
  #pump(): void {
    while (this.#ready.size > 0 && this.#sendWindowBytes > 0 && !this.#isCongested()) {
      for (const stream of this.#ready) {
        if (this.#sendWindowBytes <= 0 || this.#isCongested()) break;
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
      const piece = stream.takePayload(Math.min(this.#sendWindowBytes, this.#frameSizeBytesMax));
      this.#sendWindowBytes -= piece.length;
      this.#writeFrame(FrameType.data, 0, stream.id, piece);
    }
    if (stream.canSend) return;
    this.#ready.delete(stream);
    if (stream.queuedBytes > 0 || stream.closed) return;
    if (stream.waits) this.#drained.push(stream);
    stream.waits = false;
    stream.payloadSent();
  }

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
    else if (this.#ready.size > 0) this.#pump();
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
    this.#pump();
  }

  // Ending

  /** Removes a stream that is over. */
  forget(stream: Http2Stream): void {
    this.#streams.delete(stream.id);
    this.#ready.delete(stream);
    stream.close();
    if (this.#goingAway && this.#streams.size === 0) this.#end();
  }

  /** Takes no more requests and ends once all are answered. */
  goAway(): void {
    if (this.#goingAway || this.#dead) return;
    this.#goingAway = true;
    this.#sendGoAway(ErrorCode.noError);
    if (this.#streams.size === 0) this.#end();
  }

  #sendGoAway(code: ErrorCode): void {
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(this.#lastStreamId, 0);
    payload.writeUInt32BE(code, 4);
    this.#writeFrame(FrameType.goAway, 0, 0, payload);
  }

  /** Ends the connection over a breach of the protocol. */
  #fail(code: ErrorCode): void {
    this.#sendGoAway(code);
    this.#end();
    this.#closeStreams();
  }

  /** Sends what there is and closes. */
  #end(): void {
    if (this.#dead) return;
    this.flush();
    this.#dead = true;
    this.#socket.end();
    // A client that does not close its side is not waited for.
    setTimeout(() => this.#socket.destroy(), END_GRACE_MS).unref();
  }

  /** Closes at once. */
  destroy(): void {
    this.#dead = true;
    this.#socket.destroy();
  }

  #closed(): void {
    clearTimeout(this.#handshakeTimer);
    this.#dead = true;
    this.#closeStreams();
    this.#events.closed();
  }

  #closeStreams(): void {
    for (const stream of [...this.#streams.values()]) this.forget(stream);
  }
}

/** Payload up to this size is copied next to its frame header; larger goes to the socket as it is. */
const COPIED_PAYLOAD_BYTES = 4095;
const END_GRACE_MS = 1_000;

function flush(connection: Http2Connection): void {
  connection.flush();
}
