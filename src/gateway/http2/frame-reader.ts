/** Cuts the bytes of a connection into frames. */
import { ErrorCode, Flag, FRAME_HEADER_SIZE_BYTES, FRAME_SIZE_DEFAULT_BYTES, PREFACE } from "./constants.ts";
import { ConnectionError } from "./protocol-error.ts";

const EMPTY = Buffer.alloc(0);

/** A header block whose continuations are still to come. */
export interface PendingHeaders {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly parts: Buffer[];
  sizeBytes: number;
}

/** Takes a frame; the payload is a view. Returns whether to go on. */
export type TakeFrame = (type: number, flags: number, streamId: number, payload: Buffer) => boolean;

export class FrameReader {
  readonly #take: TakeFrame;
  /** Bytes of a frame that is not complete. */
  #rest: Buffer = EMPTY;
  #prefaceSeen = false;

  constructor(take: TakeFrame) {
    this.#take = take;
  }

  /** Takes the next bytes off the wire and hands on every frame that is complete. Throws ConnectionError. */
  push(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = EMPTY;
    let at = 0;
    if (!this.#prefaceSeen) {
      const size = Math.min(bytes.length, PREFACE.length);
      if (!PREFACE.subarray(0, size).equals(bytes.subarray(0, size))) {
        throw new ConnectionError(ErrorCode.protocolError, "no preface");
      }
      if (size === PREFACE.length) {
        this.#prefaceSeen = true;
        at = PREFACE.length;
      }
    }
    while (this.#prefaceSeen && bytes.length - at >= FRAME_HEADER_SIZE_BYTES) {
      const size = bytes.readUIntBE(at, 3);
      if (size > FRAME_SIZE_DEFAULT_BYTES) {
        throw new ConnectionError(ErrorCode.frameSizeError, "frame too long");
      }
      const start = at + FRAME_HEADER_SIZE_BYTES;
      if (bytes.length - start < size) break;
      const streamId = bytes.readUInt32BE(at + 5) & 0x7fffffff;
      at = start + size;
      if (!this.#take(bytes[start - 6]!, bytes[start - 5]!, streamId, bytes.subarray(start, at))) return;
    }
    if (at < bytes.length) this.#rest = bytes.subarray(at);
  }
}

/** Payload without its padding. Throws ConnectionError. */
export function unpadded(flags: number, payload: Buffer): Buffer {
  if ((flags & Flag.padded) === 0) return payload;
  const padding = payload[0] ?? 255;
  if (padding >= payload.length) throw new ConnectionError(ErrorCode.protocolError, "padding too long");
  return payload.subarray(1, payload.length - padding);
}
