import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  ALL_RULES,
  type BallotRules,
  type Exploration,
  explore,
  type ModelClaim,
  plainSelection,
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
  // Ballots count from 0 here, and a member that accepted nothing reports ballot 0 too.
  const liveZero: Selection = (claims, quorum) => {
    const numbered = claims.map((claim) => ({
      ballot: claim === null ? 0 : claim.ballot - 1,
      value: claim?.value,
    }));
    let best: { ballot: number; value: number } | null = null;
    for (const { ballot, value } of numbered) {
      if (value === undefined || (best !== null && best.ballot >= ballot)) continue;
      const agreeing = numbered.filter(
        (other) => other.ballot < ballot || (other.ballot === ballot && other.value === value),
      );
      if (agreeing.length >= quorum) best = { ballot, value };
    }
    if (best !== null) return [best.value];
    return numbered.filter((claim) => claim.ballot === 0).length >= quorum ? [1, 2] : [];
  };
  assert.equal(broken({}, liveZero).verdict, "two values decided");
});

test("a violation comes with the shortest run that leads to it", () => {
  assert.deepEqual(broken({ quorum: 2 }).steps, [
    "member 0 sends WRITE for value 1 in ballot 1",
    "member 1 sends WRITE for value 2 in ballot 1",
    "member 2 sends ACCEPT for value 1 in ballot 1",
    "member 0 sends ACCEPT for value 2 in ballot 1",
  ]);
});

const claims = fc.option(
  fc.record({ ballot: fc.integer({ min: 1, max: 3 }), value: fc.constantFrom(1, 2) }),
  {
    nil: null,
  },
);

test("the plain selection ignores the order of reports and invents no value", () => {
  fc.assert(
    fc.property(fc.array(claims, { minLength: 3, maxLength: 4 }), (reports: ModelClaim[]) => {
      const allowed = plainSelection(reports, 3);
      assert.deepEqual(plainSelection([...reports].reverse(), 3), allowed);
      const silent = reports.filter((claim) => claim === null).length;
      for (const value of allowed) {
        assert.ok(silent >= 3 || reports.some((claim) => claim?.value === value));
      }
      if (silent === reports.length) assert.deepEqual(allowed, [1, 2]);
    }),
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
