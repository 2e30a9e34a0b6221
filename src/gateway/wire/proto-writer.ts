/**
 * Writes one gRPC message: the five-byte prefix and protobuf fields, into a buffer of exactly the right size.
 * Every message type has a size function and a write function; `finish` asserts that they agree.
 */
import { assert } from "../../base/assert.ts";

/** Compressed flag and length in front of every gRPC message. */
export const PREFIX_SIZE_BYTES = 5;

/** Bytes of the varint of a non-negative safe integer, or of a negative one (always ten). */
export function varintSize(value: number): number {
  if (value < 0x80) return value < 0 ? 10 : 1;
  if (value < 0x4000) return 2;
  if (value < 0x200000) return 3;
  if (value < 0x10000000) return 4;
  if (value < 0x800000000) return 5;
  if (value < 0x40000000000) return 6;
  if (value < 0x2000000000000) return 7;
  return 8;
}

/** Bytes of the varint of a 64-bit integer, signed or unsigned. */
export function varint64Size(value: bigint): number {
  let rest = BigInt.asUintN(64, value);
  let size = 1;
  while (rest >= 0x80n) {
    rest >>= 7n;
    size++;
  }
  return size;
}

/** A field of one-byte tag and number, left out when zero. */
export function numberFieldSize(value: number): number {
  return value === 0 ? 0 : 1 + varintSize(value);
}

/** A field of one-byte tag and 64-bit integer, left out when zero. */
export function bigFieldSize(value: bigint): number {
  return value === 0n ? 0 : 1 + varint64Size(value);
}

/** A delimited field of one-byte tag, also when it is empty. */
export function delimitedSize(size: number): number {
  return 1 + varintSize(size) + size;
}

/** A bytes or string field of one-byte tag, left out when empty. */
export function bytesFieldSize(size: number): number {
  return size === 0 ? 0 : 1 + varintSize(size) + size;
}

/** Below this a loop is quicker than a call into native code. */
const SHORT_TEXT = 20;

export class ProtoWriter {
  bytes: Buffer = Buffer.alloc(0);
  at = 0;

  /** Starts a buffer of its own, without a gRPC prefix. */
  begin(sizeBytes: number): void {
    this.bytes = Buffer.allocUnsafe(sizeBytes);
    this.at = 0;
  }

  /** Starts a buffer that holds one gRPC message of this size. */
  beginFrame(sizeBytes: number): void {
    this.begin(PREFIX_SIZE_BYTES + sizeBytes);
    this.prefix(sizeBytes);
  }

  /** The prefix of the gRPC message that follows. */
  prefix(sizeBytes: number): void {
    const { bytes, at } = this;
    bytes[at] = 0;
    bytes[at + 1] = sizeBytes >>> 24;
    bytes[at + 2] = sizeBytes >>> 16;
    bytes[at + 3] = sizeBytes >>> 8;
    bytes[at + 4] = sizeBytes;
    this.at = at + PREFIX_SIZE_BYTES;
  }

  /** The buffer, which must be full. */
  finish(): Buffer {
    assert(this.at === this.bytes.length, "a message is as long as its size function says");
    return this.bytes;
  }

  byte(value: number): void {
    this.bytes[this.at++] = value;
  }

  varint(value: number): void {
    const bytes = this.bytes;
    if (value < 0) {
      this.varint64(BigInt(value));
      return;
    }
    while (value >= 0x80000000) {
      bytes[this.at++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    while (value >= 0x80) {
      bytes[this.at++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    bytes[this.at++] = value;
  }

  varint64(value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    while (rest >= 0x80n) {
      this.bytes[this.at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.bytes[this.at++] = Number(rest);
  }

  numberField(tag: number, value: number): void {
    if (value === 0) return;
    this.bytes[this.at++] = tag;
    this.varint(value);
  }

  bigField(tag: number, value: bigint): void {
    if (value === 0n) return;
    this.bytes[this.at++] = tag;
    this.varint64(value);
  }

  boolField(tag: number, value: boolean): void {
    if (!value) return;
    this.bytes[this.at++] = tag;
    this.bytes[this.at++] = 1;
  }

  /** Tag and length of a delimited field whose content follows. */
  open(tag: number, sizeBytes: number): void {
    this.bytes[this.at++] = tag;
    this.varint(sizeBytes);
  }

  raw(content: Uint8Array): void {
    this.bytes.set(content, this.at);
    this.at += content.length;
  }

  bytesField(tag: number, content: Uint8Array): void {
    if (content.length === 0) return;
    this.open(tag, content.length);
    this.raw(content);
  }

  /** A byte string as a bytes field, also when it is empty if `always`. */
  byteStringField(tag: number, text: string, always = false): void {
    const size = text.length;
    if (size === 0 && !always) return;
    this.open(tag, size);
    const { bytes, at } = this;
    if (size <= SHORT_TEXT) for (let i = 0; i < size; i++) bytes[at + i] = text.charCodeAt(i);
    else bytes.latin1Write(text, at, size);
    this.at = at + size;
  }

  /** A string field, also when it is empty if `always`. */
  stringField(tag: number, text: string, always = false): void {
    if (text.length === 0 && !always) return;
    const size = Buffer.byteLength(text);
    this.open(tag, size);
    this.bytes.utf8Write(text, this.at, size);
    this.at += size;
  }
}

/** The one writer: encoding never yields, so all encoders share it. */
export const writer: ProtoWriter = new ProtoWriter();
