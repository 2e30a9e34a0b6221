/**
 * An HTTP/2 client connection for gRPC that costs little: it writes frames into one buffer per turn of the event
 * loop and hands out views of what it receives. node:http2 would cost the load generator several times as much, and
 * the generator shares its processors with what it measures. Knows what gRPC servers send; no push, no priorities.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { decodeHeaders } from "./hpack.ts";

/** gRPC's answer to a call: code 0 is success. */
export interface CallStatus {
  readonly code: number;
  readonly text: string;
}

/** Receives what belongs to one stream. */
export interface StreamListener {
  /** One gRPC message; the bytes are only valid during the call. */
  message(bytes: Buffer): void;
  /** Called exactly once, last. */
  end(status: CallStatus): void;
}

const FrameType = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
const Flag = { endStream: 1, acknowledgement: 1, endHeaders: 4, padded: 8, priority: 32 } as const;
const Setting = { headerTableSize: 1, enablePush: 2, maxConcurrentStreams: 3, initialWindowSize: 4 } as const;

const frameHeaderBytes = 9;
const messagePrefixBytes = 5;
/** The window we grant: as large as the protocol allows, so that the server never waits for us. */
const grantedWindowBytes = 2 ** 31 - 1;
const defaultWindowBytes = 65_535;
/** How much we let arrive before we grant it again. */
const regrantBytes = 2 ** 24;
/**
 * A message is sent whole. Servers grant the window of a connection again when half of it is used at the latest, so
 * that a message of less than half always finds its window in the end; the generator sends no larger ones.
 */
const requestBytesMax = 32_000;
/** Until the server says how many streams it takes; all servers take so many. */
const firstStreamsMax = 100;
/** A frame of a server that ignored our SETTINGS_MAX_FRAME_SIZE, which is the default. */
const frameBytesMax = 2 ** 14;
const messageBytesMax = 64 * 2 ** 20;
const cachedHeaderBlocksMax = 1000;
const spareBytesMax = 2 ** 20;
const nothing = Buffer.alloc(0);

const connectionLost = (reason: string): CallStatus => ({ code: 14, text: `connection lost: ${reason}` });

class Stream {
  readonly listener: StreamListener;
  /** Bytes of a message that came in more than one piece. */
  partial: Buffer = nothing;
  partialLength = 0;
  receivedBytes = 0;
  httpStatus = "";
  constructor(listener: StreamListener) {
    this.listener = listener;
  }
}

interface WaitingCall {
  readonly headers: Uint8Array;
  readonly message: Uint8Array;
  readonly listener: StreamListener;
}

/** One connection; becomes useless after `closed` is true. */
export class Http2Connection {
  closed = false;
  private readonly socket: Duplex;
  private readonly streams = new Map<number, Stream>();
  private nextStreamId = 1;
  private outgoing: Buffer = Buffer.allocUnsafe(65_536);
  private outgoingLength = 0;
  private flushScheduled = false;
  /** A frame that came in more than one piece, as far as it is there. */
  private readonly frame: Buffer = Buffer.allocUnsafe(frameHeaderBytes + frameBytesMax);
  private frameLength = 0;
  /** What the last message of several pieces was gathered in: the next one uses it again. */
  private spare: Buffer = nothing;
  private headerBlock: Buffer[] = [];
  private headerFlags = 0;
  private sendWindowBytes = defaultWindowBytes;
  private streamsMax = firstStreamsMax;
  private settingsSeen = false;
  private receivedBytes = 0;
  /** Unary calls that wait for window or for a free stream; bounded by what the caller has in flight. */
  private waiting: WaitingCall[] = [];
  private readonly statusOfBlock = new Map<string, Map<string, string>>();

  constructor(socket: Duplex) {
    this.socket = socket;
    this.writePreface();
    socket.on("error", (error: Error) => this.fail(error.message));
    socket.on("close", () => this.fail("closed by the server"));
    if ("setNoDelay" in socket) (socket as Socket).setNoDelay(true);
  }

  /** Sends one message and half-closes the stream; the message may be overwritten afterwards. */
  unary(headers: Uint8Array, message: Uint8Array, listener: StreamListener): void {
    if (message.length > requestBytesMax) throw new Error(`request of ${message.length} bytes is too large`);
    if (this.closed) {
      process.nextTick(() => listener.end(connectionLost("not connected")));
      return;
    }
    if (this.waiting.length > 0 || !this.canSend(message.length))
      this.waiting.push({ headers, message: Uint8Array.from(message), listener });
    else this.sendUnary(headers, message, listener);
  }

  /** Opens a stream that stays open. Returns the function that sends a message on it. */
  stream(headers: Uint8Array, listener: StreamListener): (message: Uint8Array) => void {
    const id = this.openStream(headers, listener);
    return (message) => {
      if (!this.closed && this.streams.has(id)) this.writeMessage(id, message, 0);
    };
  }

  /** Ends the connection; calls without an answer end with Unavailable. */
  close(): void {
    this.fail("closed by us");
  }

  private canSend(messageBytes: number): boolean {
    return this.sendWindowBytes >= messageBytes + messagePrefixBytes && this.streams.size < this.streamsMax;
  }

  private sendUnary(headers: Uint8Array, message: Uint8Array, listener: StreamListener): void {
    const id = this.openStream(headers, listener);
    this.writeMessage(id, message, Flag.endStream);
  }

  private openStream(headers: Uint8Array, listener: StreamListener): number {
    const id = this.nextStreamId;
    this.nextStreamId += 2;
    this.streams.set(id, new Stream(listener));
    this.writeFrameHeader(headers.length, FrameType.headers, Flag.endHeaders, id);
    this.outgoing.set(headers, this.outgoingLength);
    this.outgoingLength += headers.length;
    return id;
  }

  private writeMessage(id: number, message: Uint8Array, flags: number): void {
    const length = message.length + messagePrefixBytes;
    this.sendWindowBytes -= length;
    // A frame carries at most 16 KiB unless the server allows more, so a large message takes several.
    if (length > frameBytesMax) {
      const framed = Buffer.allocUnsafe(length);
      framed[0] = 0;
      framed.writeUInt32BE(message.length, 1);
      framed.set(message, messagePrefixBytes);
      for (let offset = 0; offset < length; offset += frameBytesMax) {
        const piece = framed.subarray(offset, offset + frameBytesMax);
        const last = offset + frameBytesMax >= length;
        this.writeFrameHeader(piece.length, FrameType.data, last ? flags : 0, id);
        this.outgoing.set(piece, this.outgoingLength);
        this.outgoingLength += piece.length;
      }
      return;
    }
    this.writeFrameHeader(length, FrameType.data, flags, id);
    const out = this.outgoing;
    out[this.outgoingLength] = 0;
    out.writeUInt32BE(message.length, this.outgoingLength + 1);
    out.set(message, this.outgoingLength + messagePrefixBytes);
    this.outgoingLength += length;
  }

  /** Leaves room for the payload too. */
  private writeFrameHeader(length: number, type: number, flags: number, id: number): void {
    const needed = this.outgoingLength + frameHeaderBytes + length;
    if (needed > this.outgoing.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.outgoing.length * 2));
      this.outgoing.copy(larger, 0, 0, this.outgoingLength);
      this.outgoing = larger;
    }
    const out = this.outgoing;
    const start = this.outgoingLength;
    out[start] = length >>> 16;
    out[start + 1] = length >>> 8;
    out[start + 2] = length;
    out[start + 3] = type;
    out[start + 4] = flags;
    out.writeUInt32BE(id, start + 5);
    this.outgoingLength += frameHeaderBytes;
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    process.nextTick(flush, this);
  }

  /** Writes what was collected during this turn; called by the function below only. */
  flush(): void {
    this.flushScheduled = false;
    if (this.closed) return;
    this.socket.write(Buffer.from(this.outgoing.subarray(0, this.outgoingLength)));
    this.outgoingLength = 0;
  }

  private writePreface(): void {
    const settings = Buffer.alloc(18);
    settings.writeUInt16BE(Setting.headerTableSize, 0);
    settings.writeUInt32BE(0, 2);
    settings.writeUInt16BE(Setting.enablePush, 6);
    settings.writeUInt32BE(0, 8);
    settings.writeUInt16BE(Setting.initialWindowSize, 12);
    settings.writeUInt32BE(grantedWindowBytes, 14);
    this.outgoingLength = this.outgoing.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, "latin1");
    this.writeFrame(FrameType.settings, 0, 0, settings);
    this.grantWindow(0, grantedWindowBytes - defaultWindowBytes);
  }

  private writeFrame(type: number, flags: number, id: number, payload: Uint8Array): void {
    this.writeFrameHeader(payload.length, type, flags, id);
    this.outgoing.set(payload, this.outgoingLength);
    this.outgoingLength += payload.length;
  }

  private grantWindow(id: number, bytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(bytes, 0);
    this.writeFrame(FrameType.windowUpdate, 0, id, payload);
  }

  /** Takes what the socket received; the bytes may be overwritten afterwards. */
  receive(chunk: Buffer): void {
    try {
      let offset = this.frameLength === 0 ? 0 : this.completeFrame(chunk);
      while (chunk.length - offset >= frameHeaderBytes && !this.closed) {
        const end = offset + frameLengthAt(chunk, offset);
        if (end > chunk.length) break;
        this.handleFrame(chunk, offset, end);
        offset = end;
      }
      this.gatherFrame(chunk, offset, chunk.length - offset);
    } catch (error) {
      this.fail(error instanceof Error ? error.message : String(error));
      return;
    }
    if (this.waiting.length > 0) this.sendWaiting();
  }

  /** Takes what is missing of the frame that came in pieces, and handles it once it is whole. */
  private completeFrame(chunk: Buffer): number {
    let offset = this.gatherFrame(chunk, 0, frameHeaderBytes - this.frameLength);
    if (this.frameLength < frameHeaderBytes) return offset;
    const length = frameLengthAt(this.frame, 0);
    offset += this.gatherFrame(chunk, offset, length - this.frameLength);
    if (this.frameLength < length) return offset;
    this.frameLength = 0;
    this.handleFrame(this.frame, 0, length);
    return offset;
  }

  /** Keeps up to `wanted` bytes of the chunk for the frame that is not whole; returns how many those are. */
  private gatherFrame(chunk: Buffer, offset: number, wanted: number): number {
    const count = Math.min(Math.max(wanted, 0), chunk.length - offset);
    if (count > 0) chunk.copy(this.frame, this.frameLength, offset, offset + count);
    this.frameLength += count;
    return count;
  }

  private handleFrame(data: Buffer, start: number, end: number): void {
    const type = data[start + 3]!;
    const flags = data[start + 4]!;
    const id = data.readUInt32BE(start + 5) & 0x7fffffff;
    const from = start + frameHeaderBytes;
    if (type === FrameType.data) this.handleData(flags, id, data, from, end);
    else if (type === FrameType.headers || type === FrameType.continuation) {
      const block = type === FrameType.headers && flags & Flag.priority ? from + 5 : from;
      this.handleHeaders(type, flags, id, data.subarray(block, end));
    } else if (type === FrameType.windowUpdate) {
      // Windows of single streams are not followed: every request fits the first window of its stream.
      if (id === 0) this.sendWindowBytes += data.readUInt32BE(from) & 0x7fffffff;
    } else if (type === FrameType.settings) this.handleSettings(flags, data, from, end);
    else if (type === FrameType.ping) {
      if ((flags & Flag.acknowledgement) === 0)
        this.writeFrame(FrameType.ping, Flag.acknowledgement, 0, data.subarray(from, end));
    } else if (type === FrameType.reset) {
      const code = data.readUInt32BE(from);
      this.endStream(id, {
        code: code === 7 ? 14 : 13,
        text: `stream reset by the server, HTTP/2 error ${code}`,
      });
    } else if (type === FrameType.goAway) {
      this.fail(
        `GOAWAY, HTTP/2 error ${data.readUInt32BE(from + 4)}: ${data.toString("latin1", from + 8, end)}`,
      );
    }
  }

  private handleData(flags: number, id: number, data: Buffer, from: number, end: number): void {
    this.receivedBytes += end - from;
    if (this.receivedBytes >= regrantBytes) {
      this.grantWindow(0, this.receivedBytes);
      this.receivedBytes = 0;
    }
    const stream = this.streams.get(id);
    if (stream === undefined) return;
    stream.receivedBytes += end - from;
    if (stream.receivedBytes >= regrantBytes) {
      this.grantWindow(id, stream.receivedBytes);
      stream.receivedBytes = 0;
    }
    const padded = (flags & Flag.padded) !== 0;
    this.handleMessages(stream, data, padded ? from + 1 : from, padded ? end - data[from]! : end);
    if (flags & Flag.endStream)
      this.endStream(id, { code: 13, text: "the server ended the stream without a status" });
  }

  /** Hands out whole messages as views; only one that spans frames is copied. */
  private handleMessages(stream: Stream, data: Buffer, from: number, end: number): void {
    let offset = from;
    if (stream.partialLength === 0) {
      while (end - offset >= messagePrefixBytes) {
        const messageEnd = offset + messagePrefixBytes + data.readUInt32BE(offset + 1);
        if (messageEnd > end) break;
        stream.listener.message(data.subarray(offset + messagePrefixBytes, messageEnd));
        offset = messageEnd;
      }
      if (offset === end) return;
    }
    this.appendPartial(stream, data, offset, end);
    if (stream.partialLength < messagePrefixBytes) return;
    const needed = stream.partial.readUInt32BE(1) + messagePrefixBytes;
    if (needed > messageBytesMax) throw new Error(`message of ${needed} bytes is too large`);
    if (stream.partialLength < needed) return;
    const { partial: whole, partialLength } = stream;
    stream.partial = nothing;
    stream.partialLength = 0;
    this.handleMessages(stream, whole, 0, partialLength);
    if (whole.length <= spareBytesMax) this.spare = whole;
  }

  /** Grows in powers of two: lists come in dozens of frames. */
  private appendPartial(stream: Stream, data: Buffer, from: number, end: number): void {
    if (stream.partial === nothing) {
      stream.partial = this.spare;
      this.spare = nothing;
    }
    const needed = stream.partialLength + end - from;
    if (needed > stream.partial.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, stream.partial.length * 2, 4096));
      stream.partial.copy(larger, 0, 0, stream.partialLength);
      stream.partial = larger;
    }
    data.copy(stream.partial, stream.partialLength, from, end);
    stream.partialLength = needed;
  }

  private handleHeaders(type: number, flags: number, id: number, block: Buffer): void {
    if (flags & Flag.padded && type === FrameType.headers) throw new Error("padded header block");
    if (type === FrameType.headers) this.headerFlags = flags;
    let whole = block;
    if ((flags & Flag.endHeaders) === 0 || this.headerBlock.length > 0) {
      this.headerBlock.push(Buffer.from(block));
      if (this.headerBlock.length > 64) throw new Error("header block is too long");
      if ((flags & Flag.endHeaders) === 0) return;
      whole = Buffer.concat(this.headerBlock);
      this.headerBlock = [];
    }
    const headers = this.headersOf(whole);
    const stream = this.streams.get(id);
    if (stream === undefined) return;
    stream.httpStatus = headers.get(":status") ?? stream.httpStatus;
    if ((this.headerFlags & Flag.endStream) === 0) return;
    const code = headers.get("grpc-status");
    const text = headers.get("grpc-message") ?? "";
    if (code !== undefined) this.endStream(id, { code: Number(code), text: decodePercent(text) });
    else
      this.endStream(id, { code: 2, text: `answer without grpc-status, HTTP status ${stream.httpStatus}` });
  }

  /** Servers send the same few blocks again and again, and without a dynamic table they mean the same. */
  private headersOf(block: Buffer): Map<string, string> {
    const key = block.toString("latin1");
    const known = this.statusOfBlock.get(key);
    if (known !== undefined) return known;
    const headers = decodeHeaders(block);
    if (this.statusOfBlock.size < cachedHeaderBlocksMax) this.statusOfBlock.set(key, headers);
    return headers;
  }

  private handleSettings(flags: number, data: Buffer, from: number, end: number): void {
    if (flags & Flag.acknowledgement) return;
    if (!this.settingsSeen) this.streamsMax = 2 ** 31;
    this.settingsSeen = true;
    for (let offset = from; offset + 6 <= end; offset += 6) {
      const value = data.readUInt32BE(offset + 2);
      const setting = data.readUInt16BE(offset);
      if (setting === Setting.maxConcurrentStreams) this.streamsMax = value;
      if (setting === Setting.initialWindowSize && value < requestBytesMax)
        throw new Error(
          `the server allows streams ${value} bytes only; the generator needs ${requestBytesMax}`,
        );
    }
    this.writeFrame(FrameType.settings, Flag.acknowledgement, 0, Buffer.alloc(0));
  }

  private sendWaiting(): void {
    let sent = 0;
    for (const call of this.waiting) {
      if (this.closed || !this.canSend(call.message.length)) break;
      this.sendUnary(call.headers, call.message, call.listener);
      sent++;
    }
    this.waiting.splice(0, sent);
  }

  private endStream(id: number, status: CallStatus): void {
    const stream = this.streams.get(id);
    if (stream === undefined) return;
    this.streams.delete(id);
    stream.listener.end(status);
  }

  private fail(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.socket.destroy();
    const status = connectionLost(reason);
    const listeners = [...this.streams.values(), ...this.waiting].map((call) => call.listener);
    this.streams.clear();
    this.waiting = [];
    for (const listener of listeners) listener.end(status);
  }
}

function flush(connection: Http2Connection): void {
  connection.flush();
}

/** Length of a frame with its header, which must be there. */
function frameLengthAt(data: Buffer, offset: number): number {
  const length = (data[offset]! << 16) | (data[offset + 1]! << 8) | data[offset + 2]!;
  if (length > frameBytesMax) throw new Error(`frame of ${length} bytes is too large`);
  return frameHeaderBytes + length;
}

/** grpc-message is percent-encoded; what is malformed is left as it is. */
function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
