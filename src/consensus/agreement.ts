/**
 * The normal case of Mod-SMaRt: PROPOSE, WRITE, ACCEPT for one instance at a time (docs/protocol.md).
 *
 * Handlers only record what arrived; `advance` then does whatever the state allows, so that the order of
 * arrival does not matter.
 */
import { equalBytes, toByteString } from "../base/bytes.ts";
import { type Bundle, decodeBundle } from "./bundle.ts";
import type { Core } from "./core.ts";
import type { DecidedEntry } from "./decision-history.ts";
import {
  decidedByAll,
  helpLate,
  isCertifying,
  isFast,
  logWrite,
  mayOfferFast,
  noteOutcome,
  waitsForAll,
} from "./fast-path.ts";
import type { Ballot, Instance, KeptValue, OwnAccept, Proposal } from "./instance.ts";
import {
  type AcceptSignature,
  type DecisionCertificate,
  type ExecutionReport,
  MAX_BODIES_SIZE_BYTES,
  type Message,
} from "./messages.ts";
import { encodeValue, type Value } from "./value.ts";
import { proposeDecided, voteForDecided } from "./vote-again.ts";
import { appendVote, bodyToLog, sendOnceDurable, signAccept, signWrite } from "./votes.ts";

/** Instances ahead of the one in progress whose messages are kept. */
const INSTANCES_AHEAD = 8;
/** Messages of one member that are kept for one instance ahead. */
const KEPT_PER_MEMBER_AHEAD = 8;
/** Regencies ahead of the own whose votes are kept. */
const REGENCIES_AHEAD = 3;
const NO_HASH = new Uint8Array(32);

type InstanceMessage = Extract<Message, { type: "propose" | "write" | "accept" }>;

/** Takes a PROPOSE, WRITE or ACCEPT. */
export function onInstanceMessage(core: Core, from: number, message: InstanceMessage): void {
  const { cid } = message;
  // A correct member votes in an instance only when it has decided the one before. Heartbeats alone would tell
  // too late for a member that catches up under load: it would follow at their pace and never vote again.
  if (cid - 1 > core.peerDecided[from]!) core.peerDecided[from] = cid - 1;
  if (message.type === "accept") reportExecution(core, from, message);
  else if (message.type === "write" && message.logged !== undefined)
    reportExecution(core, from, message.logged);
  if (cid < core.instance.cid) {
    if (message.type === "accept") lateAccept(core, from, message);
    if (message.type === "propose") voteForDecided(core, from, message);
    return;
  }
  if (cid > core.instance.cid) {
    if (cid - core.instance.cid > INSTANCES_AHEAD) return;
    let waiting = core.future.get(cid);
    if (waiting === undefined) core.future.set(cid, (waiting = []));
    // Three messages a member and ballot, with room for one leader change: beyond that, resending helps. The
    // bound is each member's own, so that nobody takes the others' places.
    const own = waiting.reduce((count, kept) => (kept.from === from ? count + 1 : count), 0);
    if (own < KEPT_PER_MEMBER_AHEAD) waiting.push({ from, message });
    return;
  }
  record(core, from, message);
}

function record(core: Core, from: number, message: InstanceMessage): void {
  const { regency } = message;
  if (regency < 1 || regency > core.regency + REGENCIES_AHEAD) return;
  // Votes of an older ballot can still decide, and then its value is asked for; its proposal leads to nothing.
  if (message.type === "propose" && regency < core.regency) return;
  const ballot = core.instance.ballot(regency);
  switch (message.type) {
    case "propose":
      recordProposal(core, from, message, ballot);
      break;
    case "write": {
      const digestKey = toByteString(message.digest);
      recordWrite(core, from, message, message.digest, digestKey, ballot);
      if (message.logged !== undefined) {
        ballot.logged.add(message.digest, { member: from, signature: message.signature }, digestKey);
      }
      break;
    }
    case "accept": {
      const accept = acceptOf(from, message);
      if (core.suspects.has(from) && !core.checker.accept(message, accept)) return;
      if (ballot.accepts.add(message.digest, accept) === "second") {
        core.misbehaviour(from, `two ACCEPTs in ballot (${message.cid}, ${regency})`);
      }
      break;
    }
  }
}

function recordWrite(
  core: Core,
  from: number,
  { cid, regency, signature }: Extract<Message, { type: "propose" | "write" }>,
  digest: Uint8Array,
  digestKey: string,
  ballot: Ballot,
): void {
  if (ballot.writes.add(digest, { member: from, signature }, digestKey) === "second") {
    core.misbehaviour(from, `two WRITEs in ballot (${cid}, ${regency})`);
  }
}

function recordProposal(
  core: Core,
  from: number,
  message: Extract<Message, { type: "propose" }>,
  ballot: Ballot,
): void {
  if (from !== core.membership.leaderOf(message.regency, core.isolated)) {
    core.misbehaviour(from, `PROPOSE in regency ${message.regency}, which it does not lead`);
    return;
  }
  if (ballot.proposal !== undefined) {
    if (equalBytes(ballot.proposal.message.value, message.value)) return;
    core.misbehaviour(from, `two PROPOSEs in ballot (${message.cid}, ${message.regency})`);
    if (message.regency === core.regency) core.accuse("the leader proposed two values");
    return;
  }
  // One value a ballot is kept: a leader that proposes without end fills nobody's memory.
  const kept = core.keepEncodedValue(message.value);
  ballot.proposal = {
    message,
    digest: kept?.digest ?? NO_HASH,
    digestKey: kept?.digestKey ?? "",
    value: kept?.value,
    verdict: "unchecked",
  };
  core.instance.proposalSeenAtMs = core.monotonicMs;
  if (kept !== undefined) recordWrite(core, from, message, kept.digest, kept.digestKey, ballot);
}

function acceptOf(member: number, message: Extract<Message, { type: "accept" }>): AcceptSignature {
  const { signature, executedCid, executionHash } = message;
  return { member, signature, executedCid, executionHash };
}

function lateAccept(core: Core, from: number, message: Extract<Message, { type: "accept" }>): void {
  const accept = acceptOf(from, message);
  if (core.suspects.has(from) && !core.checker.accept(message, accept)) return;
  const isNew = core.history.addAccept(message.cid, message.regency, message.digest, accept);
  // Everybody signs one for a certifying instance; again is what a member says that still waits for others'.
  if (isNew && isCertifying(core, message.cid)) return;
  helpLate(core, from, message);
}

function reportExecution(core: Core, from: number, report: ExecutionReport): void {
  if (report.executedCid > 0) {
    core.application.executionReported(from, report.executedCid, report.executionHash);
  }
}

/** Takes a bundle from its origin or forwarded by another member. Returns false when it was refused. */
export function onBundle(core: Core, from: number, encoded: Uint8Array): boolean {
  const bundle = decodeBundle(core.hasher, core.membership.digest, encoded);
  if (bundle.origin >= core.membership.n) return false;
  if (core.table.isPast(bundle.origin, bundle.incarnation, bundle.seq)) return false;
  // The link proves who sent it; the signature counts where another member forwards the body. A bad one does
  // not matter for a body that a correct member took from its origin and that a value is bound to.
  const direct = bundle.origin === from && !core.suspects.has(from);
  if (direct) core.direct.add(bundle);
  if (!direct && !core.validBundle(bundle) && !core.isEndorsed(toByteString(bundle.digest))) {
    if (bundle.origin === from) core.misbehaviour(from, "bad signature on a bundle");
    return false;
  }
  return core.keepBundle(bundle);
}

/** Does what the state allows: propose, WRITE, ACCEPT, decide, and on to the next instance. */
export function advance(core: Core): void {
  proposeDecided(core);
  do {
    proposeIfLeader(core);
    considerWrite(core);
    considerAccept(core);
  } while (considerDecision(core));
}

// ---- PROPOSE

function proposeIfLeader(core: Core): void {
  const { instance, regency } = core;
  if (!core.isLeader || instance.proposedIn >= regency || !core.mayWrite) return;
  const binding = core.sync?.bindings.get(instance.cid);
  const kept = binding === undefined ? nextValue(core) : instance.values.get(binding.digestKey);
  // The PROPOSE is the leader's WRITE, too, so that it must hold what it proposes.
  const bodies = kept && core.bodiesOf(kept.value);
  if (kept === undefined || bodies === undefined) {
    if (binding !== undefined) noteMissing(core);
    return;
  }
  instance.proposedIn = regency;
  instance.writtenIn = regency;
  const { encoded, digest, digestKey, value } = kept;
  const signature = signWrite(core, instance.cid, regency, digest);
  const { authorityHash } = core;
  const message = {
    type: "propose",
    regency,
    cid: instance.cid,
    value: encoded,
    authorityHash,
    fast: mayOfferFast(core, bodies),
    signature,
  } as const;
  core.ownVotes.propose = core.broadcast(message);
  const ballot = instance.ballot(regency);
  ballot.proposal = { message, digest, digestKey, value, verdict: "valid" };
  ballot.writes.add(digest, { member: core.self, signature });
  instance.proposalSeenAtMs = core.monotonicMs;
  // The PROPOSE need not wait for the disk: it is no logged WRITE, and the leader sends one of those besides.
  if (message.fast) logWrite(core, ballot, kept, bodies, signature);
}

/** What the leader would propose now, or undefined while nobody asks for anything. */
function nextValue(core: Core): KeptValue | undefined {
  if (!core.pool.hasProposable() && !core.application.timeIsDue(core.wallMs)) return undefined;
  const value: Value = {
    cid: core.instance.cid,
    previousDigest: core.lastDigest,
    timestampMs: Math.max(core.lastTimestampMs + 1, core.wallMs),
    bundles: core.pool.take(core.options.batchBundlesMax, core.options.batchSizeBytesMax),
  };
  return core.keepValue(encodeValue(value), value);
}

// ---- WRITE

function considerWrite(core: Core): void {
  const { instance, regency } = core;
  if (instance.writtenIn >= regency || !core.mayWrite) return;
  const ballot = instance.find(regency);
  const proposal = ballot?.proposal;
  if (ballot === undefined || proposal === undefined) return;
  if (proposal.verdict === "unchecked") {
    const fault = faultOf(core, proposal);
    proposal.verdict = fault === undefined ? "valid" : "invalid";
    if (fault !== undefined) core.accuse(`invalid PROPOSE: ${fault}`);
  }
  if (proposal.verdict !== "valid") return;
  const kept = instance.values.get(proposal.digestKey)!;
  const bodies = core.bodiesOf(kept.value);
  const fault = faultOfBodies(core, kept, bodies);
  if (fault !== undefined) {
    proposal.verdict = "invalid";
    core.misbehaviour(core.leader, `PROPOSE ${fault}`);
    core.accuse(`invalid PROPOSE: ${fault}`);
    return;
  }
  if (bodies === undefined) {
    noteMissing(core);
    return;
  }
  instance.writtenIn = regency;
  if (isFast(core, ballot)) {
    logWrite(core, ballot, kept, bodies);
    return;
  }
  const signature = signWrite(core, instance.cid, regency, proposal.digest);
  core.ownVotes.write = core.broadcast({
    type: "write",
    regency,
    cid: instance.cid,
    digest: proposal.digest,
    signature,
    logged: undefined,
  });
  ballot.writes.add(proposal.digest, { member: core.self, signature });
}

/** Why a correct leader cannot have sent this proposal, or undefined. */
function faultOf(core: Core, proposal: Proposal): string | undefined {
  const { value, message } = proposal;
  if (value === undefined) return "not a value";
  if (value.cid !== core.instance.cid) return "value of another instance";
  // A mismatch does not prove a fault: the own certificate of authority may be another valid one.
  if (!equalBytes(message.authorityHash, core.authorityHash)) return "another certificate of authority";
  const binding = core.sync?.bindings.get(value.cid);
  if (binding !== undefined) {
    return binding.digestKey === proposal.digestKey ? undefined : "the leader change bound another value";
  }
  if (core.mutated("proposeContentNotChecked")) return undefined;
  if (!equalBytes(value.previousDigest, core.lastDigest)) return "does not follow the decision before";
  if (!core.table.accepts(value.bundles)) return "repeats or leaves out bundles of an origin";
  if (core.mutated("timestampNotChecked")) return undefined;
  const { clockBoundMs } = core.options;
  if (value.timestampMs <= core.lastTimestampMs) return "time does not grow";
  if (value.timestampMs < core.wallMs - clockBoundMs) return "time is too far behind this member's clock";
  // Where agreed time is ahead of the clocks already, it can only go on from there, by the least step.
  if (value.timestampMs > core.wallMs + clockBoundMs && value.timestampMs !== core.lastTimestampMs + 1) {
    return "time is too far ahead of this member's clock";
  }
  return undefined;
}

/** Why the bodies of a value show that no correct leader proposed it, or undefined; all of them may not be here yet. */
function faultOfBodies(
  core: Core,
  { value, fetchedSizeBytes }: KeptValue,
  bodies: readonly Bundle[] | undefined,
): string | undefined {
  let sizeBytes = bodies === undefined ? fetchedSizeBytes : 0;
  for (const [i, body] of bodies?.entries() ?? []) {
    const { origin, incarnation, seq } = value.bundles[i]!;
    if (body.origin !== origin || body.incarnation !== incarnation || body.seq !== seq) {
      return "names a bundle by another origin or seq than its own";
    }
    sizeBytes += body.encoded.length;
  }
  return sizeBytes > MAX_BODIES_SIZE_BYTES && !core.mutated("sizeNotChecked")
    ? "of more bytes than a value may have"
    : undefined;
}

// ---- ACCEPT

function considerAccept(core: Core): void {
  const { instance, regency } = core;
  if (instance.accepted !== undefined && instance.accepted.regency >= regency) return;
  if (core.durableSequence < core.regencySequence || core.onProbation) return;
  const ballot = instance.find(regency);
  const winner = ballot?.writes.winner(core.quorum);
  if (ballot === undefined || winner === undefined) return;
  if (waitsForAll(core, ballot, winner.digestKey)) return;
  const complete = completeValue(core, winner.digestKey);
  if (complete === undefined) {
    noteMissing(core);
    return;
  }
  const { cid } = instance;
  const { digest, digestKey } = winner;
  const writes = ballot.writes.for(digestKey);
  const unsynced = core.mutated("acceptNotSynced");
  const sequence = appendVote(
    core,
    { type: "accept", regency, writes },
    complete.kept,
    complete.bundles,
    !unsynced,
  );
  const accepted: OwnAccept = { regency, digest, digestKey, writes, sequence, durable: false };
  instance.accepted = accepted;
  // ACCEPT leaves only when it is on disk with its bodies and with the signed WRITEs behind it.
  sendOnceDurable(core, accepted, unsynced, () => sendAccept(core, cid, accepted));
}

/** Signs the ACCEPT that waits for the disk, so that signing and syncing overlap. */
export function presign(core: Core): void {
  const { accepted, cid } = core.instance;
  if (accepted === undefined || accepted.durable || accepted.signed !== undefined) return;
  accepted.signed = signAccept(core, cid, accepted.regency, accepted.digest);
}

function sendAccept(core: Core, cid: number, own: OwnAccept): void {
  const { regency, digest } = own;
  const { accept, message } = own.signed ?? signAccept(core, cid, regency, digest);
  const bytes = core.broadcast(message);
  if (cid === core.instance.cid) {
    core.ownVotes.accept = bytes;
    core.instance.ballot(regency).accepts.add(digest, accept);
  } else {
    core.history.addAccept(cid, regency, digest, accept);
  }
}

/** Value and bodies of the instance in progress, when all are here. */
function completeValue(
  core: Core,
  digestKey: string,
): { readonly kept: KeptValue; readonly bundles: Bundle[] } | undefined {
  const kept = core.instance.values.get(digestKey);
  const bundles = kept && core.bodiesOf(kept.value);
  return kept === undefined || bundles === undefined ? undefined : { kept, bundles };
}

function noteMissing(core: Core): void {
  if (core.instance.missingSinceMs === 0) core.instance.missingSinceMs = core.monotonicMs;
}

// ---- decision

function considerDecision(core: Core): boolean {
  const { instance } = core;
  if (core.diskIsBehind) return false;
  for (const ballot of instance.ballots()) {
    const byAll = decidedByAll(core, ballot);
    const winner = byAll ?? ballot.accepts.winner(core.quorum);
    if (winner === undefined) continue;
    const accepts = ballot.accepts.votes.map((vote) =>
      vote !== undefined && vote.digestKey === winner.digestKey ? vote.vote : undefined,
    );
    return decide(core, ballot.regency, winner, accepts, byAll !== undefined);
  }
  if (instance.learned === undefined) return false;
  const { regency } = instance.learned;
  return decide(core, regency, instance.learned, new Array(core.membership.n).fill(undefined), false);
}

function decide(
  core: Core,
  regency: number,
  { digest, digestKey }: { readonly digest: Uint8Array; readonly digestKey: string },
  accepts: (AcceptSignature | undefined)[],
  fast: boolean,
): boolean {
  const { instance } = core;
  const complete = completeValue(core, digestKey);
  if (complete === undefined) {
    noteMissing(core);
    return false;
  }
  noteOutcome(core);
  const { accepted, logged } = instance;
  const own = accepted !== undefined && accepted.digestKey === digestKey ? accepted : undefined;
  const entry: DecidedEntry = {
    cid: instance.cid,
    regency,
    digest,
    encodedValue: complete.kept.encoded,
    value: complete.kept.value,
    bundles: complete.bundles,
    accepts,
    claim: own === undefined ? undefined : { regency: own.regency, writes: own.writes },
    loggedIn: logged?.digestKey === digestKey ? logged.regency : 0,
    certificate: undefined,
  };
  adopt(core, entry, fast);
  return true;
}

/**
 * Takes over a decision: made here, or learned from a member with its certificate. When the own log does not
 * hold it yet, it is written out before this member votes in the next instance.
 */
export function adopt(core: Core, entry: DecidedEntry, fast = false): void {
  const digestKey = toByteString(entry.digest);
  const promised = promisedIn(core.instance, digestKey);
  const sequence = core.append(
    {
      type: "decision",
      certificate: entry.certificate ?? rawCertificate(entry),
      body: bodyToLog(core, digestKey, entry.encodedValue, entry.bundles),
    },
    promised === undefined,
  );
  core.noteRecord(entry.cid, sequence);
  core.previousSequence = promised ?? sequence;
  install(core, entry);
  core.effects.push({
    type: "trace",
    event: { kind: "decided", cid: entry.cid, regency: entry.regency, digest: entry.digest, fast },
  });
  measureProgress(core);
  replayFuture(core);
}

/** Log sequence of the first record with which this member has vouched for the value; undefined without one. */
function promisedIn({ logged, accepted }: Instance, digestKey: string): number | undefined {
  if (logged?.digestKey === digestKey) return logged.sequence;
  return accepted?.digestKey === digestKey ? accepted.sequence : undefined;
}

function rawCertificate(entry: DecidedEntry): DecisionCertificate {
  const { cid, regency, digest } = entry;
  return { cid, regency, digest, accepts: entry.accepts.filter((accept) => accept !== undefined) };
}

/** The part of a decision that recovery repeats from the log. */
export function install(core: Core, entry: DecidedEntry): void {
  core.history.add(entry);
  core.table.advance(entry.value.bundles);
  core.pool.prune(entry.value.bundles);
  core.lastDecided = entry.cid;
  core.lastDigest = entry.digest;
  core.lastTimestampMs = entry.value.timestampMs;
  for (const { origin, incarnation, seq } of entry.value.bundles) {
    if (origin === core.self && incarnation === core.incarnation) core.outbox.delete(seq);
  }
  const { proposalSeenAtMs } = core.instance;
  core.nextInstance();
  core.application.decided(entry, proposalSeenAtMs);
}

function measureProgress(core: Core): void {
  core.lastDecidedAtMs = core.monotonicMs;
  core.decidedInRegency = true;
  // Timeouts come down when something progresses.
  core.timeoutFactor = Math.max(1, core.timeoutFactor / 2);
}

/** Takes the messages that came for the instance in progress while it lay ahead. */
export function replayFuture(core: Core): void {
  if (core.future.size === 0) return;
  const { cid } = core.instance;
  for (const past of core.future.keys()) if (past < cid) core.future.delete(past);
  const waiting = core.future.get(cid);
  if (waiting === undefined) return;
  core.future.delete(cid);
  for (const { from, message } of waiting) record(core, from, message as InstanceMessage);
}
