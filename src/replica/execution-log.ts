/**
 * Hashes of the own execution and of what other members report in their ACCEPTs: a replica whose execution
 * differs from a quorum's learns it within a few instances.
 */
import { toByteString } from "../base/bytes.ts";

/** Instances for which hashes are kept. */
const WINDOW = 256;

export class ExecutionLog {
  readonly #quorum: number;
  readonly #own = new Map<number, Uint8Array>();
  /** Reported hashes (byte strings) by instance, then by member. */
  readonly #reports = new Map<number, Map<number, string>>();

  constructor(quorum: number) {
    this.#quorum = quorum;
  }

  get(cid: number): Uint8Array | undefined {
    return this.#own.get(cid);
  }

  /** Notes the own hash. Returns true when a quorum of others reports another one. */
  executed(cid: number, hash: Uint8Array): boolean {
    this.#own.set(cid, hash);
    this.#own.delete(cid - WINDOW);
    this.#reports.delete(cid - WINDOW);
    return this.#differs(cid);
  }

  /** Notes a member's report. Returns true when a quorum of others now differs from the own hash. */
  reported(member: number, cid: number, hash: Uint8Array, lastExecuted: number): boolean {
    if (cid <= lastExecuted - WINDOW || cid > lastExecuted + WINDOW) return false;
    let reports = this.#reports.get(cid);
    if (reports === undefined) this.#reports.set(cid, (reports = new Map()));
    if (reports.has(member)) return false;
    reports.set(member, toByteString(hash));
    return this.#differs(cid);
  }

  #differs(cid: number): boolean {
    const own = this.#own.get(cid);
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
    this.#own.clear();
    this.#reports.clear();
  }
}
