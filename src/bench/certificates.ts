/**
 * Certificates for the etcd cluster that the bench starts: one authority, and per member one certificate that is
 * server and client, as kubeadm gives etcd for its peer port. They live as long as the run.
 */
import { webcrypto } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
// The library's decorators need this polyfill loaded before it.
import "reflect-metadata";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import type { TlsFiles } from "./connect.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const lifetimeMs = 24 * 3600 * 1000;

/** An authority whose key never leaves this process. */
export class CertificateAuthority {
  private readonly folder: string;
  private readonly keys: webcrypto.CryptoKeyPair;
  private readonly certificate: X509Certificate;
  private issued = 1;

  private constructor(folder: string, keys: webcrypto.CryptoKeyPair, certificate: X509Certificate) {
    this.folder = folder;
    this.keys = keys;
    this.certificate = certificate;
  }

  /** Writes ca.crt into the folder. */
  static async create(folder: string): Promise<CertificateAuthority> {
    const keys = await generateKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned(
      {
        serialNumber: "01",
        name: "CN=kmmr-bench-authority",
        ...validity(),
        signingAlgorithm: algorithm,
        keys,
        extensions: [
          new BasicConstraintsExtension(true, 0, true),
          new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.digitalSignature, true),
        ],
      },
      webcrypto as typeof crypto,
    );
    writeFileSync(join(folder, "ca.crt"), certificate.toString("pem"));
    return new CertificateAuthority(folder, keys, certificate);
  }

  /** Writes NAME.crt and NAME.key, valid for the loopback address, for servers and clients alike. */
  async issue(name: string): Promise<TlsFiles> {
    const keys = await generateKeys();
    this.issued++;
    const certificate = await X509CertificateGenerator.create(
      {
        serialNumber: this.issued.toString(16).padStart(2, "0"),
        subject: `CN=${name}`,
        issuer: this.certificate.subject,
        ...validity(),
        signingAlgorithm: algorithm,
        publicKey: keys.publicKey,
        signingKey: this.keys.privateKey,
        extensions: [
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
          new SubjectAlternativeNameExtension([
            { type: "ip", value: "127.0.0.1" },
            { type: "dns", value: "localhost" },
          ]),
        ],
      },
      webcrypto as typeof crypto,
    );
    const files = {
      cacert: join(this.folder, "ca.crt"),
      cert: join(this.folder, `${name}.crt`),
      key: join(this.folder, `${name}.key`),
    };
    const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
    const lines = (der.match(/.{1,64}/g) ?? []).join("\n");
    writeFileSync(files.cert, certificate.toString("pem"));
    writeFileSync(files.key, `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`, {
      mode: 0o600,
    });
    return files;
  }
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
}

/** From a minute ago, so that clocks may differ by a little. */
function validity(): { notBefore: Date; notAfter: Date } {
  const nowMs = Date.now();
  return { notBefore: new Date(nowMs - 60_000), notAfter: new Date(nowMs + lifetimeMs) };
}
