/** Whole runs: seeds without a violation, one seed always the same run, planted bugs found. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_OPTIONS } from "../consensus/options.ts";
import { BEHAVIOURS, makeBehaviour } from "./byzantine/catalogue.ts";
import { MUTANTS } from "./mutants.ts";
import { type OptionLimits, optionsOfSeed } from "./options.ts";
import { Simulation } from "./simulation.ts";
import { runTask } from "./work.ts";

const ORDINARY: OptionLimits = { byzantine: "mixed", mutation: "" };
const SEEDS = 20;
/** Seeds in which a mutant must show; each is found within the first few. */
const MUTANT_SEEDS = 20;

test(`${SEEDS} seeds, half of them with f Byzantine members, break no rule`, () => {
  let decided = 0;
  let byzantine = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = runTask({ seed, limits: ORDINARY, twice: false });
    assert.deepEqual(result.violations, [], `seed ${seed}: npm run simulate -- --seed ${seed} --trace`);
    decided += result.counts?.decided ?? 0;
    if (result.byzantineMembers > 0) byzantine++;
  }
  assert.equal(byzantine, SEEDS / 2);
  assert.ok(decided > 10 * SEEDS, `${decided} instances decided`);
});

test("one seed is always the same run, and another seed another one", () => {
  const fingerprints = [41, 42].map((seed) => {
    const options = optionsOfSeed(seed, ORDINARY);
    const first = new Simulation(options).run();
    const second = new Simulation(options).run();
    assert.equal(first.fingerprint, second.fingerprint);
    assert.deepEqual(first.counts, second.counts);
    return first.fingerprint;
  });
  assert.notEqual(fingerprints[0], fingerprints[1]);
});

test("tracing a run does not change it", () => {
  const options = optionsOfSeed(43, ORDINARY);
  let lines = 0;
  const traced = new Simulation(options, { line: () => lines++ }).run();
  assert.equal(traced.fingerprint, new Simulation(options).run().fingerprint);
  assert.ok(lines > 1_000);
});

for (const mutation of ["quorumOneTooSmall", "acceptNotSynced"]) {
  test(`the mutant ${mutation} is found`, () => {
    const limits: OptionLimits = { byzantine: "mixed", mutation };
    const found = Array.from({ length: MUTANT_SEEDS }, (_, index) => index + 1).find(
      (seed) => runTask({ seed, limits, twice: false }).violations.length > 0,
    );
    assert.ok(found !== undefined, `not in ${MUTANT_SEEDS} seeds`);
  });
}

test("at most f members are faulty in any seed, and about every second seed has f Byzantine ones", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 2_000; seed++) {
    const { n, faulty, leftDead, consensus } = optionsOfSeed(seed, ORDINARY);
    const f = Math.floor((n - 1) / 3);
    const members = new Set([...faulty.map(({ member }) => member), ...leftDead]);
    assert.equal(members.size, faulty.length + leftDead.length);
    assert.ok(members.size <= f, `seed ${seed}`);
    if (seed % 2 === 1) assert.equal(faulty.filter(({ kind }) => kind === "byzantine").length, f);
    assert.equal(consensus.mutation, DEFAULT_OPTIONS.mutation);
    for (const member of faulty)
      if (member.kind === "byzantine") for (const b of member.behaviours) seen.add(b);
  }
  assert.deepEqual([...seen].sort(), [...BEHAVIOURS].sort());
});

test("what a mutant's seeds look for exists", () => {
  for (const { name, focus } of MUTANTS) {
    for (const behaviour of focus.behaviours) assert.ok(makeBehaviour(behaviour), `${name}: ${behaviour}`);
    assert.equal(optionsOfSeed(1, { byzantine: "mixed", mutation: name }).consensus.mutation, name);
  }
});
