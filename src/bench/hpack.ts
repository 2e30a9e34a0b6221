/**
 * HTTP/2 header compression (RFC 7541), as far as a load generator needs it: request headers as literals that can be
 * prepared once and sent any number of times, and response headers from a server that was told to keep no dynamic
 * table (SETTINGS_HEADER_TABLE_SIZE 0), so that a block has the same meaning whenever it comes.
 */
import { STATIC_TABLE } from "../gateway/http2/hpack-tables.ts";

/**
 * Lengths of the Huffman codes of the 256 octets and of the end mark, in bits (RFC 7541 appendix B). The code is
 * canonical: codes of one length are consecutive in the order of the octets.
 */
const codeLengthsBits: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const endMark = 256;

/** Keyed by (length, code): code + 2^length, which is different for every pair. */
const symbolOfCode: ReadonlyMap<number, number> = buildCodes();

function buildCodes(): Map<number, number> {
  const symbols = codeLengthsBits.map((_, symbol) => symbol);
  symbols.sort((left, right) => codeLengthsBits[left]! - codeLengthsBits[right]! || left - right);
  const codes = new Map<number, number>();
  let code = 0;
  let lengthBits = codeLengthsBits[symbols[0]!]!;
  for (const symbol of symbols) {
    code *= 2 ** (codeLengthsBits[symbol]! - lengthBits);
    lengthBits = codeLengthsBits[symbol]!;
    codes.set(code + 2 ** lengthBits, symbol);
    code++;
  }
  return codes;
}

/** A header block that is malformed or uses what we told the server not to use. Ends the connection. */
export class HeaderBlockError extends Error {
  override name = "HeaderBlockError";
}

/** Literal header fields that neither side remembers; may be sent on any connection, any number of times. */
export function encodeHeaders(headers: readonly (readonly [name: string, value: string])[]): Uint8Array {
  const bytes: number[] = [];
  for (const [name, value] of headers) {
    const exact = STATIC_TABLE.findIndex(([known, knownValue]) => known === name && knownValue === value);
    if (exact >= 0 && value !== "") {
      bytes.push(0x80 | (exact + 1));
      continue;
    }
    bytes.push(0);
    encodeString(bytes, name);
    encodeString(bytes, value);
  }
  return Uint8Array.from(bytes);
}

function encodeString(bytes: number[], text: string): void {
  const encoded = Buffer.from(text, "latin1");
  if (encoded.length < 127) bytes.push(encoded.length);
  else {
    bytes.push(127);
    let rest = encoded.length - 127;
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
    bytes.push(rest);
  }
  bytes.push(...encoded);
}

/** The fields of a block; throws HeaderBlockError. */
export function decodeHeaders(block: Uint8Array): Map<string, string> {
  const headers = new Map<string, string>();
  const reader = new BlockReader(block);
  while (!reader.atEnd()) {
    const first = reader.peek();
    if (first & 0x80) {
      const [name, value] = staticEntry(reader.integer(7));
      headers.set(name, value);
    } else if ((first & 0xe0) === 0x20) reader.integer(5);
    else {
      const index = reader.integer(first & 0x40 ? 6 : 4);
      const name = index === 0 ? reader.string() : staticEntry(index)[0];
      headers.set(name, reader.string());
    }
  }
  return headers;
}

function staticEntry(index: number): readonly [string, string] {
  const entry = STATIC_TABLE[index - 1];
  if (entry === undefined) throw new HeaderBlockError(`header index ${index} is outside the static table`);
  return entry;
}

class BlockReader {
  private offset = 0;
  private readonly block: Uint8Array;
  constructor(block: Uint8Array) {
    this.block = block;
  }

  atEnd(): boolean {
    return this.offset >= this.block.length;
  }

  peek(): number {
    const byte = this.block[this.offset];
    if (byte === undefined) throw new HeaderBlockError("header block ends early");
    return byte;
  }

  /** An integer whose first byte has `prefixBits` bits of it. */
  integer(prefixBits: number): number {
    const mask = 2 ** prefixBits - 1;
    let value = this.peek() & mask;
    this.offset++;
    if (value < mask) return value;
    for (let scale = 1; scale <= 128 ** 4; scale *= 128) {
      const byte = this.peek();
      this.offset++;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new HeaderBlockError("integer in a header block is too long");
  }

  string(): string {
    const huffman = (this.peek() & 0x80) !== 0;
    const length = this.integer(7);
    const bytes = this.block.subarray(this.offset, this.offset + length);
    if (bytes.length < length) throw new HeaderBlockError("header block ends early");
    this.offset += length;
    return Buffer.from(huffman ? decodeHuffman(bytes) : bytes).toString("latin1");
  }
}

function decodeHuffman(bytes: Uint8Array): number[] {
  const symbols: number[] = [];
  let code = 1;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >> bit) & 1);
      const symbol = symbolOfCode.get(code);
      if (symbol === endMark || code > 2 ** 31)
        throw new HeaderBlockError("bad Huffman code in a header block");
      if (symbol === undefined) continue;
      symbols.push(symbol);
      code = 1;
    }
  }
  // What is left is padding: fewer than eight bits, all ones.
  if (code >= 256 || ((code + 1) & code) !== 0)
    throw new HeaderBlockError("bad Huffman padding in a header block");
  return symbols;
}
