/** Laws of the selection (selection.ts) for clusters of several sizes; ballot-model.test.ts explores n = 4. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { faultsTolerated, quorumSize } from "./membership.ts";
import { type BallotClaim, selectValue } from "./selection.ts";

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
    { numRuns: 3_000 },
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
