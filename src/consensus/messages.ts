/**
 * What members say to each other, and its canonical bytes. The sender of a message is the peer at the other
 * end of the mutually authenticated link; a message that must convince beyond the link carries signatures
 * over the statements of statements.ts.
 */
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { DIGEST_SIZE_BYTES, SIGNATURE_SIZE_BYTES } from "../base/crypto.ts";
import { MAX_MEMBERS } from "./membership.ts";

/** Bundles that one value may name. */
export const MAX_BUNDLES_PER_VALUE = 512;
/**
 * Bytes of all bundles of one value, and so of each. Voters refuse more, or a faulty leader or origin could have decided
 * what fits no record of the log, or no message to a member that was away: an instance fits one DECISIONS together
 * with the values that lead from it to a certificate.
 */
export const MAX_BODIES_SIZE_BYTES = 2 << 20;
/** Bytes of one operation, which lies in a bundle. */
export const MAX_OPERATION_SIZE_BYTES = MAX_BODIES_SIZE_BYTES - 1024;
/** Bytes of one encoded value (value.ts), which nobody may outdo: values are kept before they are checked. */
export const MAX_VALUE_SIZE_BYTES = 52 + 49 * MAX_BUNDLES_PER_VALUE;
/** Operations that one bundle may hold. */
export const MAX_OPERATIONS_PER_BUNDLE = 4096;
/**
 * Instances that one STOPDATA may claim ACCEPTs for. A member does not vote further ahead of its newest
 * certificate than that (Core.mayWrite), so that no claim is ever left out.
 */
export const MAX_CLAIMS = 64;
/** Instances in one DECISIONS message. */
export const MAX_DECISIONS_PER_MESSAGE = 4096;
/** Bundles asked for in one message. */
export const MAX_BUNDLES_ASKED = MAX_BUNDLES_PER_VALUE;

/** A member's signature on a statement that the context names. */
export interface MemberSignature {
  readonly member: number;
  readonly signature: Uint8Array;
}

/** One ACCEPT inside a certificate. */
export interface AcceptSignature extends MemberSignature, ExecutionReport {}

/** A quorum of signed ACCEPTs for one ballot: the value is decided, and so is every one it chains to. */
export interface DecisionCertificate {
  readonly cid: number;
  readonly regency: number;
  readonly digest: Uint8Array;
  readonly accepts: readonly AcceptSignature[];
}

/** A quorum of signed STOPs: the leader of `regency` may lead. */
export interface AuthorityCertificate {
  readonly regency: number;
  readonly stops: readonly MemberSignature[];
}

/** A quorum of signed checkpoints with one root. */
export interface CheckpointCertificate {
  readonly cid: number;
  readonly root: Uint8Array;
  readonly signatures: readonly MemberSignature[];
}

/** What a member may start from: a checkpoint, and the decision of its instance. */
export interface CertifiedCheckpoint {
  readonly certificate: CheckpointCertificate;
  readonly decision: DecisionCertificate;
}

/** "I accepted `digest` in ballot (cid, regency)", worth something only with f+1 valid WRITE signatures. */
export interface AcceptClaim {
  readonly cid: number;
  readonly regency: number;
  readonly digest: Uint8Array;
  readonly writes: readonly MemberSignature[];
}

/** "My WRITE for `digest` in ballot (cid, regency) was on my disk before it left" (fast-path.ts). */
export interface LoggedWrite {
  readonly cid: number;
  readonly regency: number;
  readonly digest: Uint8Array;
}

/** How far the sender has executed, and the chained hash of that; 0 and zeros when it names none. */
export interface ExecutionReport {
  readonly executedCid: number;
  readonly executionHash: Uint8Array;
}

/** What a member reports when it enters a regency. `decided` is undefined before the first decision. */
export interface StopDataBody {
  readonly regency: number;
  readonly decided: DecisionCertificate | undefined;
  readonly claims: readonly AcceptClaim[];
  /** The last logged WRITE of each instance; the STOPDATA's own signature is all that stands behind it. */
  readonly logged: readonly LoggedWrite[];
}

/** A signed STOPDATA as a SYNC carries it. */
export interface Collect {
  readonly member: number;
  readonly body: Uint8Array;
  readonly signature: Uint8Array;
}

export interface SyncBody {
  readonly authority: AuthorityCertificate;
  readonly collects: readonly Collect[];
  /** The leader's, over the rest: without it any member could make a second valid SYNC for a regency. */
  readonly signature: Uint8Array;
}

/** One decided instance with its bodies, for a member that was away. */
export interface DecidedInstance {
  readonly value: Uint8Array;
  readonly bundles: readonly Uint8Array[];
}

export type Message =
  /** Encoded bundle (bundle.ts), from its origin or forwarded by anyone. */
  | { readonly type: "bundle"; readonly bundle: Uint8Array }
  | {
      readonly type: "propose";
      readonly regency: number;
      readonly cid: number;
      readonly value: Uint8Array;
      readonly authorityHash: Uint8Array;
      /** Whether WRITEs for it are to be logged, so that those of all members decide (fast-path.ts). */
      readonly fast: boolean;
      readonly signature: Uint8Array;
    }
  | {
      readonly type: "write";
      readonly regency: number;
      readonly cid: number;
      readonly digest: Uint8Array;
      readonly signature: Uint8Array;
      /**
       * Set when this WRITE was on the sender's disk before it left. Told to the receiver alone, over the link:
       * nobody else has to believe it, so that it is not signed.
       */
      readonly logged: ExecutionReport | undefined;
    }
  | ({
      readonly type: "accept";
      readonly regency: number;
      readonly cid: number;
      readonly digest: Uint8Array;
      readonly signature: Uint8Array;
    } & ExecutionReport)
  | { readonly type: "stop"; readonly regency: number; readonly signature: Uint8Array }
  | { readonly type: "stopData"; readonly body: Uint8Array; readonly signature: Uint8Array }
  | { readonly type: "sync"; readonly sync: SyncBody }
  | { readonly type: "authority"; readonly authority: AuthorityCertificate }
  /** Asks for the newest certificate of authority, and for the SYNC of that regency. */
  | { readonly type: "authorityRequest"; readonly regency: number; readonly wantSync: boolean }
  /** Alive; how far the sender is. */
  | { readonly type: "heartbeat"; readonly regency: number; readonly decided: number }
  | { readonly type: "bundleRequest"; readonly digests: readonly Uint8Array[] }
  | { readonly type: "valueRequest"; readonly cid: number; readonly digest: Uint8Array }
  | { readonly type: "value"; readonly cid: number; readonly value: Uint8Array }
  /** Asks for a signed ACCEPT of a decided instance, to complete its certificate. */
  | { readonly type: "acceptRequest"; readonly cid: number }
  /**
   * "I decided this", where the certificate lacks valid signatures: f+1 members that say so over their links
   * include a correct one.
   */
  | {
      readonly type: "decisionClaim";
      readonly cid: number;
      readonly regency: number;
      readonly digest: Uint8Array;
    }
  /** Asks for decided instances from `from` on. */
  | { readonly type: "decisionsRequest"; readonly from: number }
  /**
   * Consecutive instances; the certificate is of the last one, or of a later one that `links` lead to: the values,
   * without bodies, of the instances between. All are bound to it by their chain.
   */
  | {
      readonly type: "decisions";
      readonly first: number;
      readonly instances: readonly DecidedInstance[];
      readonly links: readonly Uint8Array[];
      readonly certificate: DecisionCertificate;
    }
  | {
      readonly type: "checkpoint";
      readonly cid: number;
      readonly root: Uint8Array;
      readonly signature: Uint8Array;
    }
  /** A stable checkpoint, and the certificate of the decision that it stands behind. */
  | {
      readonly type: "checkpointCertificate";
      readonly certificate: CheckpointCertificate;
      readonly decision: DecisionCertificate;
    }
  /** Asks how far acknowledged instances may go. */
  | { readonly type: "fence"; readonly nonce: number }
  | {
      readonly type: "fenceReply";
      readonly nonce: number;
      /** Highest instance that the sender has sent ACCEPT for, or decided. */
      readonly accepted: number;
      /** Highest regency that the sender has installed or signed a STOP for. */
      readonly regency: number;
    }
  /** State transfer: request and reply bytes belong to the store (store/state-transfer.ts). */
  | { readonly type: "stateRequest"; readonly cid: number; readonly request: Uint8Array }
  | {
      readonly type: "stateReply";
      readonly cid: number;
      readonly request: Uint8Array;
      readonly reply: Uint8Array;
    };

export type MessageType = Message["type"];

const TYPES: readonly MessageType[] = [
  "bundle",
  "propose",
  "write",
  "accept",
  "stop",
  "stopData",
  "sync",
  "authority",
  "authorityRequest",
  "heartbeat",
  "bundleRequest",
  "valueRequest",
  "value",
  "acceptRequest",
  "decisionsRequest",
  "decisions",
  "checkpoint",
  "checkpointCertificate",
  "fence",
  "fenceReply",
  "stateRequest",
  "stateReply",
  "decisionClaim",
];
const CODES = Object.fromEntries(TYPES.map((type, code) => [type, code])) as Record<MessageType, number>;

const scratch = new Writer(1024);

export function writeMemberSignature(item: MemberSignature, w: Writer): void {
  w.u8(item.member).raw(item.signature);
}

export function readMemberSignature(r: Reader): MemberSignature {
  return { member: r.u8(), signature: r.copy(SIGNATURE_SIZE_BYTES) };
}

export function writeAcceptSignature(accept: AcceptSignature, w: Writer): void {
  writeMemberSignature(accept, w);
  writeExecutionReport(accept, w);
}

function writeExecutionReport(report: ExecutionReport, w: Writer): void {
  w.u53(report.executedCid).raw(report.executionHash);
}

export function readAcceptSignature(r: Reader): AcceptSignature {
  return {
    member: r.u8(),
    signature: r.copy(SIGNATURE_SIZE_BYTES),
    executedCid: r.u53(),
    executionHash: r.copy(DIGEST_SIZE_BYTES),
  };
}

export function writeCertificate(certificate: DecisionCertificate, w: Writer): void {
  w.u53(certificate.cid).u53(certificate.regency).raw(certificate.digest);
  w.list(certificate.accepts, writeAcceptSignature);
}

export function readCertificate(r: Reader): DecisionCertificate {
  return {
    cid: r.u53(),
    regency: r.u53(),
    digest: r.copy(DIGEST_SIZE_BYTES),
    accepts: r.list(MAX_MEMBERS, readAcceptSignature),
  };
}

export function writeAuthority(authority: AuthorityCertificate, w: Writer): void {
  w.u53(authority.regency).list(authority.stops, writeMemberSignature);
}

export function readAuthority(r: Reader): AuthorityCertificate {
  return { regency: r.u53(), stops: r.list(MAX_MEMBERS, readMemberSignature) };
}

export function writeCheckpointCertificate(certificate: CheckpointCertificate, w: Writer): void {
  w.u53(certificate.cid).raw(certificate.root).list(certificate.signatures, writeMemberSignature);
}

export function readCheckpointCertificate(r: Reader): CheckpointCertificate {
  return {
    cid: r.u53(),
    root: r.copy(DIGEST_SIZE_BYTES),
    signatures: r.list(MAX_MEMBERS, readMemberSignature),
  };
}

function writeLoggedWrite({ cid, regency, digest }: LoggedWrite, w: Writer): void {
  w.u53(cid).u53(regency).raw(digest);
}

function readLoggedWrite(r: Reader): LoggedWrite {
  return { cid: r.u53(), regency: r.u53(), digest: r.copy(DIGEST_SIZE_BYTES) };
}

export function encodeStopDataBody(body: StopDataBody): Uint8Array {
  const w = scratch.u53(body.regency).boolean(body.decided !== undefined);
  if (body.decided !== undefined) writeCertificate(body.decided, w);
  w.list(body.claims, (claim) => {
    writeLoggedWrite(claim, w);
    w.list(claim.writes, writeMemberSignature);
  });
  w.list(body.logged, writeLoggedWrite);
  return w.finish();
}

/** Throws DecodeError. */
export function decodeStopDataBody(bytes: Uint8Array): StopDataBody {
  const r = new Reader(bytes);
  const body: StopDataBody = {
    regency: r.u53(),
    decided: r.boolean() ? readCertificate(r) : undefined,
    claims: r.list(MAX_CLAIMS, () => ({
      ...readLoggedWrite(r),
      writes: r.list(MAX_MEMBERS, readMemberSignature),
    })),
    logged: r.list(MAX_CLAIMS, readLoggedWrite),
  };
  r.end();
  return body;
}

function writeSyncContent(sync: Omit<SyncBody, "signature">, w: Writer): void {
  writeAuthority(sync.authority, w);
  w.list(sync.collects, (collect) => {
    w.u8(collect.member).bytes(collect.body).raw(collect.signature);
  });
}

/** What the leader signs of a SYNC. */
export function encodeSyncContent(sync: Omit<SyncBody, "signature">): Uint8Array {
  writeSyncContent(sync, scratch);
  return scratch.finish();
}

/** Canonical bytes of a certificate of authority; their hash rides in every PROPOSE of the regency. */
export function encodeAuthority(authority: AuthorityCertificate): Uint8Array {
  writeAuthority(authority, scratch);
  return scratch.finish();
}

/** The canonical bytes of a message. */
export function encodeMessage(message: Message): Uint8Array {
  const w = scratch.u8(CODES[message.type]);
  switch (message.type) {
    case "bundle":
      w.raw(message.bundle);
      break;
    case "propose":
      w.u53(message.regency).u53(message.cid).bytes(message.value);
      w.raw(message.authorityHash).boolean(message.fast).raw(message.signature);
      break;
    case "write":
      w.u53(message.regency).u53(message.cid).raw(message.digest).raw(message.signature);
      w.boolean(message.logged !== undefined);
      if (message.logged !== undefined) writeExecutionReport(message.logged, w);
      break;
    case "accept":
      w.u53(message.regency).u53(message.cid).raw(message.digest);
      writeExecutionReport(message, w);
      w.raw(message.signature);
      break;
    case "stop":
      w.u53(message.regency).raw(message.signature);
      break;
    case "stopData":
      w.bytes(message.body).raw(message.signature);
      break;
    case "sync":
      writeSyncContent(message.sync, w);
      w.raw(message.sync.signature);
      break;
    case "authority":
      writeAuthority(message.authority, w);
      break;
    case "authorityRequest":
      w.u53(message.regency).boolean(message.wantSync);
      break;
    case "heartbeat":
      w.u53(message.regency).u53(message.decided);
      break;
    case "bundleRequest":
      w.list(message.digests, (digest) => w.raw(digest));
      break;
    case "valueRequest":
      w.u53(message.cid).raw(message.digest);
      break;
    case "value":
      w.u53(message.cid).bytes(message.value);
      break;
    case "acceptRequest":
      w.u53(message.cid);
      break;
    case "decisionsRequest":
      w.u53(message.from);
      break;
    case "decisionClaim":
      w.u53(message.cid).u53(message.regency).raw(message.digest);
      break;
    case "decisions":
      w.u53(message.first).list(message.instances, (instance) => {
        w.bytes(instance.value).list(instance.bundles, (bundle) => w.bytes(bundle));
      });
      w.list(message.links, (value) => w.bytes(value));
      writeCertificate(message.certificate, w);
      break;
    case "checkpoint":
      w.u53(message.cid).raw(message.root).raw(message.signature);
      break;
    case "checkpointCertificate":
      writeCheckpointCertificate(message.certificate, w);
      writeCertificate(message.decision, w);
      break;
    case "fence":
      w.u53(message.nonce);
      break;
    case "fenceReply":
      w.u53(message.nonce).u53(message.accepted).u53(message.regency);
      break;
    case "stateRequest":
      w.u53(message.cid).bytes(message.request);
      break;
    case "stateReply":
      w.u53(message.cid).bytes(message.request).bytes(message.reply);
      break;
  }
  return w.finishShared();
}

/**
 * The message that the bytes encode. What members keep (votes, values, bodies) is copied, so that a kept
 * signature does not hold on to a whole network buffer. Throws DecodeError.
 */
export function decodeMessage(bytes: Uint8Array): Message {
  const r = new Reader(bytes);
  const message = readMessage(TYPES[r.u8()], r);
  r.end();
  return message;
}

function readMessage(type: MessageType | undefined, r: Reader): Message {
  switch (type) {
    case "bundle":
      return { type, bundle: r.copy(r.remaining) };
    case "propose":
      return {
        type,
        regency: r.u53(),
        cid: r.u53(),
        value: r.copiedBytes(MAX_VALUE_SIZE_BYTES),
        authorityHash: r.copy(DIGEST_SIZE_BYTES),
        fast: r.boolean(),
        signature: r.copy(SIGNATURE_SIZE_BYTES),
      };
    case "write":
      return {
        type,
        regency: r.u53(),
        cid: r.u53(),
        digest: r.copy(DIGEST_SIZE_BYTES),
        signature: r.copy(SIGNATURE_SIZE_BYTES),
        logged: r.boolean() ? { executedCid: r.u53(), executionHash: r.copy(DIGEST_SIZE_BYTES) } : undefined,
      };
    case "accept":
      return {
        type,
        regency: r.u53(),
        cid: r.u53(),
        digest: r.copy(DIGEST_SIZE_BYTES),
        executedCid: r.u53(),
        executionHash: r.copy(DIGEST_SIZE_BYTES),
        signature: r.copy(SIGNATURE_SIZE_BYTES),
      };
    case "stop":
      return { type, regency: r.u53(), signature: r.copy(SIGNATURE_SIZE_BYTES) };
    case "stopData":
      return { type, body: r.copiedBytes(), signature: r.copy(SIGNATURE_SIZE_BYTES) };
    case "sync":
      return {
        type,
        sync: {
          authority: readAuthority(r),
          collects: r.list(MAX_MEMBERS, () => ({
            member: r.u8(),
            body: r.copiedBytes(),
            signature: r.copy(SIGNATURE_SIZE_BYTES),
          })),
          signature: r.copy(SIGNATURE_SIZE_BYTES),
        },
      };
    case "authority":
      return { type, authority: readAuthority(r) };
    case "authorityRequest":
      return { type, regency: r.u53(), wantSync: r.boolean() };
    case "heartbeat":
      return { type, regency: r.u53(), decided: r.u53() };
    case "bundleRequest":
      return { type, digests: r.list(MAX_BUNDLES_ASKED, () => r.copy(DIGEST_SIZE_BYTES)) };
    case "valueRequest":
      return { type, cid: r.u53(), digest: r.copy(DIGEST_SIZE_BYTES) };
    case "value":
      return { type, cid: r.u53(), value: r.copiedBytes(MAX_VALUE_SIZE_BYTES) };
    case "acceptRequest":
      return { type, cid: r.u53() };
    case "decisionsRequest":
      return { type, from: r.u53() };
    case "decisionClaim":
      return { type, cid: r.u53(), regency: r.u53(), digest: r.copy(DIGEST_SIZE_BYTES) };
    case "decisions":
      return {
        type,
        first: r.u53(),
        instances: r.list(MAX_DECISIONS_PER_MESSAGE, () => ({
          value: r.copiedBytes(MAX_VALUE_SIZE_BYTES),
          bundles: r.list(MAX_BUNDLES_PER_VALUE, () => r.copiedBytes()),
        })),
        links: r.list(MAX_CLAIMS, () => r.copiedBytes(MAX_VALUE_SIZE_BYTES)),
        certificate: readCertificate(r),
      };
    case "checkpoint":
      return { type, cid: r.u53(), root: r.copy(DIGEST_SIZE_BYTES), signature: r.copy(SIGNATURE_SIZE_BYTES) };
    case "checkpointCertificate":
      return { type, certificate: readCheckpointCertificate(r), decision: readCertificate(r) };
    case "fence":
      return { type, nonce: r.u53() };
    case "fenceReply":
      return { type, nonce: r.u53(), accepted: r.u53(), regency: r.u53() };
    case "stateRequest":
      return { type, cid: r.u53(), request: r.copiedBytes() };
    case "stateReply":
      return { type, cid: r.u53(), request: r.copiedBytes(), reply: r.copiedBytes() };
    case undefined:
      throw new DecodeError("unknown message type");
  }
}
