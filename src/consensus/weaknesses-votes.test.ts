/**
 * Weaknesses W3, W5, W10 and W11, which were found in other implementations of Mod-SMaRt: votes and
 * certificates. Each test is named after the weakness that it refuses; where the weak rule can be planted, the
 * test also shows that it fails with it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../base/bytes.ts";
import { testHasher, testMembership, testVerifier } from "../replica/testing/cluster.ts";
import { Forge, type ForgedValue } from "../replica/testing/forge.ts";
import { Solo } from "../replica/testing/solo.ts";
import { CertificateChecker } from "./certificates.ts";
import { Membership, quorumSize } from "./membership.ts";
import { type DecisionCertificate, decodeStopDataBody } from "./messages.ts";
import { acceptStatement } from "./statements.ts";

const membership = testMembership(4);
const forge = new Forge(membership);
const checker = new CertificateChecker(membership, testVerifier);

test("W3: a certificate of another instance, kind or ballot does not pass", () => {
  const digest = new Uint8Array(32).fill(7);
  const sound = forge.decision([0, 1, 2], 2, 5, digest);
  assert.ok(checker.decision(sound));
  const writes = forge.writes([0, 1, 2], 2, 5, digest);
  const accepts = (change: (accept: DecisionCertificate["accepts"][number], i: number) => object) => ({
    ...sound,
    accepts: sound.accepts.map((accept, i) => ({ ...accept, ...change(accept, i) })),
  });
  const refused: Record<string, DecisionCertificate> = {
    "another instance": { ...sound, cid: 500 },
    "another regency": { ...sound, regency: 3 },
    "another digest": { ...sound, digest: new Uint8Array(32).fill(8) },
    "regency none": { ...forge.decision([0, 1, 2], 0, 5, digest) },
    "instance none": { ...forge.decision([0, 1, 2], 2, 0, digest) },
    "WRITEs for ACCEPTs": accepts((_, i) => ({ signature: writes[i]!.signature })),
    "ACCEPTs of three ballots": {
      ...sound,
      accepts: [1, 2, 3].map((regency, i) => forge.decision([i], regency, 5, digest).accepts[0]!),
    },
    "execution reports changed": accepts(() => ({ executedCid: 3 })),
    "signers renamed": accepts((_, i) => ({ member: i + 1 })),
    "a stranger among the signers": accepts((_, i) => ({ member: i === 2 ? 9 : i })),
    "too few": { ...sound, accepts: sound.accepts.slice(1) },
    "one signer three times": { ...sound, accepts: sound.accepts.map(() => sound.accepts[0]!) },
  };
  for (const [what, certificate] of Object.entries(refused)) {
    assert.equal(checker.decision(certificate), false, what);
  }
  const weak = new CertificateChecker(membership, testVerifier, "certificateAnySigner");
  assert.ok(weak.decision(refused["one signer three times"]!), "the weak rule takes one signer for three");
});

test("W3: what was signed for another cluster, view or set of keys does not pass", () => {
  const digest = new Uint8Array(32).fill(7);
  const { members } = membership;
  const others = {
    cluster: new Membership(2n, 1, members, testHasher),
    view: new Membership(1n, 2, members, testHasher),
    order: new Membership(1n, 1, [...members].reverse(), testHasher),
  };
  for (const [what, other] of Object.entries(others)) {
    const foreign = new Forge(other).decision([0, 1, 2], 2, 5, digest);
    assert.equal(checker.decision(foreign), false, what);
    const authority = new Forge(other).authority(2, [0, 1, 2]);
    assert.equal(checker.authority(authority), false, what);
  }
});

test("W3: authority, checkpoints and claims are certificates like any other", () => {
  const root = new Uint8Array(32).fill(3);
  const authority = forge.authority(2, [0, 1, 2]);
  assert.ok(checker.authority(authority));
  assert.equal(checker.authority({ ...authority, regency: 3 }), false);
  assert.equal(checker.authority(forge.authority(1, [0, 1, 2])), false);
  assert.equal(checker.authority({ ...authority, stops: authority.stops.slice(1) }), false);
  const checkpoint = forge.checkpoint([1, 2, 3], 64, root);
  assert.ok(checker.checkpoint(checkpoint));
  assert.equal(checker.checkpoint({ ...checkpoint, cid: 65 }), false);
  assert.equal(checker.checkpoint({ ...checkpoint, root: new Uint8Array(32) }), false);
  // A root that more than f members signed is a correct member's: its state may be taken over.
  assert.ok(checker.checkpointRoot(forge.checkpoint([1, 3], 64, root)));
  assert.equal(checker.checkpointRoot(forge.checkpoint([3], 64, root)), false);
  assert.equal(checker.checkpointRoot(forge.checkpoint([3, 3, 3], 64, root)), false);
  assert.equal(checker.checkpointRoot({ ...checkpoint, cid: 65 }), false);
  const claim = forge.claim([0, 1], 2, 5, root);
  assert.ok(checker.claim(claim));
  const [first] = claim.writes;
  const weak = new CertificateChecker(membership, testVerifier, "claimNotChecked");
  for (const refused of [
    { ...claim, regency: 3 },
    { ...claim, cid: 6 },
    { ...claim, writes: [first!] },
    { ...claim, writes: [first!, first!] },
    { ...claim, writes: [...claim.writes, first!] },
    { ...claim, regency: 0, writes: forge.writes([0, 1], 0, 5, root) },
  ]) {
    assert.equal(checker.claim(refused), false);
    assert.ok(weak.claim(refused));
  }
});

test("W5: with six members four votes decide and certify, not three", () => {
  const six = testMembership(6);
  const wide = new Forge(six);
  const digest = new Uint8Array(32).fill(5);
  assert.equal(six.f, 1);
  assert.equal(quorumSize(6), 4);
  const check = new CertificateChecker(six, testVerifier);
  assert.equal(check.decision(wide.decision([0, 1, 2], 1, 1, digest)), false);
  assert.ok(check.decision(wide.decision([0, 1, 2, 3], 1, 1, digest)));
  const decidedWith = (members: readonly number[], mutation = "") => {
    const solo = new Solo({ n: 6, self: 5, options: { mutation } });
    const bundle = wide.bundle(0, 1);
    const value = wide.value([bundle]);
    solo.receive(0, bundle.message, wide.propose(1, value));
    for (const member of members) solo.receive(member, wide.accept(member, 1, 1, value.digest));
    return solo.replica.lastDecided;
  };
  assert.equal(decidedWith([0, 1, 2]), 0);
  assert.equal(decidedWith([0, 1, 2, 3]), 1);
  assert.equal(decidedWith([0, 1, 2], "quorumOneTooSmall"), 1);
});

// ---- votes

/** Member 3 with a proposal of the first instance that it has voted for. */
function votedSolo(options: { mutation?: string } = {}): { solo: Solo; value: ForgedValue } {
  const solo = new Solo({ self: 3, options });
  const bundle = solo.forge.bundle(0, 1);
  const value = solo.forge.value([bundle]);
  solo.receive(0, bundle.message, solo.forge.propose(1, value));
  assert.equal(solo.said("write").length, 1);
  return { solo, value };
}

test("W10: of two WRITEs of a member in one ballot the first counts, and the second is reported", () => {
  const { solo, value } = votedSolo();
  const other = new Uint8Array(32).fill(1);
  solo.receive(1, solo.forge.write(1, 1, 1, other), solo.forge.write(1, 1, 1, value.digest));
  solo.receive(0, solo.forge.write(0, 1, 1, value.digest));
  assert.deepEqual(solo.complaints, ["1: two WRITEs in ballot (1, 1)"]);
  assert.equal(solo.said("accept").length, 0, "one vote of the liar too few");
  solo.receive(2, solo.forge.write(2, 1, 1, value.digest));
  assert.equal(solo.said("accept").length, 1);
});

test("W10: of two ACCEPTs and of two PROPOSEs the first counts, and the second is reported", () => {
  const { solo, value } = votedSolo();
  const other = solo.forge.value([], { timestampMs: value.value.timestampMs + 1 });
  solo.receive(1, solo.forge.accept(1, 1, 1, other.digest), solo.forge.accept(1, 1, 1, value.digest));
  solo.receive(0, solo.forge.accept(0, 1, 1, value.digest));
  solo.receive(2, solo.forge.accept(2, 1, 1, other.digest));
  assert.equal(solo.replica.lastDecided, 0);
  solo.receive(0, solo.forge.propose(1, other));
  assert.deepEqual(solo.complaints, ["1: two ACCEPTs in ballot (1, 1)", "0: two PROPOSEs in ballot (1, 1)"]);
  assert.deepEqual(solo.accusations, ["the leader proposed two values"]);
  assert.equal(solo.said("write").length, 1, "one WRITE a ballot");
});

test("W10: a correct member itself votes once in a ballot, whatever it is shown", () => {
  const { solo } = votedSolo();
  for (let i = 2; i < 6; i++) {
    const value = solo.forge.value([], { timestampMs: 1_700_000_001_000 + i });
    solo.receive(0, solo.forge.propose(1, value));
    for (const member of [0, 1, 2]) solo.receive(member, solo.forge.write(member, 1, 1, value.digest));
  }
  assert.equal(solo.said("write").length, 1);
  assert.ok(solo.said("accept").length <= 1);
});

test("W11: an ACCEPT with a bad signature is in no certificate, and is made good by another", () => {
  const { solo, value } = votedSolo();
  const { forge: own } = solo;
  for (const member of [0, 1]) solo.receive(member, own.write(member, 1, 1, value.digest));
  const bad = { ...own.accept(1, 1, 1, value.digest), signature: new Uint8Array(64).fill(1) };
  solo.receive(0, own.accept(0, 1, 1, value.digest));
  solo.receive(1, bad);
  // Counted over its link, as a correct member's would be: the value is decided.
  assert.equal(solo.replica.lastDecided, 1);
  // Asked for decisions it does not pass the certificate on, but completes it first.
  solo.receive(2, { type: "decisionsRequest", from: 1 });
  assert.deepEqual(solo.said("decisions"), []);
  assert.deepEqual(solo.complaints, ["1: bad signature on a counted ACCEPT"]);
  assert.deepEqual(
    solo.said("acceptRequest").map(({ cid }) => cid),
    [1],
  );
  solo.receive(2, own.accept(2, 1, 1, value.digest));
  solo.run(50);
  solo.receive(0, { type: "decisionsRequest", from: 1 });
  const [answer] = solo.said("decisions");
  assert.ok(answer !== undefined && checker.decision(answer.certificate));
});

test("W11: in a leader change a decision without full certificate is an ACCEPT claim", () => {
  const { solo, value } = votedSolo();
  const { forge: own } = solo;
  for (const member of [0, 1]) solo.receive(member, own.write(member, 1, 1, value.digest));
  for (const member of [0, 1]) {
    solo.receive(member, { ...own.accept(member, 1, 1, value.digest), signature: new Uint8Array(64) });
  }
  assert.equal(solo.replica.lastDecided, 1);
  solo.receive(0, { type: "authority", authority: own.authority(2, [0, 1, 2]) });
  const [report] = solo.said("stopData");
  const body = decodeStopDataBody(report!.body);
  assert.equal(body.decided, undefined);
  assert.deepEqual(
    body.claims.map(({ cid, regency, digest }) => [cid, regency, toHex(digest)]),
    [[1, 1, toHex(value.digest)]],
  );
});

test("W11: a member caught with a bad signature is checked before it counts", () => {
  const { solo, value } = votedSolo();
  const { forge: own } = solo;
  const bad = (member: number, cid: number, digest: Uint8Array) => ({
    ...own.accept(member, 1, cid, digest),
    signature: new Uint8Array(64).fill(1),
  });
  for (const member of [0, 2]) solo.receive(member, own.accept(member, 1, 1, value.digest));
  solo.receive(1, bad(1, 1, value.digest));
  solo.receive(2, { type: "decisionsRequest", from: 1 });
  assert.deepEqual(solo.complaints, ["1: bad signature on a counted ACCEPT"]);
  const bundle = own.bundle(0, 2);
  const next = own.value([bundle], { previous: value });
  solo.receive(0, bundle.message, own.propose(1, next));
  for (const member of [0, 2]) solo.receive(member, own.accept(member, 1, 2, next.digest));
  solo.receive(1, bad(1, 2, next.digest));
  assert.equal(solo.replica.lastDecided, 1, "no quorum with a signature known to be bad");
  solo.receive(1, own.accept(1, 1, 2, next.digest));
  assert.equal(solo.replica.lastDecided, 2);
});

test("W11: the statement of an ACCEPT names all that is certified", () => {
  const digest = new Uint8Array(32).fill(1);
  const hash = new Uint8Array(32).fill(2);
  const statements = [
    toHex(acceptStatement(membership.digest, 1, 2, digest, 3, hash)),
    toHex(acceptStatement(digest, 1, 2, digest, 3, hash)),
    toHex(acceptStatement(membership.digest, 2, 2, digest, 3, hash)),
    toHex(acceptStatement(membership.digest, 1, 3, digest, 3, hash)),
    toHex(acceptStatement(membership.digest, 1, 2, hash, 3, hash)),
    toHex(acceptStatement(membership.digest, 1, 2, digest, 4, hash)),
    toHex(acceptStatement(membership.digest, 1, 2, digest, 3, digest)),
  ];
  assert.equal(new Set(statements).size, statements.length);
});
