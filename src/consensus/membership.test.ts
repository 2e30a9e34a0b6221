import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../base/bytes.ts";
import { testHasher, testMembership } from "../replica/testing/cluster.ts";
import {
  faultsTolerated,
  MAX_MEMBERS,
  Membership,
  MembershipError,
  MIN_MEMBERS,
  quorumSize,
} from "./membership.ts";

const SIZES = Array.from({ length: MAX_MEMBERS - MIN_MEMBERS + 1 }, (_, i) => i + MIN_MEMBERS);

test("quorums of every size of cluster intersect where they must, and correct members make one", () => {
  for (const n of SIZES) {
    const f = faultsTolerated(n);
    const quorum = quorumSize(n);
    assert.ok(n >= 3 * f + 1 && n < 3 * (f + 1) + 1, `${n} members: as many faults as can be`);
    assert.ok(2 * quorum - n >= f + 1, `${n} members: two quorums share f+1, of whom one is correct`);
    assert.ok(2 * (quorum - 1) - n < f + 1, `${n} members: and no smaller ones do`);
    assert.ok(n - f >= quorum, `${n} members: the correct ones make a quorum`);
    assert.ok(quorum - f >= f + 1, `${n} members: of a quorum of WRITEs f+1 come from correct members`);
  }
  assert.deepEqual(
    [4, 5, 6, 7, 8, 10, 13].map((n) => [n, faultsTolerated(n), quorumSize(n)]),
    [
      [4, 1, 3],
      [5, 1, 4],
      [6, 1, 4],
      [7, 2, 5],
      [8, 2, 6],
      [10, 3, 7],
      [13, 4, 9],
    ],
  );
});

test("each member leads every n-th regency, and isolated ones none", () => {
  for (const n of [4, 7, 10]) {
    const membership = testMembership(n);
    for (let regency = 1; regency <= 3 * n; regency++) {
      assert.equal(membership.leaderOf(regency), (regency - 1) % n);
      const isolated = new Set([0, n - 1]);
      assert.ok(!isolated.has(membership.leaderOf(regency, isolated)));
    }
    const none = new Set(Array.from({ length: n }, (_, i) => i));
    assert.equal(membership.leaderOf(2, none), 1, "where all are isolated, none is");
  }
});

test("a membership that no cluster can run with is refused with the reason", () => {
  const { members } = testMembership(4);
  const refused = (list: typeof members, what: RegExp) =>
    assert.throws(
      () => new Membership(1n, 1, list, testHasher),
      (error) => error instanceof MembershipError && what.test(error.message),
    );
  refused(members.slice(1), /3 members tolerate no Byzantine one: .* needs 4/);
  refused(
    Array.from({ length: 32 }, (_, i) => ({
      ...members[0]!,
      name: `${i}`,
      id: BigInt(i),
      publicKey: new Uint8Array(32).fill(i),
    })),
    /at most 31/,
  );
  refused([...members, { ...members[0]!, id: 9n, publicKey: new Uint8Array(32).fill(9) }], /same name/);
  refused([...members, { ...members[0]!, name: "x", publicKey: new Uint8Array(32).fill(9) }], /same id/);
  refused([...members, { ...members[0]!, name: "x", id: 9n }], /same public key/);
});

test("the digest names cluster, view and every field of every member", () => {
  const { members } = testMembership(4);
  const changed = (change: object) =>
    members.map((member, i) => (i === 2 ? { ...member, ...change } : member));
  const digests = [
    new Membership(1n, 1, members, testHasher),
    new Membership(2n, 1, members, testHasher),
    new Membership(1n, 2, members, testHasher),
    new Membership(1n, 1, changed({ name: "other" }), testHasher),
    new Membership(1n, 1, changed({ id: 77n }), testHasher),
    new Membership(1n, 1, changed({ publicKey: new Uint8Array(32).fill(77) }), testHasher),
  ].map(({ digest }) => toHex(digest));
  assert.equal(new Set(digests).size, digests.length);
  assert.equal(toHex(new Membership(1n, 1, [...members], testHasher).digest), digests[0]);
});
