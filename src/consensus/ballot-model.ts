/**
 * A small model of one consensus instance, explored exhaustively: four members, the last of them Byzantine,
 * a quorum of three, two values, two or three ballots, every order of messages and a restart at any moment.
 * It answers for the rules on votes, durability and selection:
 *
 * - safety: in no reachable state are two values decided, be it by a quorum of ACCEPTs or by logged WRITEs of
 *   all members;
 * - liveness: in every reachable state what the three correct members have on disk allows them alone to choose
 *   a value in a further ballot.
 *
 * What is signed is never forgotten (a message may arrive late, its sender restarted since). The Byzantine
 * member signs every WRITE, logged or not, and every ACCEPT, leads whenever it likes, picks which reports of
 * joiners a leader shows, and reports whatever it likes: any logged WRITE, and any ACCEPT that its signatures,
 * together with those of correct members, can back. A correct member takes part in a ballot only after joining
 * it, which is where it reports.
 *
 * Any WRITE may be a logged one: what a leader offers as fast is its own choice, which members do not check.
 * That a vote is on disk and that it is sent are one step: a run in which it is sent later, after joining
 * another ballot, or never is one of those explored with some signatures missing for a while, and whatever
 * some signatures allow, more of them allow, too. For the same reason no plain WRITE (a leader's PROPOSE is one)
 * comes before a logged one. A WRITE that was sent and one that a restart has burned are not told apart, because
 * no rule asks which it is.
 *
 * The selection is the replicas' own (selection.ts). Each other rule can be switched off, to show that the
 * protocol needs it and that the model would notice.
 */
import { assert, unreachable } from "../base/assert.ts";
import type { BallotRules } from "./ballot-rules.ts";
import { type ModelClaim, protocolSelection, type Selection } from "./ballot-selection.ts";
import {
  CORRECT_MEMBERS,
  claimBallot,
  claimOf,
  claimsBelow,
  claimValue,
  contentAccepted,
  contentLogged,
  contentOf,
  FRESH_MEMBER,
  type Member,
  MemberTable,
  membersOf,
  NOTHING,
  reportBallot,
  reportContent,
  reportOf,
  type State,
  stateOf,
  VALUE_ONE,
  VALUE_TWO,
  withReport,
} from "./ballot-state.ts";
import { StateStore } from "./ballot-store.ts";

/** What an exploration found. */
export interface Exploration {
  readonly verdict: "holds" | "two values decided" | "correct members cannot choose";
  /** States visited, members and values of the same role counted once. */
  readonly states: number;
  /** Steps to a violation, one a line; empty if all holds. */
  readonly steps: readonly string[];
}

const VALUES = [1, 2] as const;
const BOTH_VALUES = 0b11;
/** Correct ones and the Byzantine one. */
const MEMBERS = CORRECT_MEMBERS + 1;
const CLAIMS = [1, 2, 3, 4, 5, 6] as const;
const SHOWN_SETS_MAX = 1024;

/** Visits every reachable state, breadth first, until one breaks safety or liveness. */
export function explore(rules: BallotRules, selection: Selection = protocolSelection()): Exploration {
  const model = new BallotModel(rules, selection);
  const store = new StateStore();
  store.insert(model.start, -1);
  // States are visited in the order in which they were found, so the store itself is the queue.
  for (let index = 0; index < store.count; index++) {
    const state = store.at(index);
    const verdict = model.judge(state);
    if (verdict !== "holds") return { verdict, states: store.count, steps: retrace(model, store, index) };
    model.forEachStep(state, (a, b, c) => store.insert(model.members.canonical(a, b, c), index));
  }
  return { verdict: "holds", states: store.count, steps: [] };
}

/** One step of a correct member. */
type Action =
  | { readonly kind: "write"; readonly claim: number; readonly logged: boolean }
  | { readonly kind: "accept"; readonly claim: number }
  | { readonly kind: "join"; readonly ballot: number }
  | { readonly kind: "restart" };

/** All steps; in the model they are known by their place here. */
const ACTIONS: readonly Action[] = [
  ...CLAIMS.map((claim) => ({ kind: "write", claim, logged: false }) as const),
  ...CLAIMS.map((claim) => ({ kind: "write", claim, logged: true }) as const),
  ...CLAIMS.map((claim) => ({ kind: "accept", claim }) as const),
  ...[2, 3].map((ballot) => ({ kind: "join", ballot }) as const),
  { kind: "restart" },
];
// To be added to a claim or a ballot.
const WRITE = -1;
const LOGGED_WRITE = WRITE + CLAIMS.length;
const ACCEPT = LOGGED_WRITE + CLAIMS.length;
const JOIN = ACCEPT + CLAIMS.length - 1;
const RESTART = ACTIONS.length - 1;

/** Takes the numbers of the three members after a step, and who did what. */
type Visitor = (a: number, b: number, c: number, member: number, action: number) => void;

class BallotModel {
  readonly members = new MemberTable();
  readonly start: State;
  readonly #rules: BallotRules;
  readonly #selection: Selection;
  /** By number of a member and action: the number that it has after it. */
  readonly #after: (number | undefined)[] = [];
  /** By ballot and number of a member: which set of reports it can be shown with there. */
  readonly #shownBy: (number | undefined)[][] = [[], [], [], []];
  readonly #shownSets: (readonly number[])[] = [];
  /** Values that reports allow, as a bit set, by what is reported and what can be forged. */
  readonly #allowedByReports = new Map<number, number>();
  readonly #selectedFrom = new Map<number, number>();

  constructor(rules: BallotRules, selection: Selection) {
    this.#rules = rules;
    this.#selection = selection;
    const fresh = this.members.numberOf(FRESH_MEMBER);
    this.start = stateOf(fresh, fresh, fresh);
  }

  /** Whether a state breaks safety or liveness. */
  judge(state: State): Exploration["verdict"] {
    const { quorum, allMustLog } = this.#rules;
    const [a, b, c] = this.#read(membersOf(state));
    // The Byzantine member's votes are always to be had.
    const decided =
      inAtLeast(quorum - 1, a.accepts, b.accepts, c.accepts) |
      inAtLeast((allMustLog ? MEMBERS : quorum) - 1, a.loggedWrites, b.loggedWrites, c.loggedWrites);
    if ((decided & VALUE_ONE) !== 0 && (decided & VALUE_TWO) !== 0) return "two values decided";
    const onDisk = [a, b, c].map(({ accepted, logged }) => contentOf(accepted, logged));
    return this.#selected(onDisk) === 0 ? "correct members cannot choose" : "holds";
  }

  /** Calls back with every state that one step of one correct member leads to. */
  forEachStep(state: State, visit: Visitor): void {
    const numbers = membersOf(state);
    const [a, b, c] = this.#read(numbers);
    const written = a.writes | b.writes | c.writes;
    const acceptable = inAtLeast(this.#rules.quorum - 1, a.writes, b.writes, c.writes);
    for (let member = 0; member < CORRECT_MEMBERS; member++) {
      const before = numbers[member]!;
      const self = this.members.at(before);
      const take = (action: number) => {
        const after = this.#numberAfter(before, action);
        if (after === before) return;
        numbers[member] = after;
        visit(numbers[0], numbers[1], numbers[2], member, action);
        numbers[member] = before;
      };
      if (!self.voted) this.#write(numbers, self.ballot, written, take);
      if (!this.#rules.joinEndsLogging) {
        for (let ballot = 1; ballot < self.ballot; ballot++) {
          const ownWrites = (self.writes >> claimOf(ballot, 1)) & 0b11;
          if (ownWrites === 0) this.#write(numbers, ballot, written, take);
        }
      }
      // Nothing at or below the newest ACCEPT.
      const lowest = Math.max(this.#rules.joinIsPromise ? self.ballot : 1, claimBallot(self.accepted) + 1);
      for (let claim = claimOf(lowest, 1); claim <= claimOf(self.ballot, 2); claim++) {
        if ((acceptable >> claim) & 1) take(ACCEPT + claim);
      }
      for (let ballot = self.ballot + 1; ballot <= this.#rules.ballots; ballot++) take(JOIN + ballot);
      take(RESTART);
    }
  }

  #write(numbers: readonly number[], ballot: number, written: number, take: (action: number) => void): void {
    const allowed = this.#proposable(numbers, ballot, written);
    for (const value of VALUES) {
      if ((allowed & value) === 0) continue;
      take(WRITE + claimOf(ballot, value));
      if (ballot <= this.#rules.fastBallots) take(LOGGED_WRITE + claimOf(ballot, value));
    }
  }

  #read([a, b, c]: readonly [number, number, number]): [Member, Member, Member] {
    return [this.members.at(a), this.members.at(b), this.members.at(c)];
  }

  #numberAfter(number: number, action: number): number {
    const at = number * ACTIONS.length + action;
    const known = this.#after[at];
    if (known !== undefined) return known;
    const after = this.members.numberOf(this.#perform(this.members.at(number), ACTIONS[action]!));
    this.#after[at] = after;
    return after;
  }

  #perform(member: Member, action: Action): Member {
    switch (action.kind) {
      case "write": {
        const { claim } = action;
        const voted = member.voted || claimBallot(claim) === member.ballot;
        const written = { ...member, voted, writes: member.writes | (1 << claim) };
        if (!action.logged) return written;
        const logged = claimBallot(claim) > claimBallot(member.logged) ? claim : member.logged;
        return { ...written, logged, loggedWrites: member.loggedWrites | (1 << claim) };
      }
      case "accept":
        return { ...member, accepted: action.claim, accepts: member.accepts | (1 << action.claim) };
      case "join": {
        const report = reportOf(action.ballot, contentOf(member.accepted, member.logged));
        const reports = withReport(member.reports, report);
        return { ...member, ballot: action.ballot, voted: false, reports };
      }
      case "restart":
        return this.#restarted(member);
      default:
        return unreachable(action);
    }
  }

  #restarted(member: Member): Member {
    let { ballot, accepted, logged } = member;
    // What it had on disk when it joined the ballot is in the report that it made then.
    const report = member.reports.find((made) => reportBallot(made) === ballot);
    const before = report === undefined ? contentOf(NOTHING, NOTHING) : reportContent(report);
    if (!this.#rules.acceptIsDurable && claimBallot(accepted) === ballot) accepted = contentAccepted(before);
    if (!this.#rules.loggedIsDurable && claimBallot(logged) === ballot) logged = contentLogged(before);
    if (!this.#rules.ballotIsDurable) ballot = Math.max(1, claimBallot(accepted), claimBallot(logged));
    // A logged WRITE that is still on disk is not forgotten.
    const voted = this.#rules.restartBurnsBallot || claimBallot(logged) === ballot;
    return { ...member, ballot, voted, accepted, logged };
  }

  /** Values that some leader of the ballot can justify, by any choice of reports and lies, as a bit set. */
  #proposable(numbers: readonly number[], ballot: number, written: number): number {
    if (ballot === 1 || !this.#rules.selectionIsRechecked) return BOTH_VALUES;
    // With its own WRITE and that of one correct member the Byzantine one can back a claim.
    const forgeable = claimsBelow(ballot) & (this.#rules.claimsNeedWrites ? written : -1);
    let key = ballot * 128 + forgeable;
    for (const number of numbers) key = key * SHOWN_SETS_MAX + this.#shown(number, ballot);
    const known = this.#allowedByReports.get(key);
    if (known !== undefined) return known;
    const reports = numbers.map((number) => this.#shownSets[this.#shown(number, ballot)]!);
    const allowed = this.#unionOverChoices([...reports, lies(forgeable, claimsBelow(ballot))], []);
    this.#allowedByReports.set(key, allowed);
    return allowed;
  }

  /** What a leader of the ballot can show as this member's report there, as a place in `#shownSets`. */
  #shown(number: number, ballot: number): number {
    const byNumber = this.#shownBy[ballot]!;
    const known = byNumber[number];
    if (known !== undefined) return known;
    const oldest = this.#rules.reportsAreBound ? ballot : 2;
    const shown = this.members
      .at(number)
      .reports.filter((report) => reportBallot(report) >= oldest && reportBallot(report) <= ballot)
      .map(reportContent);
    let set = this.#shownSets.findIndex((other) => other.join() === shown.join());
    if (set === -1) set = this.#shownSets.push(shown) - 1;
    assert(set < SHOWN_SETS_MAX, "a set of reports has room in a key");
    byNumber[number] = set;
    return set;
  }

  /** All that any choice of at most one report of each member allows. */
  #unionOverChoices(options: readonly (readonly number[])[], chosen: readonly number[]): number {
    const [own, ...others] = options;
    if (own === undefined) return chosen.length >= this.#rules.quorum ? this.#selected(chosen) : 0;
    let allowed = this.#unionOverChoices(others, chosen);
    for (const report of own) {
      if (allowed === BOTH_VALUES) break;
      allowed |= this.#unionOverChoices(others, [...chosen, report]);
    }
    return allowed;
  }

  /** What the selection makes of reports; the liar may be the first member or the last. */
  #selected(contents: readonly number[]): number {
    let key = 1;
    for (const content of contents) key = key * 64 + content;
    const known = this.#selectedFrom.get(key);
    if (known !== undefined) return known;
    const reports = contents.map((content) => ({
      accepted: modelClaim(contentAccepted(content)),
      logged: modelClaim(contentLogged(content)),
    }));
    const { quorum } = this.#rules;
    const values = [...this.#selection(reports, quorum), ...this.#selection(reports.toReversed(), quorum)];
    const allowed = values.reduce((set, value) => set | value, 0);
    this.#selectedFrom.set(key, allowed);
    return allowed;
  }
}

/** All that the Byzantine member can report: any of these ACCEPTs or none, any of these logged WRITEs or none. */
function lies(accepts: number, logged: number): number[] {
  const orNothing = (set: number) => [NOTHING, ...CLAIMS.filter((claim) => (set >> claim) & 1)];
  return orNothing(accepts).flatMap((accept) => orNothing(logged).map((write) => contentOf(accept, write)));
}

function modelClaim(claim: number): ModelClaim {
  return claim === NOTHING ? null : { ballot: claimBallot(claim), value: claimValue(claim) };
}

/** What is in at least so many of three sets. */
function inAtLeast(count: number, a: number, b: number, c: number): number {
  if (count > 2) return a & b & c;
  return count === 2 ? (a & b) | (a & c) | (b & c) : a | b | c;
}

/** The steps from the start to a state, in the names of one run: states are stored without names. */
function retrace(model: BallotModel, store: StateStore, last: number): string[] {
  const path: number[] = [];
  for (let index = last; index >= 0; index = store.parent(index)) path.unshift(index);
  let state = model.start;
  const steps: string[] = [];
  for (const index of path.slice(1)) {
    const before = membersOf(state);
    const target = store.at(index);
    let found = false;
    model.forEachStep(state, (a, b, c, member, action) => {
      if (found || model.members.canonical(a, b, c) !== target) return;
      found = true;
      state = stateOf(a, b, c);
      const old = model.members.at(before[member]!);
      const now = model.members.at([a, b, c][member]!);
      steps.push(`member ${member} ${describeStep(old, now, ACTIONS[action]!)}`);
    });
  }
  return steps;
}

function describeStep(old: Member, now: Member, action: Action): string {
  const again = (signed: number, claim: number) => ((signed >> claim) & 1 ? " again" : "");
  const { ballot } = now;
  switch (action.kind) {
    case "write": {
      const what = action.logged ? "logged WRITE" : "WRITE";
      return `sends ${what} for ${describe(action.claim)}${again(old.writes, action.claim)}`;
    }
    case "accept":
      return `sends ACCEPT for ${describe(action.claim)}${again(old.accepts, action.claim)}`;
    case "join":
      return `joins ballot ${ballot} and reports ${describe(old.accepted)}, logged ${describe(old.logged)}`;
    case "restart": {
      const forgotten: string[] = [];
      if (now.accepted !== old.accepted) forgotten.push("its ACCEPT");
      if (now.logged !== old.logged) forgotten.push("its logged WRITE");
      const loss = forgotten.length === 0 ? "" : ` and forgets ${forgotten.join(" and ")}`;
      return `restarts in ballot ${ballot}${loss}`;
    }
    default:
      return unreachable(action);
  }
}

function describe(claim: number): string {
  return claim === NOTHING ? "nothing" : `value ${claimValue(claim)} in ballot ${claimBallot(claim)}`;
}
