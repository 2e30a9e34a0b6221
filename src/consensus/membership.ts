/**
 * The members of a view, their keys, and the quorums that follow from their number.
 */
import { assert } from "../base/assert.ts";
import { Writer } from "../base/codec.ts";
import type { Hasher } from "../base/crypto.ts";

/** The fewest voters with which one Byzantine member can be tolerated. */
export const MIN_MEMBERS = 4;
/** Votes and certificates are kept per member; beyond this size other protocols serve better. */
export const MAX_MEMBERS = 31;

export interface Member {
  readonly name: string;
  /** etcd's member id. */
  readonly id: bigint;
  /** Ed25519, 32 bytes raw. */
  readonly publicKey: Uint8Array;
}

/** A membership that no cluster can run with; the message says why and what would do. */
export class MembershipError extends Error {
  override name = "MembershipError";
}

/** Byzantine members that n voters tolerate: the largest f with n >= 3f+1. */
export function faultsTolerated(n: number): number {
  return Math.floor((n - 1) / 3);
}

/** Votes that any two quorums of n voters need to share a correct one: ceil((n+f+1)/2). */
export function quorumSize(n: number): number {
  return Math.ceil((n + faultsTolerated(n) + 1) / 2);
}

/** One fixed set of voters. Immutable; a change of members makes a new one with the next view id. */
export class Membership {
  readonly clusterId: bigint;
  /** Counts membership changes, from 1. */
  readonly viewId: number;
  readonly members: readonly Member[];
  readonly n: number;
  readonly f: number;
  readonly quorum: number;
  /** Digest over cluster, view, ids and keys: signed into every statement, so that none passes in another view. */
  readonly digest: Uint8Array;

  constructor(clusterId: bigint, viewId: number, members: readonly Member[], hasher: Hasher) {
    const n = members.length;
    if (n < MIN_MEMBERS) {
      throw new MembershipError(
        `${n} members tolerate no Byzantine one: 3f+1 with f=1 needs ${MIN_MEMBERS}, f=2 needs 7, f=3 needs 10`,
      );
    }
    if (n > MAX_MEMBERS) throw new MembershipError(`${n} members: at most ${MAX_MEMBERS} are supported`);
    for (const field of ["name", "id"] as const) {
      const seen = new Set(members.map((member) => String(member[field])));
      if (seen.size !== n) throw new MembershipError(`two members have the same ${field}`);
    }
    const keys = new Set(members.map((member) => member.publicKey.join()));
    if (keys.size !== n) throw new MembershipError("two members have the same public key");
    assert(viewId >= 1, "views are numbered from 1");
    this.clusterId = clusterId;
    this.viewId = viewId;
    this.members = members;
    this.n = n;
    this.f = faultsTolerated(n);
    this.quorum = quorumSize(n);
    const writer = new Writer().byteString("kmmr/membership/1").i64(clusterId).u53(viewId);
    writer.list(members, (member, w) => w.i64(member.id).byteString(member.name).bytes(member.publicKey));
    this.digest = hasher.hash(writer.finish());
  }

  /** The leader of a regency: a fixed function of regency, membership and the isolated members. */
  leaderOf(regency: number, isolated: ReadonlySet<number> = NONE): number {
    assert(regency >= 1, "regencies are numbered from 1");
    for (let i = 0; i < this.n; i++) {
      const index = (regency - 1 + i) % this.n;
      if (!isolated.has(index)) return index;
    }
    return (regency - 1) % this.n;
  }
}

const NONE: ReadonlySet<number> = new Set();
