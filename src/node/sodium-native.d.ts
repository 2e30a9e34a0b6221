/** The package has no types: what is used of it. Lengths are checked there, and a wrong one throws. */
declare module "sodium-native" {
  export interface Sodium {
    /** Memory that is locked, guarded, and wiped when it is collected: for secret keys. */
    sodium_malloc(sizeBytes: number): Buffer;
    /** From a seed of 32 bytes makes the public key (32) and the secret key (64). */
    crypto_sign_seed_keypair(publicKey: Uint8Array, secretKey: Uint8Array, seed: Uint8Array): void;
    /** Puts the signature (64) of RFC 8032 into its first argument. */
    crypto_sign_detached(signature: Uint8Array, message: Uint8Array, secretKey: Uint8Array): void;
  }
  const sodium: Sodium;
  export default sodium;
}
