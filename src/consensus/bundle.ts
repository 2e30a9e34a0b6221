/**
 * A bundle: the operations that one process took from its clients in one turn. Bodies travel once, from
 * their origin; everyone else may forward them, because the origin's signature is inside.
 */
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { type Hasher, SIGNATURE_SIZE_BYTES } from "../base/crypto.ts";
import { MAX_BODIES_SIZE_BYTES, MAX_OPERATIONS_PER_BUNDLE } from "./messages.ts";

export interface Bundle {
  /** Member index of the process that took the operations. */
  readonly origin: number;
  /** Grows with each start of that process. */
  readonly incarnation: number;
  /** Contiguous from 1 within an incarnation. */
  readonly seq: number;
  /** Encoded operations (store/operation.ts), opaque here. */
  readonly operations: readonly Uint8Array[];
  readonly signature: Uint8Array;
  /** Over all but the signature, and the membership. */
  readonly digest: Uint8Array;
  /** The whole encoding, signature last. */
  readonly encoded: Uint8Array;
}

const scratch = new Writer(4096);
const DOMAIN = new Writer().byteString("kmmr/bundle-digest/1").finish();

/** Encoding without the signature, which the caller appends when it has signed the digest. */
export function encodeBundleBody(
  origin: number,
  incarnation: number,
  seq: number,
  operations: readonly Uint8Array[],
): Uint8Array {
  const w = scratch.u8(origin).u53(incarnation).u53(seq);
  w.list(operations, (operation) => w.bytes(operation));
  return w.finish();
}

export function bundleDigest(hasher: Hasher, membershipDigest: Uint8Array, body: Uint8Array): Uint8Array {
  return hasher.hash(DOMAIN, membershipDigest, body);
}

/** Reads a bundle and computes its digest; the signature is not checked here. Throws DecodeError. */
export function decodeBundle(hasher: Hasher, membershipDigest: Uint8Array, encoded: Uint8Array): Bundle {
  if (encoded.length > MAX_BODIES_SIZE_BYTES) throw new DecodeError("bundle larger than a value may be");
  const r = new Reader(encoded);
  const origin = r.u8();
  const incarnation = r.u53();
  const seq = r.u53();
  const operations = r.list(MAX_OPERATIONS_PER_BUNDLE, () => r.bytes());
  const body = encoded.subarray(0, r.position);
  const signature = r.raw(SIGNATURE_SIZE_BYTES);
  r.end();
  const digest = bundleDigest(hasher, membershipDigest, body);
  return { origin, incarnation, seq, operations, signature, digest, encoded };
}
