import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { stringify } from "yaml";
import { NodeHasher } from "./crypto.ts";
import {
  formatGenesis,
  type Genesis,
  GenesisError,
  parseGenesis,
  randomId,
  toMembership,
} from "./genesis.ts";

function someGenesis(n: number): Genesis {
  return {
    clusterId: randomId(),
    operatorPublicKey: new Uint8Array(32).fill(99),
    members: Array.from({ length: n }, (_, i) => ({
      name: `m${i + 1}`,
      id: randomId(),
      publicKey: new Uint8Array(32).fill(i + 1),
      peerHost: "127.0.0.1",
      peerPort: 4000 + i,
      tlsKeyFingerprint: String(i + 1).padStart(64, "0"),
      clientUrls: [`https://127.0.0.1:${5000 + i}`],
    })),
  };
}

/** The document as it stands in the file. */
interface Draft {
  members: [Fields, Fields, Fields, ...Fields[]];
  [key: string]: unknown;
}
type Fields = Record<string, unknown>;

/** The problems of the document after `change`. */
function problemsOf(change: (document: Draft) => void): readonly string[] {
  const document = JSON.parse(formatGenesis(someGenesis(4))) as Draft;
  change(document);
  try {
    toMembership(parseGenesis(JSON.stringify(document)), new NodeHasher());
  } catch (error) {
    assert.ok(error instanceof GenesisError, String(error));
    return error.problems;
  }
  return [];
}

describe("genesis", () => {
  it("comes back as it was written, from JSON and from YAML", () => {
    const genesis = someGenesis(4);
    const text = formatGenesis(genesis);
    assert.deepEqual(parseGenesis(text), genesis);
    assert.deepEqual(parseGenesis(stringify(JSON.parse(text))), genesis);
  });

  it("makes the first membership, the same one everywhere", () => {
    const genesis = someGenesis(7);
    const membership = toMembership(genesis, new NodeHasher());
    assert.equal(membership.n, 7);
    assert.equal(membership.f, 2);
    assert.equal(membership.viewId, 1);
    assert.deepEqual(
      toMembership(parseGenesis(formatGenesis(genesis)), new NodeHasher()).digest,
      membership.digest,
    );
  });

  it("says in one line each what is wrong", () => {
    assert.deepEqual(
      problemsOf(() => {}),
      [],
    );
    assert.deepEqual(
      problemsOf((d) => {
        d.members[1].publicKey = "abc";
        d.members[2].peerPort = 0;
        d.members[3]!.clientUrls = ["nonsense"];
        d.clusterId = "0000000000000000";
        d.extra = 1;
      }),
      [
        "clusterId: must be from 1 to 2^63-1",
        "members.1.publicKey: must be an Ed25519 public key: 64 hexadecimal digits",
        "members.2.peerPort: must be a port number",
        'members.3.clientUrls.0: "nonsense" is not an endpoint: write http://HOST:PORT or https://HOST:PORT',
        "unknown key extra",
      ],
    );
    assert.match(problemsOf((d) => d.members.pop())[0]!, /^members: 3 members tolerate no Byzantine one/);
    assert.match(problemsOf((d) => (d.format = "x"))[0]!, /^format: must be "kmmr-genesis\/1"/);
    assert.match(
      problemsOf((d) => (d.members[1].publicKey = d.members[0].publicKey))[0]!,
      /^members: two members have the same public key/,
    );
    assert.deepEqual(
      problemsOf((d) => {
        d.members[1].tlsKeyFingerprint = d.members[0].tlsKeyFingerprint;
        d.members[2].peerPort = d.members[3]!.peerPort;
      }),
      ["members: m1 and m2 have the same tlsKeyFingerprint", "members: m3 and m4 have the same peer address"],
    );
    assert.throws(() => parseGenesis("{"), /not YAML or JSON/);
    const noGenesis = { message: "this is no genesis: it must hold the keys that kmmr init writes" };
    assert.throws(() => parseGenesis("3"), noGenesis);
    assert.throws(() => parseGenesis(""), noGenesis);
    assert.deepEqual(
      problemsOf((d) => {
        delete d.clusterId;
        delete d.members[1].publicKey;
        d.members[2].name = 3;
      }),
      [
        "clusterId: is missing",
        "members.1.publicKey: is missing",
        "members.2.name: expected string, received number",
      ],
    );
  });
});
