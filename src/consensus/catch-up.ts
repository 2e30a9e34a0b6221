/**
 * Learning what others have decided: missing values and bodies of the instance in progress, and runs of
 * decided instances from the log of others. Whole states are the replica's part (replica/state-sync.ts).
 */
import { equalBytes, toByteString } from "../base/bytes.ts";
import { DecodeError } from "../base/codec.ts";
import { SIGNATURE_SIZE_BYTES } from "../base/crypto.ts";
import { adopt } from "./agreement.ts";
import { type Bundle, decodeBundle } from "./bundle.ts";
import type { Core } from "./core.ts";
import {
  type DecidedInstance,
  type DecisionCertificate,
  MAX_BODIES_SIZE_BYTES,
  MAX_CLAIMS,
  type Message,
} from "./messages.ts";
import { decodeValue, type Value, valueDigest } from "./value.ts";
import { signAccept, signDecided } from "./votes.ts";

/** Bytes of values and bodies in one DECISIONS message, unless a single instance is larger. */
const DECISIONS_SIZE_BYTES = 1 << 20;
const DECISIONS_COUNT = 256;
/**
 * Uncertified decisions after which the newest certificate is checked without anybody asking: those of two certifying
 * instances, and a few more until the ACCEPTs of the second are here.
 */
const CERTIFY_LAG = 40;
/** A member this far behind asks at once. */
const FAR_BEHIND = 64;

/** Asks for what the instance in progress lacks, and for decisions when others are ahead. Called on ticks. */
export function askForMissing(core: Core): void {
  askForInstance(core);
  askForDecisions(core);
}

function askForInstance(core: Core): void {
  const { instance, monotonicMs: now, options } = core;
  if (instance.missingSinceMs === 0 || now - instance.missingSinceMs < options.fetchDelayMs) return;
  if (now - instance.fetchedAtMs < 2 * options.fetchDelayMs) return;
  instance.fetchedAtMs = now;
  const turn = instance.fetchTurn++;
  for (const digestKey of wantedValues(core)) {
    const kept = instance.values.get(digestKey);
    // The leader first, then everyone in turn: up to f of them may not answer.
    const target = memberInTurn(core, turn === 0 ? core.leader : core.leader + turn);
    if (kept === undefined) {
      const digest = Uint8Array.from(digestKey, (c) => c.charCodeAt(0));
      core.send(target, { type: "valueRequest", cid: instance.cid, digest });
      continue;
    }
    const digests = kept.value.bundles
      .filter((reference) => !core.instance.bodies.has(toByteString(reference.digest)))
      .map((reference) => reference.digest);
    if (digests.length > 0) core.send(target, { type: "bundleRequest", digests });
  }
}

/** Digests of values that a vote, a decision or a proposal of the own is waiting for. */
function wantedValues(core: Core): Set<string> {
  const wanted = core.endorsedValues();
  const proposal = core.instance.find(core.regency)?.proposal;
  if (proposal?.value !== undefined) wanted.add(proposal.digestKey);
  return wanted;
}

function memberInTurn(core: Core, turn: number): number {
  const { n } = core.membership;
  const target = turn % n;
  return target === core.self ? (target + 1) % n : target;
}

export function onValueRequest(
  core: Core,
  from: number,
  message: Extract<Message, { type: "valueRequest" }>,
): void {
  const value =
    message.cid === core.instance.cid
      ? core.instance.values.get(toByteString(message.digest))?.encoded
      : core.history.get(message.cid)?.encodedValue;
  if (value !== undefined) core.send(from, { type: "value", cid: message.cid, value });
}

export function onValue(core: Core, message: Extract<Message, { type: "value" }>): void {
  if (message.cid !== core.instance.cid) return;
  const digestKey = toByteString(valueDigest(core.hasher, message.value));
  // Only what a quorum or a leader change named: nobody can fill this member with values.
  if (wantedValues(core).has(digestKey)) core.keepEncodedValue(message.value);
}

export function onBundleRequest(
  core: Core,
  from: number,
  message: Extract<Message, { type: "bundleRequest" }>,
): void {
  const asked = new Set(message.digests.map((digest) => toByteString(digest)));
  let sizeBytes = 0;
  for (const digest of message.digests) {
    const key = toByteString(digest);
    if (!asked.delete(key)) continue;
    const bundle = core.instance.bodies.get(key) ?? core.pool.get(key) ?? core.history.recentBundle(key);
    if (bundle === undefined) continue;
    // No more than a value may name: a small request must not make this member fill its memory with answers.
    if (sizeBytes > 0 && sizeBytes + bundle.encoded.length > MAX_BODIES_SIZE_BYTES) return;
    sizeBytes += bundle.encoded.length;
    if (core.direct.has(bundle) && !core.suspects.has(bundle.origin) && !core.validBundle(bundle)) {
      // Taken unchecked over the origin's link. Whoever asks takes it only for a value that is endorsed.
      core.suspect(bundle.origin, "bad signature on a bundle");
    }
    core.send(from, { type: "bundle", bundle: asHandedOn(core, bundle) }, "bulk");
  }
}

/**
 * The bytes of a bundle for another member. Own bundles of before a restart come back from others, by a value that a
 * quorum stands for and perhaps with a signature that is none; whoever gets one from here takes it as its origin's.
 */
function asHandedOn(core: Core, bundle: Bundle): Uint8Array {
  const { origin, incarnation, digest, encoded } = bundle;
  if (origin !== core.self || incarnation === core.incarnation || core.validBundle(bundle)) return encoded;
  const signed = encoded.slice();
  signed.set(core.signer.sign(core.bundleStatement(digest)), signed.length - SIGNATURE_SIZE_BYTES);
  return signed;
}

// ---- runs of decisions

/** The instance that at least one correct other member has decided. */
export function decidedByOthers(core: Core): number {
  const others = core.peerDecided.filter((_, member) => member !== core.self);
  others.sort((a, b) => b - a);
  return Math.max(others[core.membership.f] ?? 0, core.sync?.highest?.cid ?? 0);
}

function askForDecisions(core: Core): void {
  const { monotonicMs: now, options } = core;
  const ahead = decidedByOthers(core);
  if (ahead <= core.lastDecided || core.diskIsBehind) {
    core.behindSinceMs = 0;
    return;
  }
  if (core.behindSinceMs === 0) core.behindSinceMs = now;
  const stalled = now - Math.max(core.behindSinceMs, core.lastDecidedAtMs) >= options.catchUpDelayMs;
  if (!stalled && ahead - core.lastDecided < FAR_BEHIND) return;
  if (now - core.decisionsAskedAtMs < options.resendIntervalMs) return;
  askDecisions(core);
}

/** Asks the next member that is ahead for decisions. */
export function askDecisions(core: Core): void {
  core.decisionsAskedAtMs = core.monotonicMs;
  const { n } = core.membership;
  for (let i = 0; i < n; i++) {
    const target = core.catchUpTurn++ % n;
    if (target === core.self) continue;
    const known = Math.max(core.peerDecided[target]!, core.sync?.highest?.cid ?? 0);
    if (known <= core.lastDecided) continue;
    core.send(target, { type: "decisionsRequest", from: core.lastDecided + 1 });
    return;
  }
}

/** Shows a member that is too far behind for the log the checkpoint that it can take over from here. */
export function offerCheckpoint(core: Core, to: number): void {
  if (core.offered !== undefined) core.send(to, { type: "checkpointCertificate", ...core.offered });
}

export function onDecisionsRequest(core: Core, from: number, first: number): void {
  if (first > core.lastDecided || !core.mayAnswer("decisions", from, 5)) return;
  if (first < core.history.first) {
    offerCheckpoint(core, from);
    // Executed, and the log did not survive: its digest is all that is known of it. The regency may be an older
    // one; in the present one no other value is possible either.
    if (first === core.lastDecided) {
      const { regency, lastDigest: digest } = core;
      core.send(from, { type: "decisionClaim", cid: first, regency, digest });
    }
    return;
  }
  let last = first;
  let sizeBytes = 0;
  for (; last <= core.lastDecided && last - first < DECISIONS_COUNT; last++) {
    const { encodedValue, bodies } = core.history.get(last)!;
    sizeBytes += bodies.reduce((sum, body) => sum + body.length, encodedValue.length);
    if (sizeBytes > DECISIONS_SIZE_BYTES && last > first) break;
  }
  // The certificate is of the last instance; values are chained to it. Walk back to one that is complete.
  for (let end = last - 1; end >= first; end--) {
    const certificate = core.history.certify(end);
    if (certificate === undefined) continue;
    sendDecisions(core, from, first, end, certificate);
    return;
  }
  // Large fast instances: the next certificate is beyond what one message holds, but the values lead there.
  for (let cid = last; cid <= core.lastDecided && cid - last < MAX_CLAIMS; cid++) {
    const certificate = core.history.certify(cid);
    if (certificate === undefined) continue;
    sendDecisions(core, from, first, last - 1, certificate);
    return;
  }
  completeCertificate(core);
  const { regency, digest } = core.history.get(first)!;
  core.send(from, { type: "decisionClaim", cid: first, regency, digest });
}

/** Sends the instances from `first` to `end`, and the values from there on to the certificate's. */
function sendDecisions(
  core: Core,
  to: number,
  first: number,
  end: number,
  certificate: DecisionCertificate,
): void {
  const instances: DecidedInstance[] = [];
  for (let cid = first; cid <= end; cid++) {
    const { encodedValue, bodies } = core.history.get(cid)!;
    instances.push({ value: encodedValue, bundles: bodies });
  }
  const links: Uint8Array[] = [];
  for (let cid = end + 1; cid <= certificate.cid; cid++) links.push(core.history.get(cid)!.encodedValue);
  core.send(to, { type: "decisions", first, instances, links, certificate }, "bulk");
}

/** A member says that it decided: of more than f that name one value, a correct one really did. */
export function onDecisionClaim(
  core: Core,
  from: number,
  message: Extract<Message, { type: "decisionClaim" }>,
): void {
  const { instance } = core;
  if (message.cid !== instance.cid || instance.learned !== undefined) return;
  const { regency, digest } = message;
  const digestKey = toByteString(digest);
  // An ACCEPT for the decision will name this ballot, so it must be one that can be: no later one than is known here,
  // and none in which this member has accepted something else.
  if (regency < 1 || regency > core.regency) return;
  const { accepted } = instance;
  if (accepted?.regency === regency && accepted.digestKey !== digestKey) return;
  instance.decisionClaims.set(from, { regency, digestKey });
  let same = 0;
  for (const claim of instance.decisionClaims.values()) if (claim.digestKey === digestKey) same += 1;
  const enough = core.membership.f + (core.mutated("decisionClaimOneFewer") ? 0 : 1);
  if (same >= enough) instance.learned = { regency, digest, digestKey };
}

/** Takes a run of decisions: checked against the one certificate, from its end backwards. */
export function onDecisions(
  core: Core,
  from: number,
  message: Extract<Message, { type: "decisions" }>,
): void {
  const { first, instances, links, certificate } = message;
  const last = first + instances.length - 1;
  if (last <= core.lastDecided || first > core.lastDecided + 1 || core.diskIsBehind) return;
  const run = checkRun(core, message);
  if (run === undefined) {
    core.misbehaviour(from, "run of decisions that is none");
    return;
  }
  // It is not of an instance that the history will hold now, and covers what is adopted all the same.
  if (links.length > 0 && certificate.cid > (core.knownDecision?.cid ?? 0)) core.knownDecision = certificate;
  for (let i = core.lastDecided + 1 - first; i < run.length; i++) {
    const { value, digest, bundles } = run[i]!;
    const isLast = links.length === 0 && i === run.length - 1;
    adopt(core, {
      cid: value.cid,
      regency: certificate.regency,
      digest,
      encodedValue: instances[i]!.value,
      value,
      bundles,
      accepts: new Array(core.membership.n).fill(undefined),
      claim: undefined,
      loggedIn: 0,
      certificate: isLast ? certificate : undefined,
    });
  }
  // More may be there; ask on without waiting for a tick, but for the disk: what waits for that lies in memory.
  core.whenDurable(core.previousSequence, () => {
    // That was the answer: whoever falls behind again need not wait as for one that was lost.
    core.decisionsAskedAtMs = 0;
    if (decidedByOthers(core) > core.lastDecided) askDecisions(core);
  });
}

interface CheckedInstance {
  readonly value: Value;
  readonly digest: Uint8Array;
  readonly bundles: readonly Bundle[];
}

function checkRun(
  core: Core,
  message: Extract<Message, { type: "decisions" }>,
): CheckedInstance[] | undefined {
  const { first, instances, links, certificate } = message;
  if (certificate.cid !== first + instances.length + links.length - 1) return undefined;
  const run: CheckedInstance[] = [];
  let expected = certificate.digest;
  try {
    for (const instance of instances) {
      const value = decodeValue(instance.value);
      const bundles = instance.bundles.map((bundle) =>
        decodeBundle(core.hasher, core.membership.digest, bundle),
      );
      if (bundles.length !== value.bundles.length) return undefined;
      if (!value.bundles.every((reference, i) => equalBytes(reference.digest, bundles[i]!.digest))) {
        return undefined;
      }
      run.push({ value, digest: valueDigest(core.hasher, instance.value), bundles });
    }
    for (let i = links.length - 1; i >= 0; i--) {
      const value = decodeValue(links[i]!);
      if (value.cid !== first + instances.length + i) return undefined;
      if (!equalBytes(valueDigest(core.hasher, links[i]!), expected)) return undefined;
      expected = value.previousDigest;
    }
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
  for (let i = run.length - 1; i >= 0; i--) {
    const { value, digest } = run[i]!;
    if (value.cid !== first + i || !equalBytes(digest, expected)) return undefined;
    expected = value.previousDigest;
    if (value.cid === core.lastDecided + 1 && !equalBytes(expected, core.lastDigest)) return undefined;
  }
  return core.mutated("runNotChecked") || core.checker.decision(certificate) ? run : undefined;
}

// ---- completing certificates

/**
 * Signs an ACCEPT for a certifying instance that was decided by the WRITEs of all, once the next one is decided: its
 * certificate covers those before it, too. Not at once, for a member that has not decided it would take the ACCEPT for
 * one of a member that has given up waiting; on ticks (`idle`) without a next one.
 */
export function signCertifying(core: Core, idle: boolean): void {
  const { lastDecided, history } = core;
  const cid = lastDecided - (lastDecided % core.options.certifyInstances);
  if (cid <= history.certified || (cid === lastDecided && !idle)) return;
  const entry = history.get(cid);
  if (entry === undefined || entry.loggedIn !== entry.regency || entry.accepts[core.self] !== undefined)
    return;
  const message = signDecided(core, cid);
  if (message !== undefined) core.broadcast(message);
}

/** Sees to it that certificates keep up with decisions, so that no leader change has much to report. */
export function keepCertified(core: Core): void {
  if (core.lastDecided - core.history.certified >= CERTIFY_LAG) {
    core.logCertificate();
    if (core.lastDecided - core.history.certified >= CERTIFY_LAG) completeCertificate(core);
  }
  // A member on probation votes again when there is a certificate, and that may be the one thing it waits for.
  const limit = core.probation?.limit;
  if (limit !== undefined && core.lastDecided >= limit.cid && core.history.covered < limit.cid) {
    completeCertificate(core);
  }
}

/**
 * Checks the certificate of the newest decision, and asks for ACCEPTs where it is short of a quorum: a fast
 * instance had none, or a signature was bad.
 */
function completeCertificate(core: Core): void {
  if (core.lastDecided === 0 || core.history.certify(core.lastDecided) !== undefined) return;
  if (core.history.get(core.lastDecided) === undefined) return;
  if (core.monotonicMs - core.certificateAskedAtMs < core.options.resendIntervalMs) return;
  core.certificateAskedAtMs = core.monotonicMs;
  signDecided(core, core.lastDecided);
  core.broadcast({ type: "acceptRequest", cid: core.lastDecided });
}

/** The own ACCEPT of the instance in progress, once it is on disk: it may be given again and again. */
function ownAccept(core: Core): Extract<Message, { type: "accept" }> | undefined {
  const { accepted, cid } = core.instance;
  if (accepted?.durable !== true) return undefined;
  return signAccept(core, cid, accepted.regency, accepted.digest).message;
}

export function onAcceptRequest(core: Core, from: number, cid: number): void {
  if (!core.mayAnswer("accept", from)) return;
  const message = cid === core.instance.cid ? ownAccept(core) : signDecided(core, cid);
  if (message !== undefined) core.send(from, message);
}
