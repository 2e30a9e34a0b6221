/**
 * Hashes of the own execution and of what other members report in their votes: a replica whose execution
 * differs from a quorum's learns it within a few instances.
 */
import { equalBytes, toByteString } from "../base/bytes.ts";

/** Instances for which hashes are kept. */
const WINDOW = 256;

interface Executed {
  readonly cid: number;
  readonly hash: Uint8Array;
  /** Members that reported the same, a bit each. */
  agreeing: number;
}

export class ExecutionLog {
  readonly #quorum: number;
  /** Of the last instances, each in its place modulo the window. */
  readonly #own: (Executed | undefined)[] = [];
  /**
   * Other reported hashes (byte strings) by instance, then by member. Nearly all agree and arrive when the own is
   * known, and leave nothing here.
   */
  readonly #reports = new Map<number, Map<number, string>>();

  constructor(quorum: number) {
    this.#quorum = quorum;
  }

  get(cid: number): Uint8Array | undefined {
    return this.#executed(cid)?.hash;
  }

  #executed(cid: number): Executed | undefined {
    const kept = this.#own[cid % WINDOW];
    return kept?.cid === cid ? kept : undefined;
  }

  /** Notes the own hash. Returns true when a quorum of others reports another one. */
  executed(cid: number, hash: Uint8Array): boolean {
    this.#own[cid % WINDOW] = { cid, hash, agreeing: 0 };
    if (this.#reports.size === 0) return false;
    this.#reports.delete(cid - WINDOW);
    return this.#differs(cid);
  }

  /** Notes a member's report. Returns true when a quorum of others now differs from the own hash. */
  reported(member: number, cid: number, hash: Uint8Array, lastExecuted: number): boolean {
    if (cid <= lastExecuted - WINDOW || cid > lastExecuted + WINDOW) return false;
    const own = this.#executed(cid);
    const bit = 1 << member;
    let reports = this.#reports.get(cid);
    if (reports?.has(member) || (own !== undefined && (own.agreeing & bit) !== 0)) return false;
    if (own !== undefined && equalBytes(own.hash, hash)) {
      own.agreeing |= bit;
    } else {
      if (reports === undefined) this.#reports.set(cid, (reports = new Map()));
      reports.set(member, toByteString(hash));
    }
    return this.#differs(cid);
  }

  #differs(cid: number): boolean {
    const own = this.get(cid);
    const reports = this.#reports.get(cid);
    if (own === undefined || reports === undefined || reports.size < this.#quorum) return false;
    const ownKey = toByteString(own);
    const counts = new Map<string, number>();
    for (const hash of reports.values()) {
      if (hash === ownKey) continue;
      const count = (counts.get(hash) ?? 0) + 1;
      if (count >= this.#quorum) return true;
      counts.set(hash, count);
    }
    return false;
  }

  /** Forgets everything, after the state was replaced. */
  clear(): void {
    this.#own.length = 0;
    this.#reports.clear();
  }
}
