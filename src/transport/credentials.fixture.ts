/** Throw-away link credentials for tests of this layer, which stands below the one that issues real ones. */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { PemConverter, X509CertificateGenerator } from "@peculiar/x509";
import type { LinkCredentials } from "./tls.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** A key with a self-signed certificate that expired long ago: dates must not matter to links. */
export async function makeLinkCredentials(): Promise<LinkCredentials> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: "CN=test",
    notBefore: new Date("2020-01-01"),
    notAfter: new Date("2020-01-02"),
    keys,
    signingAlgorithm: ALGORITHM,
  });
  const der = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { key: PemConverter.encode(der, "PRIVATE KEY"), cert: certificate.toString("pem") };
}
