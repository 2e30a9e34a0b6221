/**
 * Messages and log records in a few words, one line each: for traces of the simulator and for the golden
 * transcripts of protocol runs.
 */
import { toHex } from "../base/bytes.ts";
import { decodeLogEntry, type InstanceBody } from "./log-records.ts";
import {
  type DecisionCertificate,
  decodeMessage,
  decodeStopDataBody,
  type LoggedWrite,
  type MemberSignature,
  type Message,
} from "./messages.ts";
import { decodeValue } from "./value.ts";

/** A message as it stands on the wire; never throws. */
export function describeBytes(bytes: Uint8Array): string {
  try {
    return describeMessage(decodeMessage(bytes));
  } catch {
    return `${bytes.length} bytes that are no message`;
  }
}

/** The first bytes of a digest, enough to tell two apart. */
export function shortDigest(digest: Uint8Array): string {
  return toHex(digest.subarray(0, 4));
}

/** A message with its ballot, instance and digest, as far as it has them. */
export function describeMessage(message: Message): string {
  switch (message.type) {
    case "propose":
      return `propose${message.fast ? " fast" : ""} r${message.regency} c${message.cid} ${describeValue(message.value)}`;
    case "write":
      return `write${message.logged === undefined ? "" : " logged"} r${message.regency} c${message.cid} ${shortDigest(message.digest)}`;
    case "accept":
    case "decisionClaim":
      return `${message.type} r${message.regency} c${message.cid} ${shortDigest(message.digest)}`;
    case "stop":
    case "authorityRequest":
      return `${message.type} r${message.regency}`;
    case "stopData":
      return `stopData ${describeStopData(message.body)}`;
    case "sync": {
      const collects = message.sync.collects.map(({ member, body }) => `${member}:${describeStopData(body)}`);
      return `sync r${message.sync.authority.regency} {${collects.join("; ")}}`;
    }
    case "authority":
      return `authority r${message.authority.regency} of ${signers(message.authority.stops)}`;
    case "heartbeat":
      return `heartbeat r${message.regency} decided ${message.decided}`;
    case "valueRequest":
      return `valueRequest c${message.cid} ${shortDigest(message.digest)}`;
    case "value":
    case "acceptRequest":
    case "checkpoint":
    case "stateRequest":
      return `${message.type} c${message.cid}`;
    case "stateReply":
      return `stateReply c${message.cid} (${message.reply.length} bytes)`;
    case "decisionsRequest":
      return `decisionsRequest from c${message.from}`;
    case "decisions":
      return `decisions c${message.first}+${message.instances.length}${message.links.length > 0 ? ` and ${message.links.length} links` : ""}, certificate ${describeCertificate(message.certificate)}`;
    case "checkpointCertificate":
      return `checkpointCertificate c${message.certificate.cid} of ${signers(message.certificate.signatures)}`;
    case "bundle":
      return `bundle (${message.bundle.length} bytes) of ${message.bundle[0]}`;
    case "bundleRequest":
      return `bundleRequest of ${message.digests.length}`;
    case "fence":
      return `fence ${message.nonce}`;
    case "fenceReply":
      return `fenceReply ${message.nonce} accepted ${message.accepted} r${message.regency}`;
  }
}

/** A record of the log; never throws. */
export function describeRecord(record: Uint8Array): string {
  try {
    const entry = decodeLogEntry(record);
    switch (entry.type) {
      case "accept": {
        const { cid, regency, digest, writes, body } = entry;
        return `accept r${regency} c${cid} ${shortDigest(digest)} writes of ${signers(writes)}${withBody(body)}`;
      }
      case "write": {
        const { cid, regency, digest, body } = entry;
        return `write r${regency} c${cid} ${shortDigest(digest)}${withBody(body)}`;
      }
      case "decision":
        return `decision ${describeCertificate(entry.certificate)}${withBody(entry.body)}`;
      case "regency":
        return `regency r${entry.authority.regency} of ${signers(entry.authority.stops)}`;
      case "stop":
        return `stop r${entry.regency}`;
      case "stopData":
        return `stopData ${describeStopData(entry.body)}`;
      case "state": {
        const { lastDecided, authority, stopped, checkpoint, onProbation } = entry;
        const regency = `r${authority?.regency ?? 1}`;
        const probation = onProbation ? ", on probation" : "";
        return `state ${regency} stopped ${stopped} decided ${lastDecided} checkpoint ${checkpoint?.cid ?? 0}${probation}`;
      }
    }
  } catch {
    return `${record.length} bytes that are no record`;
  }
}

function withBody(body: InstanceBody | undefined): string {
  return body === undefined ? "" : ` body of ${body.bundles.length}`;
}

function signers(signatures: readonly MemberSignature[]): string {
  return `{${signatures.map(({ member }) => member).join(" ")}}`;
}

function describeValue(encoded: Uint8Array): string {
  try {
    const bundles = decodeValue(encoded).bundles.map(
      ({ origin, incarnation, seq }) => `${origin}/${incarnation}/${seq}`,
    );
    return `[${bundles.join(" ")}]`;
  } catch {
    return `(${encoded.length} bytes that are no value)`;
  }
}

function describeCertificate(certificate: DecisionCertificate): string {
  const { cid, regency, digest, accepts } = certificate;
  return `r${regency} c${cid} ${shortDigest(digest)} of ${signers(accepts)}`;
}

function describeClaim(claim: LoggedWrite): string {
  return `c${claim.cid}@r${claim.regency}=${shortDigest(claim.digest)}`;
}

function describeStopData(bytes: Uint8Array): string {
  try {
    const body = decodeStopDataBody(bytes);
    const logged = body.logged.length > 0 ? ` logged [${body.logged.map(describeClaim).join(" ")}]` : "";
    return `r${body.regency} decided ${body.decided?.cid ?? 0} claims [${body.claims.map(describeClaim).join(" ")}]${logged}`;
  } catch {
    return "garbled";
  }
}
