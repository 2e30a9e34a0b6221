/**
 * Whether certificates and private keys are what they should be, before OpenSSL says so in its own words.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";

/** What is wrong with each of the two files, undefined where nothing is. */
export interface PairProblems {
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

function tryRead<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Checks a certificate (the first of a chain) and its private key, both PEM. */
export function pairProblems(cert: string | Buffer, key: string | Buffer): PairProblems {
  // TLS takes PEM only, this class DER as well.
  const inPem = cert.includes("-----BEGIN ");
  const certificate = inPem ? tryRead(() => new X509Certificate(cert)) : undefined;
  const privateKey: KeyObject | undefined = tryRead(() => createPrivateKey(key));
  const fits =
    certificate === undefined || privateKey === undefined || certificate.checkPrivateKey(privateKey);
  return {
    cert: certificate === undefined ? "this is no certificate in PEM" : undefined,
    key:
      privateKey === undefined
        ? "this is no private key in PEM without a password"
        : fits
          ? undefined
          : "this is not the key of the certificate",
  };
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** What is wrong with a file of certificate authorities; undefined when nothing is. */
export function authorityProblem(text: string | Buffer): string | undefined {
  const certificates = String(text).match(CERTIFICATE) ?? [];
  if (certificates.length === 0) return "this holds no certificate in PEM";
  const bad = certificates.findIndex((one) => tryRead(() => new X509Certificate(one)) === undefined);
  return bad < 0 ? undefined : `certificate ${bad + 1} of ${certificates.length} is damaged`;
}
