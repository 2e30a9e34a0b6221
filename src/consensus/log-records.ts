/**
 * What the core keeps in the log, in canonical bytes. The rules of what must be on disk before what leaves
 * stand where the records are appended (agreement.ts, leader-change.ts).
 */
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { DIGEST_SIZE_BYTES, SIGNATURE_SIZE_BYTES } from "../base/crypto.ts";
import { MAX_MEMBERS } from "./membership.ts";
import {
  type AuthorityCertificate,
  type CheckpointCertificate,
  type DecisionCertificate,
  MAX_BUNDLES_PER_VALUE,
  type MemberSignature,
  readAuthority,
  readCertificate,
  readCheckpointCertificate,
  readMemberSignature,
  writeAuthority,
  writeCertificate,
  writeCheckpointCertificate,
  writeMemberSignature,
} from "./messages.ts";

/** The bodies of an instance: its value and the encoded bundles that the value names, in its order. */
export interface InstanceBody {
  readonly value: Uint8Array;
  readonly bundles: readonly Uint8Array[];
}

export type LogEntry =
  /** Own ACCEPT with the WRITEs behind it; `body` unless an earlier record of the instance holds it. */
  | {
      readonly type: "accept";
      readonly cid: number;
      readonly regency: number;
      readonly digest: Uint8Array;
      readonly writes: readonly MemberSignature[];
      readonly body: InstanceBody | undefined;
    }
  /** Own WRITE of a fast instance; the record that stands behind it as an ACCEPT's behind that. */
  | {
      readonly type: "write";
      readonly cid: number;
      readonly regency: number;
      readonly digest: Uint8Array;
      readonly body: InstanceBody | undefined;
    }
  /** A decision; `accepts` as received, unchecked. `body` unless an earlier record of the same digest holds it. */
  | {
      readonly type: "decision";
      readonly certificate: DecisionCertificate;
      readonly body: InstanceBody | undefined;
    }
  | { readonly type: "regency"; readonly authority: AuthorityCertificate }
  | { readonly type: "stop"; readonly regency: number }
  | {
      readonly type: "stopData";
      readonly regency: number;
      readonly body: Uint8Array;
      readonly signature: Uint8Array;
    }
  /** What must outlive the cut of the log at a stable checkpoint; also written at every start. */
  | {
      readonly type: "state";
      /** Highest instance that the member knew of when it was written, in any of its lives. */
      readonly lastDecided: number;
      /** Undefined in regency 1, which needs no certificate. */
      readonly authority: AuthorityCertificate | undefined;
      /** Highest regency that this member signed a STOP for; 0 for none. */
      readonly stopped: number;
      /** Whether this member may have forgotten promises (probe.ts): true again after every restart until then. */
      readonly onProbation: boolean;
      readonly checkpoint: CheckpointCertificate | undefined;
      readonly decision: DecisionCertificate | undefined;
    };

const CODES = { accept: 1, decision: 2, regency: 3, stop: 4, stopData: 5, state: 6, write: 7 } as const;

const scratch = new Writer(4096);

function writeBody(body: InstanceBody | undefined, w: Writer): void {
  w.boolean(body !== undefined);
  if (body !== undefined) w.bytes(body.value).list(body.bundles, (bundle) => w.bytes(bundle));
}

function readBody(r: Reader): InstanceBody | undefined {
  if (!r.boolean()) return undefined;
  return { value: r.bytes().slice(), bundles: r.list(MAX_BUNDLES_PER_VALUE, () => r.bytes().slice()) };
}

export function encodeLogEntry(entry: LogEntry): Uint8Array {
  const w = scratch.u8(CODES[entry.type]);
  switch (entry.type) {
    case "accept":
      w.u53(entry.cid).u53(entry.regency).raw(entry.digest).list(entry.writes, writeMemberSignature);
      writeBody(entry.body, w);
      break;
    case "write":
      w.u53(entry.cid).u53(entry.regency).raw(entry.digest);
      writeBody(entry.body, w);
      break;
    case "decision":
      writeCertificate(entry.certificate, w);
      writeBody(entry.body, w);
      break;
    case "regency":
      writeAuthority(entry.authority, w);
      break;
    case "stop":
      w.u53(entry.regency);
      break;
    case "stopData":
      w.u53(entry.regency).bytes(entry.body).raw(entry.signature);
      break;
    case "state":
      w.u53(entry.lastDecided).boolean(entry.authority !== undefined);
      if (entry.authority !== undefined) writeAuthority(entry.authority, w);
      w.u53(entry.stopped)
        .boolean(entry.onProbation)
        .boolean(entry.checkpoint !== undefined);
      if (entry.checkpoint !== undefined) writeCheckpointCertificate(entry.checkpoint, w);
      w.boolean(entry.decision !== undefined);
      if (entry.decision !== undefined) writeCertificate(entry.decision, w);
      break;
  }
  return w.finishShared();
}

/** Throws DecodeError: the log checks its records itself, so this means another version wrote them. */
export function decodeLogEntry(bytes: Uint8Array): LogEntry {
  const r = new Reader(bytes);
  const entry = readEntry(r);
  r.end();
  return entry;
}

function readEntry(r: Reader): LogEntry {
  const code = r.u8();
  switch (code) {
    case CODES.accept:
      return {
        type: "accept",
        cid: r.u53(),
        regency: r.u53(),
        digest: r.copy(DIGEST_SIZE_BYTES),
        writes: r.list(MAX_MEMBERS, readMemberSignature),
        body: readBody(r),
      };
    case CODES.write:
      return {
        type: "write",
        cid: r.u53(),
        regency: r.u53(),
        digest: r.copy(DIGEST_SIZE_BYTES),
        body: readBody(r),
      };
    case CODES.decision:
      return { type: "decision", certificate: readCertificate(r), body: readBody(r) };
    case CODES.regency:
      return { type: "regency", authority: readAuthority(r) };
    case CODES.stop:
      return { type: "stop", regency: r.u53() };
    case CODES.stopData:
      return {
        type: "stopData",
        regency: r.u53(),
        body: r.bytes().slice(),
        signature: r.copy(SIGNATURE_SIZE_BYTES),
      };
    case CODES.state:
      return {
        type: "state",
        lastDecided: r.u53(),
        authority: r.boolean() ? readAuthority(r) : undefined,
        stopped: r.u53(),
        onProbation: r.boolean(),
        checkpoint: r.boolean() ? readCheckpointCertificate(r) : undefined,
        decision: r.boolean() ? readCertificate(r) : undefined,
      };
    default:
      throw new DecodeError(`log record of unknown kind ${code}: written by another version of kmmr?`);
  }
}
