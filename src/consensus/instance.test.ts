import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toByteString } from "../base/bytes.ts";
import { Instance, VoteSet } from "./instance.ts";
import { quorumSize } from "./membership.ts";
import type { MemberSignature } from "./messages.ts";

const digestOf = (value: number) => new Uint8Array(32).fill(value);

test("votes are counted as the plainest book of first votes counts them", () => {
  const votes = fc
    .constantFrom(4, 6, 7)
    .chain((n) =>
      fc.tuple(
        fc.constant(n),
        fc.array(fc.tuple(fc.nat({ max: n - 1 }), fc.constantFrom(1, 2, 3)), { maxLength: 24, size: "max" }),
      ),
    );
  fc.assert(
    fc.property(votes, ([n, cast]) => {
      const set = new VoteSet<MemberSignature>(n);
      const book = new Map<number, { value: number; turn: number }>();
      for (const [turn, [member, value]] of cast.entries()) {
        const signature = new Uint8Array(64).fill(turn);
        const outcome = set.add(digestOf(value), { member, signature });
        const before = book.get(member);
        if (before === undefined) {
          assert.equal(outcome, "counted");
          book.set(member, { value, turn });
        } else {
          assert.equal(outcome, before.value === value ? "repeated" : "second");
        }
      }
      const quorum = quorumSize(n);
      for (const value of [1, 2, 3]) {
        const voters = [...book].filter(([, vote]) => vote.value === value);
        const key = toByteString(digestOf(value));
        assert.equal(set.count(key), voters.length);
        assert.deepEqual(
          set.for(key).map(({ member, signature }) => [member, signature[0]]),
          voters.map(([member, { turn }]) => [member, turn]).sort((a, b) => a[0]! - b[0]!),
        );
        const wins = voters.length >= quorum;
        assert.equal(set.winner(quorum)?.digestKey === key, wins, "at most one value has a quorum");
        if (wins) assert.deepEqual(set.winner(quorum)?.digest, digestOf(value));
      }
    }),
    { numRuns: 500 },
  );
});

test("an instance keeps the votes of the newest ballots, and no more than a few", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 60, size: "max" }), (regencies) => {
      const instance = new Instance(1, 4);
      for (const regency of regencies) {
        const ballot = instance.ballot(regency);
        assert.equal(ballot.regency, regency);
        const again = instance.find(regency);
        if (again !== undefined) assert.equal(again, ballot);
      }
      const kept = [...instance.ballots()].map(({ regency }) => regency).sort((a, b) => b - a);
      const newest = [...new Set(regencies)].sort((a, b) => b - a).slice(0, 6);
      assert.deepEqual(kept, newest);
    }),
    { numRuns: 300 },
  );
});
