/** Laws of the selection (selection.ts) for clusters of several sizes; ballot-model.test.ts explores n = 4. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { faultsTolerated, quorumSize } from "./membership.ts";
import {
  type BallotClaim,
  type InstanceReport,
  type Selection,
  selectForInstance,
  selectValue,
} from "./selection.ts";

const REGENCIES = 5;
type Report = BallotClaim | undefined;

const claim = (regency: number, value: string): BallotClaim => ({ regency, digestKey: value });
const anyReport: fc.Arbitrary<Report> = fc.option(
  fc.record({ regency: fc.integer({ min: 1, max: REGENCIES }), digestKey: fc.constantFrom("v", "w", "x") }),
  { nil: undefined },
);

/** What members report when `v` was decided in some ballot: see "Why the selection is safe" in docs/protocol.md. */
interface Decided {
  readonly n: number;
  readonly ballot: number;
  readonly reports: readonly Report[];
}

const decided: fc.Arbitrary<Decided> = fc
  .record({ n: fc.constantFrom(4, 5, 6, 7, 10), ballot: fc.integer({ min: 1, max: REGENCIES }) })
  .chain(({ n, ballot }) => {
    const f = faultsTolerated(n);
    const quorum = quorumSize(n);
    // Accepted in this ballot, or again in a later one: for the same value.
    const acceptor = fc.integer({ min: ballot, max: REGENCIES }).map((regency) => claim(regency, "v"));
    // Everyone else: nothing, an older ballot with any value, or this or a later one with v.
    const older = fc
      .tuple(fc.integer({ min: 0, max: ballot - 1 }), fc.constantFrom("v", "w", "x"))
      .map(([regency, value]) => (regency === 0 ? undefined : claim(regency, value)));
    const other = fc.oneof(older, acceptor);
    // A liar has a WRITE of a correct member behind its claim: of this ballot at most, if for another value.
    const liar = fc.oneof(
      fc.constantFrom(claim(ballot, "w"), claim(ballot, "x"), claim(ballot, "v"), undefined),
      older,
      acceptor,
    );
    // Liars are among the acceptors, to make it as hard as it gets: quorum-f correct members accepted.
    const correctAcceptors = quorum - f;
    return fc
      .tuple(
        fc.array(acceptor, { minLength: correctAcceptors, maxLength: correctAcceptors }),
        fc.array(other, { minLength: n - quorum, maxLength: n - quorum }),
        fc.array(liar, { minLength: f, maxLength: f }),
      )
      .chain((groups) => {
        const all: readonly Report[] = groups.flat();
        const members = fc.shuffledSubarray(
          all.map((_, i) => i),
          { minLength: quorum },
        );
        return members.map((chosen) => ({ n, ballot, reports: chosen.map((i) => all[i]) }));
      });
  });

test("whatever reports arrive after a decision, nothing but the decided value is selected", () => {
  const violations = new Map<string, number>();
  fc.assert(
    fc.property(decided, ({ n, reports }) => {
      const selection = selectValue(quorumSize(n), reports);
      assert.notEqual(selection.kind, "free");
      if (selection.kind === "bound") assert.equal(selection.claim.digestKey, "v");
      // The planted bugs get it wrong on the same reports, sooner or later.
      for (const mutation of ["liveRegencyZero", "selectionUnbacked", "selectionOneFewer"]) {
        const weak = selectValue(quorumSize(n), reports, mutation);
        const wrong = weak.kind === "free" || (weak.kind === "bound" && weak.claim.digestKey !== "v");
        if (wrong) violations.set(mutation, (violations.get(mutation) ?? 0) + 1);
      }
    }),
    { numRuns: 10_000 },
  );
  assert.deepEqual([...violations.keys()].sort(), [
    "liveRegencyZero",
    "selectionOneFewer",
    "selectionUnbacked",
  ]);
});

test("the reports of the correct members alone always settle", () => {
  const correct = fc.constantFrom(4, 5, 6, 7, 10).chain((n) => {
    // In one ballot correct members accept one value only.
    const acceptedIn = fc.array(fc.constantFrom("v", "w"), {
      minLength: REGENCIES + 1,
      maxLength: REGENCIES + 1,
    });
    const count = n - faultsTolerated(n);
    const ballots = fc.array(fc.integer({ min: 0, max: REGENCIES }), { minLength: count, maxLength: count });
    return fc.tuple(
      fc.constant(n),
      acceptedIn,
      ballots,
      fc.array(anyReport, { maxLength: faultsTolerated(n) }),
    );
  });
  fc.assert(
    fc.property(correct, ([n, acceptedIn, ballots, lies]) => {
      const reports = ballots.map((ballot) =>
        ballot === 0 ? undefined : claim(ballot, acceptedIn[ballot]!),
      );
      const quorum = quorumSize(n);
      assert.notEqual(selectValue(quorum, reports).kind, "wait");
      assert.notEqual(selectValue(quorum, [...lies, ...reports]).kind, "wait", "and no lie unsettles it");
    }),
    { numRuns: 1_000 },
  );
});

test("a further report never takes a binding back, and can only raise it", () => {
  const sizes = fc.constantFrom(3, 4, 5);
  const many = fc.array(anyReport, { maxLength: 9, size: "max" });
  fc.assert(
    fc.property(sizes, many, anyReport, fc.nat(), (quorum, reports, further, at) => {
      const before = selectValue(quorum, reports);
      const place = at % (reports.length + 1);
      const after = selectValue(quorum, [...reports.slice(0, place), further, ...reports.slice(place)]);
      if (before.kind === "bound") {
        assert.ok(after.kind === "bound" && after.claim.regency >= before.claim.regency);
      }
      if (before.kind === "free") assert.notEqual(after.kind, "wait");
    }),
    { numRuns: 1_000 },
  );
});

test("what is selected was claimed, is backed by a quorum, and is the highest such claim", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(3, 4, 5),
      fc.array(anyReport, { maxLength: 9, size: "max" }),
      (quorum, reports) => {
        const selection = selectValue(quorum, reports);
        const backing = (one: BallotClaim) =>
          reports.filter(
            (report) =>
              report === undefined ||
              report.regency < one.regency ||
              (report.regency === one.regency && report.digestKey === one.digestKey),
          ).length;
        const bound = reports.filter((report) => report !== undefined && backing(report) >= quorum);
        if (selection.kind === "bound") {
          assert.ok(bound.includes(selection.claim));
          assert.ok(bound.every((one) => one!.regency <= selection.claim.regency));
        } else {
          assert.equal(bound.length, 0);
          const silent = reports.filter((report) => report === undefined).length;
          assert.equal(selection.kind, silent >= quorum ? "free" : "wait");
        }
      },
    ),
    { numRuns: 1_000 },
  );
});

// ---- with logged WRITEs

const VALUES = ["v", "w", "x"] as const;

/** Reports of an instance that was decided in some ballot, for v; those of liars come last. */
interface DecidedReports {
  readonly n: number;
  readonly correct: readonly InstanceReport[];
  readonly liars: readonly InstanceReport[];
}

const size = fc.constantFrom(4, 5, 6, 7, 10);
const anyValue = fc.constantFrom(...VALUES);
/** The value of each ballot, where that is one for all correct members. */
const valueIn = fc.array(anyValue, { minLength: REGENCIES + 1, maxLength: REGENCIES + 1 });
const upTo = (ballot: number) => fc.integer({ min: 0, max: ballot });
const from = (ballot: number) => fc.integer({ min: ballot, max: REGENCIES });
const later = (ballot: number) => from(ballot).map((regency) => claim(regency, "v"));
const anyClaim = (ballots: fc.Arbitrary<number>): fc.Arbitrary<Report> =>
  fc
    .tuple(ballots, anyValue)
    .map(([regency, digestKey]) => (regency === 0 ? undefined : claim(regency, digestKey)));
/** Of those ballots, with what all correct members have there. */
const agreedClaim = (ballots: fc.Arbitrary<number>, values: readonly string[]): fc.Arbitrary<Report> =>
  ballots.map((regency) => (regency === 0 ? undefined : claim(regency, values[regency]!)));
const exactly = <T>(length: number, one: fc.Arbitrary<T>) =>
  fc.array(one, { minLength: length, maxLength: length });

/** All members logged their WRITEs for v in one ballot: see `selectForInstance`. */
const decidedByLogged: fc.Arbitrary<DecidedReports> = fc
  .tuple(size, fc.integer({ min: 1, max: REGENCIES }), valueIn)
  .chain(([n, ballot, values]) => {
    const f = faultsTolerated(n);
    const correct = fc.record({
      logged: later(ballot),
      accepted: fc.oneof(agreedClaim(upTo(ballot - 1), values), later(ballot)),
    });
    // No correct member's WRITE for another value is of this ballot or later, so that no ACCEPT claim can be.
    const liar = fc.record({
      logged: anyClaim(upTo(REGENCIES)),
      accepted: fc.oneof(anyClaim(upTo(ballot - 1)), later(ballot)),
    });
    return fc.record({ n: fc.constant(n), correct: exactly(n - f, correct), liars: exactly(f, liar) });
  });

/** A quorum gave ACCEPTs for v in one ballot. */
const decidedByAccepts: fc.Arbitrary<DecidedReports> = fc
  .tuple(size, fc.integer({ min: 1, max: REGENCIES }), valueIn, valueIn)
  .chain(([n, ballot, acceptedIn, loggedIn]) => {
    const f = faultsTolerated(n);
    const quorum = quorumSize(n);
    // In this ballot a correct member may still have logged a WRITE for another value than the others.
    const logged = fc.oneof(
      agreedClaim(upTo(ballot - 1), loggedIn),
      anyClaim(fc.constant(ballot)),
      later(ballot),
    );
    const acceptor = fc.record({ logged, accepted: later(ballot) });
    const other = fc.record({
      logged,
      accepted: fc.oneof(agreedClaim(upTo(ballot - 1), acceptedIn), later(ballot)),
    });
    const liar = fc.record({
      logged: anyClaim(upTo(REGENCIES)),
      accepted: fc.oneof(anyClaim(upTo(ballot)), later(ballot)),
    });
    return fc.record({
      n: fc.constant(n),
      correct: fc
        .tuple(exactly(quorum - f, acceptor), exactly(n - quorum, other))
        .map((groups) => groups.flat()),
      liars: exactly(f, liar),
    });
  });

/** The reports that happened to come, at least a quorum of them, in any order. */
const arrived = (decision: fc.Arbitrary<DecidedReports>) =>
  decision.chain(({ n, correct, liars }) =>
    fc.record({
      n: fc.constant(n),
      reports: fc.shuffledSubarray([...correct, ...liars], { minLength: quorumSize(n) }),
    }),
  );

type Rule = (n: number, reports: readonly InstanceReport[], mutation?: string) => Selection;

const rule =
  (change: number): Rule =>
  (n, reports, mutation) =>
    selectForInstance({ quorum: quorumSize(n), f: faultsTolerated(n) + change }, reports, mutation);
const theRule = rule(0);

/** Rules that look right and are not. */
const WEAK_RULES: Readonly<Record<string, Rule>> = {
  oneReportFewer: rule(1),
  oneReportMore: rule(-1),
  loggedIgnored: (n, reports) => theRule(n, reports, "loggedWritesIgnored"),
  /** Does not ask whether an ACCEPT claim of a later ballot is bound. */
  loggedFirst: (n, reports) => {
    const selection = theRule(
      n,
      reports.map(({ logged }) => ({ logged, accepted: undefined })),
    );
    return selection.kind === "bound" ? selection : theRule(n, reports);
  },
};

/** Whether another value may be proposed than the one that was decided. */
function losesDecision(selection: Selection): boolean {
  return selection.kind === "free" || (selection.kind === "bound" && selection.claim.digestKey !== "v");
}

for (const [how, decision, breaking] of [
  ["all members' logged WRITEs", decidedByLogged, ["loggedIgnored", "oneReportFewer", "oneReportMore"]],
  ["ACCEPTs", decidedByAccepts, ["loggedFirst", "oneReportFewer"]],
] as const) {
  test(`whatever reports arrive after a decision by ${how}, no other value is selected`, () => {
    const broken = new Set<string>();
    fc.assert(
      fc.property(arrived(decision), ({ n, reports }) => {
        assert.ok(!losesDecision(theRule(n, reports)));
        for (const [name, weak] of Object.entries(WEAK_RULES)) {
          if (losesDecision(weak(n, reports))) broken.add(name);
        }
      }),
      { numRuns: 10_000 },
    );
    assert.deepEqual([...broken].sort(), breaking);
  });

  test(`once all correct members' reports are there after a decision by ${how}, its value is selected`, () => {
    fc.assert(
      fc.property(decision, fc.nat(), ({ n, correct, liars }, some) => {
        const lies = liars.slice(0, some % (liars.length + 1));
        for (const reports of [
          [...correct, ...lies],
          [...lies, ...correct],
        ]) {
          const selection = theRule(n, reports);
          assert.ok(selection.kind === "bound" && selection.claim.digestKey === "v");
        }
      }),
      { numRuns: 1_000 },
    );
  });
}

const anyInstanceReport = fc.record({ accepted: anyReport, logged: anyReport });
const anyReports = size.chain((n) =>
  fc.record({
    n: fc.constant(n),
    reports: fc.array(anyInstanceReport, { minLength: quorumSize(n), maxLength: n }),
  }),
);

test("logged WRITEs neither make the selection wait nor end its wait", () => {
  fc.assert(
    fc.property(anyReports, ({ n, reports }) => {
      const byAccepts = selectValue(
        quorumSize(n),
        reports.map(({ accepted }) => accepted),
      );
      assert.equal(theRule(n, reports).kind === "wait", byAccepts.kind === "wait");
    }),
    { numRuns: 1_000 },
  );
});

test("a value that f reporters or fewer say they logged is not bound for that", () => {
  let tried = 0;
  fc.assert(
    fc.property(anyReports, fc.nat(), ({ n, reports }, at) => {
      // The logged WRITEs of f reporters, wherever they stand; the others have none.
      const f = faultsTolerated(n);
      const said = reports.map(({ accepted, logged }, i) => {
        const lies = (i - (at % reports.length) + reports.length) % reports.length < f;
        return { accepted, logged: lies ? logged : undefined };
      });
      const byAccepts = selectValue(
        quorumSize(n),
        said.map(({ accepted }) => accepted),
      );
      assert.deepEqual(theRule(n, said), byAccepts);
      if (said.some(({ logged }) => logged !== undefined)) tried += 1;
    }),
    { numRuns: 1_000 },
  );
  assert.ok(tried > 300);
});

test("no two values can be bound by logged WRITEs: the order of the reports does not matter", () => {
  let bound = 0;
  const few = fc.constantFrom("v", "v", "w");
  const loggedOnly = fc.record({
    accepted: fc.constant(undefined),
    logged: fc.option(fc.record({ regency: fc.integer({ min: 1, max: REGENCIES }), digestKey: few }), {
      nil: undefined,
    }),
  });
  const both = size.chain((n) =>
    fc
      .array(loggedOnly, { minLength: quorumSize(n), maxLength: n })
      .chain((reports) =>
        fc.tuple(
          fc.constant(n),
          fc.constant(reports),
          fc.shuffledSubarray(reports, { minLength: reports.length }),
        ),
      ),
  );
  const keyOf = (selection: Selection) =>
    selection.kind === "bound" ? selection.claim.digestKey : selection.kind;
  fc.assert(
    fc.property(both, ([n, reports, shuffled]) => {
      const key = keyOf(theRule(n, reports));
      assert.equal(keyOf(theRule(n, shuffled)), key);
      if (key !== "free") bound += 1;
    }),
    { numRuns: 1_000 },
  );
  assert.ok(bound > 100);
});
