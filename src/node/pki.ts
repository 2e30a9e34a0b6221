/**
 * Making keys and certificates: a private authority for the client port, certificates of servers and clients
 * under it, self-signed certificates for links (where only the key counts), and identity keys.
 *
 * Takes some 150 ms to load: import it where it is needed only.
 */
import "reflect-metadata";
import { generateKeyPairSync, randomBytes, webcrypto } from "node:crypto";
import { writeFileSync } from "node:fs";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";
import { rawPublicKey } from "./crypto.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
/** There is no automatic renewal: certificates last long, and are replaced by hand when a key leaks. */
const VALID_DAYS = 3650;
/** Clocks that are behind must not refuse a new certificate. */
const BACKDATE_DAYS = 1;
const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
/** Every server certificate is good for these, so that local tools work. */
const LOCAL_HOSTS = ["localhost", "127.0.0.1", "::1"];

/** A private key and its certificate, both PEM. */
export interface KeyAndCertificate {
  readonly key: string;
  readonly cert: string;
}

/** An Ed25519 key pair: the private half as PKCS#8 in PEM, the public one as 32 bytes. */
export interface IdentityKey {
  readonly key: string;
  readonly publicKey: Uint8Array;
}

/** Makes a key with which a member (or the operator) signs. */
export function createIdentityKey(): IdentityKey {
  const { privateKey } = generateKeyPairSync("ed25519");
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    publicKey: rawPublicKey(privateKey),
  };
}

/** Makes a private certificate authority. */
export async function createAuthority(commonName: string): Promise<KeyAndCertificate> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    name: nameOf({ commonName }),
    keys,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pem(keys.privateKey, certificate);
}

/** Makes a server's certificate for the given host names and addresses, and for the local ones. */
export function issueServerCertificate(
  authority: KeyAndCertificate,
  subject: { readonly commonName: string; readonly hosts: readonly string[] },
): Promise<KeyAndCertificate> {
  const hosts = [...new Set([...LOCAL_HOSTS, ...subject.hosts])];
  const names = hosts.map(
    (value): x509.JsonGeneralName => ({ type: isIP(value) === 0 ? "dns" : "ip", value }),
  );
  return issue(authority, subject, [
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    new x509.SubjectAlternativeNameExtension(names),
  ]);
}

/** Makes a client's certificate; `organization` is the group in the eyes of Kubernetes. */
export function issueClientCertificate(
  authority: KeyAndCertificate,
  subject: { readonly commonName: string; readonly organization?: string },
): Promise<KeyAndCertificate> {
  return issue(authority, subject, [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])]);
}

/** Makes a self-signed certificate for links; peers pin its key, see `certificateFingerprint`. */
export async function createPeerCertificate(commonName: string): Promise<KeyAndCertificate> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    name: nameOf({ commonName }),
    keys,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true)],
  });
  return pem(keys.privateKey, certificate);
}

/** Writes a private key that only the owner of the process can read; never over an existing file. */
export function writePrivateFile(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600, flag: "wx", flush: true });
}

async function issue(
  authority: KeyAndCertificate,
  subject: { readonly commonName: string; readonly organization?: string },
  extensions: x509.Extension[],
): Promise<KeyAndCertificate> {
  const issuer = new x509.X509Certificate(authority.cert);
  const signingKey = await importPrivateKey(authority.key);
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    ...validity(),
    subject: nameOf(subject),
    issuer: issuer.subjectName,
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      ...extensions,
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return pem(keys.privateKey, certificate);
}

function nameOf(subject: { readonly commonName: string; readonly organization?: string }): x509.Name {
  const parts: x509.JsonName = [];
  if (subject.organization !== undefined) parts.push({ O: [subject.organization] });
  parts.push({ CN: [subject.commonName] });
  return new x509.Name(parts);
}

function validity(): { serialNumber: string; notBefore: Date; notAfter: Date } {
  const now = Date.now();
  const serial = randomBytes(16);
  // Positive, and without leading zeros.
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return {
    serialNumber: serial.toString("hex"),
    notBefore: new Date(now - BACKDATE_DAYS * DAY_MS),
    notAfter: new Date(now + VALID_DAYS * DAY_MS),
  };
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
}

async function importPrivateKey(text: string): Promise<webcrypto.CryptoKey> {
  const der = x509.PemConverter.decodeFirst(text);
  return webcrypto.subtle.importKey("pkcs8", der, KEY_ALGORITHM, false, ["sign"]);
}

async function pem(
  privateKey: webcrypto.CryptoKey,
  certificate: x509.X509Certificate,
): Promise<KeyAndCertificate> {
  const der = await webcrypto.subtle.exportKey("pkcs8", privateKey);
  return {
    key: `${x509.PemConverter.encode(der, "PRIVATE KEY")}\n`,
    cert: `${certificate.toString("pem")}\n`,
  };
}
