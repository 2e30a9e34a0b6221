/** Inputs and messages in a few words, for traces. */
import { toHex } from "../base/bytes.ts";
import { decodeMessage, decodeStopDataBody, type Message } from "../consensus/messages.ts";
import type { ReplicaInput } from "../replica/contract.ts";

export function describeInput(input: ReplicaInput): string {
  switch (input.type) {
    case "message":
      return `<- ${input.from} ${describeBytes(input.bytes)}`;
    case "durable":
      return `durable ${input.sequence}`;
    case "submit":
      return `submit ${input.id} ${input.operation.type}`;
    case "fence":
      return `fence ${input.id}`;
    case "linkUp":
    case "linkDown":
      return `${input.type} ${input.peer}`;
    default:
      return input.type;
  }
}

/** A message as it stands on the wire. */
export function describeBytes(bytes: Uint8Array): string {
  try {
    return describeMessage(decodeMessage(bytes));
  } catch {
    return `${bytes.length} bytes that are no message`;
  }
}

function short(digest: Uint8Array): string {
  return toHex(digest.subarray(0, 4));
}

function describeMessage(message: Message): string {
  switch (message.type) {
    case "propose":
      return `propose r${message.regency} c${message.cid} (${message.value.length} bytes)`;
    case "write":
    case "accept":
      return `${message.type} r${message.regency} c${message.cid} ${short(message.digest)}`;
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
      return `authority r${message.authority.regency}`;
    case "heartbeat":
      return `heartbeat r${message.regency} decided ${message.decided}`;
    case "valueRequest":
    case "value":
    case "acceptRequest":
    case "checkpoint":
    case "stateRequest":
    case "stateReply":
      return `${message.type} c${message.cid}`;
    case "decisionsRequest":
      return `decisionsRequest from c${message.from}`;
    case "decisions":
      return `decisions c${message.first}+${message.instances.length}, certificate c${message.certificate.cid}`;
    case "checkpointCertificate":
      return `checkpointCertificate c${message.certificate.cid}`;
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

function describeStopData(bytes: Uint8Array): string {
  try {
    const body = decodeStopDataBody(bytes);
    const claims = body.claims.map((claim) => `c${claim.cid}@r${claim.regency}=${short(claim.digest)}`);
    return `r${body.regency} decided ${body.decided?.cid ?? 0} claims [${claims.join(" ")}]`;
  } catch {
    return "garbled";
  }
}
