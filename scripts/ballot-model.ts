/**
 * Explores the ballot model with three ballots and all rules on, then leaves out one rule after the other and
 * shows the shortest run that goes wrong. Exit code 1 if the protocol's own rules are violated, or if a rule
 * can be left out unnoticed.
 */
import { explore } from "../src/consensus/ballot-model.ts";
import { ALL_RULES, type BallotRules } from "../src/consensus/ballot-rules.ts";
import { BROKEN_SELECTIONS, type Selection } from "../src/consensus/ballot-selection.ts";

const OMISSIONS: readonly (readonly [string, Partial<BallotRules>])[] = [
  ["a quorum of two", { quorum: 2 }],
  ["logged WRITEs of a quorum decide", { allMustLog: false }],
  ["a restart does not burn the ballot", { restartBurnsBallot: false }],
  ["ACCEPT leaves before it is on disk", { acceptIsDurable: false }],
  ["a logged WRITE leaves before it is on disk", { loggedIsDurable: false }],
  ["a joined ballot is not on disk", { ballotIsDurable: false }],
  ["claims count without WRITE signatures", { claimsNeedWrites: false }],
  ["reports count in any later ballot", { reportsAreBound: false }],
  ["ACCEPT in a ballot lower than one joined", { joinIsPromise: false }],
  ["a logged WRITE in a ballot lower than one joined", { joinEndsLogging: false }],
  ["the leader's selection is not checked", { selectionIsRechecked: false }],
];

function run(name: string, rules: BallotRules, selection?: Selection): string {
  const startMs = performance.now();
  const { verdict, states, steps } = explore(rules, selection);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  const outcome = verdict === "holds" ? "no violation, never stuck" : verdict;
  console.log(`${name}: ${outcome}; ${states.toLocaleString("en")} states in ${seconds} s`);
  for (const [i, step] of steps.entries()) console.log(`  ${i + 1}. ${step}`);
  return verdict;
}

const three: BallotRules = { ...ALL_RULES, ballots: 3 };
let failed = false;
for (const fastBallots of [0, 1, 2, 3]) {
  const logged = ["no logged WRITEs", "logged WRITEs in ballot 1", "in ballots 1 and 2", "in all"][
    fastBallots
  ];
  if (run(`all rules, ${logged}`, { ...three, fastBallots }) !== "holds") failed = true;
}
for (const [name, change] of OMISSIONS) {
  if (run(name, { ...three, ...change }) === "holds") failed = true;
}
for (const [name, selection] of Object.entries(BROKEN_SELECTIONS)) {
  if (run(name, three, selection) === "holds") failed = true;
}
process.exitCode = failed ? 1 : 0;
