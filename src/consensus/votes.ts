/** The votes that a member signs, with what they say of its execution. Whether one may be given is for its caller. */
import type { Bundle } from "./bundle.ts";
import type { Core } from "./core.ts";
import type { KeptValue, SignedAccept } from "./instance.ts";
import type { InstanceBody, LogEntry } from "./log-records.ts";
import type { ExecutionReport, Message } from "./messages.ts";
import { acceptStatement, writeStatement } from "./statements.ts";

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

/** This member's signature of a WRITE; the caller has made sure that it may be given. */
export function signWrite(core: Core, cid: number, regency: number, digest: Uint8Array): Uint8Array {
  return core.signer.sign(writeStatement(core.membership.digest, regency, cid, digest));
}

/** What the record of an own vote says beside the value. */
type OwnVote =
  | Omit<Extract<LogEntry, { type: "write" }>, "cid" | "digest" | "body">
  | Omit<Extract<LogEntry, { type: "accept" }>, "cid" | "digest" | "body">;

/** Value and bodies for a record of the instance in progress; undefined where the log holds them. */
export function bodyToLog(
  core: Core,
  digestKey: string,
  value: Uint8Array,
  bundles: readonly Bundle[],
): InstanceBody | undefined {
  if (core.instance.bodyLogged === digestKey) return undefined;
  return { value, bundles: bundles.map((bundle) => bundle.encoded) };
}

/**
 * Appends the record of an own vote for a complete value, with that and its bodies unless the log holds them. Returns
 * the record's sequence.
 */
export function appendVote(
  core: Core,
  vote: OwnVote,
  { encoded, digest, digestKey }: KeptValue,
  bundles: readonly Bundle[],
  sync: boolean,
): number {
  const { cid } = core.instance;
  const body = bodyToLog(core, digestKey, encoded, bundles);
  const sequence = core.append({ ...vote, cid, digest, body }, sync);
  core.noteRecord(cid, sequence);
  core.instance.bodyLogged = digestKey;
  return sequence;
}

/** Sends an own vote once its record is on disk, or at once where a planted bug does not sync it. */
export function sendOnceDurable(
  core: Core,
  own: { readonly sequence: number; durable: boolean },
  unsynced: boolean,
  send: () => void,
): void {
  const { instance } = core;
  const promise = () => {
    own.durable = true;
    instance.hasPromised = true;
    send();
  };
  if (unsynced) promise();
  else core.whenDurable(own.sequence, promise);
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
