/**
 * Checks that correct members execute the same instances with the same effect: after an instance all have
 * the same revision and the same execution hash, and each process executes instances in ascending order.
 */
import { toHex } from "../../base/bytes.ts";
import type { MemberIndex } from "../../replica/contract.ts";
import type { Report } from "../history.ts";

export class ExecutionChecker {
  readonly #report: Report;
  readonly #executed = new Map<number, { hash: string; revision: number; member: MemberIndex }>();
  readonly #roots = new Map<number, { root: string; member: MemberIndex }>();
  readonly #position = new Map<MemberIndex, number>();

  constructor(report: Report) {
    this.#report = report;
  }

  /** Highest instance that a correct member has executed in its present life. */
  position(member: MemberIndex): number {
    return this.#position.get(member) ?? 0;
  }

  /** Highest instance that any correct member executed. */
  get highest(): number {
    let highest = 0;
    for (const cid of this.#executed.keys()) if (cid > highest) highest = cid;
    return highest;
  }

  /** The revisions that an instance made, first and last; undefined when nobody was seen to execute it or the one before. */
  revisionsOf(cid: number): readonly [number, number] | undefined {
    const before = cid === 1 ? 1 : this.#executed.get(cid - 1)?.revision;
    const after = this.#executed.get(cid)?.revision;
    return before === undefined || after === undefined ? undefined : [before + 1, after];
  }

  /** A new process may begin at an earlier instance again. */
  restarted(member: MemberIndex): void {
    this.#position.delete(member);
  }

  executed(member: MemberIndex, cid: number, revision: number, executionHash: Uint8Array): void {
    const position = this.#position.get(member);
    if (position !== undefined && cid <= position) {
      this.#violation(`member ${member} executed instance ${cid} after ${position}`);
    }
    this.#position.set(member, cid);
    const hash = toHex(executionHash);
    const first = this.#executed.get(cid);
    if (first === undefined) {
      this.#executed.set(cid, { hash, revision, member });
    } else if (first.hash !== hash || first.revision !== revision) {
      this.#violation(
        `instance ${cid}: member ${first.member} has revision ${first.revision} and hash ` +
          `${first.hash.slice(0, 16)}, member ${member} has ${revision} and ${hash.slice(0, 16)}`,
      );
    }
  }

  /** A state that arrived by transfer stands for all instances up to `cid`. */
  transferred(member: MemberIndex, cid: number): void {
    if (cid > this.position(member)) this.#position.set(member, cid);
  }

  checkpoint(member: MemberIndex, cid: number, root: Uint8Array): void {
    const text = toHex(root);
    const first = this.#roots.get(cid);
    if (first === undefined) {
      this.#roots.set(cid, { root: text, member });
    } else if (first.root !== text) {
      this.#violation(
        `checkpoint ${cid}: member ${first.member} has root ${first.root.slice(0, 16)}, ` +
          `member ${member} has ${text.slice(0, 16)}`,
      );
    }
  }

  #violation(message: string): void {
    this.#report({ checker: "execution", message });
  }
}
