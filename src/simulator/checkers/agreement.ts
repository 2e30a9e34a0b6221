/** Checks that no two correct members, at any time of their lives, decide different values for one instance. */
import { toHex } from "../../base/bytes.ts";
import type { MemberIndex } from "../../replica/contract.ts";
import type { Report } from "../history.ts";

export class AgreementChecker {
  readonly #report: Report;
  readonly #decided = new Map<number, { digest: string; member: MemberIndex; regency: number }>();

  constructor(report: Report) {
    this.#report = report;
  }

  /** Instances that some correct member decided. */
  get instances(): number {
    return this.#decided.size;
  }

  decided(member: MemberIndex, cid: number, regency: number, digest: Uint8Array): void {
    const text = toHex(digest);
    const first = this.#decided.get(cid);
    if (first === undefined) {
      this.#decided.set(cid, { digest: text, member, regency });
    } else if (first.digest !== text) {
      this.#report({
        checker: "agreement",
        message:
          `instance ${cid}: member ${first.member} decided ${first.digest.slice(0, 16)} (regency ` +
          `${first.regency}), member ${member} decided ${text.slice(0, 16)} (regency ${regency})`,
      });
    }
  }
}
