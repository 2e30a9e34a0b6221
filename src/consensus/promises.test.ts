/**
 * What a member has said it keeps to, whatever the others say, in whatever order, and however often it crashes:
 * one WRITE and one ACCEPT a ballot, and reports that hide no ACCEPT and no logged WRITE. All other members may be
 * Byzantine here.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toHex } from "../base/bytes.ts";
import type { TraceEvent } from "../replica/contract.ts";
import type { ForgedBundle, ForgedValue } from "../replica/testing/forge.ts";
import { Solo } from "../replica/testing/solo.ts";
import { decodeStopDataBody, type LoggedWrite, type Message, type StopDataBody } from "./messages.ts";

const SELF = 3;
/** Regencies that the member under test does not lead. */
const REGENCIES = [1, 2, 3, 5] as const;
const VALUES = ["a", "b", "aa", "ab", "ba"] as const;
type ValueName = (typeof VALUES)[number];

type Step =
  | { readonly type: "propose"; readonly regency: number; readonly value: ValueName; readonly fast: boolean }
  | {
      readonly type: "vote";
      readonly kind: "write" | "loggedWrite" | "accept";
      readonly members: readonly number[];
      readonly regency: number;
      readonly value: ValueName;
    }
  | { readonly type: "authority"; readonly regency: number }
  | { readonly type: "sync"; readonly regency: number; readonly value: ValueName | undefined }
  | { readonly type: "stall" | "flush" | "crash" | "time" };

const regency = fc.constantFrom(...REGENCIES);
const value = fc.constantFrom(...VALUES, "a" as const, "b" as const, "a" as const);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant("propose" as const),
      regency,
      value,
      fast: fc.constantFrom(true, true, false),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant("vote" as const),
      kind: fc.constantFrom("write" as const, "loggedWrite" as const, "accept" as const),
      members: fc.constantFrom([0, 1, 2], [0, 1], [1, 2], [2]),
      regency,
      value,
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("authority" as const), regency }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant("sync" as const),
      regency,
      value: fc.option(value, { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom("stall", "flush").map((type) => ({ type })) },
  { weight: 3, arbitrary: fc.constant({ type: "crash" as const }) },
  { weight: 1, arbitrary: fc.constant({ type: "time" as const }) },
) as fc.Arbitrary<Step>;

interface Promised {
  readonly cid: number;
  readonly regency: number;
  readonly digest: string;
}

/** Whether a report tells of a vote: with a certificate, or with what it says of this ballot or a later one. */
function covers(
  report: StopDataBody,
  told: readonly LoggedWrite[],
  { cid, regency: ballot, digest }: Promised,
): boolean {
  if (ballot >= report.regency || cid <= (report.decided?.cid ?? 0)) return true;
  const claim = told.find((candidate) => candidate.cid === cid);
  if (claim === undefined) return false;
  return claim.regency > ballot || (claim.regency === ballot && toHex(claim.digest) === digest);
}

/**
 * Everything that the member has ever said, and where it went back on it. What it says for a value that it has
 * decided is no promise: no other value is possible there (as long as no more than f members lie).
 */
class Witness {
  readonly #decided = new Map<number, string>();
  readonly #votes = new Map<string, string>();
  readonly #accepts = new Map<string, Promised>();
  readonly #logged = new Map<string, Promised>();
  #report: StopDataBody | undefined;
  readonly violations: string[] = [];

  see(event: TraceEvent): void {
    if (event.kind === "decided") this.#decided.set(event.cid, toHex(event.digest));
  }

  hear(message: Message): void {
    if (message.type === "write" || message.type === "accept") this.#hearVote(message);
    else if (message.type === "stopData") this.#hearReport(decodeStopDataBody(message.body));
  }

  #hearVote(message: Extract<Message, { type: "write" | "accept" }>): void {
    const { type, cid, regency: ballot } = message;
    const digest = toHex(message.digest);
    const promised = { cid, regency: ballot, digest };
    if (type === "write" && message.logged !== undefined) {
      this.#logged.set(`${cid}/${ballot}`, promised);
      // Unlike an ACCEPT it has to be told of although it was decided: nothing else may be left of it.
      if (this.#report !== undefined && !covers(this.#report, this.#report.logged, promised)) {
        this.violations.push(`logged WRITE (${cid}, ${ballot}) after STOPDATA for ${this.#report.regency}`);
      }
    }
    const key = `${type} (${cid}, ${ballot})`;
    if (this.#decided.get(cid) === digest) return;
    const before = this.#votes.get(key);
    if (before !== undefined && before !== digest) this.violations.push(`two ${key}`);
    this.#votes.set(key, digest);
    if (type === "write" || this.#accepts.has(key)) return;
    this.#accepts.set(key, promised);
    const reported = this.#report?.regency ?? 0;
    if (ballot < reported) this.violations.push(`${key} after STOPDATA for ${reported}`);
  }

  #hearReport(report: StopDataBody): void {
    if (report.regency < (this.#report?.regency ?? 0)) this.violations.push("STOPDATA for a lower regency");
    this.#report = report;
    for (const accept of this.#accepts.values()) {
      if (!covers(report, report.claims, accept)) {
        this.violations.push(
          `STOPDATA for ${report.regency} hides ACCEPT (${accept.cid}, ${accept.regency})`,
        );
      }
    }
    for (const write of this.#logged.values()) {
      const decided = this.#decided.get(write.cid);
      if (decided !== undefined && decided !== write.digest) continue;
      if (!covers(report, report.logged, write)) {
        this.violations.push(
          `STOPDATA for ${report.regency} hides logged WRITE (${write.cid}, ${write.regency})`,
        );
      }
    }
  }
}

/** Plays the steps to one member; what it says is witnessed after each. */
function play(
  steps: readonly Step[],
  mutation: string,
): { violations: string[]; said: number; logged: number } {
  const solo = new Solo({ self: SELF, options: { mutation } });
  const { forge } = solo;
  const bundle = forge.bundle(0, 1);
  const make = (previous: ForgedValue | undefined, more: number, bundles: readonly ForgedBundle[] = []) =>
    forge.value(bundles, { previous, timestampMs: 1_700_000_001_000 + more });
  const a = make(undefined, 1, [bundle]);
  const b = make(undefined, 2, [bundle]);
  const values: Record<ValueName, ForgedValue> = {
    a,
    b,
    aa: make(a, 3),
    ab: make(a, 4),
    ba: make(b, 5),
  };
  const witness = new Witness();
  let said = 0;
  let logged = 0;
  const authorityOf = (ballot: number) => forge.authority(ballot, [0, 1, 2]);
  const perform = (one: Step) => {
    switch (one.type) {
      case "propose": {
        const authority = one.regency > 1 ? { authority: authorityOf(one.regency) } : {};
        const proposal = forge.propose(one.regency, values[one.value], { ...authority, fast: one.fast });
        solo.receive(0, bundle.message);
        solo.receive(forge.membership.leaderOf(one.regency), proposal);
        break;
      }
      case "vote": {
        const { digest, value: content } = values[one.value];
        for (const member of one.members) {
          solo.receive(member, forge[one.kind](member, one.regency, content.cid, digest));
        }
        break;
      }
      case "authority":
        if (one.regency > 1) solo.receive(0, { type: "authority", authority: authorityOf(one.regency) });
        break;
      case "sync": {
        if (one.regency === 1) break;
        const bound = one.value === undefined ? undefined : values[one.value];
        const claims =
          bound === undefined ? [] : [forge.claim([0, 1], one.regency - 1, bound.value.cid, bound.digest)];
        const reports = [0, 1, 2].map(
          (member) => [member, forge.stopData(member, one.regency, { claims })] as const,
        );
        solo.receive(forge.membership.leaderOf(one.regency), forge.sync(authorityOf(one.regency), reports));
        break;
      }
      case "stall":
        solo.diskStalls = true;
        break;
      case "flush":
        solo.diskStalls = false;
        solo.syncDisk();
        break;
      case "crash":
        solo.restart();
        break;
      case "time":
        solo.run(250);
        break;
    }
    for (const event of solo.traces) witness.see(event);
    for (const { message } of solo.sent) witness.hear(message);
    said += solo.said("accept").length + solo.said("stopData").length;
    logged += solo.said("write").filter((write) => write.logged !== undefined).length;
    solo.forget();
  };
  for (const one of steps) perform(one);
  // At last it must tell the leader of a later regency all that still counts.
  perform({ type: "flush" });
  solo.receive(0, { type: "authority", authority: authorityOf(10) });
  perform({ type: "flush" });
  return { violations: witness.violations, said, logged };
}

const runs = fc.array(step, { minLength: 10, maxLength: 60, size: "max" });

test("a member never goes back on what it said, however often it crashes", () => {
  let said = 0;
  let logged = 0;
  fc.assert(
    fc.property(runs, (steps) => {
      const played = play(steps, "");
      assert.deepEqual(played.violations, []);
      said += played.said;
      logged += played.logged;
    }),
    { numRuns: 1_000 },
  );
  assert.ok(said > 2_000, `${said} ACCEPTs and reports`);
  assert.ok(logged > 120, `${logged} logged WRITEs`);
});

for (const [mutation, violation] of [
  ["ballotNotBurned", /^two write/],
  ["acceptNotSynced", /hides ACCEPT|two accept/],
  ["loggedNotSynced", /hides logged WRITE/],
  ["loggedForgotten", /hides logged WRITE/],
] as const) {
  test(`with the planted ${mutation} it does`, () => {
    const samples = fc.sample(runs, { numRuns: 300, seed: 7 });
    const violations = samples.flatMap((steps) => play(steps, mutation).violations);
    assert.ok(violations.some((what) => violation.test(what)));
  });
}
