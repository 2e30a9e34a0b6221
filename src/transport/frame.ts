/**
 * Frames on a link: the length of the message in four bytes, then the message. A frame of length zero is a
 * sign of life and carries nothing.
 */
import { readU32 } from "../base/bytes.ts";

/** Bytes before each message. */
export const FRAME_HEADER_SIZE_BYTES = 4;

/** Lays frames of all messages into one buffer. */
export function encodeFrames(messages: readonly Uint8Array[], totalSizeBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(totalSizeBytes);
  let at = 0;
  for (const message of messages) {
    const length = message.length;
    bytes[at] = length >>> 24;
    bytes[at + 1] = length >>> 16;
    bytes[at + 2] = length >>> 8;
    bytes[at + 3] = length;
    bytes.set(message, at + FRAME_HEADER_SIZE_BYTES);
    at += FRAME_HEADER_SIZE_BYTES + length;
  }
  return bytes;
}

/** The header of a frame alone, for a message too large to be copied. */
export function encodeFrameHeader(messageSizeBytes: number): Buffer {
  const header = Buffer.allocUnsafe(FRAME_HEADER_SIZE_BYTES);
  header.writeUInt32BE(messageSizeBytes, 0);
  return header;
}

/** What a reader does with a message; false ends reading (the connection was closed meanwhile). */
export type OnFrame = (message: Uint8Array) => boolean;

/**
 * Cuts a stream into frames. A message that lies in one chunk is handed on as a view of that chunk; one that
 * spans several is gathered in a buffer of its own, of the announced length, which is bounded.
 */
export class FrameReader {
  readonly #onFrame: OnFrame;
  #maxFrameBytes: number;
  readonly #header = new Uint8Array(FRAME_HEADER_SIZE_BYTES);
  #headerSize = 0;
  #message: Uint8Array | undefined;
  #messageSize = 0;

  constructor(maxFrameBytes: number, onFrame: OnFrame) {
    this.#maxFrameBytes = maxFrameBytes;
    this.#onFrame = onFrame;
  }

  /** Changes the bound for frames that come from now on. */
  set maxFrameBytes(value: number) {
    this.#maxFrameBytes = value;
  }

  /** Takes the next bytes of the stream; false when they announce a frame that is too large. */
  read(chunk: Uint8Array): boolean {
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      if (this.#message !== undefined) {
        at = this.#gather(this.#message, chunk, at);
        if (this.#message !== undefined) return true;
        continue;
      }
      let length: number;
      if (this.#headerSize === 0 && end - at >= FRAME_HEADER_SIZE_BYTES) {
        length = readU32(chunk, at);
        at += FRAME_HEADER_SIZE_BYTES;
      } else {
        this.#header[this.#headerSize++] = chunk[at++]!;
        if (this.#headerSize < FRAME_HEADER_SIZE_BYTES) continue;
        this.#headerSize = 0;
        length = readU32(this.#header, 0);
      }
      if (length > this.#maxFrameBytes) return false;
      if (length === 0) continue;
      if (end - at >= length) {
        const message = chunk.subarray(at, at + length);
        at += length;
        if (!this.#onFrame(message)) return true;
      } else {
        this.#message = new Uint8Array(length);
        this.#messageSize = 0;
      }
    }
    return true;
  }

  /** Copies what the chunk has of a message that started earlier; gives the position after it. */
  #gather(message: Uint8Array, chunk: Uint8Array, at: number): number {
    const size = Math.min(message.length - this.#messageSize, chunk.length - at);
    message.set(chunk.subarray(at, at + size), this.#messageSize);
    this.#messageSize += size;
    if (this.#messageSize < message.length) return chunk.length;
    this.#message = undefined;
    return this.#onFrame(message) ? at + size : chunk.length;
  }
}
