/**
 * State transfer: a member whose log no longer reaches the others', or whose state turned out wrong, takes a
 * certified checkpoint from them. Parts are asked of several members in turn, checked one by one against the
 * certified root (store/state-transfer.ts), and kept over a break; what the own state has already is not
 * asked for.
 */
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { replayFuture } from "../consensus/agreement.ts";
import { askDecisions, decidedByOthers, offerCheckpoint } from "../consensus/catch-up.ts";
import type { Core } from "../consensus/core.ts";
import type { CheckpointCertificate, DecisionCertificate, Message } from "../consensus/messages.ts";
import { type AppliedPosition, decodeAppliedPosition } from "../consensus/recovery.ts";
import { StateInstaller, TransferError, type TransferRequest } from "../store/state-transfer.ts";
import type { Store } from "../store/store.ts";
import { encodeCertified } from "./checkpoints.ts";

/** Requests under way at once. */
const REQUESTS_MAX = 8;
/** An unanswered request goes to another member after this long. */
const ANSWER_TIMEOUT_MS = 500;
/** Bytes of state in one reply. */
const PART_SIZE_BYTES = 256 << 10;
/** A member that needs a state asks for a certificate this often. */
const CERTIFICATE_INTERVAL_MS = 500;
/** A transfer without progress for this long is given up; the next certificate starts another. */
const STALL_MS = 10_000;
/** Each part that comes lets a transfer go on for this long, so that no trickle of parts keeps it going. */
const PART_BUYS_MS = STALL_MS / 16;
/** The longest time for which no checkpoint is taken of a member whose last ones came to nothing. */
const DISTRUST_MAX_MS = 8 * STALL_MS;

const KINDS = ["manifest", "groupLeaves", "chunkPart"] as const;

export interface StateSyncHost {
  readonly core: Core;
  readonly store: Store;
  lastExecuted(): number;
  started(cid: number): void;
  failed(cid: number): void;
  /** Puts the replica's own position, as the checkpoint holds it, into the unit that switches the state over. */
  putPosition(store: Store, stored: Uint8Array): void;
  installed(position: AppliedPosition): void;
  /** `work` has something to do. */
  workAhead(): void;
}

interface Asked {
  readonly member: number;
  readonly atMs: number;
}

interface Transfer {
  /** Who showed the checkpoint. */
  readonly from: number;
  readonly certificate: CheckpointCertificate;
  readonly decision: DecisionCertificate;
  readonly installer: StateInstaller;
  /** Requests under way, by their bytes in hexadecimal. */
  readonly asked: Map<string, Asked>;
  /** Members that said that they do not have this checkpoint (any more), or lied about it. */
  readonly useless: Set<number>;
  /** Who sent the parts of a chunk that are here; -1 for several members, none of which is to blame then. */
  readonly suppliers: Map<number, number>;
  progressAtMs: number;
  /** The rest of putting the state in place, once all of it is here; none of it can be given up. */
  installing: Generator<boolean, Uint8Array> | undefined;
}

export class StateSync {
  readonly #host: StateSyncHost;
  #transfer: Transfer | undefined;
  /** Instance of the divergence that only a transferred state mends; 0 for none. */
  #repairFrom = 0;
  #turn = 0;
  #certificateAskedAtMs = 0;
  /** Until when no checkpoint is taken of a member, and how long that was the last time. */
  readonly #distrusted = new Map<number, { readonly untilMs: number; readonly forMs: number }>();

  constructor(host: StateSyncHost) {
    this.#host = host;
  }

  /** Whether the local state is being replaced, so that nothing may be executed or answered. */
  get active(): boolean {
    return this.#transfer !== undefined || this.#repairFrom > 0;
  }

  /** The own state is wrong since about this instance: take a later one from the others. */
  repair(cid: number): void {
    this.#repairFrom = Math.max(cid, 1);
  }

  tick(): void {
    const { core } = this.#host;
    if (this.#transfer !== undefined) {
      this.#advance();
      return;
    }
    if (this.#repairFrom === 0 || core.monotonicMs - this.#certificateAskedAtMs < CERTIFICATE_INTERVAL_MS) {
      return;
    }
    this.#certificateAskedAtMs = core.monotonicMs;
    // A checkpoint that nobody has makes members answer with their newest one.
    core.broadcast({ type: "stateRequest", cid: 0, request: encodeRequest({ type: "manifest" }) });
  }

  /** Goes on with putting a state in place: soon, for the decisions after it are not kept for ever. */
  work(): void {
    if (this.#transfer?.installing !== undefined) this.#install(this.#transfer);
  }

  /** A member shows a stable checkpoint: the own log does not reach far enough, or the own state is wrong. */
  onCertificate(from: number, certificate: CheckpointCertificate, decision: DecisionCertificate): void {
    const { core } = this.#host;
    if (this.#transfer?.installing !== undefined) return;
    if (certificate.cid <= this.#host.lastExecuted() && certificate.cid < Math.max(this.#repairFrom, 1))
      return;
    if (this.#transfer === undefined) {
      if (this.#repairFrom === 0 && certificate.cid <= core.lastDecided) return;
    } else if (certificate.cid <= this.#transfer.certificate.cid) {
      // This member may decide with the others all the while: only a newer checkpoint is worth a new start.
      return;
    }
    if (core.monotonicMs < (this.#distrusted.get(from)?.untilMs ?? 0)) return;
    const sound =
      core.mutated("checkpointNotChecked") ||
      (decision.cid === certificate.cid &&
        core.checker.checkpointRoot(certificate) &&
        core.checker.decision(decision));
    if (!sound) {
      core.misbehaviour(from, "checkpoint certificate that is none");
      return;
    }
    this.#host.started(certificate.cid);
    // Whoever shows a checkpoint has it: ask there first.
    this.#turn = (from + core.membership.n - 1) % core.membership.n;
    this.#transfer = {
      from,
      certificate,
      decision,
      installer: new StateInstaller(this.#host.store, certificate.root),
      asked: new Map(),
      useless: new Set([...core.linked.keys()].filter((member) => !core.linked[member])),
      suppliers: new Map(),
      progressAtMs: core.monotonicMs,
      installing: undefined,
    };
    this.#advance();
  }

  // ---- serving

  onRequest(from: number, message: Extract<Message, { type: "stateRequest" }>): void {
    const { core, store } = this.#host;
    const request = decodeRequest(message.request);
    if (request === undefined) {
      core.misbehaviour(from, "state request that is none");
      return;
    }
    const own = store.checkpoint();
    // An empty reply says: not this checkpoint (any more); ask another member or for a newer one.
    const reply =
      own === undefined || own.cid !== message.cid || this.active ? undefined : this.#read(request);
    core.send(
      from,
      { type: "stateReply", cid: message.cid, request: message.request, reply: reply ?? new Uint8Array(0) },
      "bulk",
    );
    if (reply !== undefined || this.active || (core.offered?.certificate.cid ?? 0) <= message.cid) return;
    if (core.mayAnswer("checkpoint", from)) offerCheckpoint(core, from);
  }

  #read(request: TransferRequest): Uint8Array | undefined {
    const { store } = this.#host;
    switch (request.type) {
      case "manifest":
        return store.manifest();
      case "groupLeaves":
        return store.groupLeaves(request.group);
      case "chunkPart":
        return store.chunkPart(request.chunk, request.offsetBytes, PART_SIZE_BYTES);
    }
  }

  // ---- fetching

  onReply(from: number, message: Extract<Message, { type: "stateReply" }>): void {
    const transfer = this.#transfer;
    const { core } = this.#host;
    if (transfer === undefined || message.cid !== transfer.certificate.cid) return;
    const key = keyOf(message.request);
    const request = decodeRequest(message.request);
    if (transfer.asked.get(key)?.member !== from || request === undefined) return;
    transfer.asked.delete(key);
    if (message.reply.length === 0) {
      transfer.useless.add(from);
    } else {
      try {
        noteSupplier(transfer, request, from);
        this.#take(transfer.installer, request, message.reply);
        transfer.progressAtMs = Math.min(core.monotonicMs, transfer.progressAtMs + PART_BUYS_MS);
      } catch (error) {
        if (!(error instanceof TransferError)) throw error;
        // A wrong part in front of a right one is found out with the last one only.
        const isMixed = request.type === "chunkPart" && transfer.suppliers.get(request.chunk) === -1;
        if (!isMixed) {
          transfer.useless.add(from);
          core.misbehaviour(from, `state transfer: ${error.message}`);
        }
      }
    }
    this.#advance();
  }

  #take(installer: StateInstaller, request: TransferRequest, reply: Uint8Array): void {
    switch (request.type) {
      case "manifest":
        installer.addManifest(reply);
        break;
      case "groupLeaves":
        installer.addGroupLeaves(request.group, reply);
        break;
      case "chunkPart":
        installer.addChunkPart(request.chunk, request.offsetBytes, reply);
        break;
    }
  }

  #advance(): void {
    const transfer = this.#transfer;
    if (transfer === undefined) return;
    const { core } = this.#host;
    const { installer, asked, certificate } = transfer;
    if (transfer.installing !== undefined) {
      this.#install(transfer);
      return;
    }
    if (this.#repairFrom === 0 && certificate.cid <= core.lastDecided) {
      // Decisions have come up to there after all: they are executed on the own state, which is whole. Nobody who
      // shows a checkpoint that no other member hands out can stop this one.
      this.#giveUp(certificate.cid);
      return;
    }
    if (installer.isComplete) {
      this.#install(transfer);
      return;
    }
    if (core.monotonicMs - transfer.progressAtMs > STALL_MS) {
      // The state that was being replaced is still whole; where it is too old to go on from, asking for decisions
      // brings a certificate again.
      this.#giveUp(certificate.cid);
      this.#distrust(transfer.from);
      return;
    }
    for (const [key, { atMs, member }] of asked) {
      if (core.monotonicMs - atMs < ANSWER_TIMEOUT_MS) continue;
      asked.delete(key);
      transfer.useless.add(member);
    }
    const requests = installer.requests(REQUESTS_MAX);
    // Nothing to ask for: chunks are being held against the local state, which is progress.
    if (requests.length === 0) transfer.progressAtMs = core.monotonicMs;
    for (const request of requests) {
      const bytes = encodeRequest(request);
      const key = keyOf(bytes);
      if (asked.has(key)) continue;
      const member = this.#supplierOf(transfer, request) ?? this.#nextMember(transfer);
      asked.set(key, { member, atMs: core.monotonicMs });
      core.send(member, { type: "stateRequest", cid: certificate.cid, request: bytes });
    }
  }

  #giveUp(cid: number): void {
    this.#host.failed(cid);
    this.#transfer = undefined;
  }

  /**
   * The checkpoint that this member showed came to nothing: for a while, longer each time, others are heard. A
   * faulty one could otherwise show one after another that nobody hands out, each newer than those that are.
   */
  #distrust(member: number): void {
    const before = this.#distrusted.get(member)?.forMs;
    const forMs = before === undefined ? STALL_MS : Math.min(2 * before, DISTRUST_MAX_MS);
    this.#distrusted.set(member, { untilMs: this.#host.core.monotonicMs + forMs, forMs });
  }

  /** The rest of a chunk comes from whoever sent its beginning, so that a liar is known as one. */
  #supplierOf(transfer: Transfer, request: TransferRequest): number | undefined {
    if (request.type !== "chunkPart" || request.offsetBytes === 0) return undefined;
    const supplier = transfer.suppliers.get(request.chunk);
    return supplier === undefined || supplier < 0 || transfer.useless.has(supplier) ? undefined : supplier;
  }

  /** Members in turn; those that were of no use are asked again only when nobody else is left. */
  #nextMember(transfer: Transfer): number {
    const { membership, self } = this.#host.core;
    if (transfer.useless.size >= membership.n - 1) transfer.useless.clear();
    for (let i = 0; i < membership.n; i++) {
      this.#turn = (this.#turn + 1) % membership.n;
      if (this.#turn !== self && !transfer.useless.has(this.#turn)) break;
    }
    if (this.#turn === self) this.#turn = (this.#turn + 1) % membership.n;
    return this.#turn;
  }

  /** One step of putting the state in place. Where the engine has to write first, the next one comes with a tick. */
  #install(transfer: Transfer): void {
    const { certificate, decision, installer } = transfer;
    const proof = encodeCertified({ certificate, decision });
    transfer.installing ??= installer.finish(certificate.cid, proof, (store) => {
      this.#host.putPosition(store, installer.extra);
    });
    const { done, value } = transfer.installing.next();
    if (done === true) this.#finish(transfer, value);
    else if (!value) this.#host.workAhead();
  }

  #finish({ certificate, decision }: Transfer, extra: Uint8Array): void {
    const { core } = this.#host;
    const checkpoint = { certificate, decision };
    const position = decodeAppliedPosition(new Reader(extra).bytes());
    this.#transfer = undefined;
    this.#repairFrom = 0;
    this.#distrusted.clear();
    core.checkpoint = certificate;
    core.checkpointDecision = decision;
    core.offered = checkpoint;
    if (position.cid > core.lastDecided) {
      core.lastDecided = position.cid;
      core.lastDigest = position.digest;
      core.lastTimestampMs = position.timestampMs;
      if (!core.mutated("dedupNotReplicated")) core.table.read(new Reader(position.table));
      core.pool.pruneAll();
      core.history.reset(position.cid, decision);
      for (const seq of core.outbox.keys()) {
        if (core.table.isPast(core.self, core.incarnation, seq)) core.outbox.delete(seq);
      }
      core.nextInstance();
      // The state stands for the decision; it must be known to the log before the next vote.
      core.previousSequence = core.appendState();
      replayFuture(core);
    }
    this.#host.installed(position);
    // Soon, before the others cut their logs again.
    if (decidedByOthers(core) > core.lastDecided) askDecisions(core);
  }
}

function noteSupplier(transfer: Transfer, request: TransferRequest, from: number): void {
  if (request.type !== "chunkPart") return;
  const before = request.offsetBytes === 0 ? from : transfer.suppliers.get(request.chunk);
  transfer.suppliers.set(request.chunk, before === from ? from : -1);
}

function keyOf(request: Uint8Array): string {
  return request.join();
}

function encodeRequest(request: TransferRequest): Uint8Array {
  const w = new Writer(32).u8(KINDS.indexOf(request.type));
  if (request.type === "groupLeaves") w.u53(request.group);
  if (request.type === "chunkPart") w.u53(request.chunk).u53(request.offsetBytes);
  return w.finish();
}

function decodeRequest(bytes: Uint8Array): TransferRequest | undefined {
  try {
    const r = new Reader(bytes);
    const type = KINDS[r.u8()];
    if (type === undefined) return undefined;
    const request: TransferRequest =
      type === "manifest"
        ? { type }
        : type === "groupLeaves"
          ? { type, group: r.u53() }
          : { type, chunk: r.u53(), offsetBytes: r.u53() };
    r.end();
    return request;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}
