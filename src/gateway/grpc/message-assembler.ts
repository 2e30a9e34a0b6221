/** Cuts the bytes of a gRPC request stream into messages. */
import { gunzipSync } from "node:zlib";
import { GrpcCode, type GrpcStatus } from "./status.ts";

/** Compressed flag and length in front of every gRPC message. */
export const PREFIX_SIZE_BYTES = 5;
/** The flag in the prefix of a compressed message. */
const COMPRESSED = 1;
const GZIP = "gzip";
/** The compressions of messages that are taken, as `grpc-accept-encoding` says it. */
export const ACCEPTED_ENCODINGS: string = `identity,${GZIP}`;

/** Counts the bytes of all requests that are not complete yet, so that they can be bounded. */
export interface PartialBytes {
  sizeBytes: number;
}

export class MessageAssembler {
  readonly #sizeBytesMax: number;
  readonly #partial: PartialBytes;
  #chunks: Buffer[] = [];
  #sizeBytes = 0;

  constructor(sizeBytesMax: number, partial: PartialBytes) {
    this.#sizeBytesMax = sizeBytesMax;
    this.#partial = partial;
  }

  /**
   * Takes the next bytes and gives every message that is complete now, without its prefix, to `take`. Messages
   * that came in one chunk, and not compressed, are views of it. Returns why the call has to fail, if it has to.
   */
  push(chunk: Buffer, encoding: string | undefined, take: (message: Buffer) => void): GrpcStatus | undefined {
    let bytes = chunk;
    if (this.#chunks.length > 0) {
      this.#chunks.push(chunk);
      this.#count(chunk.length);
      if (this.#sizeBytes < PREFIX_SIZE_BYTES || this.#sizeBytes < this.#wantedSizeBytes()) return undefined;
      bytes = Buffer.concat(this.#chunks);
      this.clear();
    }
    let at = 0;
    while (bytes.length - at >= PREFIX_SIZE_BYTES) {
      const size = bytes.readUInt32BE(at + 1);
      const flag = bytes[at]!;
      const failure = checkPrefix(flag, size, this.#sizeBytesMax, encoding);
      if (failure !== undefined) return failure;
      if (bytes.length - at - PREFIX_SIZE_BYTES < size) break;
      at += PREFIX_SIZE_BYTES + size;
      let message: Buffer | GrpcStatus = bytes.subarray(at - size, at);
      if (flag === COMPRESSED) message = decompressed(message, this.#sizeBytesMax);
      if (!(message instanceof Uint8Array)) return message;
      take(message);
    }
    if (at < bytes.length) {
      this.#chunks.push(at === 0 ? bytes : bytes.subarray(at));
      this.#count(bytes.length - at);
    }
    return undefined;
  }

  /** Whether part of a message is here. */
  get incomplete(): boolean {
    return this.#sizeBytes > 0;
  }

  /** Whether part of a message behind its prefix is missing; grpc-go sees no less than that. */
  get begun(): boolean {
    return this.#sizeBytes >= PREFIX_SIZE_BYTES;
  }

  /** Forgets what is incomplete; to be called when the call ends. */
  clear(): void {
    this.#partial.sizeBytes -= this.#sizeBytes;
    this.#sizeBytes = 0;
    this.#chunks = [];
  }

  #count(sizeBytes: number): void {
    this.#sizeBytes += sizeBytes;
    this.#partial.sizeBytes += sizeBytes;
  }

  /** Size of the incomplete message with its prefix, which may lie across chunks. */
  #wantedSizeBytes(): number {
    let prefix = this.#chunks[0]!;
    if (prefix.length < PREFIX_SIZE_BYTES) {
      prefix = Buffer.concat(this.#chunks);
      this.#chunks = [prefix];
    }
    // A length above the limit is found as soon as the prefix is looked at.
    return Math.min(PREFIX_SIZE_BYTES + prefix.readUInt32BE(1), PREFIX_SIZE_BYTES + this.#sizeBytesMax);
  }
}

/** Whether messages may come compressed in this way, or not at all. */
export function isKnownEncoding(encoding: string): boolean {
  return encoding === GZIP || !isCompression(encoding);
}

function isCompression(encoding: string | undefined): boolean {
  return encoding !== undefined && encoding !== "" && encoding !== "identity";
}

/**
 * What is wrong with a message by its prefix alone, in grpc-go's words. A call whose encoding is not known was
 * refused before.
 */
function checkPrefix(
  flag: number,
  sizeBytes: number,
  sizeBytesMax: number,
  encoding: string | undefined,
): GrpcStatus | undefined {
  if (flag === COMPRESSED && !isCompression(encoding)) {
    return {
      code: GrpcCode.internal,
      message: "grpc: compressed flag set with identity or empty encoding",
    };
  }
  if (flag !== 0 && flag !== COMPRESSED) {
    return { code: GrpcCode.internal, message: `grpc: received unexpected payload format ${flag}` };
  }
  if (sizeBytes > sizeBytesMax) {
    return {
      code: GrpcCode.resourceExhausted,
      message: `grpc: received message larger than max (${sizeBytes} vs. ${sizeBytesMax})`,
    };
  }
  return undefined;
}

/** The message, or why there is none; never more than the limit is put into memory. */
function decompressed(message: Buffer, sizeBytesMax: number): Buffer | GrpcStatus {
  try {
    return gunzipSync(message, { maxOutputLength: sizeBytesMax });
  } catch (error) {
    const { code, message: reason } = error as NodeJS.ErrnoException;
    if (code === "ERR_BUFFER_TOO_LARGE") {
      return {
        code: GrpcCode.resourceExhausted,
        message: `grpc: received message after decompression larger than max ${sizeBytesMax}`,
      };
    }
    return { code: GrpcCode.internal, message: `grpc: failed to decompress the message: ${reason}` };
  }
}
