import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  ALL_RULES,
  type BallotRules,
  type Exploration,
  explore,
  type ModelClaim,
  protocolSelection,
  type Selection,
} from "./ballot-model.ts";
import {
  canonical,
  claimBallot,
  claimOf,
  claimValue,
  StateStore,
  type Words,
  withValuesSwapped,
} from "./ballot-state.ts";

function broken(change: Partial<BallotRules>, selection?: Selection): Exploration {
  return explore({ ...ALL_RULES, ...change }, selection);
}

test("two ballots with all rules: never two decisions, and correct members can always choose", () => {
  const result = explore(ALL_RULES);
  assert.deepEqual(result, { verdict: "holds", states: 10_562, steps: [] });
});

test("three ballots with all rules: over a million states, no violation", () => {
  const result = explore({ ...ALL_RULES, ballots: 3 });
  assert.deepEqual(result, { verdict: "holds", states: 1_072_746, steps: [] });
});

test("without the burned ballot a restarted member votes twice and members get stuck", () => {
  const result = broken({ restartBurnsBallot: false });
  assert.equal(result.verdict, "correct members cannot choose");
  assert.ok(result.steps.some((step) => step.includes("restarts")));
});

test("an ACCEPT that is not on disk lets two values be decided", () => {
  assert.equal(broken({ acceptIsDurable: false }).verdict, "two values decided");
});

test("a joined ballot that is not on disk gets members stuck", () => {
  assert.equal(broken({ ballotIsDurable: false }).verdict, "correct members cannot choose");
});

test("a quorum one smaller lets two values be decided", () => {
  assert.equal(broken({ quorum: 2 }).verdict, "two values decided");
});

test("a claim taken without f+1 WRITE signatures lets two values be decided", () => {
  assert.equal(broken({ claimsNeedWrites: false, ballots: 3 }).verdict, "two values decided");
});

test("a report taken in another ballot than it was made for lets two values be decided (W2)", () => {
  assert.equal(broken({ reportsAreBound: false, ballots: 3 }).verdict, "two values decided");
});

test("an ACCEPT in a ballot lower than one joined lets two values be decided", () => {
  assert.equal(broken({ joinIsPromise: false }).verdict, "two values decided");
});

test("a leader whose selection nobody checks lets two values be decided", () => {
  assert.equal(broken({ selectionIsRechecked: false }).verdict, "two values decided");
});

test("a first ballot that counts as nothing claimed lets two values be decided (W1)", () => {
  assert.equal(broken({}, protocolSelection("liveRegencyZero")).verdict, "two values decided");
});

test("taking the highest claim though no quorum backs it lets two values be decided", () => {
  assert.equal(broken({}, protocolSelection("selectionUnbacked")).verdict, "two values decided");
});

test("a claim bound by one report fewer lets two values be decided", () => {
  assert.equal(broken({}, protocolSelection("selectionOneFewer")).verdict, "two values decided");
});

/**
 * The selection in its plainest form, with every value of a bound claim. More than one can be bound: a correct
 * member's, and one that the Byzantine member claims with its own WRITE and one more. For each bound claim a
 * quorum reports nothing above it, so nothing above it was decided, and any of them may be taken; replicas
 * take the first of the highest ballot.
 */
const plainSelection: Selection = (claims, quorum) => {
  const agreeing = (claim: NonNullable<ModelClaim>) =>
    claims.filter((other) => {
      if (other === null || other.ballot < claim.ballot) return true;
      return other.ballot === claim.ballot && other.value === claim.value;
    }).length;
  const bound = claims.filter((claim) => claim !== null).filter((claim) => agreeing(claim) >= quorum);
  if (bound.length > 0) return [1, 2].filter((value) => bound.some((claim) => claim.value === value));
  return claims.filter((claim) => claim === null).length >= quorum ? [1, 2] : [];
};

test("whichever bound claim is taken, all holds", () => {
  const result = explore({ ...ALL_RULES, ballots: 3 }, plainSelection);
  assert.equal(result.verdict, "holds", result.steps.join("\n"));
  assert.ok(result.states >= 1_072_746);
});

const claims = fc.option(
  fc.record({ ballot: fc.integer({ min: 1, max: 3 }), value: fc.constantFrom(1, 2) }),
  {
    nil: null,
  },
);

test("the replicas' selection agrees with the plainest form of the rule", () => {
  fc.assert(
    fc.property(
      fc.array(claims, { minLength: 1, maxLength: 7 }),
      fc.constantFrom(3, 5),
      (reports, quorum) => {
        const allowed = plainSelection(reports, quorum);
        const taken = protocolSelection()(reports, quorum);
        assert.equal(taken.length > 0, allowed.length > 0);
        assert.ok(taken.every((value) => allowed.includes(value)));
        // Both values at once: only because a quorum claims nothing.
        if (taken.length === 2) assert.ok(reports.filter((claim) => claim === null).length >= quorum);
      },
    ),
    { numRuns: 2_000 },
  );
});

const words = fc
  .array(fc.integer({ min: 0, max: 2 ** 13 - 1 }), { minLength: 3, maxLength: 3 })
  .map((low): Words => [low[0]! | ((low[1]! & 0xfff) << 13), low[1]!, low[2]! | (low[0]! << 12)]);

test("states that differ in names only are one state", () => {
  fc.assert(
    fc.property(words, ([a, b, c]) => {
      const expected = canonical([a, b, c]);
      assert.deepEqual(canonical([c, a, b]), expected);
      assert.deepEqual(canonical([b, a, c]), expected);
      assert.deepEqual(
        canonical([withValuesSwapped(a), withValuesSwapped(b), withValuesSwapped(c)]),
        expected,
      );
      assert.equal(withValuesSwapped(withValuesSwapped(a)), a);
    }),
  );
});

test("a claim is one number from 1 to 6", () => {
  const seen = new Set<number>();
  for (const ballot of [1, 2, 3]) {
    for (const value of [1, 2]) {
      const claim = claimOf(ballot, value);
      assert.deepEqual([claimBallot(claim), claimValue(claim)], [ballot, value]);
      seen.add(claim);
    }
  }
  assert.deepEqual([...seen], [1, 2, 3, 4, 5, 6]);
});

test("the store of states grows and keeps what it was given", () => {
  const store = new StateStore();
  const wanted = Array.from({ length: 20_000 }, (_, i): Words => [i, i * 3, (i * 7) & 0xffff]);
  wanted.forEach((state, i) => {
    assert.ok(store.insert(state, i - 1));
  });
  assert.ok(wanted.every((state) => !store.insert(state, 0)));
  assert.equal(store.count, wanted.length);
  assert.deepEqual(store.at(12_345), wanted[12_345]);
  assert.equal(store.parent(12_345), 12_344);
});
