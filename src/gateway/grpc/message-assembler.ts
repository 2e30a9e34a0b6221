/** Cuts the bytes of a gRPC request stream into messages. */
import { GrpcCode, type GrpcStatus } from "./status.ts";

const PREFIX_SIZE_BYTES = 5;

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
   * that came in one chunk are views of it. Returns why the call has to fail, if it has to.
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
      const failure = checkPrefix(bytes[at]!, size, this.#sizeBytesMax, encoding);
      if (failure !== undefined) return failure;
      if (bytes.length - at - PREFIX_SIZE_BYTES < size) break;
      at += PREFIX_SIZE_BYTES + size;
      take(bytes.subarray(at - size, at));
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

/** What is wrong with a message by its prefix alone, in grpc-go's words. */
export function checkPrefix(
  flag: number,
  sizeBytes: number,
  sizeBytesMax: number,
  encoding: string | undefined,
): GrpcStatus | undefined {
  if (flag === 1) {
    if (encoding === undefined || encoding === "identity") {
      return {
        code: GrpcCode.internal,
        message: "grpc: compressed flag set with identity or empty encoding",
      };
    }
    return {
      code: GrpcCode.unimplemented,
      message: `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`,
    };
  }
  if (flag !== 0) {
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
