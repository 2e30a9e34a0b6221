/** Votes in a new ballot for what is decided already: the others may not be able to know, and need them. */
import { equalBytes } from "../base/bytes.ts";
import type { Core } from "./core.ts";
import type { Message } from "./messages.ts";
import { valueDigest } from "./value.ts";
import { signAccept, signWrite } from "./votes.ts";

/**
 * A leader proposes once more what this member has decided in an earlier ballot and cannot prove: its executed
 * state outlived the certificate. The others may need its votes to decide it, too. No other value is possible
 * there, so that both votes are safe, whoever else has voted.
 */
export function voteForDecided(
  core: Core,
  from: number,
  message: Extract<Message, { type: "propose" }>,
): void {
  const { cid, regency } = message;
  const entry = core.history.get(cid);
  // Of what was executed before the log begins only the last digest is known.
  const digest = entry?.digest ?? (cid === core.lastDecided ? core.lastDigest : undefined);
  if (digest === undefined || from !== core.leader || regency !== core.regency) return;
  if (!mayVoteAgain(core, cid) || !equalBytes(valueDigest(core.hasher, message.value), digest)) return;
  if (!core.mayAnswer("vote", from)) return;
  const signature = signWrite(core, cid, regency, digest);
  core.broadcast({ type: "write", regency, cid, digest, signature, logged: undefined });
  core.broadcast(signAccept(core, cid, regency, digest).message);
}

/** Whether this member may vote in its present regency for what it has decided in an earlier one. */
function mayVoteAgain(core: Core, cid: number): boolean {
  const { regency, durableSequence } = core;
  if (cid <= core.history.covered || regency <= (core.history.get(cid)?.regency ?? 0)) return false;
  if (core.phase !== "normal" || core.onProbation) return false;
  if (core.burned.regency === regency && cid <= core.burned.upToCid) return false;
  return durableSequence >= core.regencySequence && durableSequence >= core.previousSequence;
}

/**
 * The leader proposes once more the last value that it has decided, when the leader change bound it: perhaps
 * nobody else has decided it, and there is no certificate to show. It needs this only for the last one: for the
 * next, more than f correct members had decided the one before. Its own votes are as safe as those of others.
 */
export function proposeDecided(core: Core): void {
  const { lastDecided: cid, regency, authorityHash } = core;
  if (core.ownVotes.again !== undefined || core.sync?.bindings.has(cid) !== true) return;
  const entry = core.history.get(cid);
  if (!core.isLeader || entry === undefined || !mayVoteAgain(core, cid)) return;
  const { digest, encodedValue: value } = entry;
  const signature = signWrite(core, cid, regency, digest);
  core.ownVotes.again = [
    core.broadcast({ type: "propose", regency, cid, value, authorityHash, fast: false, signature }),
    core.broadcast(signAccept(core, cid, regency, digest).message),
  ];
}
