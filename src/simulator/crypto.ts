/**
 * Quick deterministic stand-ins for SHA-256 and Ed25519. They are worth nothing against a real attacker; the
 * simulated one plays by their rules: nobody looks for collisions, and only the holder of a `SimulatedSigner`
 * can make that member's signatures.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Hasher, Signer, Verifier } from "../base/crypto.ts";
import { DIGEST_SIZE_BYTES, SIGNATURE_SIZE_BYTES } from "../base/crypto.ts";
import type { Prng } from "../base/prng.ts";

/** Four 32-bit lanes, mixed as murmur does; enough that different bytes never meet by chance in a run. */
class Mixer {
  #a: number;
  #b: number;
  #c: number;
  #d: number;
  #length = 0;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = seed ^ 0x6a09e667;
    this.#c = seed ^ 0x3c6ef372;
    this.#d = seed ^ 0x510e527f;
  }

  add(bytes: Uint8Array): void {
    let a = this.#a;
    let b = this.#b;
    let c = this.#c;
    let d = this.#d;
    const whole = bytes.length & ~3;
    for (let i = 0; i < whole; i += 4) {
      const word = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
      const mixed = Math.imul(word, 0xcc9e2d51);
      a = Math.imul(a ^ mixed ^ (mixed >>> 15), 0x1b873593) + b;
      b = Math.imul((b << 13) | (b >>> 19), 5) ^ a ^ c;
      c = Math.imul(c ^ mixed, 0x85ebca6b) + d;
      d = ((d << 17) | (d >>> 15)) ^ c ^ a;
    }
    for (let i = whole; i < bytes.length; i++) {
      a = Math.imul(a ^ bytes[i]! ^ 0x100, 0x1b873593) + d;
      d = ((d << 7) | (d >>> 25)) ^ a ^ b;
      b = Math.imul(b ^ a, 0xc2b2ae35) + c;
    }
    this.#length += bytes.length;
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }

  /** `size` bytes, a multiple of 4. */
  finish(size: number): Uint8Array {
    const out = new Uint8Array(size);
    let a = this.#a ^ this.#length;
    let b = this.#b;
    let c = this.#c;
    let d = this.#d;
    for (let round = 0; round < 4; round++) {
      a = Math.imul(a ^ (a >>> 16) ^ d, 0x85ebca6b);
      b = Math.imul(b ^ (b >>> 13) ^ a, 0xc2b2ae35);
      c = Math.imul(c ^ (c >>> 16) ^ b, 0x27d4eb2f);
      d = Math.imul(d ^ (d >>> 15) ^ c, 0x165667b1);
    }
    for (let i = 0; i < size; i += 4) {
      a = Math.imul(a ^ (a >>> 16) ^ d, 0x85ebca6b) + i;
      const z = a ^ (a >>> 13) ^ b;
      out[i] = z;
      out[i + 1] = z >>> 8;
      out[i + 2] = z >>> 16;
      out[i + 3] = z >>> 24;
      const first = a;
      a = b ^ Math.imul(z, 0x9e3779b1);
      b = c;
      c = d;
      d = first;
    }
    return out;
  }
}

/** A hash of 32 bytes that is not cryptographic. */
export class SimulatedHasher implements Hasher {
  hash(...parts: Uint8Array[]): Uint8Array {
    const mixer = new Mixer(0x243f6a88);
    for (const part of parts) mixer.add(part);
    return mixer.finish(DIGEST_SIZE_BYTES);
  }
}

/** A member's key. Whoever holds the object can sign as that member, nobody else can. */
export class SimulatedSigner implements Signer {
  readonly publicKey: Uint8Array;
  readonly #secret: number;

  constructor(publicKey: Uint8Array, secret: number) {
    this.publicKey = publicKey;
    this.#secret = secret;
  }

  sign(statement: Uint8Array): Uint8Array {
    const mixer = new Mixer(this.#secret);
    mixer.add(this.publicKey);
    mixer.add(statement);
    return mixer.finish(SIGNATURE_SIZE_BYTES);
  }
}

/** Knows every secret, for nothing but to check signatures. */
export class SimulatedVerifier implements Verifier {
  readonly #signers: readonly SimulatedSigner[];

  constructor(signers: readonly SimulatedSigner[]) {
    this.#signers = signers;
  }

  verify(publicKey: Uint8Array, statement: Uint8Array, signature: Uint8Array): boolean {
    const signer = this.#signers[publicKey[0] ?? 0xff];
    if (signer === undefined || !equalBytes(signer.publicKey, publicKey)) return false;
    return equalBytes(signer.sign(statement), signature);
  }
}

/** One key for each of `n` members. The first byte of a public key is the member's index. */
export function makeSigners(n: number, prng: Prng): SimulatedSigner[] {
  return Array.from({ length: n }, (_, index) => {
    const publicKey = new Uint8Array(DIGEST_SIZE_BYTES);
    for (let i = 1; i < publicKey.length; i++) publicKey[i] = prng.below(256);
    publicKey[0] = index;
    return new SimulatedSigner(publicKey, prng.u32());
  });
}
