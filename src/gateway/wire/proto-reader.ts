/**
 * Reads protobuf fields from a buffer without copying. Made for messages whose fields are known: the caller
 * switches on the whole tag (field number and wire type), so that a field of the wrong type is skipped like
 * an unknown one.
 */

/** Bytes from a client that are no protobuf message; answered as an error, never thrown further. */
export class ProtoError extends Error {
  override name = "ProtoError";
}

declare global {
  /** Node's own conversions, which Buffer's documented methods call after looking at their arguments. */
  interface Buffer {
    latin1Slice(start: number, end: number): string;
    utf8Slice(start: number, end: number): string;
    latin1Write(text: string, offset: number, length: number): number;
    utf8Write(text: string, offset: number, length: number): number;
  }
}

const TWO_32 = 4294967296;

export class ProtoReader {
  readonly bytes: Buffer;
  /** Index of the next byte to read. */
  at: number;
  /** Index after the last byte of the message being read. */
  end: number;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** Field number times eight plus wire type. */
  tag(): number {
    const first = this.bytes[this.at]!;
    if (first < 0x80 && this.at < this.end) {
      this.at++;
      return first;
    }
    return this.uint32();
  }

  /** The low 32 bits of a varint (tags, lengths, enums, booleans), unsigned. */
  uint32(): number {
    const bytes = this.bytes;
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= this.end) throw new ProtoError("unexpected EOF");
      const byte = bytes[this.at++]!;
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw new ProtoError("integer overflow");
  }

  /** An int32 or enum. */
  int32(): number {
    return this.uint32() | 0;
  }

  bool(): boolean {
    let any = 0;
    for (let count = 0; count < 10; count++) {
      if (this.at >= this.end) throw new ProtoError("unexpected EOF");
      const byte = this.bytes[this.at++]!;
      any |= byte & 0x7f;
      if (byte < 0x80) return any !== 0;
    }
    throw new ProtoError("integer overflow");
  }

  /** An int64 as a number; beyond 2^53 the nearest one. */
  int64(): number {
    const bytes = this.bytes;
    const first = bytes[this.at]!;
    if (first < 0x80 && this.at < this.end) {
      this.at++;
      return first;
    }
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= this.end) throw new ProtoError("unexpected EOF");
      const byte = bytes[this.at++]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high |= bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) return (high | 0) * TWO_32 + (low >>> 0);
    }
    throw new ProtoError("integer overflow");
  }

  /** An int64, exactly. */
  int64Exact(): bigint {
    const start = this.at;
    const near = this.int64();
    if (Number.isSafeInteger(near)) return BigInt(near);
    let value = 0n;
    let shift = 0n;
    for (let at = start; at < this.at; at++, shift += 7n) value |= BigInt(this.bytes[at]! & 0x7f) << shift;
    return BigInt.asIntN(64, value);
  }

  /** Reads the length of a delimited field and checks that it is all there. Returns where the field ends. */
  open(): number {
    const size = this.uint32();
    const end = this.at + size;
    if (end > this.end) throw new ProtoError("unexpected EOF");
    return end;
  }

  /** A view of a bytes field. */
  view(): Buffer {
    const end = this.open();
    const view = this.bytes.subarray(this.at, end);
    this.at = end;
    return view;
  }

  /** A bytes field as a byte string. */
  byteString(): string {
    const end = this.open();
    const text = this.bytes.latin1Slice(this.at, end);
    this.at = end;
    return text;
  }

  /** A string field. */
  string(): string {
    const end = this.open();
    const text = this.bytes.utf8Slice(this.at, end);
    this.at = end;
    return text;
  }

  /** Skips the field of this tag. */
  skip(tag: number): void {
    if (tag >>> 3 === 0) throw new ProtoError("illegal tag 0");
    switch (tag & 7) {
      case 0:
        this.int64();
        return;
      case 1:
        this.#advance(8);
        return;
      case 2:
        this.at = this.open();
        return;
      case 5:
        this.#advance(4);
        return;
      default:
        throw new ProtoError(`illegal wireType ${tag & 7}`);
    }
  }

  #advance(size: number): void {
    if (this.at + size > this.end) throw new ProtoError("unexpected EOF");
    this.at += size;
  }
}
