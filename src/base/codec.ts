/**
 * The canonical codec: bytes that are hashed, signed, logged or sent between members have exactly one
 * encoding. Layouts are fixed, integers big-endian, lengths explicit; a reader refuses what is short, too
 * long, out of bounds or followed by anything.
 */
import { readU32, toByteString } from "./bytes.ts";
import { Slab } from "./slab.ts";

/** Bytes from outside that are not an encoding of what was expected. Counted and dropped, never fatal. */
export class DecodeError extends Error {
  override name = "DecodeError";
}

const MAX_SAFE_HIGH = 0x1fffff;
/** V8 keeps an array of up to this size in its heap; a longer one costs an allocation outside. */
const HEAP_ARRAY_MAX_BYTES = 64;

/** What soon dies and what lives on lie apart: a slab lives as long as the last array in it. */
const shortLived = new Slab();
const longLived = new Slab();

/** Appends fields to a growing buffer. `finish` gives the bytes and leaves the writer empty. */
export class Writer {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;

  constructor(initialSizeBytes = 256) {
    this.#bytes = new Uint8Array(initialSizeBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  #reserve(size: number): number {
    const at = this.#length;
    const needed = at + size;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = needed;
    return at;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#bytes[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#view.setUint16(at, value);
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value);
    return this;
  }

  /** A non-negative safe integer (0 to 2^53-1) in eight bytes. */
  u53(value: number): this {
    const at = this.#reserve(8);
    this.#view.setUint32(at, Math.floor(value / 0x100000000));
    this.#view.setUint32(at + 4, value >>> 0);
    return this;
  }

  i64(value: bigint): this {
    const at = this.#reserve(8);
    this.#view.setBigInt64(at, value);
    return this;
  }

  boolean(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  /** Bytes of a length that both sides know. */
  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** Bytes behind their length in four bytes. */
  bytes(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  /** A byte string behind its length in four bytes. */
  byteString(text: string): this {
    this.u32(text.length);
    const at = this.#reserve(text.length);
    const bytes = this.#bytes;
    for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
    return this;
  }

  /** A count followed by that many items. */
  list<T>(items: readonly T[], write: (item: T, writer: this) => void): this {
    this.u32(items.length);
    for (const item of items) write(item, this);
    return this;
  }

  /** The bytes written so far as a view, good until this writer is used again; leaves the writer empty. */
  view(): Uint8Array {
    const written = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return written;
  }

  /**
   * The bytes written so far, for a short life (a message, a log record): they may share their array with
   * others, which lives as long as the last of them.
   */
  finishShared(): Uint8Array {
    return this.finishIn(shortLived);
  }

  /** The bytes written so far, in an array of this slab. */
  finishIn(slab: Slab): Uint8Array {
    const done = slab.allocate(this.#length);
    done.set(this.view());
    return done;
  }

  /** The bytes written so far, in an array of their own. */
  finish(): Uint8Array {
    const done = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    return done;
  }
}

/** Takes fields from bytes in the order in which they were written; every method throws DecodeError. */
export class Reader {
  // Integers are read byte by byte: a DataView costs more to make than a message has integers.
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    // Never a subclass: Node's Buffer makes `slice` a view, which would keep whole network buffers alive.
    this.#bytes =
      bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#at = start;
    this.#end = end;
  }

  get position(): number {
    return this.#at;
  }

  get remaining(): number {
    return this.#end - this.#at;
  }

  #take(size: number): number {
    const at = this.#at;
    if (size > this.#end - at) throw new DecodeError(`${size} bytes wanted, ${this.#end - at} left`);
    this.#at = at + size;
    return at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  u16(): number {
    const at = this.#take(2);
    return (this.#bytes[at]! << 8) | this.#bytes[at + 1]!;
  }

  u32(): number {
    return readU32(this.#bytes, this.#take(4));
  }

  u53(): number {
    const at = this.#take(8);
    const high = readU32(this.#bytes, at);
    if (high > MAX_SAFE_HIGH) throw new DecodeError("integer above 2^53-1");
    return high * 0x100000000 + readU32(this.#bytes, at + 4);
  }

  i64(): bigint {
    const at = this.#take(8);
    const high = readU32(this.#bytes, at);
    const low = readU32(this.#bytes, at + 4);
    // Most of them are the lease of a key that has none.
    return high === 0 ? BigInt(low) : BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));
  }

  boolean(): boolean {
    const value = this.u8();
    if (value > 1) throw new DecodeError(`boolean ${value}`);
    return value === 1;
  }

  /** A view (no copy) of the next `size` bytes. */
  raw(size: number): Uint8Array {
    const at = this.#take(size);
    return this.#bytes.subarray(at, at + size);
  }

  /** A copy of the next `size` bytes, for what outlives the message. */
  copy(size: number): Uint8Array {
    const at = this.#take(size);
    if (size <= HEAP_ARRAY_MAX_BYTES) return this.#bytes.slice(at, at + size);
    const copied = longLived.allocate(size);
    copied.set(this.#bytes.subarray(at, at + size));
    return copied;
  }

  #size(maxSizeBytes: number): number {
    const size = this.u32();
    if (size > maxSizeBytes) throw new DecodeError(`${size} bytes, at most ${maxSizeBytes} allowed`);
    return size;
  }

  /** A copy of length-prefixed bytes, of at most `maxSizeBytes`. */
  copiedBytes(maxSizeBytes = 0xffffffff): Uint8Array {
    return this.copy(this.#size(maxSizeBytes));
  }

  /** A view (no copy) of length-prefixed bytes, of at most `maxSizeBytes`. */
  bytes(maxSizeBytes = 0xffffffff): Uint8Array {
    return this.raw(this.#size(maxSizeBytes));
  }

  byteString(maxSizeBytes = 0xffffffff): string {
    const size = this.#size(maxSizeBytes);
    const at = this.#take(size);
    return toByteString(this.#bytes, at, at + size);
  }

  list<T>(maxCount: number, read: (reader: this) => T): T[] {
    const count = this.u32();
    if (count > maxCount) throw new DecodeError(`${count} items, at most ${maxCount} allowed`);
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(read(this));
    return items;
  }

  /** Refuses trailing bytes. */
  end(): void {
    if (this.#at !== this.#end) throw new DecodeError(`${this.#end - this.#at} trailing bytes`);
  }
}
