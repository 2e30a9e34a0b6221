import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { describe, it } from "node:test";
import { KeyError, NodeHasher, NodeSigner, NodeVerifier } from "./crypto.ts";
import { createIdentityKey } from "./pki.ts";
import { sodium } from "./sodium.ts";

describe("crypto", () => {
  it("hashes any parts like SHA-256 over them in a row", () => {
    const hasher = new NodeHasher();
    for (const sizes of [[0], [5], [], [3, 0, 4], [2000, 100], [5000, 1]]) {
      const parts = sizes.map((size, i) => new Uint8Array(size).fill(i + 1));
      const expected = new Uint8Array(createHash("sha256").update(Buffer.concat(parts)).digest());
      assert.deepEqual(hasher.hash(...parts), expected);
    }
  });

  it("signs the same bytes the same, and only the right key, statement and signature pass", () => {
    const identity = createIdentityKey();
    const signer = new NodeSigner(identity.key);
    const verifier = new NodeVerifier();
    const statement = new Uint8Array([1, 2, 3]);
    const signature = signer.sign(statement);
    assert.equal(signature.length, 64);
    assert.deepEqual(signer.sign(statement), signature);
    assert.deepEqual(signer.publicKey, identity.publicKey);
    assert.ok(verifier.verify(identity.publicKey, statement, signature));
    assert.ok(!verifier.verify(identity.publicKey, new Uint8Array([1, 2, 4]), signature));
    assert.ok(!verifier.verify(createIdentityKey().publicKey, statement, signature));
    for (let i = 0; i < 64; i++) {
      const changed = Uint8Array.from(signature);
      changed[i]! ^= 1;
      assert.ok(!verifier.verify(identity.publicKey, statement, changed));
    }
  });

  it("signs with libsodium as OpenSSL does, bit for bit", () => {
    assert.ok(sodium !== null, "libsodium loads here");
    const { key } = createIdentityKey();
    const withSodium = new NodeSigner(key);
    const withOpenssl = new NodeSigner(key, null);
    assert.deepEqual(withSodium.publicKey, withOpenssl.publicKey);
    for (const size of [0, 1, 32, 120, 5000]) {
      const statement = new Uint8Array(randomBytes(size));
      const expected = sign(null, statement, key);
      assert.deepEqual(withSodium.sign(statement), new Uint8Array(expected));
      assert.deepEqual(withOpenssl.sign(statement), new Uint8Array(expected));
    }
  });

  it("takes malformed keys and signatures for invalid ones", () => {
    const verifier = new NodeVerifier();
    const { publicKey } = createIdentityKey();
    for (const signature of [new Uint8Array(0), new Uint8Array(63), new Uint8Array(64), new Uint8Array(65)]) {
      assert.equal(verifier.verify(publicKey, new Uint8Array(1), signature), false);
    }
    for (const odd of [
      new Uint8Array(0),
      new Uint8Array(31),
      new Uint8Array(32).fill(255),
      new Uint8Array(33),
    ]) {
      for (let again = 0; again < 2; again++) {
        assert.equal(verifier.verify(odd, new Uint8Array(1), new Uint8Array(64)), false);
      }
    }
  });

  it("refuses keys of another kind with a clear word", () => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    assert.throws(() => new NodeSigner(privateKey), KeyError);
    assert.throws(() => new NodeSigner("nonsense"), /no private key in PEM/);
  });
});
