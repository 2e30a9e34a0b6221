/** What the history keeps of a decision once a later certificate covers it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toByteString } from "../base/bytes.ts";
import { testHasher, testMembership, testVerifier } from "../replica/testing/cluster.ts";
import { Forge, type ForgedValue } from "../replica/testing/forge.ts";
import { decodeBundle } from "./bundle.ts";
import { CertificateChecker } from "./certificates.ts";
import { type DecidedEntry, DecisionHistory } from "./decision-history.ts";

const membership = testMembership(4);
const forge = new Forge(membership);
const checker = new CertificateChecker(membership, testVerifier);
const REGENCY = 1;

/** Decisions in a row, each with the ACCEPTs of the signers given; whoever is caught is noted. */
function historyOf(...signers: number[][]): {
  history: DecisionHistory;
  entries: DecidedEntry[];
  caught: number[];
} {
  const caught: number[] = [];
  const history = new DecisionHistory(membership, checker, (member) => caught.push(member));
  let previous: ForgedValue | undefined;
  const entries = signers.map((members, i): DecidedEntry => {
    const bundle = forge.bundle(0, i + 1);
    const value: ForgedValue = forge.value([bundle], { previous });
    previous = value;
    const accepts = forge.decision(members, REGENCY, value.value.cid, value.digest).accepts;
    return {
      cid: value.value.cid,
      regency: REGENCY,
      digest: value.digest,
      encodedValue: value.encoded,
      value: value.value,
      bundles: [decodeBundle(testHasher, membership.digest, bundle.encoded)],
      accepts: [0, 1, 2, 3].map((member) => accepts.find((accept) => accept.member === member)),
      claim: { regency: REGENCY, writes: [] },
      loggedIn: 0,
      certificate: undefined,
    };
  });
  for (const entry of entries) history.add(entry);
  return { history, entries, caught };
}

test("decision history: a covered decision keeps value, bodies and ACCEPTs, and gives up its claim", () => {
  const { history, entries, caught } = historyOf([0, 1, 3], [0, 1, 2], [1, 2, 3]);
  const before = entries.map((entry) => [...entry.accepts]);
  assert.notEqual(history.get(1)!.claim, undefined);
  assert.ok(checker.decision(history.certify(3)!));
  assert.equal(history.certified, 3);
  for (const [i, entry] of entries.entries()) {
    const kept = history.get(i + 1)!;
    assert.equal(kept.claim, undefined);
    assert.deepEqual(kept.encodedValue, entry.encodedValue);
    assert.deepEqual(
      kept.bodies,
      entry.bundles.map((bundle) => bundle.encoded),
    );
    if (i < 2) assert.deepEqual(kept.accepts, before[i]);
  }
  // A run of decisions for a member that was away may have to end at any of them.
  for (const cid of [1, 2]) assert.ok(checker.decision(history.certify(cid)!), `certificate of ${cid}`);
  assert.deepEqual(caught, []);
});

test("decision history: a bad signature among the ACCEPTs that are kept in one array is found and named", () => {
  const { history, entries, caught } = historyOf([0, 1, 2], [0, 1, 2]);
  entries[0]!.accepts[1] = { ...entries[0]!.accepts[1]!, signature: new Uint8Array(64).fill(9) };
  assert.ok(history.certify(2));
  assert.equal(history.certify(1), undefined);
  assert.deepEqual(caught, [1]);
});

test("decision history: an ACCEPT that comes late completes a certificate only while none covers the decision", () => {
  const { history, entries } = historyOf([0, 1], [0, 1]);
  const late = (cid: number) => forge.decision([3], REGENCY, cid, entries[cid - 1]!.digest).accepts[0]!;
  assert.equal(history.certify(2), undefined);
  history.addAccept(2, REGENCY, entries[1]!.digest, late(2));
  assert.ok(history.certify(2));
  history.addAccept(1, REGENCY, entries[0]!.digest, late(1));
  assert.equal(history.certify(1), undefined);
  assert.equal(history.newestCertificate(1), undefined);
});

test("decision history: the very bundles of the last 16 decisions are at hand, and none after a reset", () => {
  const { history, entries } = historyOf(...Array.from({ length: 18 }, () => [0, 1, 2]));
  const bundles = entries.map((entry) => entry.bundles[0]!);
  const found = () => bundles.map(({ digest }) => history.recentBundle(toByteString(digest)));
  assert.ok(history.certify(18), "also of decisions that a certificate covers");
  for (const [i, bundle] of found().entries()) {
    assert.ok(bundle === (i < 2 ? undefined : bundles[i]), `bundle of ${i + 1}`);
  }
  history.reset(18, undefined);
  assert.ok(found().every((bundle) => bundle === undefined));
});
