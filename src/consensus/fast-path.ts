/**
 * Fast instances: decided in two steps instead of three, by the WRITEs of all members (docs/protocol.md, "Fast
 * instances"). The leader offers it while every member takes part; each member then has its WRITE on disk before
 * it leaves, and n of those for one digest in one ballot decide as a quorum of ACCEPTs does. Where one is missing
 * the instance goes on as any other after a short wait, so that safety and liveness never hang on it.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Bundle } from "./bundle.ts";
import type { Core } from "./core.ts";
import type { Ballot, KeptValue, OwnLogged } from "./instance.ts";
import { appendVote, executionFor, sendOnceDurable, signDecided, signWrite } from "./votes.ts";

/**
 * Operations of an instance up to which it may be fast. More come with load, and then another round costs less than to
 * wait for the last of all members: tried every few seconds, it took 5 % of the throughput at 64 requests in flight.
 */
const OPERATIONS_MAX = 8;

/**
 * Whether to offer the next instance, of these bundles, as a fast one: it is small, every member is linked, and none is
 * left behind.
 */
export function mayOfferFast(core: Core, bundles: readonly Bundle[]): boolean {
  const { cid } = core.instance;
  if (!mayBeFast(core)) return false;
  if (bundles.reduce((sum, bundle) => sum + bundle.operations.length, 0) > OPERATIONS_MAX) return false;
  if (core.sync?.bindings.has(cid) || !core.fastPolicy.allows(core.monotonicMs)) return false;
  for (let member = 0; member < core.membership.n; member++) {
    if (member === core.self) continue;
    if (!core.linked[member] || core.peerDecided[member]! < core.lastDecided - 1) return false;
  }
  return true;
}

/** Whether a WRITE in this ballot is to be logged. */
export function isFast(core: Core, ballot: Ballot): boolean {
  return ballot.proposal?.message.fast === true && mayBeFast(core);
}

function mayBeFast(core: Core): boolean {
  return core.options.certifyInstances > 1;
}

/** Whether all members sign ACCEPTs for this instance, also where it was decided without (catch-up.ts). */
export function isCertifying(core: Core, cid: number): boolean {
  return mayBeFast(core) && cid % core.options.certifyInstances === 0;
}

/**
 * Appends the own WRITE with value and bodies, and sends it when that is on disk. From here on it is reported in
 * every leader change until a certificate covers the instance.
 *
 * @param signature where the WRITE is signed already, as the leader's is in its PROPOSE
 */
export function logWrite(
  core: Core,
  ballot: Ballot,
  kept: KeptValue,
  bundles: readonly Bundle[],
  signature?: Uint8Array,
): void {
  const { cid } = core.instance;
  const { regency } = ballot;
  const { digest, digestKey } = kept;
  const unsynced = core.mutated("loggedNotSynced");
  const sequence = appendVote(core, { type: "write", regency }, kept, bundles, !unsynced);
  const logged: OwnLogged = { regency, digest, digestKey, sequence, durable: false, signature };
  core.instance.logged = logged;
  sendOnceDurable(core, logged, unsynced, () => sendLogged(core, cid, logged));
}

function sendLogged(core: Core, cid: number, own: OwnLogged): void {
  const { regency, digest } = own;
  const signature = signatureOf(core, cid, own);
  const logged = executionFor(core, cid);
  // A client waits at the origin; the others have time.
  const waiting = core.instance.values.get(own.digestKey)?.value.bundles[0]?.origin ?? 0;
  const bytes = core.broadcast({ type: "write", regency, cid, digest, signature, logged }, "vote", waiting);
  // Decided meanwhile by others' ACCEPTs: it may still be what another member waits for.
  if (cid !== core.instance.cid) return;
  if (regency === core.regency) core.ownVotes.write = bytes;
  const ballot = core.instance.ballot(regency);
  ballot.writes.add(digest, { member: core.self, signature }, own.digestKey);
  ballot.logged.add(digest, { member: core.self, signature }, own.digestKey);
}

function signatureOf(core: Core, cid: number, own: OwnLogged): Uint8Array {
  own.signature ??= signWrite(core, cid, own.regency, own.digest);
  return own.signature;
}

/** Signs the WRITE that waits for the disk, so that signing and syncing overlap. */
export function presignLogged(core: Core): void {
  const { logged, cid } = core.instance;
  if (logged !== undefined && !logged.durable) signatureOf(core, cid, logged);
}

/**
 * Whether a member with a quorum of WRITEs holds its ACCEPT back, for those of all may come. Not when another
 * member has given up waiting, nor when this one has no logged WRITE itself or a missing one cannot come.
 */
export function waitsForAll(core: Core, ballot: Ballot, digestKey: string): boolean {
  const { instance, monotonicMs: now } = core;
  if (!isFast(core, ballot) || instance.logged?.regency !== ballot.regency) return false;
  if (ballot.logged.votes.some((vote, member) => vote === undefined && isCutOff(core, member))) return false;
  if (ballot.quorumSeenAtMs === 0) ballot.quorumSeenAtMs = now;
  return ballot.accepts.count(digestKey) === 0 && now - ballot.quorumSeenAtMs < core.options.fastWaitMs;
}

function isCutOff(core: Core, member: number): boolean {
  return member !== core.self && !core.linked[member];
}

/** The digest that all members have logged WRITEs for. */
export function decidedByAll(
  core: Core,
  ballot: Ballot,
): { readonly digest: Uint8Array; readonly digestKey: string } | undefined {
  const { n } = core.membership;
  return ballot.logged.winner(core.mutated("fastOneTooFew") ? n - 1 : n);
}

/** When the instance is decided: how the leader's offer turned out. */
export function noteOutcome(core: Core): void {
  const { monotonicMs: now } = core;
  const offered = core.instance.find(core.regency);
  if (!core.isLeader || offered === undefined || !isFast(core, offered)) return;
  // An ACCEPT says that somebody did not wait any longer: it costs another sync everywhere.
  const gaveUp = offered.accepts.votes.some((vote) => vote !== undefined);
  const waitedMs = offered.quorumSeenAtMs === 0 ? 0 : now - offered.quorumSeenAtMs;
  core.fastPolicy.note(gaveUp ? core.options.fastWaitMs : waitedMs, now);
}

/**
 * A member goes the ordinary way in an instance that this one has decided by the WRITEs of all: those did not
 * reach everybody, and the ACCEPT that was not needed here is needed there.
 */
export function helpLate(
  core: Core,
  from: number,
  { cid, regency, digest }: { readonly cid: number; readonly regency: number; readonly digest: Uint8Array },
): void {
  const entry = core.history.get(cid);
  if (entry === undefined || entry.loggedIn !== regency || entry.regency !== regency) return;
  if (!equalBytes(entry.digest, digest)) return;
  // Decided here by ACCEPTs: everybody has them, or sees to it in the usual ways.
  if (entry.accepts.filter((accept) => accept !== undefined).length >= core.membership.quorum) return;
  const isFirst = entry.accepts[core.self] === undefined;
  if (isFirst && core.isLeader && regency === core.regency) {
    core.fastPolicy.note(core.options.fastWaitMs, core.monotonicMs);
  }
  if (!isFirst && !core.mayAnswer("accept", from)) return;
  const message = signDecided(core, cid);
  if (message === undefined) return;
  if (isFirst) core.broadcast(message);
  else core.send(from, message);
}
