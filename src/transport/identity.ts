/**
 * Who is at the other end: the holder of a pinned key. Certificates are self-signed envelopes for keys; names,
 * dates and issuers in them mean nothing here.
 */
import { createHash, type KeyObject, X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import type { Lane } from "../replica/contract.ts";

/** SHA-256 over a key's SubjectPublicKeyInfo, in lower-case hexadecimal. */
export function keyFingerprint(publicKey: KeyObject): string {
  return createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest("hex");
}

/** Fingerprint of the key in a certificate (PEM or DER). Throws when it is none. */
export function certificateFingerprint(certificate: string | Uint8Array): string {
  return keyFingerprint(new X509Certificate(certificate).publicKey);
}

/** Fingerprint of the key that the other end proved to hold in the handshake; undefined when it showed none. */
export function peerFingerprint(socket: TLSSocket): string | undefined {
  try {
    const certificate = socket.getPeerX509Certificate();
    return certificate && keyFingerprint(certificate.publicKey);
  } catch {
    // A certificate with a key of a kind that is not supported.
    return undefined;
  }
}

/** The first frame in each direction. */
export const HELLO_SIZE_BYTES = 6;
const PROTOCOL_VERSION = 2;
const MAGIC = [0x4b, 0x6d, 0x4d, 0x52]; // "KmMR"
const LANES: readonly Lane[] = ["vote", "bulk"];

/** Names the protocol version and the lane that this connection is for. */
export function encodeHello(lane: Lane): Uint8Array {
  return new Uint8Array([...MAGIC, PROTOCOL_VERSION, LANES.indexOf(lane)]);
}

/** The lane that a hello names, or undefined when it is not a hello of this version. */
export function parseHello(bytes: Uint8Array): Lane | undefined {
  if (bytes.length !== HELLO_SIZE_BYTES || MAGIC.some((byte, i) => bytes[i] !== byte)) return undefined;
  return bytes[4] === PROTOCOL_VERSION ? LANES[bytes[5]!] : undefined;
}
