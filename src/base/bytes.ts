/**
 * Bytes and byte strings.
 *
 * A "byte string" is a JavaScript string whose every character is one byte (0-255). Keys are byte strings
 * everywhere inside the store: V8 keeps them in one byte a character, `<` compares them in byte order, and
 * they are usable as Map keys.
 */

const CHUNK = 4096;
/** Argument lists for short strings, one of each length: half the time of passing a typed array. */
const ARGUMENTS: readonly number[][] = Array.from({ length: 129 }, (_, length) => new Array(length).fill(0));

/** Byte string of the bytes from `start` to `end`. */
export function toByteString(bytes: Uint8Array, start = 0, end = bytes.length): string {
  const length = end - start;
  if (length <= 0) return "";
  if (length < ARGUMENTS.length && end <= bytes.length) {
    const characters = ARGUMENTS[length]!;
    for (let i = 0; i < length; i++) characters[i] = bytes[start + i]!;
    return String.fromCharCode.apply(null, characters);
  }
  if (length <= CHUNK)
    return String.fromCharCode.apply(null, bytes.subarray(start, end) as unknown as number[]);
  let text = "";
  for (let at = start; at < end; at += CHUNK) {
    text += String.fromCharCode.apply(
      null,
      bytes.subarray(at, Math.min(at + CHUNK, end)) as unknown as number[],
    );
  }
  return text;
}

/** Bytes of a byte string. Characters above 255 are a caller's error and are cut to eight bits. */
export function fromByteString(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

/** Lower-case hexadecimal of the bytes. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i]!]!;
  return text;
}

/** Bytes of hexadecimal text, or undefined when the text is not hexadecimal of even length. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return undefined;
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Whether both hold the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Byte order of two arrays: negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

/** The big-endian unsigned integer in the four bytes at `at`, which the caller knows to be there. */
export function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** One array of all parts, in order. */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  let total = 0;
  for (const part of parts) total += part.length;
  const joined = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
