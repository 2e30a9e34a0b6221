/**
 * Checks that no correct member is ever caught at what no correct member does, by another correct one.
 * Restarts, lost disks, late messages and liars around it must not make it look guilty.
 */
import type { MemberIndex } from "../../replica/contract.ts";
import type { Report } from "../history.ts";

export class BlameChecker {
  readonly #report: Report;
  readonly #faulty: ReadonlySet<MemberIndex>;
  /** How often faulty members were caught, by what they did. */
  readonly caught = new Map<string, number>();

  /** @param faulty members that are Byzantine */
  constructor(faulty: ReadonlySet<MemberIndex>, report: Report) {
    this.#faulty = faulty;
    this.#report = report;
  }

  blamed(by: MemberIndex, member: MemberIndex, what: string): void {
    if (this.#faulty.has(member)) {
      this.caught.set(what, (this.caught.get(what) ?? 0) + 1);
      return;
    }
    this.#report({ checker: "blame", message: `member ${by} blames the correct member ${member}: ${what}` });
  }

  diverged(member: MemberIndex, cid: number): void {
    this.#report({
      checker: "blame",
      message: `the correct member ${member} found its own execution wrong at instance ${cid}`,
    });
  }
}
