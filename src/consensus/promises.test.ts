/**
 * What a member has said it keeps to, whatever the others say, in whatever order, and however often it crashes:
 * one WRITE and one ACCEPT a ballot, and reports that hide nothing. All other members may be Byzantine here.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toHex } from "../base/bytes.ts";
import type { TraceEvent } from "../replica/contract.ts";
import type { ForgedBundle, ForgedValue } from "../replica/testing/forge.ts";
import { Solo } from "../replica/testing/solo.ts";
import { decodeStopDataBody, type Message } from "./messages.ts";

const SELF = 3;
/** Regencies that the member under test does not lead. */
const REGENCIES = [1, 2, 3, 5] as const;
const VALUES = ["a", "b", "aa", "ab", "ba"] as const;
type ValueName = (typeof VALUES)[number];

type Step =
  | { readonly type: "propose"; readonly regency: number; readonly value: ValueName }
  | {
      readonly type: "vote";
      readonly kind: "write" | "accept";
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
  { weight: 6, arbitrary: fc.record({ type: fc.constant("propose" as const), regency, value }) },
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant("vote" as const),
      kind: fc.constantFrom("write" as const, "write" as const, "accept" as const),
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

/**
 * Everything that the member has ever said, and where it went back on it. What it says for a value that it has
 * decided is no promise: no other value is possible there (as long as no more than f members lie).
 */
class Witness {
  readonly #decided = new Map<number, string>();
  readonly #votes = new Map<string, string>();
  readonly #accepts = new Map<
    string,
    { readonly cid: number; readonly regency: number; readonly digest: string }
  >();
  #reported = 0;
  readonly violations: string[] = [];

  see(event: TraceEvent): void {
    if (event.kind === "decided") this.#decided.set(event.cid, toHex(event.digest));
  }

  hear(message: Message): void {
    if (message.type === "write" || message.type === "accept") {
      const { cid, regency: ballot } = message;
      const digest = toHex(message.digest);
      const key = `${message.type} (${cid}, ${ballot})`;
      if (this.#decided.get(cid) === digest) return;
      const before = this.#votes.get(key);
      if (before !== undefined && before !== digest) this.violations.push(`two ${key}`);
      this.#votes.set(key, digest);
      if (message.type === "write" || this.#accepts.has(key)) return;
      this.#accepts.set(key, { cid, regency: ballot, digest });
      if (ballot < this.#reported) this.violations.push(`${key} after STOPDATA for ${this.#reported}`);
    } else if (message.type === "stopData") {
      this.#hearReport(message.body);
    }
  }

  #hearReport(bytes: Uint8Array): void {
    const report = decodeStopDataBody(bytes);
    this.#reported = Math.max(this.#reported, report.regency);
    for (const { cid, regency: ballot, digest } of this.#accepts.values()) {
      if (ballot >= report.regency || cid <= (report.decided?.cid ?? 0)) continue;
      const claim = report.claims.find((candidate) => candidate.cid === cid);
      const covered =
        claim !== undefined &&
        (claim.regency > ballot || (claim.regency === ballot && toHex(claim.digest) === digest));
      if (!covered) this.violations.push(`STOPDATA for ${report.regency} hides ACCEPT (${cid}, ${ballot})`);
    }
  }
}

/** Plays the steps to one member; what it says is witnessed after each. */
function play(steps: readonly Step[], mutation: string): { violations: string[]; said: number } {
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
  const authorityOf = (ballot: number) => forge.authority(ballot, [0, 1, 2]);
  const perform = (one: Step) => {
    switch (one.type) {
      case "propose": {
        const authority = one.regency > 1 ? { authority: authorityOf(one.regency) } : {};
        const proposal = forge.propose(one.regency, values[one.value], authority);
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
    solo.forget();
  };
  for (const one of steps) perform(one);
  // At last it must tell the leader of a later regency all that still counts.
  perform({ type: "flush" });
  solo.receive(0, { type: "authority", authority: authorityOf(10) });
  perform({ type: "flush" });
  return { violations: witness.violations, said };
}

const runs = fc.array(step, { minLength: 10, maxLength: 60, size: "max" });

test("a member never goes back on what it said, however often it crashes", () => {
  let said = 0;
  fc.assert(
    fc.property(runs, (steps) => {
      const played = play(steps, "");
      assert.deepEqual(played.violations, []);
      said += played.said;
    }),
    { numRuns: 300 },
  );
  assert.ok(said > 600, `${said} ACCEPTs and reports`);
});

for (const [mutation, violation] of [
  ["ballotNotBurned", /^two write/],
  ["acceptNotSynced", /hides ACCEPT|two accept/],
] as const) {
  test(`with the planted ${mutation} it does`, () => {
    const samples = fc.sample(runs, { numRuns: 300, seed: 7 });
    const violations = samples.flatMap((steps) => play(steps, mutation).violations);
    assert.ok(violations.some((what) => violation.test(what)));
  });
}
