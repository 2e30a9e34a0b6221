/**
 * The instance in progress: proposals and votes by ballot, and what this member itself has done in it.
 */
import { toByteString } from "../base/bytes.ts";
import type { Bundle } from "./bundle.ts";
import type { AcceptSignature, MemberSignature, Message } from "./messages.ts";
import type { Value } from "./value.ts";

/** Ballots of one instance for which votes are kept; older ones give way. */
const BALLOTS_MAX = 6;

export type ProposeMessage = Extract<Message, { type: "propose" }>;

export interface Proposal {
  readonly message: ProposeMessage;
  readonly digest: Uint8Array;
  readonly digestKey: string;
  /** Undefined when the bytes are no value. */
  readonly value: Value | undefined;
  /** Set once; bodies are looked at separately. */
  verdict: "unchecked" | "valid" | "invalid";
}

/** A value of the instance, as agreed on and as read. */
export interface KeptValue {
  readonly encoded: Uint8Array;
  readonly value: Value;
  readonly digest: Uint8Array;
  readonly digestKey: string;
  /** Bytes of the bodies that came for it alone: they pass the pool's bound, and have one of their own. */
  fetchedSizeBytes: number;
}

interface Vote<T extends MemberSignature> {
  readonly digest: Uint8Array;
  readonly digestKey: string;
  readonly vote: T;
}

/** The votes of one kind in one ballot: the first of each member counts. */
export class VoteSet<T extends MemberSignature> {
  readonly votes: (Vote<T> | undefined)[];
  /** A vote for the digest that has most, and how many that has: kept, for it is asked for all the time. */
  #leading: Vote<T> | undefined;
  #leadingCount = 0;

  constructor(n: number) {
    this.votes = new Array(n).fill(undefined);
  }

  /** "second" is a vote for another value than the member's first: a provable fault (W10). */
  add(digest: Uint8Array, vote: T, digestKey = toByteString(digest)): "counted" | "repeated" | "second" {
    const before = this.votes[vote.member];
    if (before !== undefined) return before.digestKey === digestKey ? "repeated" : "second";
    const counted = { digest, digestKey, vote };
    this.votes[vote.member] = counted;
    const count = this.count(digestKey);
    if (count > this.#leadingCount) {
      this.#leading = counted;
      this.#leadingCount = count;
    }
    return "counted";
  }

  count(digestKey: string): number {
    let count = 0;
    for (const vote of this.votes) if (vote?.digestKey === digestKey) count += 1;
    return count;
  }

  /** The digest that has at least `quorum` votes. */
  winner(quorum: number): { readonly digest: Uint8Array; readonly digestKey: string } | undefined {
    return this.#leadingCount >= quorum ? this.#leading : undefined;
  }

  /** The votes for one digest, by member. */
  for(digestKey: string): T[] {
    const matching: T[] = [];
    for (const vote of this.votes)
      if (vote !== undefined && vote.digestKey === digestKey) matching.push(vote.vote);
    return matching;
  }
}

export interface Ballot {
  readonly regency: number;
  proposal: Proposal | undefined;
  readonly writes: VoteSet<MemberSignature>;
  /** Those WRITEs that were on their sender's disk before they left. */
  readonly logged: VoteSet<MemberSignature>;
  readonly accepts: VoteSet<AcceptSignature>;
  /** When this member first saw a quorum of WRITEs, where it waits for those of all (fast-path.ts); 0 before. */
  quorumSeenAtMs: number;
}

/** An ACCEPT as it is kept in certificates and as it is sent. */
export interface SignedAccept {
  readonly accept: AcceptSignature;
  readonly message: Extract<Message, { type: "accept" }>;
}

/** Own ACCEPT of the instance. */
export interface OwnAccept {
  readonly regency: number;
  readonly digest: Uint8Array;
  readonly digestKey: string;
  readonly writes: readonly MemberSignature[];
  /** Log sequence of its record; it leaves when that is on disk. */
  readonly sequence: number;
  durable: boolean;
  /** Made while its record is on the way to the disk. */
  signed?: SignedAccept;
}

/** Own logged WRITE of the instance. */
export interface OwnLogged {
  readonly regency: number;
  readonly digest: Uint8Array;
  readonly digestKey: string;
  /** Log sequence of its record; it leaves when that is on disk. */
  readonly sequence: number;
  durable: boolean;
  /** Made while its record is on the way to the disk; the leader's is in its PROPOSE. */
  signature: Uint8Array | undefined;
}

export class Instance {
  readonly cid: number;
  readonly #n: number;
  #ballots: Ballot[] = [];
  /** Values by digest, from proposals, from peers or from the log. */
  readonly values = new Map<string, KeptValue>();
  /**
   * Bodies that those values name, by digest. Held here, because the pool forgets: an origin that starts anew
   * gives up its old bundles, and an accepted value must stay complete whatever its origin does.
   */
  readonly bodies = new Map<string, Bundle>();
  /** Highest regency in which this member has sent WRITE. */
  writtenIn = 0;
  /** Regency in which this member has proposed. */
  proposedIn = 0;
  /** The own ACCEPT with the highest regency: the claim of a leader change. */
  accepted: OwnAccept | undefined;
  /** The own logged WRITE with the highest regency: reported in a leader change beside that claim. */
  logged: OwnLogged | undefined;
  /** Whether an ACCEPT or logged WRITE has left, in any ballot: no answer to a fence may forget it again. */
  hasPromised = false;
  /** What members say they decided, by member. */
  readonly decisionClaims = new Map<number, { readonly regency: number; readonly digestKey: string }>();
  /** The value that more than f members say they decided. */
  learned: { readonly regency: number; readonly digest: Uint8Array; readonly digestKey: string } | undefined;
  /** Digest whose body this member's log holds, as a byte string. */
  bodyLogged = "";
  /** Since when something for a WRITE or a decision is missing; 0 when nothing is. */
  missingSinceMs = 0;
  fetchedAtMs = 0;
  fetchTurn = 0;
  /** When this member first held a proposal of the current ballot, for round-trip measurement. */
  proposalSeenAtMs = 0;

  constructor(cid: number, n: number) {
    this.cid = cid;
    this.#n = n;
  }

  ballot(regency: number): Ballot {
    let ballot = this.find(regency);
    if (ballot === undefined) {
      ballot = {
        regency,
        proposal: undefined,
        writes: new VoteSet(this.#n),
        logged: new VoteSet(this.#n),
        accepts: new VoteSet(this.#n),
        quorumSeenAtMs: 0,
      };
      this.#ballots.push(ballot);
      if (this.#ballots.length > BALLOTS_MAX) {
        const oldest = Math.min(...this.#ballots.map((kept) => kept.regency));
        this.#ballots = this.#ballots.filter((kept) => kept.regency !== oldest);
      }
    }
    return ballot;
  }

  find(regency: number): Ballot | undefined {
    // Nearly always there is one.
    for (const ballot of this.#ballots) if (ballot.regency === regency) return ballot;
    return undefined;
  }

  ballots(): readonly Ballot[] {
    return this.#ballots;
  }
}
