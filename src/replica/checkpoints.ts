/**
 * Certified checkpoints: at agreed instances every voter signs the Merkle root of its state; a quorum of equal
 * roots makes the checkpoint stable and lets the log be cut.
 */
import { equalBytes, toByteString } from "../base/bytes.ts";
import { DecodeError, type Reader, type Writer } from "../base/codec.ts";
import type { Core } from "../consensus/core.ts";
import {
  type CertifiedCheckpoint,
  type CheckpointCertificate,
  decodeMessage,
  encodeMessage,
  type MemberSignature,
  type Message,
} from "../consensus/messages.ts";
import { checkpointStatement } from "../consensus/statements.ts";
import { signDecided } from "../consensus/votes.ts";
import type { Store } from "../store/store.ts";

/** Instances for which one member's signatures are kept. */
const KEPT_PER_MEMBER = 4;
/** Records that one slice of digest work looks at. */
const WORK_BUDGET_RECORDS = 256;

interface Signed {
  readonly cid: number;
  readonly root: Uint8Array;
  readonly signature: Uint8Array;
}

export interface CheckpointHost {
  readonly core: Core;
  readonly store: Store;
  /** The root that a quorum signed is not the own one. */
  diverged(cid: number): void;
  trace(cid: number, root: Uint8Array, stable: boolean): void;
  /** Records below this sequence are not needed any more. */
  truncate(before: number): void;
  /** `work` has something to do again. */
  workAhead(): void;
}

/** A checkpoint's certificates as they are kept beside its state. */
export function encodeCertified(checkpoint: CertifiedCheckpoint): Uint8Array {
  return encodeMessage({ type: "checkpointCertificate", ...checkpoint });
}

export class Checkpoints {
  readonly #host: CheckpointHost;
  readonly #signed: Signed[][];
  #computing = 0;
  #sinceInstances = 0;
  #sinceBytes = 0;
  /** Newest checkpoint that each member says it has come to. */
  readonly #reached: number[];
  /** Stable checkpoints before the newest, oldest first. */
  #stableBefore: number[] = [];
  /** The log and the history reach back to this checkpoint. */
  #keptFrom = 0;
  #sentAtMs = 0;
  /** A quorum has signed this checkpoint, and the ACCEPTs for its decision are not there yet; 0 for none. */
  #uncertified = 0;
  #acceptsAskedAtMs = 0;

  constructor(host: CheckpointHost) {
    this.#host = host;
    this.#signed = Array.from({ length: host.core.membership.n }, () => []);
    this.#reached = new Array(host.core.membership.n).fill(0);
  }

  /**
   * Counts an executed instance; the same everywhere, because it depends on decided content alone. Returns
   * true when a checkpoint is due behind it: only where the decision is certified, for whoever takes the state
   * over needs that, too.
   */
  count(cid: number, bodySizeBytes: number): boolean {
    const { options } = this.#host.core;
    this.#sinceInstances += 1;
    this.#sinceBytes += bodySizeBytes;
    const due =
      this.#sinceInstances >= options.checkpointInstances || this.#sinceBytes >= options.checkpointSizeBytes;
    if (!due || cid % options.certifyInstances !== 0) return false;
    this.#sinceInstances = 0;
    this.#sinceBytes = 0;
    return true;
  }

  /** The counters, which are part of the state: a member that starts must count on from the same point. */
  writeCounters(w: Writer): void {
    w.u53(this.#sinceInstances).u53(this.#sinceBytes);
  }

  /** Throws DecodeError. */
  readCounters(r: Reader): void {
    this.#sinceInstances = r.u53();
    this.#sinceBytes = r.u53();
  }

  /** Fixes the state as of now; the root is computed in slices by `work`. */
  capture(cid: number, extra: Uint8Array): void {
    // One at a time: the one before is finished first, however long that takes.
    this.#host.store.captureCheckpoint(cid, extra);
    this.#announce();
    this.#computing = cid;
  }

  /** One slice of digest work, or of removing what compactions left. Returns whether there is more. */
  work(): boolean {
    this.#host.store.work(WORK_BUDGET_RECORDS);
    this.#announce();
    return this.#host.store.hasWork;
  }

  /** Signs the own root once it is known. */
  #announce(): void {
    if (this.#computing === 0) return;
    const { core, store } = this.#host;
    const computed = store.computedCheckpoint(this.#computing);
    if (computed === undefined) return;
    this.#computing = 0;
    const { cid, root } = computed;
    this.#host.trace(cid, root, false);
    if (core.checkpoint?.cid === cid) this.#executedAgain(root, core.checkpoint);
    this.#sign(cid, root);
  }

  /** The log has kept the certificate of this checkpoint over a crash, and the engine has lost the state. */
  #executedAgain(root: Uint8Array, certificate: CheckpointCertificate): void {
    const { core } = this.#host;
    const decision = core.checkpointDecision;
    if (!equalBytes(root, certificate.root)) this.#host.diverged(certificate.cid);
    else if (decision !== undefined) this.#keep({ certificate, decision });
  }

  #sign(cid: number, root: Uint8Array): void {
    const { core } = this.#host;
    if (core.onProbation) return;
    const signature = core.signer.sign(checkpointStatement(core.membership.digest, cid, root));
    core.broadcast({ type: "checkpoint", cid, root, signature });
    this.#sentAtMs = core.monotonicMs;
    this.#add(core.self, { cid, root, signature });
  }

  onVote(from: number, message: Extract<Message, { type: "checkpoint" }>): void {
    const { core } = this.#host;
    const { cid, root, signature } = message;
    this.#reached[from] = Math.max(this.#reached[from]!, cid);
    if (cid <= (core.checkpoint?.cid ?? 0)) return;
    if (this.#signed[from]!.some((signed) => signed.cid === cid)) return;
    if (!core.checker.signedBy(from, checkpointStatement(core.membership.digest, cid, root), signature)) {
      core.misbehaviour(from, "checkpoint with a bad signature");
      return;
    }
    this.#add(from, { cid, root, signature });
  }

  #add(member: number, signed: Signed): void {
    const kept = this.#signed[member]!;
    kept.push(signed);
    if (kept.length > KEPT_PER_MEMBER) kept.shift();
    this.#considerStable(signed.cid);
  }

  #considerStable(cid: number): void {
    const { core } = this.#host;
    if (cid <= (core.checkpoint?.cid ?? 0)) return;
    const byRoot = new Map<string, MemberSignature[]>();
    for (let member = 0; member < this.#signed.length; member++) {
      const signed = this.#signed[member]!.find((candidate) => candidate.cid === cid);
      if (signed === undefined) continue;
      const key = toByteString(signed.root);
      const same = byRoot.get(key);
      const vote = { member, signature: signed.signature };
      if (same === undefined) byRoot.set(key, [vote]);
      else same.push(vote);
      const signatures = byRoot.get(key)!;
      if (signatures.length < core.membership.quorum) continue;
      // Once: with more signatures at hand it would become the checkpoint before itself, and all below it be cut.
      this.#stable({ cid, root: signed.root, signatures });
      return;
    }
  }

  #stable(certificate: CheckpointCertificate): void {
    const { core } = this.#host;
    const own = this.#host.store.computedCheckpoint(certificate.cid);
    // Before the own root is known the certificate cannot be served; it is looked at again then.
    if (own === undefined) return;
    if (!equalBytes(own.root, certificate.root)) {
      this.#host.diverged(certificate.cid);
      return;
    }
    const decision = core.history.certify(certificate.cid);
    this.#uncertified = decision === undefined ? certificate.cid : 0;
    if (decision === undefined) return;
    this.#host.trace(certificate.cid, certificate.root, true);
    this.#stableBefore.push(core.checkpoint?.cid ?? 0);
    if (this.#stableBefore.length > core.options.keptCheckpoints) this.#stableBefore.shift();
    core.checkpoint = certificate;
    core.checkpointDecision = decision;
    this.#keep({ certificate, decision });
    this.#cut();
  }

  /**
   * From now on this member hands this state out to whoever needs one, also after a restart, and not the one
   * before. Only a stable one is kept: when f members are gone and another one needs a state, no other becomes
   * stable before it has one.
   */
  #keep(checkpoint: CertifiedCheckpoint): void {
    const { core, store } = this.#host;
    if (!store.keepCheckpoint(checkpoint.certificate.cid, encodeCertified(checkpoint))) return;
    core.offered = checkpoint;
    this.#host.workAhead();
  }

  /** What was kept before this start, with its certificates. */
  kept(): CertifiedCheckpoint | undefined {
    const kept = this.#host.store.checkpoint();
    if (kept === undefined) return undefined;
    try {
      const proof = decodeMessage(kept.proof);
      if (proof.type !== "checkpointCertificate") return undefined;
      const { certificate, decision } = proof;
      if (certificate.cid !== kept.cid || decision.cid !== kept.cid) return undefined;
      return equalBytes(certificate.root, kept.root) ? { certificate, decision } : undefined;
    } catch (error) {
      if (error instanceof DecodeError) return undefined;
      throw error;
    }
  }

  /** After recovery from the own log. */
  adopted(): void {
    this.#keptFrom = this.#host.core.history.first - 1;
  }

  /** A stable checkpoint was taken over from others, with the state behind it. */
  restart(): void {
    this.#computing = 0;
    this.#uncertified = 0;
    this.#stableBefore = [];
    this.#keptFrom = this.#host.core.checkpoint?.cid ?? 0;
  }

  /**
   * Cuts the log and the history behind the stable checkpoint before the newest, so that a member that is late
   * catches up by decisions alone; while one has not come to that checkpoint, behind an earlier one. Otherwise
   * a member that needs a state under load would find the decisions after it gone each time it has one.
   */
  #cut(): void {
    const { core } = this.#host;
    const sequence = core.appendState();
    const newest = this.#stableBefore.at(-1)!;
    const all = this.#reached.every((cid, member) => cid >= newest || member === core.self);
    const keepFrom = all ? newest : this.#stableBefore[0]!;
    if (keepFrom <= this.#keptFrom) return;
    this.#keptFrom = keepFrom;
    core.history.dropUpTo(keepFrom);
    const before = Math.min(core.forgetRecords(keepFrom), sequence);
    core.whenDurable(sequence, () => this.#host.truncate(before));
  }

  /** Sends the own newest signature again while it is not stable. */
  tick(): void {
    const { core } = this.#host;
    if (this.#uncertified !== 0) this.#considerStable(this.#uncertified);
    if (this.#uncertified !== 0) this.#askForAccepts(this.#uncertified);
    if (core.monotonicMs - this.#sentAtMs < 10 * core.options.resendIntervalMs) return;
    this.#sentAtMs = core.monotonicMs;
    const newest = this.#signed[core.self]!.at(-1);
    if (newest === undefined || newest.cid <= (core.checkpoint?.cid ?? 0)) return;
    core.broadcast({ type: "checkpoint", ...newest });
    this.#considerStable(newest.cid);
  }

  /**
   * The certificate of this instance does not come by itself where a run of decisions brought it, which ends with
   * the certificate of a later one: whoever has decided it signs again.
   */
  #askForAccepts(cid: number): void {
    const { core } = this.#host;
    if (core.monotonicMs - this.#acceptsAskedAtMs < core.options.resendIntervalMs) return;
    this.#acceptsAskedAtMs = core.monotonicMs;
    core.history.wanted = cid;
    signDecided(core, cid);
    core.broadcast({ type: "acceptRequest", cid });
  }
}
