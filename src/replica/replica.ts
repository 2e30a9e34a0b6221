/**
 * One voter as a pure state machine: agreement, execution on the store, reads' fences, checkpoints and state
 * transfer, put together. Hosts: the process (node/) and the simulator.
 */
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import type { Hasher, Signer, Verifier } from "../base/crypto.ts";
import { type Bundle, decodeBundle } from "../consensus/bundle.ts";
import { decidedByOthers } from "../consensus/catch-up.ts";
import { Consensus, type CoreMessage, OUTBOX_MAX } from "../consensus/consensus.ts";
import type { Core } from "../consensus/core.ts";
import type { DecidedEntry } from "../consensus/decision-history.ts";
import type { Membership } from "../consensus/membership.ts";
import {
  decodeMessage,
  MAX_OPERATION_SIZE_BYTES,
  MAX_OPERATIONS_PER_BUNDLE,
  type Message,
} from "../consensus/messages.ts";
import { type ConsensusOptions, DEFAULT_OPTIONS } from "../consensus/options.ts";
import { OriginTable } from "../consensus/origin-table.ts";
import {
  type AppliedPosition,
  announceStart,
  decodeAppliedPosition,
  encodeAppliedPosition,
  recover,
} from "../consensus/recovery.ts";
import { decodeValue } from "../consensus/value.ts";
import type { Engine } from "../store/engine.ts";
import { encodeOperation } from "../store/operation.ts";
import { Store } from "../store/store.ts";
import type { BackendErrorCode, Operation } from "../store/types.ts";
import { Checkpoints } from "./checkpoints.ts";
import type { LogRecovery, Now, ReplicaInput, ReplicaOutput } from "./contract.ts";
import { ExecutionLog } from "./execution-log.ts";
import { FENCES_MAX, Fences, type NamedInstances } from "./fences.ts";
import { Probe } from "./probe.ts";
import { StateSync } from "./state-sync.ts";

/** Bytes of operations in one bundle; a single larger one still travels alone. */
const BUNDLE_SIZE_BYTES = 1 << 20;
/** Own bundles on their way before further operations wait to share one. */
const BUNDLES_IN_FLIGHT = 4;
/** Operations that wait for a bundle; beyond it the door is told to refuse. */
const OPERATIONS_WAITING_MAX = 50_000;
const OPERATIONS_WAITING_SIZE_BYTES_MAX = 64 << 20;
/** Instances that this replica may be behind before it stops answering. */
const SERVING_LAG_MAX = 1000;
/** Where the position of the executed state stands in the store. */
const POSITION_NAME = "replica/position";
/** Answers nobody: the empty operation of an internal fence. */
const INTERNAL_ID = -1;
const NO_HASH = new Uint8Array(32);
const scratch = new Writer(512);

export interface ReplicaConfig {
  readonly membership: Membership;
  /** Index of this member. */
  readonly self: number;
  readonly signer: Signer;
  readonly verifier: Verifier;
  readonly hasher: Hasher;
  readonly engine: Engine;
  readonly recovery: LogRecovery;
  /** Larger than at any start before; durable before the replica is made. */
  readonly incarnation: number;
  readonly options?: Partial<ConsensusOptions>;
  /** Logical bytes of data at which writes are refused; the same on every member. */
  readonly quotaBytes?: number;
}

interface Executable {
  readonly entry: Pick<DecidedEntry, "cid" | "digest" | "value" | "bundles">;
  /** Encoded origin table as of this instance. */
  readonly table: Uint8Array;
  /** When its proposal was seen, by the clock of timers; 0 where it was learned otherwise. */
  readonly proposedAtMs: number;
}

/** Reads that an empty operation answers, and how far members said to be when they asked. */
interface OrderedFences {
  readonly ids: readonly number[];
  readonly named: NamedInstances;
}

export class Replica {
  readonly store: Store;
  readonly #consensus: Consensus;
  readonly #core: Core;
  readonly #checkpoints: Checkpoints;
  readonly #executions: ExecutionLog;
  readonly #fences: Fences;
  readonly #probe: Probe;
  readonly #stateSync: StateSync;
  readonly #hasher: Hasher;
  #out: ReplicaOutput[] = [];
  #started = false;

  /** Operations that wait for the next bundle. */
  #operations: { readonly id: number; readonly bytes: Uint8Array }[] = [];
  #operationsSizeBytes = 0;
  /** Ids of the operations in own bundles that are not executed, by seq. */
  readonly #inBundles = new Map<number, readonly number[]>();
  /** Fences that wait for the execution of an empty operation, by its operation id. */
  readonly #orderedFences = new Map<number, OrderedFences>();
  /** Reads in `#orderedFences`. */
  #orderedFencesCount = 0;
  #nextInternalId = INTERNAL_ID;
  #decided: Executable[] = [];
  #lastExecuted = 0;
  #executionHash: Uint8Array = NO_HASH;
  #caughtUp = false;
  #catchUpFence = 0;
  #diverged = false;

  constructor(config: ReplicaConfig) {
    const options = { ...DEFAULT_OPTIONS, ...config.options };
    this.#hasher = config.hasher;
    this.store = new Store({
      engine: config.engine,
      hasher: config.hasher,
      mutation: options.mutation,
      ...(config.quotaBytes === undefined ? {} : { quotaBytes: config.quotaBytes }),
    });
    this.#consensus = new Consensus({
      membership: config.membership,
      self: config.self,
      hasher: config.hasher,
      signer: config.signer,
      verifier: config.verifier,
      incarnation: config.incarnation,
      options,
      application: {
        decided: (entry, proposedAtMs) => this.#onDecided(entry, proposedAtMs),
        executionHash: (cid) => this.#executions.get(cid),
        executionReported: (member, cid, hash) => this.#onExecutionReport(member, cid, hash),
        timeIsDue: (wallMs) => this.#timeIsDue(wallMs),
      },
    });
    this.#core = this.#consensus.core;
    this.#executions = new ExecutionLog(config.membership.quorum);
    this.#checkpoints = new Checkpoints({
      core: this.#core,
      store: this.store,
      diverged: (cid) => this.#diverge(cid),
      trace: (cid, root, stable) => this.#trace({ kind: "checkpoint", cid, root, stable }),
      truncate: (before) => this.#out.push({ type: "truncate", before }),
      workAhead: () => this.#workLater(),
    });
    this.#fences = this.#makeFences();
    this.#probe = new Probe(this.#core);
    this.#stateSync = new StateSync({
      core: this.#core,
      store: this.store,
      lastExecuted: () => this.#lastExecuted,
      started: (cid) => this.#trace({ kind: "transfer", cid, phase: "start" }),
      failed: (cid) => this.#trace({ kind: "transfer", cid, phase: "failed" }),
      putPosition: (store, stored) => store.setMeta(POSITION_NAME, stored),
      installed: (position) => this.#onStateInstalled(position),
      workAhead: () => this.#workLater(),
    });
    this.#recover(config.recovery);
  }

  // ---- what the host and the door look at

  get regency(): number {
    return this.#core.regency;
  }

  /**
   * The leader when it is known and it and a quorum were heard of lately, else undefined: without a quorum nothing can
   * be ordered or fenced here, whoever leads, and clients do better elsewhere.
   */
  get leader(): number | undefined {
    const core = this.#core;
    if (core.phase !== "normal") return undefined;
    const limitMs = core.options.leaderTimeoutMs * Math.max(2, core.timeoutFactor);
    if (!core.isLeader && core.monotonicMs - core.leaderHeardAtMs > limitMs) return undefined;
    const heard = core.peerHeardAtMs.filter(
      (at, member) => member === core.self || (at > 0 && core.monotonicMs - at <= limitMs),
    );
    return heard.length >= core.membership.quorum ? core.leader : undefined;
  }

  get lastDecided(): number {
    return this.#core.lastDecided;
  }

  get lastExecuted(): number {
    return this.#lastExecuted;
  }

  /**
   * The incarnation under which an earlier life of this member had operations decided, if it is above that of this
   * one: then nothing that this one submits can ever be decided. Else undefined.
   */
  get outlivedBy(): number | undefined {
    const { table, self, incarnation } = this.#core;
    const decided = table.at(self).incarnation;
    return decided > incarnation ? decided : undefined;
  }

  /** Whether this replica may answer: caught up once, not far behind, not repairing, not diverged. */
  get serving(): boolean {
    return this.#caughtUp && !this.#diverged && !this.#stateSync.active;
  }

  // ---- the step

  /** Takes one input; outputs are appended to `out` and must be carried out in order. */
  step(input: ReplicaInput, now: Now, out: ReplicaOutput[]): void {
    this.#out = out;
    this.#consensus.begin(now, out as Parameters<Consensus["begin"]>[1]);
    if (!this.#started) this.#start();
    switch (input.type) {
      case "message":
        this.#onMessage(input.from, input.bytes);
        break;
      case "durable":
        this.#consensus.durable(input.sequence);
        break;
      case "submit":
        this.#submit(input.id, input.operation);
        return;
      case "fence":
        this.#fence(input.id);
        return;
      case "tick":
        this.#tick();
        break;
      case "linkUp":
        this.#consensus.linkUp(input.peer);
        break;
      case "linkDown":
        this.#consensus.linkDown(input.peer);
        break;
      case "work":
        this.#work();
        break;
    }
    this.#consensus.settle();
    if (this.#consensus.hasWorkAhead || (this.#decided.length > 0 && input.type !== "work")) {
      this.#out.push({ type: "moreWork", when: "now" });
    }
  }

  #start(): void {
    this.#started = true;
    const core = this.#core;
    announceStart(core);
    // Members start one after another: silence means something only after a while.
    core.leaderHeardAtMs = core.monotonicMs + core.options.leaderTimeoutMs;
    core.installedAtMs = core.monotonicMs;
    core.readyAtMs = core.monotonicMs;
    core.lastDecidedAtMs = core.monotonicMs;
    core.unlinkedAtMs.fill(core.monotonicMs + core.options.leaderTimeoutMs);
    if (this.store.hasWork) this.#workLater();
  }

  #tick(): void {
    const { monotonicMs } = this.#core;
    this.#consensus.tick();
    this.#fences.tick(monotonicMs);
    this.#probe.tick();
    this.#checkpoints.tick();
    this.#stateSync.tick();
    this.#checkServing();
  }

  #workLater(): void {
    this.#out.push({ type: "moreWork", when: "later" });
  }

  #work(): void {
    this.#consensus.workAhead();
    this.#closeBundles();
    this.#fences.begin(this.#core.monotonicMs);
    // Decisions made here lead to proposals first: the others work on them while this member executes.
    this.#consensus.settle();
    this.#executeDecided();
    this.#consensus.workBehind();
    this.#stateSync.work();
    if (this.#checkpoints.work() || this.#decided.length > 0) this.#workLater();
  }

  #trace(event: Extract<ReplicaOutput, { type: "trace" }>["event"]): void {
    this.#out.push({ type: "trace", event });
  }

  // ---- messages

  #onMessage(from: number, bytes: Uint8Array): void {
    let message: Message;
    try {
      message = decodeMessage(bytes);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.#core.misbehaviour(from, `malformed message: ${error.message}`);
      return;
    }
    const core = this.#core;
    if (!core.admits(from, message)) return;
    const checkedBefore = core.checker.checked;
    const sentBefore = core.sentSizeBytes;
    this.#handle(from, message);
    core.charge(from, message, core.checker.checked - checkedBefore, core.sentSizeBytes - sentBefore);
  }

  #handle(from: number, message: Message): void {
    const core = this.#core;
    switch (message.type) {
      case "fence":
        core.send(from, {
          type: "fenceReply",
          nonce: message.nonce,
          accepted: this.#accepted(),
          regency: Math.max(core.regency, core.stopTarget),
        });
        break;
      case "fenceReply":
        this.#fences.onReply(from, message.nonce, message.accepted, core.monotonicMs);
        this.#probe.onReply(from, message);
        break;
      case "checkpoint":
        this.#checkpoints.onVote(from, message);
        break;
      case "checkpointCertificate":
        this.#stateSync.onCertificate(from, message.certificate, message.decision);
        break;
      case "stateRequest":
        this.#stateSync.onRequest(from, message);
        break;
      case "stateReply":
        this.#stateSync.onReply(from, message);
        break;
      default:
        this.#consensus.message(from, message satisfies CoreMessage);
    }
  }

  // ---- requests of clients

  #submit(id: number, operation: Operation): void {
    const isFull =
      this.#operations.length >= OPERATIONS_WAITING_MAX ||
      this.#operationsSizeBytes >= OPERATIONS_WAITING_SIZE_BYTES_MAX ||
      this.#inBundles.size >= OUTBOX_MAX;
    if (isFull) this.#fail(id, "tooManyRequests");
    else this.#enqueue(id, operation);
  }

  #enqueue(id: number, operation: Operation): void {
    const bytes = encodeOperation(operation);
    // A request within etcd's limit may be longer here: a transaction of very many small operations.
    if (bytes.length > MAX_OPERATION_SIZE_BYTES) {
      this.#fail(id, "requestTooLarge");
      return;
    }
    this.#operations.push({ id, bytes });
    this.#operationsSizeBytes += bytes.length;
  }

  #closeBundles(): void {
    while (this.#operations.length > 0) {
      const full =
        this.#operations.length >= MAX_OPERATIONS_PER_BUNDLE ||
        this.#operationsSizeBytes >= BUNDLE_SIZE_BYTES;
      // Few bundles in flight: what comes meanwhile shares the next one and its signature.
      if (this.#inBundles.size >= (full ? 4 : 1) * BUNDLES_IN_FLIGHT) return;
      let sizeBytes = 0;
      let count = 0;
      while (
        count < this.#operations.length &&
        count < MAX_OPERATIONS_PER_BUNDLE &&
        (count === 0 || sizeBytes + this.#operations[count]!.bytes.length <= BUNDLE_SIZE_BYTES)
      ) {
        sizeBytes += this.#operations[count]!.bytes.length;
        count += 1;
      }
      const taken = this.#operations.splice(0, count);
      this.#operationsSizeBytes -= sizeBytes;
      const seq = this.#consensus.submit(taken.map((operation) => operation.bytes));
      this.#inBundles.set(
        seq,
        taken.map((operation) => operation.id),
      );
    }
  }

  #fail(id: number, reason: BackendErrorCode): void {
    const fences = this.#takeOrderedFences(id);
    if (fences !== undefined) {
      for (const fence of fences.ids) this.#fail(fence, reason);
    } else if (id >= 0) {
      this.#out.push({ type: "failed", id, reason });
    } else if (id === INTERNAL_ID) {
      this.#catchUpFence = 0;
    }
  }

  // ---- fences

  #makeFences(): Fences {
    const core = this.#core;
    return new Fences(
      {
        n: core.membership.n,
        quorum: core.membership.quorum - (core.mutated("fenceOneFewer") ? 1 : 0),
        self: core.self,
        accepted: () => this.#accepted(),
        executed: () => this.#lastExecuted,
        ask: (nonce, members) => {
          for (const member of members) core.send(member, { type: "fence", nonce });
        },
        fenced: (ids) => this.#fenced(ids),
        order: (ids, named) => {
          this.#nextInternalId -= 1;
          this.#orderedFences.set(this.#nextInternalId, { ids, named });
          this.#orderedFencesCount += ids.length;
          this.#enqueue(this.#nextInternalId, { type: "noop" });
          this.#workLater();
        },
      },
      core.incarnation,
    );
  }

  /**
   * Highest instance for which this member has sent ACCEPT or a logged WRITE, or that it has decided, in any of its
   * lives.
   */
  #accepted(): number {
    const { instance, lastDecided, knownAtStart } = this.#core;
    return Math.max(instance.hasPromised ? instance.cid : lastDecided, knownAtStart);
  }

  #fence(id: number): void {
    if (this.#fences.size + this.#orderedFencesCount >= FENCES_MAX) this.#fail(id, "tooManyRequests");
    else this.#fences.add(id);
  }

  #fenced(ids: readonly number[]): void {
    for (const id of ids) {
      if (id >= 0) this.#out.push({ type: "fenced", id });
      else if (id === INTERNAL_ID) {
        this.#caughtUp = true;
        this.#catchUpFence = 0;
      }
    }
  }

  /** This replica serves once it has seen, by a fence of its own, that it is where the others are. */
  #checkServing(): void {
    const core = this.#core;
    // What a correct member has decided: one that lies about itself neither stops this one nor keeps it serving.
    if (decidedByOthers(core) - this.#lastExecuted > SERVING_LAG_MAX) this.#caughtUp = false;
    if (this.#caughtUp || this.#catchUpFence !== 0 || this.#diverged) return;
    this.#catchUpFence = core.monotonicMs;
    this.#fences.add(INTERNAL_ID);
    this.#fences.begin(core.monotonicMs);
  }

  // ---- execution

  #onDecided(entry: DecidedEntry, proposedAtMs: number): void {
    this.#core.table.write(scratch);
    this.#decided.push({ entry, table: scratch.finishShared(), proposedAtMs });
  }

  #timeIsDue(wallMs: number): boolean {
    const next = this.store.nextExpiryMs();
    return next !== undefined && next <= wallMs && this.#decided.length === 0;
  }

  #executeDecided(): void {
    if (this.#decided.length === 0 || this.#stateSync.active) return;
    const revisionBefore = this.store.revision;
    const batch = this.#decided;
    this.#decided = [];
    for (const executable of batch) this.#execute(executable);
    if (this.store.revision !== revisionBefore) {
      this.#out.push({ type: "revision", revision: this.store.revision });
    }
  }

  #execute({ entry, table, proposedAtMs }: Executable): void {
    const { store } = this;
    const core = this.#core;
    // Leases expire by the batch's time, the same everywhere; never by a clock of this machine.
    store.beginBatch(core.mutated("leaseExpiryByLocalClock") ? core.wallMs : entry.value.timestampMs);
    let sizeBytes = 0;
    for (const bundle of entry.bundles) {
      sizeBytes += bundle.encoded.length;
      this.#executeBundle(entry.cid, bundle);
    }
    this.#lastExecuted = entry.cid;
    this.#executionHash = this.#hasher.hash(this.#executionHash, entry.digest, store.takeBatchDigest());
    const position: AppliedPosition = {
      cid: entry.cid,
      digest: entry.digest,
      timestampMs: entry.value.timestampMs,
      table,
      executionHash: this.#executionHash,
    };
    const due = this.#checkpoints.count(entry.cid, sizeBytes);
    scratch.bytes(encodeAppliedPosition(position));
    this.#checkpoints.writeCounters(scratch);
    const stored = scratch.finishShared();
    store.setMeta(POSITION_NAME, stored);
    store.endBatch();
    if (due) this.#checkpoints.capture(entry.cid, stored);
    this.#trace({
      kind: "executed",
      cid: entry.cid,
      revision: store.revision,
      executionHash: this.#executionHash,
    });
    if (this.#executions.executed(entry.cid, this.#executionHash)) this.#diverge(entry.cid);
    this.#fences.onExecuted(entry.cid, proposedAtMs > 0 ? core.monotonicMs - proposedAtMs : undefined);
  }

  #executeBundle(cid: number, { origin, incarnation, seq, operations }: Bundle): void {
    const core = this.#core;
    const own = origin === core.self && incarnation === core.incarnation;
    const ids = own ? this.#inBundles.get(seq) : undefined;
    for (let i = 0; i < operations.length; i++) {
      const result = this.store.executeBytes(operations[i]!, ids !== undefined);
      const id = ids?.[i];
      if (id === undefined || this.#diverged) continue;
      if (id >= 0) this.#out.push({ type: "result", id, result });
      else this.#answerOrderedFence(id, cid);
    }
    if (own) this.#inBundles.delete(seq);
  }

  /** The empty operation of these reads has come to instance `cid`. */
  #answerOrderedFence(id: number, cid: number): void {
    const fences = this.#takeOrderedFences(id);
    if (fences === undefined) return;
    // Whoever accepts an instance has decided those before it, and the operation came after the answers: it is in
    // none of them.
    for (const [member, named] of fences.named) {
      if (named > cid) this.#core.misbehaviour(member, "named an instance that did not come");
    }
    this.#fenced(fences.ids);
  }

  #takeOrderedFences(id: number): OrderedFences | undefined {
    const fences = this.#orderedFences.get(id);
    if (fences === undefined) return undefined;
    this.#orderedFences.delete(id);
    this.#orderedFencesCount -= fences.ids.length;
    return fences;
  }

  #onExecutionReport(member: number, cid: number, hash: Uint8Array): void {
    if (this.#executions.reported(member, cid, hash, this.#lastExecuted)) this.#diverge(cid);
  }

  /** The own execution differs from a quorum's: stop serving, and take the state from the others. */
  #diverge(cid: number): void {
    if (this.#diverged) return;
    this.#diverged = true;
    this.#trace({ kind: "diverged", cid });
    this.#failPending();
    this.#stateSync.repair(cid);
  }

  #failPending(): void {
    for (const id of this.#fences.clear()) this.#fail(id, "stopped");
    for (const ids of this.#inBundles.values()) for (const id of ids) this.#fail(id, "timeout");
    this.#inBundles.clear();
  }

  // ---- start and state transfer

  #recover(recovery: LogRecovery): void {
    const stored = this.store.getMeta(POSITION_NAME);
    let applied: AppliedPosition | undefined;
    if (stored !== undefined) {
      const r = new Reader(stored);
      applied = decodeAppliedPosition(r.bytes());
      this.#checkpoints.readCounters(r);
      r.end();
      this.#lastExecuted = applied.cid;
      this.#executionHash = applied.executionHash;
    }
    recover(this.#core, recovery, applied, this.#checkpoints.kept());
    this.#checkpoints.adopted();
  }

  /** Decided instances behind a state that was installed, to be executed on it. */
  #decidedAfter(position: AppliedPosition): Executable[] {
    const core = this.#core;
    const table = new OriginTable(core.membership.n);
    table.read(new Reader(position.table));
    const executables: Executable[] = [];
    for (let cid = position.cid + 1; cid <= core.lastDecided; cid++) {
      const kept = core.history.get(cid);
      if (kept === undefined) {
        // The history begins later than this state ends: only a newer state helps.
        this.#stateSync.repair(cid);
        return [];
      }
      const value = decodeValue(kept.encodedValue);
      const bundles = kept.bodies.map((body) => decodeBundle(this.#hasher, core.membership.digest, body));
      table.advance(value.bundles);
      const w = new Writer(64);
      table.write(w);
      const entry = { cid, digest: kept.digest, value, bundles };
      executables.push({ entry, table: w.finish(), proposedAtMs: 0 });
    }
    return executables;
  }

  #onStateInstalled(position: AppliedPosition): void {
    const core = this.#core;
    this.#lastExecuted = position.cid;
    this.#executionHash = position.executionHash;
    this.#executions.clear();
    this.#decided = this.#decidedAfter(position);
    this.#diverged = false;
    this.#caughtUp = false;
    this.#catchUpFence = 0;
    this.#checkpoints.restart();
    const r = new Reader(this.store.getMeta(POSITION_NAME)!);
    r.bytes();
    this.#checkpoints.readCounters(r);
    // What the transferred state may have executed can no longer be answered.
    for (const [seq, ids] of this.#inBundles) {
      if (!core.table.isPast(core.self, core.incarnation, seq)) continue;
      this.#inBundles.delete(seq);
      for (const id of ids) this.#fail(id, "timeout");
    }
    this.#trace({ kind: "transfer", cid: position.cid, phase: "done" });
    this.#out.push({ type: "revision", revision: this.store.revision });
  }
}
