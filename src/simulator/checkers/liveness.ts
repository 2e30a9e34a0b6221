/**
 * Checks that a healed cluster serves: every client of a correct, running member gets its writes and its
 * fenced reads within the bound, no read is left without an answer, and all of these members reach the last instance.
 */
import type { MemberIndex } from "../../replica/contract.ts";
import type { Report } from "../history.ts";

export interface LivenessFindings {
  readonly boundMs: number;
  /** Clients that were not served in time. */
  readonly unserved: readonly { readonly client: number; readonly member: MemberIndex }[];
  /** Clients with a fenced read that has no answer, though nobody else asks for anything any more. */
  readonly hangingReads: readonly { readonly client: number; readonly member: MemberIndex }[];
  readonly positions: readonly {
    readonly member: MemberIndex;
    readonly running: boolean;
    readonly position: number;
  }[];
  /** Last instance that any correct member executed. */
  readonly highest: number;
}

export function checkLiveness(findings: LivenessFindings, report: Report): void {
  const { boundMs, unserved, hangingReads, positions, highest } = findings;
  if (unserved.length > 0) {
    const who = unserved.map(({ client, member }) => `${client} at member ${member}`).join(", ");
    const where = positions.map(({ member, position }) => `member ${member} at ${position}`).join(", ");
    report({
      checker: "liveness",
      message: `not served ${boundMs} ms after healing: clients ${who} (${where})`,
    });
  }
  for (const { client, member } of hangingReads) {
    report({ checker: "liveness", message: `a read of client ${client} at member ${member} hangs` });
  }
  for (const { member, running, position } of positions) {
    if (!running) report({ checker: "liveness", message: `member ${member} does not run` });
    else if (position < highest) {
      report({
        checker: "liveness",
        message: `member ${member} stays at instance ${position} of ${highest}`,
      });
    }
  }
}
