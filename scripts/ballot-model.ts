/**
 * Explores the ballot model with three ballots and all rules on, then leaves out one rule after the other and
 * shows the shortest run that goes wrong. Exit code 1 if the protocol's own rules are violated, or if a rule
 * can be left out unnoticed.
 */
import { ALL_RULES, type BallotRules, explore, protocolSelection } from "../src/consensus/ballot-model.ts";

const OMISSIONS: readonly (readonly [string, Partial<BallotRules>])[] = [
  ["a quorum of two", { quorum: 2 }],
  ["a restart does not burn the ballot", { restartBurnsBallot: false }],
  ["ACCEPT leaves before it is on disk", { acceptIsDurable: false }],
  ["a joined ballot is not on disk", { ballotIsDurable: false }],
  ["claims count without WRITE signatures", { claimsNeedWrites: false }],
  ["reports count in any later ballot", { reportsAreBound: false }],
  ["ACCEPT in a ballot lower than one joined", { joinIsPromise: false }],
  ["the leader's selection is not checked", { selectionIsRechecked: false }],
];

/** Planted bugs of the selection; see selection.ts. */
const MUTANTS: readonly (readonly [string, string])[] = [
  ["the first ballot counts as none", "liveRegencyZero"],
  ["a claim is taken though no quorum backs it", "selectionUnbacked"],
  ["a claim is bound by one report fewer", "selectionOneFewer"],
];

function run(name: string, rules: BallotRules, mutation = ""): string {
  const startMs = performance.now();
  const { verdict, states, steps } = explore(rules, protocolSelection(mutation));
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  const outcome = verdict === "holds" ? "no violation, never stuck" : verdict;
  console.log(`${name}: ${outcome}; ${states.toLocaleString("en")} states in ${seconds} s`);
  for (const [i, step] of steps.entries()) console.log(`  ${i + 1}. ${step}`);
  return verdict;
}

let failed = run("all rules", { ...ALL_RULES, ballots: 3 }) !== "holds";
for (const [name, change] of OMISSIONS) {
  if (run(name, { ...ALL_RULES, ballots: 3, ...change }) === "holds") failed = true;
}
for (const [name, mutation] of MUTANTS) {
  if (run(name, { ...ALL_RULES, ballots: 3 }, mutation) === "holds") failed = true;
}
process.exitCode = failed ? 1 : 0;
