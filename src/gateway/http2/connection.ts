/**
 * The server side of one HTTP/2 connection (RFC 9113), for gRPC and a few small pages: written for many small
 * responses, which go out in one write per turn, and for clients that do not behave.
 */
import type { Socket } from "node:net";
import { ErrorCode, Flag, FrameType, Setting, WINDOW_DEFAULT_BYTES, WINDOW_MAX_BYTES } from "./constants.ts";
import { FrameReader, type PendingHeaders, unpadded } from "./frame-reader.ts";
import { HeaderBlockError, HeaderDecoder, type RequestHead } from "./hpack.ts";
import { ConnectionError } from "./protocol-error.ts";
import { FrameSender } from "./sender.ts";
import { decodeSettings, encodeSettings } from "./settings.ts";
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
  /** A request, its headers maybe longer than allowed once decoded; sets `stream.events` before it returns. */
  request(stream: Http2Stream, head: RequestHead): void;
  /** A fault of our own; the connection ends over it. */
  fault(error: unknown): void;
  closed(): void;
}

/** Frames that carry nothing (pings, settings, empty data, priorities) of one connection. */
const IDLE_FRAMES_BURST = 10_000;
const IDLE_FRAMES_PER_SECOND = 1_000;
const CONTINUATIONS_MAX = 16;
const EMPTY = Buffer.alloc(0);

export class Http2Connection {
  readonly #socket: Socket;
  readonly #limits: ConnectionLimits;
  readonly #events: ConnectionEvents;
  readonly #streams = new Map<number, Http2Stream>();
  readonly #decoder = new HeaderDecoder();
  readonly sender: FrameSender;
  readonly #resets: TokenBucket;
  readonly #idleFrames: TokenBucket;
  readonly #handshakeTimer: NodeJS.Timeout;

  // Receiving
  readonly #reader = new FrameReader((type, flags, streamId, payload) => {
    this.#readFrame(type, flags, streamId, payload);
    return !this.#dead;
  });
  #settingsSeen = false;
  #headers: PendingHeaders | undefined;
  #lastStreamId = 0;
  #receiveWindowBytes: number;
  #unacknowledgedBytes = 0;

  #initialSendWindowBytes = WINDOW_DEFAULT_BYTES;
  #goingAway = false;
  #dead = false;

  constructor(socket: Socket, limits: ConnectionLimits, events: ConnectionEvents) {
    this.#socket = socket;
    this.sender = new FrameSender(socket);
    this.#limits = limits;
    this.#events = events;
    const now = performance.now();
    this.#resets = new TokenBucket(limits.resetBurst, limits.resetRatePerSecond, now);
    this.#idleFrames = new TokenBucket(IDLE_FRAMES_BURST, IDLE_FRAMES_PER_SECOND, now);
    this.#receiveWindowBytes = limits.connectionWindowBytes;
    this.#handshakeTimer = setTimeout(() => this.destroy(), limits.handshakeTimeoutMs);
    this.#handshakeTimer.unref();
    socket.on("data", (chunk) => this.#receive(chunk as Buffer));
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
      this.#reader.push(chunk);
    } catch (error) {
      if (error instanceof ConnectionError) this.#fail(error.code);
      else if (error instanceof HeaderBlockError) this.#fail(ErrorCode.compressionError);
      else {
        this.#events.fault(error);
        this.#fail(ErrorCode.internalError);
      }
    }
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

  #readData(flags: number, streamId: number, payload: Buffer): void {
    if (streamId === 0) throw new ConnectionError(ErrorCode.protocolError, "data on stream 0");
    const sizeBytes = payload.length;
    if (sizeBytes > this.#receiveWindowBytes) {
      throw new ConnectionError(ErrorCode.flowControlError, "more than the connection's window");
    }
    this.#receiveWindowBytes -= sizeBytes;
    this.#acknowledge(sizeBytes);
    const content = unpadded(flags, payload);
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
    this.sender.windowUpdate(0, this.#unacknowledgedBytes);
    this.#receiveWindowBytes += this.#unacknowledgedBytes;
    this.#unacknowledgedBytes = 0;
  }

  #readHeaders(flags: number, streamId: number, payload: Buffer): void {
    if (streamId % 2 === 0) throw new ConnectionError(ErrorCode.protocolError, "clients use odd streams");
    let block = unpadded(flags, payload);
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
      this.sender.reset(streamId, ErrorCode.refusedStream);
      return;
    }
    if (head.malformed || head.method === "" || head.path === "") {
      this.#countReset();
      this.sender.reset(streamId, ErrorCode.protocolError);
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
    if (this.#settingsSeen) this.#countIdle();
    this.#settingsSeen = true;
    clearTimeout(this.#handshakeTimer);
    for (const [setting, value] of decodeSettings(payload)) this.#applySetting(setting, value);
    this.sender.frame(FrameType.settings, Flag.ack, 0, EMPTY);
    this.sender.pump();
  }

  #applySetting(setting: number, value: number): void {
    if (setting === Setting.headerTableSize) this.sender.headerTableResized();
    else if (setting === Setting.maxFrameSize) this.sender.frameSizeBytesMax = value;
    else if (setting === Setting.initialWindowSize) {
      this.#resizeWindows(value - this.#initialSendWindowBytes);
      this.#initialSendWindowBytes = value;
    }
  }

  #resizeWindows(differenceBytes: number): void {
    for (const stream of this.#streams.values()) {
      stream.sendWindowBytes += differenceBytes;
      if (stream.sendWindowBytes > WINDOW_MAX_BYTES) {
        throw new ConnectionError(ErrorCode.flowControlError, "window too large");
      }
      if (stream.canSend) this.sender.wantsToSend(stream);
    }
  }

  #readPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw new ConnectionError(ErrorCode.protocolError, "ping of a stream");
    if (payload.length !== 8) throw new ConnectionError(ErrorCode.frameSizeError, "ping of another size");
    if ((flags & Flag.ack) !== 0) return;
    this.#countIdle();
    this.sender.frame(FrameType.ping, Flag.ack, 0, payload);
  }

  #readWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionError(ErrorCode.frameSizeError, "update of another size");
    const increment = payload.readUInt32BE(0) & 0x7fffffff;
    if (streamId === 0) {
      this.sender.openWindow(increment);
      return;
    }
    if (streamId > this.#lastStreamId) {
      throw new ConnectionError(ErrorCode.protocolError, "update of an idle stream");
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    stream.sendWindowBytes += increment;
    if (increment === 0 || stream.sendWindowBytes > WINDOW_MAX_BYTES)
      stream.reset(ErrorCode.flowControlError);
    else this.sender.wantsToSend(stream);
  }

  #sendSettings(): void {
    const { streamsMax, streamWindowBytes, connectionWindowBytes, headerListSizeBytesMax } = this.#limits;
    const payload = encodeSettings([
      [Setting.maxConcurrentStreams, streamsMax],
      [Setting.initialWindowSize, streamWindowBytes],
      [Setting.maxHeaderListSize, headerListSizeBytesMax],
    ]);
    this.sender.frame(FrameType.settings, 0, 0, payload);
    this.sender.windowUpdate(0, connectionWindowBytes - WINDOW_DEFAULT_BYTES);
  }

  // Ending

  /** Removes a stream that is over. */
  forget(stream: Http2Stream): void {
    this.#streams.delete(stream.id);
    this.sender.forget(stream);
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
    this.sender.frame(FrameType.goAway, 0, 0, payload);
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
    this.sender.close();
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

const END_GRACE_MS = 1_000;
