/**
 * What a correct member of the ballot model (ballot-model.ts) has in memory, on disk, and has ever signed.
 *
 * "Value v in ballot b" is a number from 1 to 6 (`claimOf`); 0 stands for nothing. Sets of such claims are bit
 * sets with that number as their bit. What a member can become is little (some thousands) and each of it is given
 * a number, so that a state of the whole model is three small numbers, and renaming members is nothing but
 * sorting them.
 */
import { assert } from "../base/assert.ts";

/** Correct members of the model; the fourth member is Byzantine and has no state. */
export const CORRECT_MEMBERS = 3;
/** Nothing was accepted, or logged. */
export const NOTHING = 0;

/** All claims of value 1, as a bit set. */
export const VALUE_ONE = 0b0101010;
/** All claims of value 2, as a bit set. */
export const VALUE_TWO = 0b1010100;

/** The claim "`value` (1 or 2) in `ballot`". */
export function claimOf(ballot: number, value: number): number {
  return (ballot - 1) * 2 + value;
}

/** The ballot that a claim names; 0 for nothing. */
export function claimBallot(claim: number): number {
  return (claim + 1) >> 1;
}

/** The value that a claim names. */
export function claimValue(claim: number): number {
  return 2 - (claim & 1);
}

/** Claims in ballots below this one, as a bit set. */
export function claimsBelow(ballot: number): number {
  return (1 << (2 * ballot - 1)) - 2;
}

/** One correct member. */
export interface Member {
  /** The ballot that it is in, from 1. */
  readonly ballot: number;
  /** Its WRITE in that ballot is sent, or burned by a restart: no other may be sent. */
  readonly voted: boolean;
  /** The newest ACCEPT on its disk, as a claim. */
  readonly accepted: number;
  /** The newest logged WRITE on its disk, as a claim. */
  readonly logged: number;
  /** Reports it has signed (`reportOf`), in ascending order. */
  readonly reports: readonly number[];
  /** WRITEs it has ever signed, logged or not, as a bit set. */
  readonly writes: number;
  /** WRITEs that it has ever sent as logged ones, likewise. */
  readonly loggedWrites: number;
  /** ACCEPTs it has ever signed, likewise. */
  readonly accepts: number;
}

/** A member in ballot 1 that has done nothing. */
export const FRESH_MEMBER: Member = {
  ballot: 1,
  voted: false,
  accepted: NOTHING,
  logged: NOTHING,
  reports: [],
  writes: 0,
  loggedWrites: 0,
  accepts: 0,
};

/** What a report says: newest ACCEPT and newest logged WRITE, as claims, in one number. */
export function contentOf(accepted: number, logged: number): number {
  return (accepted << 3) | logged;
}

/** The newest ACCEPT in what a report says. */
export function contentAccepted(content: number): number {
  return content >> 3;
}

/** The newest logged WRITE in what a report says. */
export function contentLogged(content: number): number {
  return content & 7;
}

/** A report made on joining a ballot, as a number. */
export function reportOf(ballot: number, content: number): number {
  return (ballot << 6) | content;
}

/** The ballot that a report was made for. */
export function reportBallot(report: number): number {
  return report >> 6;
}

/** What a report says, without the ballot that it was made for. */
export function reportContent(report: number): number {
  return report & 0x3f;
}

/** Reports, and one more. */
export function withReport(reports: readonly number[], report: number): readonly number[] {
  return [...new Set([...reports, report])].sort((a, b) => a - b);
}

/** The member as it would be if the two values had each other's name. */
export function withValuesSwapped(member: Member): Member {
  return {
    ballot: member.ballot,
    voted: member.voted,
    accepted: swappedClaim(member.accepted),
    logged: swappedClaim(member.logged),
    reports: member.reports
      .map((report) => {
        const content = reportContent(report);
        const accepted = swappedClaim(contentAccepted(content));
        return reportOf(reportBallot(report), contentOf(accepted, swappedClaim(contentLogged(content))));
      })
      .sort((a, b) => a - b),
    writes: swappedSet(member.writes),
    loggedWrites: swappedSet(member.loggedWrites),
    accepts: swappedSet(member.accepts),
  };
}

function swappedClaim(claim: number): number {
  return claim === NOTHING ? NOTHING : ((claim - 1) ^ 1) + 1;
}

function swappedSet(claims: number): number {
  return ((claims & VALUE_ONE) << 1) | ((claims & VALUE_TWO) >> 1);
}

/** A state of the model: the numbers of its three members, 16 bits each, in one number of 48 bits. */
export type State = number;

const MEMBER_NUMBERS = 2 ** 16;

/** The state of three members with these numbers. */
export function stateOf(a: number, b: number, c: number): State {
  return (a * MEMBER_NUMBERS + b) * MEMBER_NUMBERS + c;
}

/** The numbers of a state's three members. */
export function membersOf(state: State): [number, number, number] {
  return [
    (state / MEMBER_NUMBERS ** 2) | 0,
    (state / MEMBER_NUMBERS) & (MEMBER_NUMBERS - 1),
    state & (MEMBER_NUMBERS - 1),
  ];
}

/** Numbers the states of members as they turn up. */
export class MemberTable {
  readonly #numbers = new Map<string, number>();
  readonly #members: Member[] = [];
  /** By number: that of the same member with the two values swapped. */
  readonly #swapped: number[] = [];

  /** The number of a member, given to it now if it has none. */
  numberOf(member: Member): number {
    const known = this.#numbers.get(keyOf(member));
    if (known !== undefined) return known;
    const number = this.#add(member);
    const swapped = withValuesSwapped(member);
    const other = keyOf(swapped) === keyOf(member) ? number : this.#add(swapped);
    this.#swapped[number] = other;
    this.#swapped[other] = number;
    return number;
  }

  /** The member that has a number. */
  at(number: number): Member {
    return this.#members[number]!;
  }

  /** The state that stands for all that differ from it only in the names of members or values. */
  canonical(a: number, b: number, c: number): State {
    return Math.min(sorted(a, b, c), sorted(this.#swapped[a]!, this.#swapped[b]!, this.#swapped[c]!));
  }

  #add(member: Member): number {
    const number = this.#members.length;
    assert(number < MEMBER_NUMBERS, "a member's number has room in a state");
    this.#members.push(member);
    this.#numbers.set(keyOf(member), number);
    return number;
  }
}

function keyOf(member: Member): string {
  const { ballot, voted, accepted, logged, reports, writes, loggedWrites, accepts } = member;
  return [ballot, voted, accepted, logged, writes, loggedWrites, accepts, ...reports].join();
}

function sorted(a: number, b: number, c: number): State {
  if (a > b) [a, b] = [b, a];
  if (b > c) [b, c] = [c, b];
  if (a > b) [a, b] = [b, a];
  return stateOf(a, b, c);
}
