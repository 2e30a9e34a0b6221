/** SHA-256 and Ed25519 for the pure layers: of node:crypto, but for the signing (sodium.ts). */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  hash,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import type { Sodium } from "sodium-native";
import { fromByteString, toByteString } from "../base/bytes.ts";
import { type Hasher, SIGNATURE_SIZE_BYTES, type Signer, type Verifier } from "../base/crypto.ts";
import { sodium } from "./sodium.ts";

/** Up to this size several parts are put together and hashed in one call, which beats a hash object. */
const JOIN_LIMIT_BYTES = 2048;
const joined = new Uint8Array(JOIN_LIMIT_BYTES);

/** SHA-256. */
export class NodeHasher implements Hasher {
  hash(...parts: Uint8Array[]): Uint8Array {
    if (parts.length === 1) return fromByteString(hash("sha256", parts[0]!, "binary"));
    let total = 0;
    for (const part of parts) total += part.length;
    if (total <= JOIN_LIMIT_BYTES) {
      let at = 0;
      for (const part of parts) {
        joined.set(part, at);
        at += part.length;
      }
      // As text: a buffer of its own outside the heap costs twice as much as the hash.
      return fromByteString(hash("sha256", joined.subarray(0, total), "binary"));
    }
    const state = createHash("sha256");
    for (const part of parts) state.update(part);
    return fromByteString(state.digest("binary"));
  }
}

const PUBLIC_KEY_SIZE_BYTES = 32;
/** What a PKCS#8 of Ed25519 ends with (RFC 8410). */
const SEED_SIZE_BYTES = 32;
/** As libsodium keeps it: the seed and the public key. */
const SECRET_KEY_SIZE_BYTES = 64;

/** A key that is none, or of another kind; the message says what was wanted. */
export class KeyError extends Error {
  override name = "KeyError";
}

/** Signs with one Ed25519 private key. */
export class NodeSigner implements Signer {
  readonly #sign: (statement: Uint8Array) => Uint8Array;
  /** The public half, 32 bytes. */
  readonly publicKey: Uint8Array;

  /** Takes a key object or PKCS#8 in PEM; throws KeyError. */
  constructor(key: KeyObject | string, library: Sodium | null = sodium) {
    const secret = typeof key === "string" ? parsePrivateKey(key) : key;
    if (secret.type !== "private" || secret.asymmetricKeyType !== "ed25519") {
      throw new KeyError(`an Ed25519 private key is needed, this is ${describe(secret)}`);
    }
    this.publicKey = rawPublicKey(secret);
    this.#sign = library === null ? opensslSigner(secret) : sodiumSigner(library, secret);
  }

  sign(statement: Uint8Array): Uint8Array {
    return this.#sign(statement);
  }
}

function opensslSigner(key: KeyObject): (statement: Uint8Array) => Uint8Array {
  return (statement) => {
    const signature = sign(null, statement, key);
    return new Uint8Array(signature.buffer, signature.byteOffset, SIGNATURE_SIZE_BYTES);
  };
}

function sodiumSigner(library: Sodium, key: KeyObject): (statement: Uint8Array) => Uint8Array {
  const encoded = key.export({ type: "pkcs8", format: "der" });
  const secretKey = library.sodium_malloc(SECRET_KEY_SIZE_BYTES);
  library.crypto_sign_seed_keypair(
    Buffer.alloc(PUBLIC_KEY_SIZE_BYTES),
    secretKey,
    encoded.subarray(-SEED_SIZE_BYTES),
  );
  encoded.fill(0);
  // An array of V8's own heap that a native function is given gets memory outside of it, once and for all.
  const signature = new Uint8Array(Buffer.allocUnsafeSlow(SIGNATURE_SIZE_BYTES).buffer);
  return (statement) => {
    library.crypto_sign_detached(signature, statement, secretKey);
    return signature.slice();
  };
}

/** Keys of this many members are kept ready; beyond, the oldest is made again when it is needed. */
const MAX_CACHED_KEYS = 1024;
/** SubjectPublicKeyInfo of Ed25519 up to the key (RFC 8410). */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

/**
 * Checks Ed25519 signatures. Never throws: a key or a signature that is none is a signature that is not valid.
 * One implementation (OpenSSL's) decides on every member what is valid; libraries differ in odd cases.
 */
export class NodeVerifier implements Verifier {
  readonly #keys = new Map<string, KeyObject | undefined>();

  verify(publicKey: Uint8Array, statement: Uint8Array, signature: Uint8Array): boolean {
    if (signature.length !== SIGNATURE_SIZE_BYTES || publicKey.length !== PUBLIC_KEY_SIZE_BYTES) return false;
    const key = this.#keyOf(publicKey);
    return key !== undefined && verify(null, statement, key, signature);
  }

  #keyOf(publicKey: Uint8Array): KeyObject | undefined {
    const name = toByteString(publicKey);
    const known = this.#keys.get(name);
    if (known !== undefined || this.#keys.has(name)) return known;
    if (this.#keys.size >= MAX_CACHED_KEYS) this.#keys.delete(this.#keys.keys().next().value!);
    const key = parsePublicKey(publicKey);
    this.#keys.set(name, key);
    return key;
  }
}

function parsePublicKey(publicKey: Uint8Array): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: "der", type: "spki" });
  } catch {
    return undefined;
  }
}

function parsePrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new KeyError("this is no private key in PEM (-----BEGIN PRIVATE KEY-----)");
  }
}

/** The 32 bytes of an Ed25519 key's public half. */
export function rawPublicKey(key: KeyObject): Uint8Array {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  return new Uint8Array(publicKey.export({ type: "spki", format: "der" }).subarray(SPKI_PREFIX.length));
}

function describe(key: KeyObject): string {
  return `a ${key.type} key of type ${key.asymmetricKeyType ?? "unknown"}`;
}
