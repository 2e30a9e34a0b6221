/** The one kind of TLS that links speak. */
import type { SecureContextOptions } from "node:tls";

/** Private key and self-signed certificate of a member, PEM. */
export interface LinkCredentials {
  readonly cert: string;
  readonly key: string;
}

/** TLS 1.3 only, one cipher that every processor of this age does in hardware. */
export function tlsOptions(credentials: LinkCredentials): SecureContextOptions {
  return {
    cert: credentials.cert,
    key: credentials.key,
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    ciphers: "TLS_AES_128_GCM_SHA256",
    ecdhCurve: "X25519",
  };
}
