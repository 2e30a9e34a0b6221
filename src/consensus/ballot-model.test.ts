import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Exploration, explore } from "./ballot-model.ts";
import { ALL_RULES, type BallotRules } from "./ballot-rules.ts";
import {
  BROKEN_SELECTIONS,
  type ModelClaim,
  type ModelReport,
  protocolSelection,
  type Selection,
} from "./ballot-selection.ts";
import {
  claimBallot,
  claimOf,
  claimsBelow,
  claimValue,
  contentOf,
  type Member,
  MemberTable,
  membersOf,
  reportOf,
  stateOf,
  withValuesSwapped,
} from "./ballot-state.ts";
import { StateStore } from "./ballot-store.ts";

function broken(change: Partial<BallotRules>, selection?: Selection): Exploration {
  return explore({ ...ALL_RULES, ...change }, selection);
}

test("two ballots with all rules: never two decisions, and correct members can always choose", () => {
  const result = explore(ALL_RULES);
  assert.deepEqual(result, { verdict: "holds", states: 49_606, steps: [] });
});

test("three ballots without logged WRITEs: no violation", () => {
  const result = explore({ ...ALL_RULES, ballots: 3, fastBallots: 0 });
  assert.deepEqual(result, { verdict: "holds", states: 250_451, steps: [] });
});

// With logged WRITEs in the third as well it is four times as many: `npm run model` explores them.
test("three ballots, logged WRITEs in the first two: six million states, no violation", () => {
  const result = explore({ ...ALL_RULES, ballots: 3, fastBallots: 2 });
  assert.deepEqual(result, { verdict: "holds", states: 6_165_655, steps: [] });
});

test("without the burned ballot a restarted member votes twice and members get stuck", () => {
  const result = broken({ restartBurnsBallot: false });
  assert.equal(result.verdict, "correct members cannot choose");
  assert.ok(result.steps.some((step) => step.includes("restarts")));
});

test("an ACCEPT that is not on disk lets two values be decided", () => {
  const result = broken({ acceptIsDurable: false });
  assert.equal(result.verdict, "two values decided");
  assert.ok(result.steps.includes("member 0 restarts in ballot 1 and forgets its ACCEPT"));
});

test("a logged WRITE that is not on disk lets two values be decided", () => {
  const result = broken({ loggedIsDurable: false });
  assert.equal(result.verdict, "two values decided");
  assert.deepEqual(result.steps.slice(2, 6), [
    "member 2 sends logged WRITE for value 1 in ballot 1",
    "member 0 joins ballot 2 and reports nothing, logged value 1 in ballot 1",
    "member 1 joins ballot 2 and reports nothing, logged value 1 in ballot 1",
    "member 2 restarts in ballot 1 and forgets its logged WRITE",
  ]);
});

test("a joined ballot that is not on disk gets members stuck", () => {
  assert.equal(broken({ ballotIsDurable: false }).verdict, "correct members cannot choose");
});

test("a quorum one smaller lets two values be decided", () => {
  assert.equal(broken({ quorum: 2 }).verdict, "two values decided");
});

test("logged WRITEs of a quorum that decide as those of all do let two values be decided", () => {
  assert.equal(broken({ allMustLog: false }).verdict, "two values decided");
});

test("a claim taken without f+1 WRITE signatures lets two values be decided", () => {
  const change = { claimsNeedWrites: false };
  assert.equal(broken({ ...change, fastBallots: 0, ballots: 3 }).verdict, "two values decided");
  assert.equal(broken(change).verdict, "two values decided", "by logged WRITEs in two ballots");
});

test("a report taken in another ballot than it was made for lets two values be decided (W2)", () => {
  const result = broken({ reportsAreBound: false, ballots: 3, fastBallots: 0 });
  assert.equal(result.verdict, "two values decided");
});

test("an ACCEPT in a ballot lower than one joined lets two values be decided", () => {
  assert.equal(broken({ joinIsPromise: false }).verdict, "two values decided");
});

test("a logged WRITE in a ballot lower than one joined lets two values be decided", () => {
  assert.equal(broken({ joinEndsLogging: false }).verdict, "two values decided");
});

test("a leader whose selection nobody checks lets two values be decided", () => {
  assert.equal(broken({ selectionIsRechecked: false }).verdict, "two values decided");
});

for (const [fault, selection] of Object.entries(BROKEN_SELECTIONS)) {
  test(`a selection in which ${fault} lets two values be decided`, () => {
    assert.equal(broken({}, selection).verdict, "two values decided");
  });
}

/**
 * The selection in its plainest form, with every value of a bound claim. More than one can be bound: a correct
 * member's, and one that the Byzantine member claims with its own WRITE and one more. For each bound claim a
 * quorum reports nothing above it, so nothing above it was decided by ACCEPTs, and any of them may be taken;
 * replicas take the first of the highest ballot. What logged WRITEs may have decided above it goes before it.
 */
function plainSelection(faults: number): Selection {
  return (reports, quorum) => {
    const claims = reports.map(({ accepted }) => accepted);
    const agreeing = (claim: NonNullable<ModelClaim>) =>
      claims.filter((other) => {
        if (other === null || other.ballot < claim.ballot) return true;
        return other.ballot === claim.ballot && other.value === claim.value;
      }).length;
    const loggedAbove = (ballot: number) =>
      [1, 2].filter((value) => {
        const naming = reports.filter(({ logged }) => logged?.value === value && logged.ballot > ballot);
        return naming.length >= reports.length - faults;
      });
    const allowed = new Set<number>();
    const allow = (ballot: number, values: readonly number[]) => {
      const logged = loggedAbove(ballot);
      for (const value of logged.length > 0 ? logged : values) allowed.add(value);
    };
    for (const claim of claims) {
      if (claim !== null && agreeing(claim) >= quorum) allow(claim.ballot, [claim.value]);
    }
    if (allowed.size === 0 && claims.filter((claim) => claim === null).length >= quorum) allow(0, [1, 2]);
    return [...allowed].sort();
  };
}

test("whichever bound claim is taken, all holds", () => {
  const result = explore({ ...ALL_RULES, ballots: 3, fastBallots: 1 }, plainSelection(1));
  assert.equal(result.verdict, "holds", result.steps.join("\n"));
  assert.ok(result.states >= 1_351_538);
});

const claim = fc.option(fc.record({ ballot: fc.integer({ min: 1, max: 3 }), value: fc.constantFrom(1, 2) }), {
  nil: null,
  // Half of them, or a quorum that claims nothing would hardly ever come up.
  freq: 2,
});
const report: fc.Arbitrary<ModelReport> = fc.record({ accepted: claim, logged: claim });
const reportsOfCluster = fc
  .constantFrom({ quorum: 3, faults: 1, n: 4 }, { quorum: 5, faults: 2, n: 7 })
  .chain(({ quorum, faults, n }) =>
    fc.record({
      quorum: fc.constant(quorum),
      faults: fc.constant(faults),
      reports: fc.array(report, { minLength: quorum, maxLength: n }),
    }),
  );

test("the replicas' selection agrees with the plainest form of the rule", () => {
  const kinds = new Set<string>();
  fc.assert(
    fc.property(reportsOfCluster, ({ quorum, faults, reports }) => {
      const allowed = plainSelection(faults)(reports, quorum);
      const taken = protocolSelection("", faults)(reports, quorum);
      assert.equal(taken.length > 0, allowed.length > 0);
      assert.ok(taken.every((value) => allowed.includes(value)));
      // Both values at once: only because a quorum claims nothing.
      const silent = reports.filter(({ accepted }) => accepted === null).length;
      if (taken.length === 2) assert.ok(silent >= quorum);
      const unlogged = reports.map(({ accepted }) => ({ accepted, logged: null }));
      const changed = protocolSelection("", faults)(unlogged, quorum).join() !== taken.join();
      kinds.add(changed ? "bound by logged WRITEs" : ["open", "bound", "free"][taken.length]!);
    }),
    { numRuns: 5_000 },
  );
  assert.deepEqual([...kinds].sort(), ["bound", "bound by logged WRITEs", "free", "open"]);
});

const aClaim = fc.integer({ min: 0, max: 6 });
const claimSet = fc.integer({ min: 0, max: 63 }).map((set) => set << 1);
const member: fc.Arbitrary<Member> = fc.record(
  {
    ballot: fc.integer({ min: 1, max: 3 }),
    voted: fc.boolean(),
    accepted: aClaim,
    logged: aClaim,
    reports: fc
      .uniqueArray(
        fc
          .tuple(fc.constantFrom(2, 3), aClaim, aClaim)
          .map(([ballot, accepted, logged]) => reportOf(ballot, contentOf(accepted, logged))),
        { maxLength: 3 },
      )
      .map((reports) => reports.sort((a, b) => a - b)),
    writes: claimSet,
    loggedWrites: claimSet,
    accepts: claimSet,
  },
  { noNullPrototype: true },
);

test("states that differ in names only are one state", () => {
  fc.assert(
    fc.property(fc.array(member, { maxLength: 5 }), fc.tuple(member, member, member), (others, three) => {
      const table = new MemberTable();
      // The numbers that members get depend on which were there before.
      for (const other of others) table.numberOf(other);
      const [a, b, c] = three.map((one) => table.numberOf(one)) as [number, number, number];
      const [d, e, f] = three.map((one) => table.numberOf(withValuesSwapped(one))) as [
        number,
        number,
        number,
      ];
      const expected = table.canonical(a, b, c);
      assert.equal(table.canonical(c, a, b), expected);
      assert.equal(table.canonical(b, a, c), expected);
      assert.equal(table.canonical(d, e, f), expected);
      const sorted = (numbers: readonly number[]) => numbers.toSorted((x, y) => x - y).join();
      assert.ok([sorted([a, b, c]), sorted([d, e, f])].includes(sorted(membersOf(expected))));
    }),
  );
});

test("a member has one number, and swapping its values twice changes nothing", () => {
  fc.assert(
    fc.property(member, member, (one, other) => {
      assert.deepEqual(withValuesSwapped(withValuesSwapped(one)), one);
      const table = new MemberTable();
      const [a, b] = [table.numberOf(one), table.numberOf(other)];
      assert.deepEqual([table.at(a), table.at(b)], [one, other]);
      assert.equal(table.numberOf({ ...one }), a);
    }),
  );
});

test("swapping values swaps them everywhere", () => {
  const one: Member = {
    ballot: 3,
    voted: true,
    accepted: claimOf(1, 1),
    logged: claimOf(2, 2),
    reports: [reportOf(2, contentOf(claimOf(1, 1), 0)), reportOf(3, contentOf(0, claimOf(2, 2)))],
    writes: (1 << claimOf(1, 1)) | (1 << claimOf(3, 1)),
    loggedWrites: 1 << claimOf(2, 2),
    accepts: 1 << claimOf(3, 2),
  };
  assert.deepEqual(withValuesSwapped(one), {
    ballot: 3,
    voted: true,
    accepted: claimOf(1, 2),
    logged: claimOf(2, 1),
    reports: [reportOf(2, contentOf(claimOf(1, 2), 0)), reportOf(3, contentOf(0, claimOf(2, 1)))],
    writes: (1 << claimOf(1, 2)) | (1 << claimOf(3, 2)),
    loggedWrites: 1 << claimOf(2, 1),
    accepts: 1 << claimOf(3, 1),
  });
});

test("a claim is one number from 1 to 6", () => {
  const seen = new Set<number>();
  for (const ballot of [1, 2, 3]) {
    for (const value of [1, 2]) {
      const number = claimOf(ballot, value);
      assert.deepEqual([claimBallot(number), claimValue(number)], [ballot, value]);
      assert.deepEqual(
        [(claimsBelow(ballot) >> number) & 1, (claimsBelow(ballot + 1) >> number) & 1],
        [0, 1],
      );
      seen.add(number);
    }
  }
  assert.deepEqual([...seen], [1, 2, 3, 4, 5, 6]);
});

test("the store of states grows and keeps what it was given", () => {
  const store = new StateStore();
  const wanted = Array.from({ length: 20_000 }, (_, i) => stateOf(i, (i * 3) & 0xffff, (i * 7) & 0xffff));
  wanted.forEach((state, i) => {
    assert.ok(store.insert(state, i - 1));
  });
  assert.ok(wanted.every((state) => !store.insert(state, 0)));
  assert.equal(store.count, wanted.length);
  assert.equal(store.at(12_345), wanted[12_345]);
  assert.equal(store.parent(12_345), 12_344);
});

test("a state is the numbers of its members", () => {
  const number = fc.integer({ min: 0, max: 2 ** 16 - 1 });
  fc.assert(
    fc.property(number, number, number, (a, b, c) => {
      assert.deepEqual(membersOf(stateOf(a, b, c)), [a, b, c]);
    }),
  );
});
