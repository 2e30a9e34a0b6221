/**
 * The synchronisation phase of Mod-SMaRt: STOP, STOPDATA, SYNC (docs/protocol.md; design, section 5).
 */
import { toByteString } from "../base/bytes.ts";
import { DecodeError } from "../base/codec.ts";
import type { Core } from "./core.ts";
import {
  type AcceptClaim,
  type AuthorityCertificate,
  type Collect,
  decodeStopDataBody,
  encodeAuthority,
  encodeMessage,
  encodeStopDataBody,
  encodeSyncContent,
  type LoggedWrite,
  MAX_CLAIMS,
  type MemberSignature,
  type Message,
  type StopDataBody,
  type SyncBody,
} from "./messages.ts";
import { type BallotClaim, selectForInstance } from "./selection.ts";
import { stopDataStatement, stopStatement, syncStatement, writeStatement } from "./statements.ts";

const SYNC_AMONG_VOTES_SIZE_BYTES = 1 << 18;

/** Acts on an accusation made during the step: asks for the next regency, once. */
export function settleAccusation(core: Core): void {
  const reason = core.accusation;
  if (reason === "") return;
  core.accusation = "";
  stop(core, reason);
}

function stop(core: Core, reason: string): void {
  const target = core.regency + 1;
  if (core.stopTarget >= target) return;
  core.stopTarget = target;
  const sequence = core.append({ type: "stop", regency: target }, true);
  core.stopSequence = sequence;
  core.effects.push({ type: "trace", event: { kind: "stop", regency: target, reason } });
  // STOP is on disk before it leaves: a member that restarts still knows what it left.
  core.whenDurable(sequence, () => sendStop(core));
}

/** Sends the own STOP (again). */
export function sendStop(core: Core): void {
  if (core.stopTarget !== core.regency + 1 || core.durableSequence < core.stopSequence) return;
  const signature = core.signer.sign(stopStatement(core.membership.digest, core.stopTarget));
  core.stopSentAtMs = core.monotonicMs;
  core.broadcast({ type: "stop", regency: core.stopTarget, signature });
  addStop(core, core.self, signature);
}

export function onStop(core: Core, from: number, message: Extract<Message, { type: "stop" }>): void {
  const { regency, signature } = message;
  if (regency <= core.regency) {
    if (core.mayAnswer("authority", from)) sendAuthority(core, from);
    return;
  }
  if (regency > core.regency + 1) {
    askAuthority(core, from);
    return;
  }
  if (core.stops.has(from)) return;
  if (!core.checker.signedBy(from, stopStatement(core.membership.digest, regency), signature)) {
    core.misbehaviour(from, "STOP with a bad signature");
    return;
  }
  addStop(core, from, signature);
}

function addStop(core: Core, member: number, signature: Uint8Array): void {
  core.stops.set(member, signature);
  // More than f members: at least one correct one sees a reason, so this member joins. A leader that hands
  // over (it restarted) needs no second accuser.
  if (core.stops.size > core.membership.f) stop(core, "others ask for it");
  else if (member === core.leader) stop(core, "the leader hands over");
  if (core.stops.size < core.membership.quorum) return;
  const stops: MemberSignature[] = [...core.stops].map(([signer, sig]) => ({
    member: signer,
    signature: sig,
  }));
  stops.sort((a, b) => a.member - b.member);
  installRegency(core, { regency: core.regency + 1, stops: stops.slice(0, core.membership.quorum) });
}

function sendAuthority(core: Core, to: number): void {
  if (core.authority !== undefined) core.send(to, { type: "authority", authority: core.authority });
}

/** Asks a member that seems to be in a later regency for its certificate. */
export function askAuthority(core: Core, from: number): void {
  if (core.mayAnswer("askAuthority", from)) {
    core.send(from, { type: "authorityRequest", regency: core.regency, wantSync: false });
  }
}

export function onAuthorityRequest(
  core: Core,
  from: number,
  message: Extract<Message, { type: "authorityRequest" }>,
): void {
  if (!core.mayAnswer(message.wantSync ? "sync" : "authority", from)) return;
  if (message.regency < core.regency) sendAuthority(core, from);
  if (message.wantSync && core.sync !== undefined && message.regency <= core.regency) {
    core.sendBytes(from, core.sync.message, syncLane(core.sync.message));
  }
}

export function onAuthority(core: Core, from: number, authority: AuthorityCertificate): void {
  if (authority.regency <= core.regency) return;
  if (!core.checker.authority(authority)) {
    core.misbehaviour(from, "certificate of authority that is none");
    return;
  }
  installRegency(core, authority);
}

// ---- installing a regency

/** Enters a regency on its (checked) certificate of authority. */
export function installRegency(core: Core, authority: AuthorityCertificate): void {
  setRegency(core, authority);
  core.timeoutFactor = core.decidedInRegency
    ? core.timeoutFactor
    : Math.min(core.timeoutFactor * 2, core.options.timeoutFactorMax);
  core.decidedInRegency = false;
  core.turnaroundMs = 0;
  core.turnaroundSamples = 0;
  core.installedAtMs = core.monotonicMs;
  core.leaderHeardAtMs = core.monotonicMs;
  core.regencySequence = core.append({ type: "regency", authority }, true);
  core.effects.push({
    type: "trace",
    event: { kind: "regency", regency: core.regency, leader: core.leader },
  });
  // Everyone else can enter on the same certificate.
  core.broadcast({ type: "authority", authority });
  reportStopData(core);
}

/** The part that recovery repeats from the log. */
export function setRegency(core: Core, authority: AuthorityCertificate): void {
  core.regency = authority.regency;
  core.authority = authority;
  core.authorityHash = core.hasher.hash(encodeAuthority(authority));
  core.phase = "syncing";
  core.sync = undefined;
  core.stops.clear();
  core.collects.clear();
  core.accusation = "";
  core.ownStopData = undefined;
  // The own votes of the regency before are of no use any more; ACCEPT still may complete a decision.
  delete core.ownVotes.again;
  delete core.ownVotes.propose;
  delete core.ownVotes.write;
}

function reportStopData(core: Core): void {
  const body = encodeStopDataBody(composeStopData(core));
  const { regency } = core;
  const signature = core.signer.sign(stopDataStatement(core.membership.digest, body));
  const sequence = core.append({ type: "stopData", regency, body, signature }, true);
  core.ownStopData = { regency, body, signature };
  // On disk before it leaves: what it says nothing of can never be claimed later.
  if (core.mutated("stopDataBeforeDurable")) sendStopData(core);
  else core.whenDurable(sequence, () => sendStopData(core));
}

/** Sends the own STOPDATA to the leader of the regency (again). */
export function sendStopData(core: Core): void {
  const own = core.ownStopData;
  // A member on probation may have forgotten an ACCEPT: its report would hide it.
  if (own === undefined || own.regency !== core.regency || core.probation !== undefined) return;
  if (core.durableSequence < core.regencySequence && !core.mutated("stopDataBeforeDurable")) return;
  const { body, signature } = own;
  if (!core.isLeader) {
    core.send(core.leader, { type: "stopData", body, signature });
    return;
  }
  core.collects.set(core.self, {
    collect: { member: core.self, body, signature },
    report: decodeStopDataBody(body),
  });
  trySync(core);
}

function composeStopData(core: Core): StopDataBody {
  let decided = core.history.newestCertificate();
  // After a restart the log may hold no certificate but that of the stable checkpoint it was cut at, or one of an
  // instance that the history does not reach back to.
  for (const other of [core.checkpointDecision, core.knownDecision]) {
    if (other !== undefined && other.cid > (decided?.cid ?? 0)) decided = other;
  }
  const certified = decided?.cid ?? 0;
  const claims: AcceptClaim[] = [];
  const logged: LoggedWrite[] = [];
  // A decision without full certificate is reported as what it can be proved to be: an ACCEPT claim, a logged
  // WRITE, or both.
  for (let cid = certified + 1; cid <= core.lastDecided; cid++) {
    const entry = core.history.get(cid);
    if (entry === undefined) continue;
    if (entry.claim !== undefined) pushClaim(core, claims, cid, entry.digest, entry.claim);
    if (entry.loggedIn > 0) logged.push({ cid, regency: entry.loggedIn, digest: entry.digest });
  }
  // What the certificate covers needs no claim, and this member may have lost the state that it stands for.
  const { accepted, logged: own, cid } = core.instance;
  if (cid > certified) {
    if (own !== undefined) logged.push({ cid, regency: own.regency, digest: own.digest });
    if (accepted !== undefined) pushClaim(core, claims, cid, accepted.digest, accepted);
  }
  for (const loose of [core.looseClaims, core.looseLogged]) {
    for (const looseCid of loose.keys()) if (looseCid <= certified) loose.delete(looseCid);
  }
  for (const [looseCid, claim] of core.looseClaims) {
    if (!claims.some((other) => other.cid === looseCid))
      pushClaim(core, claims, looseCid, claim.digest, claim);
  }
  for (const [looseCid, write] of core.looseLogged) {
    if (!logged.some((other) => other.cid === looseCid)) logged.push(write);
  }
  claims.sort((a, b) => a.cid - b.cid);
  logged.sort((a, b) => a.cid - b.cid);
  return {
    regency: core.regency,
    decided,
    claims: claims.slice(-MAX_CLAIMS),
    logged: logged.slice(-MAX_CLAIMS),
  };
}

function pushClaim(
  core: Core,
  claims: AcceptClaim[],
  cid: number,
  digest: Uint8Array,
  claim: { readonly regency: number; readonly writes: readonly MemberSignature[] },
): void {
  const statement = writeStatement(core.membership.digest, claim.regency, cid, digest);
  const writes: MemberSignature[] = [];
  // WRITE signatures were not checked when counted; those of correct members, at least f+1, are valid. That many
  // prove the claim, and a SYNC with the reports of all must fit one message.
  for (const write of claim.writes) {
    if (writes.length > core.membership.f) break;
    if (core.checker.signedBy(write.member, statement, write.signature)) writes.push(write);
  }
  claims.push({ cid, regency: claim.regency, digest, writes });
}

// ---- collecting and synchronising

export function onStopData(core: Core, from: number, message: Extract<Message, { type: "stopData" }>): void {
  let regency: number;
  try {
    regency = decodeStopDataBody(message.body).regency;
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    core.misbehaviour(from, "STOPDATA that is none");
    return;
  }
  if (regency > core.regency) {
    askAuthority(core, from);
    return;
  }
  if (regency < core.regency && !core.mutated("regencyNotBound")) return;
  if (!core.isLeader || core.phase !== "syncing" || core.collects.has(from)) return;
  const collect = { member: from, body: message.body, signature: message.signature };
  const report = checkCollect(core, collect);
  if (report === undefined) {
    core.misbehaviour(from, "STOPDATA that no correct member sends");
    return;
  }
  core.collects.set(from, { collect, report });
  trySync(core);
}

/** The report inside a collect, or undefined when a correct member cannot have made it. */
function checkCollect(core: Core, collect: Collect): StopDataBody | undefined {
  const statement = stopDataStatement(core.membership.digest, collect.body);
  if (!core.checker.signedBy(collect.member, statement, collect.signature)) return undefined;
  let body: StopDataBody;
  try {
    body = decodeStopDataBody(collect.body);
  } catch {
    return undefined;
  }
  // Bound to this regency: a report of another one says nothing about this one (W2).
  if (body.regency !== core.regency && !core.mutated("regencyNotBound")) return undefined;
  if (body.decided !== undefined && !core.checker.decision(body.decided)) return undefined;
  let below = body.decided?.cid ?? 0;
  for (const claim of body.claims) {
    if (claim.cid <= below || claim.regency >= core.regency) return undefined;
    if (!core.checker.claim(claim)) return undefined;
    below = claim.cid;
  }
  below = body.decided?.cid ?? 0;
  for (const { cid, regency } of body.logged) {
    if (cid <= below || regency < 1 || regency >= core.regency) return undefined;
    below = cid;
  }
  return body;
}

/** The leader: as soon as the reports at hand settle every open instance, tells everyone. */
function trySync(core: Core): void {
  if (core.phase !== "syncing" || core.collects.size < core.membership.quorum) return;
  // A leader that restarted in this regency may have sent a SYNC already; it hands over instead.
  if (core.burned.regency === core.regency || core.onProbation) return;
  const checked = [...core.collects.values()].sort((a, b) => a.collect.member - b.collect.member);
  const reports = checked.map(({ report }) => report);
  if (derive(core, reports) === undefined) return;
  const content = { authority: core.authority!, collects: checked.map(({ collect }) => collect) };
  const statement = syncStatement(core.membership.digest, encodeSyncContent(content));
  const sync: SyncBody = { ...content, signature: core.signer.sign(statement) };
  const message = encodeMessage({ type: "sync", sync });
  core.broadcastBytes(message, syncLane(message));
  acceptSync(core, sync, reports, message);
}

/** In a large cluster with much to report a SYNC fits no message among the votes. */
function syncLane(message: Uint8Array): "vote" | "bulk" {
  return message.length <= SYNC_AMONG_VOTES_SIZE_BYTES ? "vote" : "bulk";
}

/** What the reports settle, or undefined while they leave an instance open. */
function derive(
  core: Core,
  reports: readonly StopDataBody[],
): { highest: StopDataBody["decided"]; bindings: Map<number, BallotClaim> } | undefined {
  let highest: StopDataBody["decided"];
  const named = new Set<number>();
  for (const report of reports) {
    if (report.decided !== undefined && report.decided.cid > (highest?.cid ?? 0)) highest = report.decided;
    for (const { cid } of report.claims) named.add(cid);
    for (const { cid } of report.logged) named.add(cid);
  }
  const bindings = new Map<number, BallotClaim>();
  for (const cid of named) {
    if (cid <= (highest?.cid ?? 0)) continue;
    const said = reports.map(({ claims, logged }) => ({
      accepted: claimFor(claims, cid),
      logged: claimFor(logged, cid),
    }));
    const selection = selectForInstance(core.membership, said, core.options.mutation);
    if (selection.kind === "wait") return undefined;
    // Nothing follows from a free one for those above it: a report names the newest instances only (MAX_CLAIMS).
    if (selection.kind === "bound") bindings.set(cid, selection.claim);
  }
  return { highest, bindings };
}

function claimFor(claims: readonly LoggedWrite[], cid: number): BallotClaim | undefined {
  const claim = claims.find((candidate) => candidate.cid === cid);
  return claim && { regency: claim.regency, digestKey: toByteString(claim.digest) };
}

export function onSync(core: Core, from: number, sync: SyncBody): void {
  const { regency } = sync.authority;
  if (regency < core.regency || (regency === core.regency && core.phase === "normal")) return;
  const leader = core.membership.leaderOf(regency, core.isolated);
  const statement = syncStatement(core.membership.digest, encodeSyncContent(sync));
  if (!core.checker.signedBy(leader, statement, sync.signature)) {
    core.misbehaviour(from, "SYNC that the leader did not sign");
    return;
  }
  if (!core.checker.authority(sync.authority)) {
    core.misbehaviour(leader, "SYNC without authority");
    return;
  }
  if (regency > core.regency) installRegency(core, sync.authority);
  const members = new Set(sync.collects.map((collect) => collect.member));
  const reports = sync.collects.map((collect) => checkCollect(core, collect));
  const sound = members.size === sync.collects.length && members.size >= core.membership.quorum;
  if (!sound || reports.includes(undefined)) {
    core.misbehaviour(leader, "SYNC that no correct leader sends");
    core.accuse("unsound SYNC");
    return;
  }
  acceptSync(core, sync, reports as StopDataBody[], encodeMessage({ type: "sync", sync }));
}

function acceptSync(core: Core, sync: SyncBody, reports: readonly StopDataBody[], message: Uint8Array): void {
  const derived = derive(core, reports);
  if (derived === undefined) {
    core.misbehaviour(core.leader, "SYNC that leaves an instance open");
    core.accuse("SYNC leaves an instance open");
    return;
  }
  core.authority = sync.authority;
  core.authorityHash = core.hasher.hash(encodeAuthority(sync.authority));
  core.sync = { message, ...derived, lastBound: Math.max(0, ...derived.bindings.keys()) };
  core.phase = "normal";
  core.readyAtMs = core.monotonicMs;
  core.leaderHeardAtMs = core.monotonicMs;
}
