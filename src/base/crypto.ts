/**
 * What the pure layers need of cryptography, handed to them: SHA-256 and Ed25519 from node:crypto in the
 * process, quick deterministic stand-ins in the simulator.
 */

/** A collision-resistant hash. */
export interface Hasher {
  /** Digest of the parts, one after the other. Always 32 bytes. */
  hash(...parts: Uint8Array[]): Uint8Array;
}

/** The signing key of this member. */
export interface Signer {
  /** Signature over the statement bytes. Always 64 bytes, the same for the same bytes. */
  sign(statement: Uint8Array): Uint8Array;
}

/** Checks signatures of any member. */
export interface Verifier {
  /** Whether `signature` is the valid one of the holder of `publicKey` over the statement bytes. */
  verify(publicKey: Uint8Array, statement: Uint8Array, signature: Uint8Array): boolean;
}

export const DIGEST_SIZE_BYTES = 32;
export const SIGNATURE_SIZE_BYTES = 64;
