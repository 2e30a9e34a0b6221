/**
 * Reads protobuf fields from a buffer without copying. Made for messages whose fields are known: the caller
 * switches on the whole tag (field number and wire type) and gives every other tag to `skip`, which skips
 * fields that the message does not know and refuses known ones of the wrong type, in etcd's words.
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

/** What `skip` has to know of a message. */
export interface MessageShape {
  /** As in the .proto. */
  readonly name: string;
  /** Go's name of each field that the reader of the message reads, by number. */
  readonly fields: Readonly<Record<number, string>>;
}

/** Describes a message whose fields have the numbers from 1 on. */
export function messageShape(name: string, ...fields: readonly string[]): MessageShape {
  return { name, fields: Object.fromEntries(fields.map((field, i) => [i + 1, field])) };
}

/** For readers of answers, which look past what they do not know. */
const ANY_MESSAGE = messageShape("message");
const TWO_32 = 4294967296;
const END_GROUP = 4;

const cutShort = (): ProtoError => new ProtoError("unexpected EOF");
const overflow = (): ProtoError => new ProtoError("proto: integer overflow");
const negativeLength = (): ProtoError => new ProtoError("proto: negative length found during unmarshaling");

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

  /** Field number (an int32, as in Go) times eight plus wire type. */
  tag(): number {
    const first = this.bytes[this.at]!;
    if (first < 0x80 && this.at < this.end) {
      this.at++;
      return first;
    }
    const start = this.at;
    const near = this.int64();
    if (near >= 0 && near < TWO_32) return near;
    this.at = start;
    const wire = BigInt.asUintN(64, this.int64Exact());
    return Number(BigInt.asIntN(32, wire >> 3n)) * 8 + Number(wire & 7n);
  }

  /** The low 32 bits of a varint, signed: an int32 or enum. */
  int32(): number {
    const bytes = this.bytes;
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= this.end) throw cutShort();
      const byte = bytes[this.at++]!;
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value | 0;
    }
    throw overflow();
  }

  bool(): boolean {
    let any = 0;
    for (let count = 0; count < 10; count++) {
      if (this.at >= this.end) throw cutShort();
      const byte = this.bytes[this.at++]!;
      any |= byte & 0x7f;
      if (byte < 0x80) return any !== 0;
    }
    throw overflow();
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
      if (this.at >= this.end) throw cutShort();
      const byte = bytes[this.at++]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high |= bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) return (high | 0) * TWO_32 + (low >>> 0);
    }
    throw overflow();
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
    const size = this.#length();
    const end = this.at + size;
    if (end > this.end) throw cutShort();
    if (size < 0) throw negativeLength();
    return end;
  }

  /** A length of any size; those of real messages are read without floating point. */
  #length(): number {
    const bytes = this.bytes;
    const start = this.at;
    let size = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.at >= this.end) throw cutShort();
      const byte = bytes[this.at++]!;
      size |= (byte & 0x7f) << shift;
      if (byte < 0x80) return size;
    }
    this.at = start;
    return this.int64();
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

  /** Skips the field of this tag, which is none that the message knows. */
  skip(tag: number, { name, fields }: MessageShape = ANY_MESSAGE): void {
    const wireType = tag & 7;
    const number = (tag - wireType) / 8;
    if (wireType === END_GROUP) throw new ProtoError(`proto: ${name}: wiretype end group for non-group`);
    if (number <= 0) throw new ProtoError(`proto: ${name}: illegal tag ${number} (wire type ${tag})`);
    const known = fields[number];
    if (known !== undefined) throw new ProtoError(`proto: wrong wireType = ${wireType} for field ${known}`);
    // Groups are skipped as gogo/protobuf does it: whatever numbers their ends have.
    let depth = this.#skipValue(wireType);
    while (depth > 0) depth += this.#skipValue(this.tag() & 7);
  }

  /** Skips what is behind a tag. Returns by how much groups are deeper there. */
  #skipValue(wireType: number): number {
    switch (wireType) {
      case 0:
        this.int64();
        return 0;
      case 1:
        this.#advance(8);
        return 0;
      case 2:
        this.at = this.open();
        return 0;
      case 3:
        return 1;
      case END_GROUP:
        return -1;
      case 5:
        this.#advance(4);
        return 0;
      default:
        throw new ProtoError(`proto: illegal wireType ${wireType}`);
    }
  }

  #advance(size: number): void {
    if (this.at + size > this.end) throw cutShort();
    this.at += size;
  }
}
