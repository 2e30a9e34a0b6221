/** The votes that a member signs, with what they say of its execution. Whether one may be given is for its caller. */
import type { Core } from "./core.ts";
import type { SignedAccept } from "./instance.ts";
import type { ExecutionReport, Message } from "./messages.ts";
import { acceptStatement } from "./statements.ts";

/** A vote reports the execution this many instances back, so that all members report the same one. */
const EXECUTION_REPORT_DISTANCE = 2;
const NO_HASH = new Uint8Array(32);

/** What a vote in instance `cid` says of this member's execution. */
export function executionFor(core: Core, cid: number): ExecutionReport {
  const reported = cid - EXECUTION_REPORT_DISTANCE;
  const executionHash = reported > 0 ? core.application.executionHash(reported) : undefined;
  if (executionHash === undefined) return { executedCid: 0, executionHash: NO_HASH };
  return { executedCid: reported, executionHash };
}

/** A signed ACCEPT of this member. The caller has made sure that it may be given. */
export function signAccept(core: Core, cid: number, regency: number, digest: Uint8Array): SignedAccept {
  const { executedCid, executionHash } = executionFor(core, cid);
  const statement = acceptStatement(core.membership.digest, regency, cid, digest, executedCid, executionHash);
  const signature = core.signer.sign(statement);
  return {
    accept: { member: core.self, signature, executedCid, executionHash },
    message: { type: "accept", regency, cid, digest, executedCid, executionHash, signature },
  };
}

/** A member that learned a decision in another way than by ACCEPTs signs one for it afterwards. */
export function signDecided(core: Core, cid: number): Extract<Message, { type: "accept" }> | undefined {
  const entry = core.history.get(cid);
  // The decision must be on disk, as with any ACCEPT, and what was found at start.
  const needed = Math.max(core.previousSequence, core.regencySequence);
  if (entry === undefined || needed > core.durableSequence || core.onProbation) return undefined;
  const { accept, message } = signAccept(core, cid, entry.regency, entry.digest);
  core.history.addAccept(cid, entry.regency, entry.digest, accept);
  return message;
}
