/**
 * The value of an instance: which bundles to execute, in which order, at which time. Agreement is on its
 * digest. It names the digest of the value decided before, so a certificate for one instance certifies every
 * instance below it: a member that was away checks one certificate for a whole run of batches.
 */
import { Reader, Writer } from "../base/codec.ts";
import { DIGEST_SIZE_BYTES, type Hasher } from "../base/crypto.ts";
import { MAX_BUNDLES_PER_VALUE } from "./messages.ts";

export interface BundleReference {
  readonly origin: number;
  readonly incarnation: number;
  readonly seq: number;
  readonly digest: Uint8Array;
}

export interface Value {
  readonly cid: number;
  readonly previousDigest: Uint8Array;
  /** The leader's clock in milliseconds since 1970; grows from instance to instance. */
  readonly timestampMs: number;
  readonly bundles: readonly BundleReference[];
}

const scratch = new Writer(1024);
const DOMAIN = new Writer().byteString("kmmr/value/1").finish();

export function encodeValue(value: Value): Uint8Array {
  const w = scratch.u53(value.cid).raw(value.previousDigest).u53(value.timestampMs);
  w.list(value.bundles, (bundle) => {
    w.u8(bundle.origin).u53(bundle.incarnation).u53(bundle.seq).raw(bundle.digest);
  });
  return w.finish();
}

/** Throws DecodeError. */
export function decodeValue(bytes: Uint8Array): Value {
  const r = new Reader(bytes);
  const value: Value = {
    cid: r.u53(),
    previousDigest: r.raw(DIGEST_SIZE_BYTES),
    timestampMs: r.u53(),
    bundles: r.list(MAX_BUNDLES_PER_VALUE, () => ({
      origin: r.u8(),
      incarnation: r.u53(),
      seq: r.u53(),
      digest: r.raw(DIGEST_SIZE_BYTES),
    })),
  };
  r.end();
  return value;
}

export function valueDigest(hasher: Hasher, bytes: Uint8Array): Uint8Array {
  return hasher.hash(DOMAIN, bytes);
}
