/**
 * A small model of one consensus instance, explored exhaustively: four members, the last of them Byzantine,
 * a quorum of three, two values, two or three ballots, every order of messages and a restart at any moment.
 * It answers for the rules on votes, durability and selection:
 *
 * - safety: in no reachable state are two values decided;
 * - liveness: in every reachable state what the three correct members have on disk allows them alone to choose
 *   a value in a further ballot.
 *
 * What is signed is never forgotten (a message may arrive late, its sender restarted since). The Byzantine
 * member signs every WRITE and ACCEPT, leads whenever it likes, picks which reports of joiners a leader shows,
 * and claims whatever its signatures, together with those of correct members, can back. A correct member
 * takes part in a ballot only after joining it, which is where it reports its claim.
 *
 * The selection is the replicas' own (selection.ts). Each other rule can be switched off, to show that the protocol needs it and that the model would notice.
 */
import {
  BURNED,
  CORRECT_MEMBERS,
  canonical,
  claimBallot,
  claimOf,
  claimValue,
  FRESH_MEMBER,
  hasAccepted,
  hasWritten,
  inBallot,
  memberBallot,
  memberClaim,
  memberReport,
  memberVote,
  NO_CLAIM,
  NO_VOTE,
  NOT_JOINED,
  StateStore,
  type Words,
  withAccept,
  withClaim,
  withReport,
  withWrite,
} from "./ballot-state.ts";
import { selectValue } from "./selection.ts";

/** What the members of a model keep to. */
export interface BallotRules {
  /** How many ballots are explored: 2 or 3. */
  readonly ballots: number;
  /** Votes that make a quorum, and reports that a leader needs: 3 of 4. */
  readonly quorum: number;
  /** A member that restarts sends no WRITE in the ballot in which it may have forgotten one. */
  readonly restartBurnsBallot: boolean;
  /** An ACCEPT is on disk before it leaves. */
  readonly acceptIsDurable: boolean;
  /** The ballot joined is on disk before anything is sent in it. */
  readonly ballotIsDurable: boolean;
  /** A claim counts only with WRITE signatures of f+1 = 2 distinct members for it. */
  readonly claimsNeedWrites: boolean;
  /** A report counts only for the ballot it was made for. */
  readonly reportsAreBound: boolean;
  /** A member accepts nothing in ballots lower than one it has joined. */
  readonly joinIsPromise: boolean;
  /** Members run the selection on the leader's reports again, and WRITE only what it allows. */
  readonly selectionIsRechecked: boolean;
}

/** The protocol as it is. */
export const ALL_RULES: BallotRules = {
  ballots: 2,
  quorum: 3,
  restartBurnsBallot: true,
  acceptIsDurable: true,
  ballotIsDurable: true,
  claimsNeedWrites: true,
  reportsAreBound: true,
  joinIsPromise: true,
  selectionIsRechecked: true,
};

/** A report: "I accepted `value` in `ballot`", or null for "nothing". */
export type ModelClaim = { readonly ballot: number; readonly value: number } | null;

/** Which values (1, 2, both or none yet) a set of reports allows a leader to propose. */
export type Selection = (claims: readonly ModelClaim[], quorum: number) => readonly number[];

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

/** The selection that the replicas run, with the model's values for digests. */
export function protocolSelection(mutation = ""): Selection {
  return (claims, quorum) => {
    const reports = claims.map((claim) =>
      claim === null ? undefined : { regency: claim.ballot, digestKey: String(claim.value) },
    );
    const selected = selectValue(quorum, reports, mutation);
    if (selected.kind === "bound") return [Number(selected.claim.digestKey)];
    return selected.kind === "free" ? VALUES : [];
  };
}

/** Visits every reachable state, breadth first, until one breaks safety or liveness. */
export function explore(rules: BallotRules, selection: Selection = protocolSelection()): Exploration {
  const model = new BallotModel(rules, selection);
  const store = new StateStore();
  const start: Words = [FRESH_MEMBER, FRESH_MEMBER, FRESH_MEMBER];
  store.insert(canonical(start), -1);
  // States are visited in the order in which they were found, so the store itself is the queue.
  for (let index = 0; index < store.count; index++) {
    const words = store.at(index);
    const verdict = model.judge(words);
    if (verdict !== "holds") return { verdict, states: store.count, steps: retrace(model, store, index) };
    model.forEachStep(words, (next) => store.insert(canonical(next), index));
  }
  return { verdict: "holds", states: store.count, steps: [] };
}

class BallotModel {
  readonly #rules: BallotRules;
  readonly #selection: Selection;
  /** Values that reports allow, as a bit set, by what is reported and what can be forged. */
  readonly #allowedByReports = new Map<number, number>();
  readonly #allowedByDisks = new Map<number, boolean>();

  constructor(rules: BallotRules, selection: Selection) {
    this.#rules = rules;
    this.#selection = selection;
  }

  /** Whether a state breaks safety or liveness. */
  judge(words: Readonly<Words>): Exploration["verdict"] {
    let decided = 0;
    for (let ballot = 1; ballot <= this.#rules.ballots; ballot++) {
      for (const value of VALUES) {
        const claim = claimOf(ballot, value);
        let votes = 1;
        for (const word of words) if (hasAccepted(word, claim)) votes += 1;
        if (votes >= this.#rules.quorum) decided |= value;
      }
    }
    if (decided === BOTH_VALUES) return "two values decided";
    const key = (memberClaim(words[0]) << 6) | (memberClaim(words[1]) << 3) | memberClaim(words[2]);
    let canChoose = this.#allowedByDisks.get(key);
    if (canChoose === undefined) {
      canChoose = this.#selected(words.map(memberClaim)) !== 0;
      this.#allowedByDisks.set(key, canChoose);
    }
    return canChoose ? "holds" : "correct members cannot choose";
  }

  /** Calls back with every state that one step of one correct member leads to. */
  forEachStep(words: Readonly<Words>, visit: (next: Words) => void): void {
    for (let member = 0; member < CORRECT_MEMBERS; member++) {
      const word = words[member]!;
      const become = (changed: number) => {
        const next: Words = [words[0], words[1], words[2]];
        next[member] = changed;
        visit(next);
      };
      this.#write(words, word, become);
      this.#accept(words, word, become);
      this.#join(word, become);
      this.#restart(word, become);
    }
  }

  #write(words: Readonly<Words>, word: number, become: (changed: number) => void): void {
    if (memberVote(word) !== NO_VOTE) return;
    const ballot = memberBallot(word);
    const allowed = this.#proposable(words, ballot);
    for (const value of VALUES) {
      if (allowed & value) become(withWrite(inBallot(word, ballot, value), claimOf(ballot, value)));
    }
  }

  #accept(words: Readonly<Words>, word: number, become: (changed: number) => void): void {
    const current = memberBallot(word);
    const newest = memberClaim(word);
    const lowest = this.#rules.joinIsPromise ? current : 1;
    for (let ballot = lowest; ballot <= current; ballot++) {
      if (newest !== NO_CLAIM && claimBallot(newest) >= ballot) continue;
      for (const value of VALUES) {
        const claim = claimOf(ballot, value);
        // The Byzantine member's WRITE is always to be had.
        if (writers(words, claim) + 1 < this.#rules.quorum) continue;
        become(withAccept(withClaim(word, claim), claim));
      }
    }
  }

  #join(word: number, become: (changed: number) => void): void {
    for (let ballot = memberBallot(word) + 1; ballot <= this.#rules.ballots; ballot++) {
      become(inBallot(withReport(word, ballot, memberClaim(word)), ballot, NO_VOTE));
    }
  }

  #restart(word: number, become: (changed: number) => void): void {
    let ballot = memberBallot(word);
    let claim = memberClaim(word);
    if (!this.#rules.acceptIsDurable && claim !== NO_CLAIM && claimBallot(claim) === ballot) claim = NO_CLAIM;
    if (!this.#rules.ballotIsDurable) ballot = claim === NO_CLAIM ? 1 : claimBallot(claim);
    const vote = this.#rules.restartBurnsBallot ? BURNED : NO_VOTE;
    become(inBallot(withClaim(word, claim), ballot, vote));
  }

  /** Values that some leader of the ballot can justify, by any choice of reports and lies, as a bit set. */
  #proposable(words: Readonly<Words>, ballot: number): number {
    if (ballot === 1 || !this.#rules.selectionIsRechecked) return BOTH_VALUES;
    let forgeable = 0;
    for (let claim = 1; claimBallot(claim) < ballot; claim++) {
      if (!this.#rules.claimsNeedWrites || writers(words, claim) >= 1) forgeable |= 1 << claim;
    }
    const oldest = this.#rules.reportsAreBound ? ballot : 2;
    let key = forgeable;
    const reports = words.map((word) => {
      const shown: number[] = [];
      for (let joined = 2; joined <= this.#rules.ballots; joined++) {
        const report = joined >= oldest && joined <= ballot ? memberReport(word, joined) : NOT_JOINED;
        key = key * 8 + report;
        if (report !== NOT_JOINED) shown.push(report);
      }
      return shown;
    });
    const known = this.#allowedByReports.get(key);
    if (known !== undefined) return known;
    const lies = [NO_CLAIM];
    for (let claim = 1; claim < NOT_JOINED; claim++) if ((forgeable >> claim) & 1) lies.push(claim);
    const allowed = this.#unionOverChoices([...reports, lies], []);
    this.#allowedByReports.set(key, allowed);
    return allowed;
  }

  /** All that any choice of at most one report of each member allows. */
  #unionOverChoices(options: readonly (readonly number[])[], chosen: readonly number[]): number {
    const [own, ...others] = options;
    if (own === undefined) return chosen.length >= this.#rules.quorum ? this.#selected(chosen) : 0;
    let allowed = this.#unionOverChoices(others, chosen);
    for (const report of own) allowed |= this.#unionOverChoices(others, [...chosen, report]);
    return allowed;
  }

  /** What the selection makes of reports; the liar may be the first member or the last. */
  #selected(claims: readonly number[]): number {
    const shown = claims.map((claim) =>
      claim === NO_CLAIM ? null : { ballot: claimBallot(claim), value: claimValue(claim) },
    );
    const { quorum } = this.#rules;
    const values = [...this.#selection(shown, quorum), ...this.#selection(shown.reverse(), quorum)];
    return values.reduce((set, value) => set | value, 0);
  }
}

function writers(words: Readonly<Words>, claim: number): number {
  let count = 0;
  for (const word of words) if (hasWritten(word, claim)) count += 1;
  return count;
}

/** The steps from the start to a state, in the names of one run: states are stored without names. */
function retrace(model: BallotModel, store: StateStore, last: number): string[] {
  const path: number[] = [];
  for (let index = last; index >= 0; index = store.parent(index)) path.unshift(index);
  let words: Words = [FRESH_MEMBER, FRESH_MEMBER, FRESH_MEMBER];
  const steps: string[] = [];
  for (const index of path.slice(1)) {
    const target = store.at(index).join();
    const before = words;
    let found: Words | null = null;
    model.forEachStep(before, (next) => {
      if (found === null && canonical(next).join() === target) found = next;
    });
    words = found ?? before;
    steps.push(describeStep(before, words));
  }
  return steps;
}

function describeStep(before: Readonly<Words>, after: Readonly<Words>): string {
  const member = [0, 1, 2].find((index) => before[index] !== after[index]);
  if (member === undefined) return "nothing happens";
  const old = before[member]!;
  const now = after[member]!;
  for (let claim = 1; claim < NOT_JOINED; claim++) {
    const what = `value ${claimValue(claim)} in ballot ${claimBallot(claim)}`;
    if (hasWritten(now, claim) && !hasWritten(old, claim)) return `member ${member} sends WRITE for ${what}`;
    if (hasAccepted(now, claim) && !hasAccepted(old, claim))
      return `member ${member} sends ACCEPT for ${what}`;
  }
  const ballot = memberBallot(now);
  if (ballot > memberBallot(old)) {
    const claim = memberReport(now, ballot);
    const reported =
      claim === NO_CLAIM ? "nothing" : `value ${claimValue(claim)} of ballot ${claimBallot(claim)}`;
    return `member ${member} joins ballot ${ballot} and reports ${reported}`;
  }
  if (memberVote(now) !== memberVote(old) && memberVote(now) !== BURNED && memberVote(now) !== NO_VOTE) {
    return `member ${member} sends WRITE for value ${memberVote(now)} in ballot ${ballot} again`;
  }
  if (memberClaim(now) !== memberClaim(old) && memberClaim(now) !== NO_CLAIM) {
    const claim = memberClaim(now);
    return `member ${member} sends ACCEPT for value ${claimValue(claim)} in ballot ${claimBallot(claim)} again`;
  }
  return `member ${member} restarts in ballot ${ballot}`;
}
