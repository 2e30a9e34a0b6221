/**
 * States of the ballot model (ballot-model.ts), packed small: one word of 25 bits per correct member. All that
 * concerns a member, its signatures included, is in its own word, so that renaming members is nothing but
 * sorting three words.
 *
 *   bits 0-1    ballot it is in, 1 to 3
 *   bits 2-3    its WRITE in that ballot: none, a value, or burned by a restart
 *   bits 4-6    the newest ACCEPT on its disk, as a claim
 *   bits 7-9    the claim it reported when it joined ballot 2
 *   bits 10-12  the claim it reported when it joined ballot 3
 *   bits 13-18  WRITEs it has ever signed, a bit per ballot and value
 *   bits 19-24  ACCEPTs it has ever signed, likewise
 *
 * A claim "accepted value v in ballot b" is a number from 1 to 6; signatures use the same number as their bit.
 */

/** The most ballots that a word has room for. */
export const MAX_BALLOTS = 3;
/** Correct members of the model; the fourth member is Byzantine and has no state. */
export const CORRECT_MEMBERS = 3;
/** No WRITE was sent in the current ballot. */
export const NO_VOTE = 0;
/** A WRITE may have been sent and forgotten: no other may be sent in this ballot. */
export const BURNED = 3;
/** Nothing was accepted. */
export const NO_CLAIM = 0;
/** The ballot was not joined, so nothing was reported for it. */
export const NOT_JOINED = 7;

/** A member in ballot 1 that has done nothing. */
export const FRESH_MEMBER = 1 | (NOT_JOINED << 7) | (NOT_JOINED << 10);

/** The claim "accepted `value` (1 or 2) in `ballot`". */
export function claimOf(ballot: number, value: number): number {
  return (ballot - 1) * 2 + value;
}

/** The ballot that a claim names. */
export function claimBallot(claim: number): number {
  return (claim + 1) >> 1;
}

/** The value that a claim names. */
export function claimValue(claim: number): number {
  return 2 - (claim & 1);
}

/** The ballot a member is in. */
export function memberBallot(word: number): number {
  return word & 3;
}

/** The WRITE a member remembers for its ballot. */
export function memberVote(word: number): number {
  return (word >> 2) & 3;
}

/** The newest ACCEPT on a member's disk. */
export function memberClaim(word: number): number {
  return (word >> 4) & 7;
}

/** What a member reported on joining a ballot from 2 up. */
export function memberReport(word: number, ballot: number): number {
  return (word >> (1 + 3 * ballot)) & 7;
}

/** Whether a member ever signed a WRITE for what the claim names. */
export function hasWritten(word: number, claim: number): boolean {
  return ((word >> (12 + claim)) & 1) === 1;
}

/** Whether a member ever signed an ACCEPT for what the claim names. */
export function hasAccepted(word: number, claim: number): boolean {
  return ((word >> (18 + claim)) & 1) === 1;
}

/** The member in another ballot, with another memory of its WRITE in it. */
export function inBallot(word: number, ballot: number, vote: number): number {
  return (word & ~0b1111) | ballot | (vote << 2);
}

/** The member with another newest ACCEPT on its disk. */
export function withClaim(word: number, claim: number): number {
  return (word & ~(7 << 4)) | (claim << 4);
}

/** The member having reported its claim on joining a ballot. */
export function withReport(word: number, ballot: number, claim: number): number {
  const shift = 1 + 3 * ballot;
  return (word & ~(7 << shift)) | (claim << shift);
}

/** The member having signed a WRITE. */
export function withWrite(word: number, claim: number): number {
  return word | (1 << (12 + claim));
}

/** The member having signed an ACCEPT. */
export function withAccept(word: number, claim: number): number {
  return word | (1 << (18 + claim));
}

/** The member as it would be if the two values had each other's name. */
export function withValuesSwapped(word: number): number {
  const vote = memberVote(word);
  let swapped = inBallot(word, memberBallot(word), vote === NO_VOTE || vote === BURNED ? vote : 3 - vote);
  swapped = withClaim(swapped, swappedClaim(memberClaim(word)));
  for (let ballot = 2; ballot <= MAX_BALLOTS; ballot++) {
    swapped = withReport(swapped, ballot, swappedClaim(memberReport(word, ballot)));
  }
  const signatures = word >> 13;
  return (swapped & 0x1fff) | ((((signatures & 0x555) << 1) | ((signatures >> 1) & 0x555)) << 13);
}

function swappedClaim(claim: number): number {
  return claim === NO_CLAIM || claim === NOT_JOINED ? claim : ((claim - 1) ^ 1) + 1;
}

/** Three member words. */
export type Words = [number, number, number];

/** The state that stands for all that differ from it only in the names of members or values. */
export function canonical(words: Readonly<Words>): Words {
  const plain = sorted(words[0], words[1], words[2]);
  const swapped = sorted(
    withValuesSwapped(words[0]),
    withValuesSwapped(words[1]),
    withValuesSwapped(words[2]),
  );
  for (let i = 0; i < CORRECT_MEMBERS; i++) {
    if (plain[i]! !== swapped[i]!) return plain[i]! < swapped[i]! ? plain : swapped;
  }
  return plain;
}

function sorted(a: number, b: number, c: number): Words {
  if (a > b) [a, b] = [b, a];
  if (b > c) [b, c] = [c, b];
  if (a > b) [a, b] = [b, a];
  return [a, b, c];
}

/** All states seen, in the order in which they were found, each with the one it was found from. */
export class StateStore {
  #words = new Uint32Array(CORRECT_MEMBERS * 4096);
  #parents = new Int32Array(4096);
  /** Open addressing: index of a state plus one, 0 for an empty slot. At most half full. */
  #slots = new Int32Array(8192);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** True if the state was not there yet. */
  insert(words: Readonly<Words>, parent: number): boolean {
    let slot = this.#hash(words[0], words[1], words[2]);
    for (let found = this.#slots[slot]!; found !== 0; found = this.#slots[slot]!) {
      const at = (found - 1) * CORRECT_MEMBERS;
      const same =
        this.#words[at] === words[0] && this.#words[at + 1] === words[1] && this.#words[at + 2] === words[2];
      if (same) return false;
      slot = (slot + 1) & (this.#slots.length - 1);
    }
    if (this.#count === this.#parents.length) this.#growStates();
    this.#words.set(words, this.#count * CORRECT_MEMBERS);
    this.#parents[this.#count] = parent;
    this.#count += 1;
    this.#slots[slot] = this.#count;
    if (this.#count * 2 > this.#slots.length) this.#growSlots();
    return true;
  }

  /** The state with the given index, counted from 0 in the order of discovery. */
  at(index: number): Words {
    const base = index * CORRECT_MEMBERS;
    return [this.#words[base]!, this.#words[base + 1]!, this.#words[base + 2]!];
  }

  /** Index of the state from which this one was first reached; -1 for the start. */
  parent(index: number): number {
    return this.#parents[index]!;
  }

  #hash(a: number, b: number, c: number): number {
    let h = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca77) ^ Math.imul(c, 0xc2b2ae3d);
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) ^ a ^ (c << 5);
    h = Math.imul(h ^ (h >>> 13), 0x297a2d39);
    return (h ^ (h >>> 16)) & (this.#slots.length - 1);
  }

  #growStates(): void {
    const words = new Uint32Array(this.#words.length * 2);
    words.set(this.#words);
    this.#words = words;
    const parents = new Int32Array(this.#parents.length * 2);
    parents.set(this.#parents);
    this.#parents = parents;
  }

  #growSlots(): void {
    this.#slots = new Int32Array(this.#slots.length * 4);
    for (let index = 0; index < this.#count; index++) {
      const [a, b, c] = this.at(index);
      let slot = this.#hash(a, b, c);
      while (this.#slots[slot] !== 0) slot = (slot + 1) & (this.#slots.length - 1);
      this.#slots[slot] = index + 1;
    }
  }
}
