/**
 * Header compression (RFC 7541). Requests are decoded with the dynamic table that clients rely on; responses
 * are literals that can be encoded once and sent on any connection.
 */
import { decodeHuffman, STATIC_TABLE } from "./hpack-tables.ts";

/** A header block that breaks the rules. The decoder is of no use after it: the connection has to end. */
export class HeaderBlockError extends Error {
  override name = "HeaderBlockError";
}

/** The request headers that the door looks at; all others are decoded and dropped. */
export interface RequestHead {
  method: string;
  path: string;
  contentType: string;
  grpcTimeout: string | undefined;
  grpcEncoding: string | undefined;
  /** Metadata `hasleader`. */
  hasLeader: string | undefined;
  /** Metadata `token`. */
  token: string | undefined;
  /** A field that HTTP/2 forbids: the request has to be refused as a breach of the protocol. */
  malformed: boolean;
  /** Size as HTTP/2 counts it: 32 bytes more than the text for each field. */
  sizeBytes: number;
}

type Apply = (head: RequestHead, value: string) => void;

const APPLY: ReadonlyMap<string, Apply> = new Map<string, Apply>([
  [":method", (head, value) => void (head.method = value)],
  [":path", (head, value) => void (head.path = value)],
  ["content-type", (head, value) => void (head.contentType = value)],
  ["grpc-timeout", (head, value) => void (head.grpcTimeout = value)],
  ["grpc-encoding", (head, value) => void (head.grpcEncoding = value)],
  ["hasleader", (head, value) => void (head.hasLeader = value)],
  ["token", (head, value) => void (head.token = value)],
]);

/** What a name says about its field. */
interface FieldKind {
  readonly name: string;
  readonly apply: Apply | undefined;
  /** 0 of a field that may stand anywhere, else the bit of those that must not have been seen before. */
  readonly bit: number;
}

interface Field extends FieldKind {
  readonly value: string;
  readonly sizeBytes: number;
}

const FORBIDDEN_BIT = 1;
const PSEUDO_BITS: ReadonlyMap<string, number> = new Map(
  [":method", ":path", ":scheme", ":authority", ":protocol"].map((name, i) => [name, 2 << i]),
);
/** Behind a field of another kind no pseudo-header field may come. */
const ALL_BITS = 0xff;
const LOWER_CASE_TOKEN = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;

function kindOf(name: string): FieldKind {
  const apply = APPLY.get(name);
  const pseudo = PSEUDO_BITS.get(name);
  if (pseudo !== undefined) return { name, apply, bit: pseudo };
  const allowed = apply !== undefined || (LOWER_CASE_TOKEN.test(name) && name !== "connection");
  return { name, apply, bit: allowed ? 0 : FORBIDDEN_BIT };
}

function field({ name, apply, bit }: FieldKind, value: string): Field {
  return { name, value, sizeBytes: name.length + value.length + 32, apply, bit };
}

const STATIC_FIELDS: readonly Field[] = STATIC_TABLE.map(([name, value]) => field(kindOf(name), value));

/** What clients may use of our dynamic table; HTTP/2's default. */
export const HEADER_TABLE_SIZE_BYTES = 4096;

export class HeaderDecoder {
  /** Newest last; those before `#oldest` are evicted. */
  #entries: Field[] = [];
  #oldest = 0;
  #sizeBytes = 0;
  #sizeBytesMax = HEADER_TABLE_SIZE_BYTES;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  /** Decodes a whole block. Throws HeaderBlockError. */
  decode(block: Buffer): RequestHead {
    this.#bytes = block;
    this.#at = 0;
    this.#end = block.length;
    const head: RequestHead = {
      method: "",
      path: "",
      contentType: "",
      grpcTimeout: undefined,
      grpcEncoding: undefined,
      hasLeader: undefined,
      token: undefined,
      malformed: false,
      sizeBytes: 0,
    };
    let fields = 0;
    let seenBits = FORBIDDEN_BIT;
    while (this.#at < this.#end) {
      const first = block[this.#at]!;
      if ((first & 0xe0) === 0x20) {
        if (fields > 0) throw new HeaderBlockError("a table size update behind a field");
        this.#resize(this.#integer(5));
        continue;
      }
      fields++;
      const next = this.#field(first);
      head.sizeBytes += next.sizeBytes;
      next.apply?.(head, next.value);
      if (next.bit === 0) seenBits = ALL_BITS;
      else if ((seenBits & next.bit) !== 0) head.malformed = true;
      else seenBits |= next.bit;
    }
    return head;
  }

  #field(first: number): Field {
    if (first >= 0x80) return this.#lookUp(this.#integer(7));
    const indexed = (first & 0xc0) === 0x40;
    const index = this.#integer(indexed ? 6 : 4);
    const kind = index === 0 ? kindOf(this.#string()) : this.#lookUp(index);
    const added = field(kind, this.#string());
    if (indexed) this.#add(added);
    return added;
  }

  #lookUp(index: number): Field {
    const found =
      index <= STATIC_FIELDS.length
        ? STATIC_FIELDS[index - 1]
        : this.#entries[this.#entries.length - (index - STATIC_FIELDS.length)];
    const evicted = this.#entries.length - (index - STATIC_FIELDS.length) < this.#oldest;
    if (found === undefined || (index > STATIC_FIELDS.length && evicted)) {
      throw new HeaderBlockError(`no field with index ${index}`);
    }
    return found;
  }

  #add(added: Field): void {
    this.#entries.push(added);
    this.#sizeBytes += added.sizeBytes;
    this.#evict();
  }

  #resize(sizeBytes: number): void {
    if (sizeBytes > HEADER_TABLE_SIZE_BYTES) throw new HeaderBlockError("a table larger than allowed");
    this.#sizeBytesMax = sizeBytes;
    this.#evict();
  }

  #evict(): void {
    while (this.#sizeBytes > this.#sizeBytesMax) this.#sizeBytes -= this.#entries[this.#oldest++]!.sizeBytes;
    if (this.#oldest >= 64 && this.#oldest * 2 >= this.#entries.length) {
      this.#entries = this.#entries.slice(this.#oldest);
      this.#oldest = 0;
    }
  }

  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#bytes[this.#at++]! & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= this.#end) throw new HeaderBlockError("an integer without an end");
      const byte = this.#bytes[this.#at++]!;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new HeaderBlockError("an integer that is too large");
  }

  #string(): string {
    if (this.#at >= this.#end) throw new HeaderBlockError("a string is missing");
    const huffman = this.#bytes[this.#at]! >= 0x80;
    const size = this.#integer(7);
    const start = this.#at;
    const end = start + size;
    if (end > this.#end) throw new HeaderBlockError("a string longer than its block");
    this.#at = end;
    if (!huffman) return this.#bytes.latin1Slice(start, end);
    const text = decodeHuffman(this.#bytes, start, end);
    if (text === undefined) throw new HeaderBlockError("a string with a wrong Huffman code");
    return text;
  }
}

/** Fields as literals that neither side remembers. Names are lower case, values latin1. */
export function encodeHeaders(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) {
    const whole = STATIC_TABLE.findIndex(([n, v]) => n === name && v === value && value !== "");
    if (whole >= 0) {
      parts.push(encodeInteger(0x80, 7, whole + 1));
      continue;
    }
    const named = STATIC_TABLE.findIndex(([n]) => n === name);
    parts.push(encodeInteger(0, 4, named + 1));
    if (named < 0) parts.push(encodeString(name));
    parts.push(encodeString(value));
  }
  return Buffer.concat(parts);
}

/** The first field of a block behind which no dynamic table is used: a size update to nothing. */
export const EMPTY_TABLE_UPDATE = 0x20;

function encodeInteger(first: number, prefixBits: number, value: number): Buffer {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) return Buffer.from([first | value]);
  const bytes = [first | mask];
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  return Buffer.concat([encodeInteger(0, 7, bytes.length), bytes]);
}
