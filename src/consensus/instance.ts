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
}

interface Vote<T extends MemberSignature> {
  readonly digest: Uint8Array;
  readonly digestKey: string;
  readonly vote: T;
}

/** The votes of one kind in one ballot: the first of each member counts. */
export class VoteSet<T extends MemberSignature> {
  readonly votes: (Vote<T> | undefined)[];
  readonly #counts = new Map<string, number>();

  constructor(n: number) {
    this.votes = new Array(n).fill(undefined);
  }

  /** "second" is a vote for another value than the member's first: a provable fault (W10). */
  add(digest: Uint8Array, vote: T): "counted" | "repeated" | "second" {
    const digestKey = toByteString(digest);
    const before = this.votes[vote.member];
    if (before !== undefined) return before.digestKey === digestKey ? "repeated" : "second";
    this.votes[vote.member] = { digest, digestKey, vote };
    this.#counts.set(digestKey, (this.#counts.get(digestKey) ?? 0) + 1);
    return "counted";
  }

  count(digestKey: string): number {
    return this.#counts.get(digestKey) ?? 0;
  }

  /** The digest that has at least `quorum` votes. */
  winner(quorum: number): { readonly digest: Uint8Array; readonly digestKey: string } | undefined {
    for (const [digestKey, count] of this.#counts) {
      if (count < quorum) continue;
      for (const vote of this.votes) {
        if (vote !== undefined && vote.digestKey === digestKey) return { digest: vote.digest, digestKey };
      }
    }
    return undefined;
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
  readonly #ballots = new Map<number, Ballot>();
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
  /** When this member first saw a quorum of WRITEs in a fast instance; 0 before. */
  quorumSeenAtMs = 0;
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
    let ballot = this.#ballots.get(regency);
    if (ballot === undefined) {
      ballot = {
        regency,
        proposal: undefined,
        writes: new VoteSet(this.#n),
        logged: new VoteSet(this.#n),
        accepts: new VoteSet(this.#n),
      };
      this.#ballots.set(regency, ballot);
      if (this.#ballots.size > BALLOTS_MAX) this.#ballots.delete(Math.min(...this.#ballots.keys()));
    }
    return ballot;
  }

  find(regency: number): Ballot | undefined {
    return this.#ballots.get(regency);
  }

  ballots(): Iterable<Ballot> {
    return this.#ballots.values();
  }
}
