/**
 * Start: what the log and the executed state say, put together so that every promise of before still holds.
 */
import { equalBytes, toByteString } from "../base/bytes.ts";
import { Reader, Writer } from "../base/codec.ts";
import { DIGEST_SIZE_BYTES } from "../base/crypto.ts";
import { install } from "./agreement.ts";
import { decodeBundle } from "./bundle.ts";
import type { Core } from "./core.ts";
import type { DecidedEntry } from "./decision-history.ts";
import { setRegency } from "./leader-change.ts";
import { decodeLogEntry, type InstanceBody, type LogEntry } from "./log-records.ts";
import type { AcceptSignature, CertifiedCheckpoint, DecisionCertificate } from "./messages.ts";
import { decodeValue } from "./value.ts";

/** How far the executed state goes, as it is kept beside it, in the same unit. */
export interface AppliedPosition {
  readonly cid: number;
  readonly digest: Uint8Array;
  readonly timestampMs: number;
  /** Encoded origin table. */
  readonly table: Uint8Array;
  readonly executionHash: Uint8Array;
}

const scratch = new Writer(512);

export function encodeAppliedPosition(position: AppliedPosition): Uint8Array {
  return scratch
    .u53(position.cid)
    .raw(position.digest)
    .u53(position.timestampMs)
    .raw(position.executionHash)
    .bytes(position.table)
    .finishShared();
}

/** Throws DecodeError. */
export function decodeAppliedPosition(bytes: Uint8Array): AppliedPosition {
  const r = new Reader(bytes);
  const position = {
    cid: r.u53(),
    digest: r.copy(DIGEST_SIZE_BYTES),
    timestampMs: r.u53(),
    executionHash: r.copy(DIGEST_SIZE_BYTES),
    table: r.bytes().slice(),
  };
  r.end();
  return position;
}

/**
 * The first thing of every start, before any vote: what was found is on disk for good. A decision may have
 * stood in the executed state alone, and a fresh member's first WRITE must find a log that is not fresh.
 */
export function announceStart(core: Core): void {
  core.previousSequence = core.appendState();
  core.regencySequence = core.previousSequence;
}

type WriteEntry = Extract<LogEntry, { type: "write" }>;
type AcceptEntry = Extract<LogEntry, { type: "accept" }>;
type DecisionEntry = Extract<LogEntry, { type: "decision" }>;

interface LogContent {
  /** Own logged WRITEs by instance, newest regency last. */
  readonly writes: Map<number, WriteEntry[]>;
  /** Own ACCEPTs by instance, newest regency last. */
  readonly accepts: Map<number, AcceptEntry[]>;
  readonly decisions: Map<number, DecisionEntry>;
  readonly bodies: Map<string, InstanceBody>;
  stopData: Extract<LogEntry, { type: "stopData" }> | undefined;
  state: Extract<LogEntry, { type: "state" }> | undefined;
  empty: boolean;
}

export interface Recovered {
  readonly records: Iterable<{ readonly sequence: number; readonly record: Uint8Array }>;
  readonly nextSequence: number;
  readonly state: "clean" | "uncertain" | "fresh" | "lost";
}

/**
 * Brings the core to where it was. Decisions above `applied` are handed to the application again. `kept` is the
 * checkpoint whose state this member can hand out: older than the log's where a crash has taken the newest, and
 * newer where the log lost its end.
 */
export function recover(
  core: Core,
  log: Recovered,
  applied: AppliedPosition | undefined,
  kept: CertifiedCheckpoint | undefined,
): void {
  const content = readLog(core, log);
  core.nextSequence = log.nextSequence;
  core.durableSequence = log.nextSequence - 1;
  core.checkpoint = content.state?.checkpoint;
  core.checkpointDecision = content.state?.decision;
  core.offered = kept;
  if (kept !== undefined && kept.certificate.cid > (core.checkpoint?.cid ?? 0)) {
    core.checkpoint = kept.certificate;
    core.checkpointDecision = kept.decision;
  }
  if (applied !== undefined) {
    core.lastDecided = applied.cid;
    core.lastDigest = applied.digest;
    core.lastTimestampMs = applied.timestampMs;
    if (!core.mutated("dedupNotReplicated")) core.table.read(new Reader(applied.table));
  }
  restoreHistory(core, content);
  core.nextInstance();
  replayDecisions(core, content);
  core.knownDecision = newestInLog(core, content);
  restoreClaims(core, content);
  if (content.stopData?.regency === core.regency) {
    const { regency, body, signature } = content.stopData;
    core.ownStopData = { regency, body, signature };
  }
  core.decidedInRegency = true;
  if (log.state === "fresh") return;
  // The ballots in which a WRITE or PROPOSE may be forgotten: neither is synced (design 4, rule b).
  const lastKnown = Math.max(
    core.lastDecided,
    content.state?.lastDecided ?? 0,
    ...content.writes.keys(),
    ...content.accepts.keys(),
    ...content.decisions.keys(),
  );
  core.burned = { regency: core.regency, upToCid: lastKnown + 1 };
  core.knownAtStart = lastKnown;
  if (log.state !== "clean" || content.state?.onProbation) core.probation = { limit: undefined };
  if (core.isLeader) core.accuse("this leader restarted and hands over");
}

function readLog(core: Core, log: Recovered): LogContent {
  const content: LogContent = {
    writes: new Map(),
    accepts: new Map(),
    decisions: new Map(),
    bodies: new Map(),
    stopData: undefined,
    state: undefined,
    empty: true,
  };
  const keep = (cid: number, digest: Uint8Array, body: InstanceBody | undefined, sequence: number) => {
    if (body !== undefined) content.bodies.set(`${cid}:${toByteString(digest)}`, body);
    core.noteRecord(cid, sequence);
  };
  const enter = (authority: { readonly regency: number } & Parameters<typeof setRegency>[1]) => {
    if (authority.regency > core.regency) setRegency(core, authority);
  };
  for (const { sequence, record } of log.records) {
    const entry = decodeLogEntry(record);
    content.empty = false;
    switch (entry.type) {
      case "write":
        append(content.writes, entry);
        keep(entry.cid, entry.digest, entry.body, sequence);
        break;
      case "accept":
        append(content.accepts, entry);
        keep(entry.cid, entry.digest, entry.body, sequence);
        break;
      case "decision": {
        const { cid, digest } = entry.certificate;
        content.decisions.set(cid, entry);
        keep(cid, digest, entry.body, sequence);
        break;
      }
      case "regency":
        enter(entry.authority);
        break;
      case "stop":
        core.stopTarget = Math.max(core.stopTarget, entry.regency);
        break;
      case "stopData":
        content.stopData = entry;
        break;
      case "state":
        if (entry.authority !== undefined) enter(entry.authority);
        core.stopTarget = Math.max(core.stopTarget, entry.stopped);
        content.state = entry;
        break;
    }
  }
  return content;
}

function append<T extends { readonly cid: number }>(byInstance: Map<number, T[]>, entry: T): void {
  const before = byInstance.get(entry.cid);
  if (before === undefined) byInstance.set(entry.cid, [entry]);
  else before.push(entry);
}

/** The decided instance `cid` with this digest, as far as the log holds it. */
function entryOf(core: Core, content: LogContent, cid: number, digest: Uint8Array): DecidedEntry | undefined {
  const body = content.bodies.get(`${cid}:${toByteString(digest)}`);
  if (body === undefined) return undefined;
  const stable = core.checkpointDecision;
  // The checkpoint's decision was kept beside the state: the log may have lost its own record of it since.
  const certificate = stable?.cid === cid && equalBytes(stable.digest, digest) ? stable : undefined;
  const decision = certificate ?? content.decisions.get(cid)?.certificate;
  const accepts: (AcceptSignature | undefined)[] = new Array(core.membership.n).fill(undefined);
  for (const accept of decision?.accepts ?? []) accepts[accept.member] = accept;
  const own = content.accepts.get(cid)?.findLast((accept) => equalBytes(accept.digest, digest));
  const logged = content.writes.get(cid)?.findLast((write) => equalBytes(write.digest, digest));
  return {
    cid,
    regency: decision?.regency ?? own?.regency ?? logged?.regency ?? core.regency,
    digest,
    encodedValue: body.value,
    value: decodeValue(body.value),
    bundles: body.bundles.map((bundle) => decodeBundle(core.hasher, core.membership.digest, bundle)),
    accepts,
    claim: own && { regency: own.regency, writes: own.writes },
    loggedIn: logged?.regency ?? 0,
    certificate,
  };
}

/** Instances that are executed already, as far back as the log holds them without a gap. */
function restoreHistory(core: Core, content: LogContent): void {
  const entries: DecidedEntry[] = [];
  let digest = core.lastDigest;
  let cid = core.lastDecided;
  for (; cid > 0; cid--) {
    const entry = entryOf(core, content, cid, digest);
    if (entry === undefined) break;
    entries.push(entry);
    digest = entry.value.previousDigest;
  }
  const decision = core.checkpointDecision;
  core.history.reset(cid, decision !== undefined && decision.cid === cid ? decision : undefined);
  for (const entry of entries.reverse()) core.history.add(entry);
}

/**
 * The newest decision of the log with a full certificate, for a log whose newest records a crash took while the
 * executed state survived: what it certifies must not be reported as claims without end (MAX_CLAIMS).
 */
function newestInLog(core: Core, content: LogContent): DecisionCertificate | undefined {
  const newestFirst = [...content.decisions.keys()].sort((a, b) => b - a);
  for (const cid of newestFirst) {
    if (cid <= core.history.covered) return undefined;
    const { certificate } = content.decisions.get(cid)!;
    const accepts = core.checker.validAccepts(certificate);
    if (accepts.length >= core.membership.quorum) return { ...certificate, accepts };
  }
  return undefined;
}

/** Decisions that the log holds and the executed state does not. */
function replayDecisions(core: Core, content: LogContent): void {
  for (;;) {
    const cid = core.lastDecided + 1;
    const decision = content.decisions.get(cid);
    const entry = decision && entryOf(core, content, cid, decision.certificate.digest);
    if (entry === undefined || !equalBytes(entry.value.previousDigest, core.lastDigest)) return;
    install(core, entry);
  }
}

/**
 * Own ACCEPTs and logged WRITEs that no certificate covers yet: they must be reported in every leader change to
 * come.
 */
function restoreClaims(core: Core, content: LogContent): void {
  const { instance } = core;
  const certified = Math.max(core.history.newestCertificate()?.cid ?? 0, core.knownDecision?.cid ?? 0);
  const restore = <T extends WriteEntry | AcceptEntry>(
    votes: ReadonlyMap<number, readonly T[]>,
    loose: (vote: T) => void,
    own: (vote: T, digestKey: string) => void,
  ) => {
    for (const vote of newestOpen(core, votes, certified)) {
      if (vote.cid !== instance.cid) {
        loose(vote);
        continue;
      }
      const digestKey = toByteString(vote.digest);
      instance.hasPromised = true;
      own(vote, digestKey);
      restoreBody(core, content, digestKey);
    }
  };
  const onDisk = { sequence: 0, durable: true };
  if (!core.mutated("loggedForgotten")) {
    restore(
      content.writes,
      ({ cid, regency, digest }) => core.looseLogged.set(cid, { cid, regency, digest }),
      ({ regency, digest }, digestKey) => {
        instance.logged = { regency, digest, digestKey, ...onDisk, signature: undefined };
      },
    );
  }
  restore(
    content.accepts,
    ({ cid, regency, digest, writes }) => core.looseClaims.set(cid, { cid, regency, digest, writes }),
    ({ regency, digest, writes }, digestKey) => {
      instance.accepted = { regency, digest, digestKey, writes, ...onDisk };
    },
  );
}

/** The newest vote of each instance that is neither certified nor decided as voted. */
function* newestOpen<T extends WriteEntry | AcceptEntry>(
  core: Core,
  votes: ReadonlyMap<number, readonly T[]>,
  certified: number,
): Iterable<T> {
  for (const [cid, ofInstance] of votes) {
    if (cid <= certified) continue;
    const newest = ofInstance.reduce((a, b) => (b.regency >= a.regency ? b : a));
    const decided = core.history.get(cid);
    if (decided === undefined || !equalBytes(decided.digest, newest.digest)) yield newest;
  }
}

/** Gives the instance in progress the value that this member voted for, with its bodies. */
function restoreBody(core: Core, content: LogContent, digestKey: string): void {
  const { instance } = core;
  const body = content.bodies.get(`${instance.cid}:${digestKey}`);
  if (body === undefined) return;
  core.keepEncodedValue(body.value);
  instance.bodyLogged = digestKey;
  for (const encoded of body.bundles) {
    core.keepBundle(decodeBundle(core.hasher, core.membership.digest, encoded));
  }
}
