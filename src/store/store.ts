/**
 * The replicated state: etcd's keys, leases and revisions, changed only by operations that every replica
 * executes in the same order, in batches that carry the agreed time. Deterministic and synchronous.
 *
 * A batch is one unit of the engine: after a crash the store opens at the end of some batch.
 */
import { assert } from "../base/assert.ts";
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import type { Hasher } from "../base/crypto.ts";
import { ChangeDigest } from "./change-digest.ts";
import { type Engine, EngineCorruptError, Table } from "./engine.ts";
import { readEvents } from "./event-reader.ts";
import {
  type Checkpoint,
  type KeptCheckpoint,
  putAllLeaves,
  putCleanRevision,
  putKept,
} from "./kept-checkpoint.ts";
import { Keyspace } from "./keyspace.ts";
import { type Lease, LeaseBook } from "./lease-book.ts";
import { decodeOperation } from "./operation.ts";
import { readRange } from "./range.ts";
import type { StoredRecord } from "./record.ts";
import { checkDeleteRange, checkPut, checkRange, checkTxn } from "./request-checks.ts";
import { installStaged, metaKey } from "./staging.ts";
import { StateDigest } from "./state-digest.ts";
import {
  encodeMisc,
  LEASE_SIZE_BYTES,
  type Leaf,
  readLease,
  type StateMisc,
  writeLease,
} from "./state-tree.ts";
import {
  applyDeleteRange,
  applyPut,
  applyTxn,
  checkPutState,
  hasPut,
  isReadOnlyTxn,
  prepareTxn,
} from "./txn.ts";
import {
  type LeaseInfo,
  type Operation,
  type OperationResult,
  type PutRequest,
  type RangeRequest,
  type RangeResult,
  StoreError,
  StoreErrorCode,
  type TxnRequest,
  type TxnResult,
} from "./types.ts";

/** etcd's --quota-backend-bytes default. */
export const QUOTA_DEFAULT_BYTES: number = 2 * 1024 * 1024 * 1024;
/** Record bytes kept in memory for watchers and fresh reads. */
export const RECENT_DEFAULT_BYTES: number = 8 * 1024 * 1024;
/** etcd's minimum at its default election timeout. */
export const LEASE_TTL_MIN_SECONDS = 2;
/** etcd's maximum. */
export const LEASE_TTL_MAX_SECONDS = 9_000_000_000;
/**
 * A lease that came due longer ago than this had no chance: a leader with one due proposes at once, and another one
 * leads within this time when it does not.
 */
const LEASE_OVERDUE_MS_MAX = 1000;
/** What a lease counts for the quota (etcd's figure). */
const LEASE_COST_BYTES = 64;
const STATE_NAME = "store/state";
const STATE_KEY: Uint8Array = metaKey(STATE_NAME);

export interface StoreOptions {
  readonly engine: Engine;
  readonly hasher: Hasher;
  /** Part of the cluster's configuration: the same on every replica, or they would refuse differently. */
  readonly quotaBytes?: number;
  readonly recentSizeBytes?: number;
  /** A planted bug for the simulator's self-test (ConsensusOptions.mutation). */
  readonly mutation?: string;
}

export class Store {
  readonly #engine: Engine;
  readonly #leases = new LeaseBook();
  readonly #space: Keyspace;
  readonly #quotaBytes: number;
  readonly #mutation: string;
  readonly #hasher: Hasher;
  readonly #digest: StateDigest;
  readonly #changes: ChangeDigest;
  #timeMs = 0;
  #inBatch = false;
  /** Whether the row with revision, compaction and time must be written with this batch. */
  #stateChanged = false;

  /** Opens the state in the engine. Throws EngineCorruptError when it is damaged. */
  constructor(options: StoreOptions) {
    this.#engine = options.engine;
    this.#quotaBytes = options.quotaBytes ?? QUOTA_DEFAULT_BYTES;
    this.#hasher = options.hasher;
    this.#mutation = options.mutation ?? "";
    const recentSizeBytes = options.recentSizeBytes ?? RECENT_DEFAULT_BYTES;
    this.#changes = new ChangeDigest(options.hasher);
    this.#space = new Keyspace(options.engine, this.#leases, recentSizeBytes, this.#changes);
    this.#digest = new StateDigest(this.#space, options.engine, options.hasher);
    // Where the engine writes behind, whoever opens it has done this already, and given it time to write.
    atOnce(installStaged(this.#engine));
    atOnce(this.#load());
  }

  /** etcd's store revision: 1 when empty, one more with every batch operation that changed a key. */
  get revision(): number {
    return this.#space.revision;
  }

  /** Revisions below this one can not be read; -1 when nothing was ever compacted. */
  get compactRevision(): number {
    return this.#space.compactRevision;
  }

  /** Agreed time of the last batch. */
  get timeMs(): number {
    return this.#timeMs;
  }

  get keyCount(): number {
    return this.#space.index.liveCount;
  }

  get quotaBytes(): number {
    return this.#quotaBytes;
  }

  /** Bytes that count for the quota: the same on every replica. */
  get quotaUsedBytes(): number {
    return this.#space.sizes.totalBytes + this.#leases.count * LEASE_COST_BYTES;
  }

  /** etcd's alarms. `noSpace` goes away by itself once compaction has made room. */
  alarms(): readonly "noSpace"[] {
    return this.#isFull() ? ["noSpace"] : [];
  }

  #isFull(): boolean {
    return this.quotaUsedBytes >= this.#quotaBytes;
  }

  // Batches

  /**
   * Begins a batch at an agreed time (it only grows) and expires the leases that are due.
   *
   * One that is long overdue was due while the cluster could not order anything, and its client could not renew it:
   * it gets its whole time again, as from a new leader of etcd. Only once until it is renewed, for a faulty leader
   * could hold the agreed time back, and then let it jump, again and again.
   */
  beginBatch(timeMs: number): void {
    assert(!this.#inBatch, "batches do not nest");
    this.#inBatch = true;
    if (timeMs > this.#timeMs) {
      this.#timeMs = timeMs;
      this.#stateChanged = true;
    }
    this.#changes.addTime(this.#timeMs);
    const earlyMs = this.#mutation === "leaseEarly" ? 600 : 0;
    for (;;) {
      const lease = this.#leases.first();
      if (lease === undefined || lease.expiresAtMs > this.#timeMs + earlyMs) break;
      if (lease.extended || this.#timeMs - lease.expiresAtMs <= LEASE_OVERDUE_MS_MAX)
        this.#removeLease(lease.id);
      else this.#renew(lease, true);
    }
  }

  /** Ends the batch: one unit of the engine. */
  endBatch(): void {
    assert(this.#inBatch, "a batch was begun");
    this.#inBatch = false;
    if (this.#stateChanged) {
      this.#stateChanged = false;
      const row = encodeStateRow(this.revision, this.compactRevision, this.#timeMs);
      this.#engine.put(Table.meta, STATE_KEY, row);
    }
    this.#engine.commit();
  }

  /** Executes the canonical bytes of an operation; bytes that are none give the error `malformed`. */
  executeBytes(bytes: Uint8Array, wantResult = true): OperationResult {
    let operation: Operation;
    try {
      operation = decodeOperation(bytes);
    } catch (error) {
      if (error instanceof DecodeError) return MALFORMED;
      throw error;
    }
    return this.execute(operation, wantResult);
  }

  /**
   * Executes one operation inside a batch. Refusals are results, the same on every replica. Without
   * `wantResult` what only the origin needs (previous values, ranges inside a transaction) is left out.
   */
  execute(operation: Operation, wantResult = true): OperationResult {
    assert(this.#inBatch, "operations are executed in batches");
    switch (operation.type) {
      case "put":
        return this.#put(operation.put, wantResult);
      case "deleteRange": {
        const { deleteRange: request } = operation;
        const error = checkDeleteRange(request);
        if (error !== undefined) return refusal(error);
        this.#space.beginChanges();
        const deleteRange = applyDeleteRange(this.#space, request, wantResult);
        this.#endChanges();
        return { type: "deleteRange", deleteRange };
      }
      case "txn":
        return this.#txn(operation.txn, wantResult);
      case "compact":
        return this.#compact(operation.revision);
      case "leaseGrant":
        return this.#grant(operation.id, operation.ttlSeconds);
      case "leaseRevoke":
        if (this.#leases.get(operation.id) === undefined) return refusal(StoreErrorCode.leaseNotFound);
        this.#removeLease(operation.id);
        return { type: "leaseRevoke", revision: this.revision };
      case "leaseKeepAlive":
        return this.#keepAlive(operation.id);
      case "noop":
        return { type: "noop", revision: this.revision };
    }
  }

  #endChanges(): void {
    if (this.#space.endChanges()) this.#stateChanged = true;
  }

  #put(request: PutRequest, wantResult: boolean): OperationResult {
    let error = checkPut(request);
    // A put by itself looks for its lease first, a put in a transaction for what it keeps.
    if (error === undefined && request.lease !== 0n && this.#leases.get(request.lease) === undefined) {
      error = StoreErrorCode.leaseNotFound;
    }
    error ??= checkPutState(this.#space, request);
    if (error !== undefined) return refusal(error);
    if (this.#isFull()) return refusal(StoreErrorCode.noSpace);
    this.#space.beginChanges();
    const put = applyPut(this.#space, request, wantResult);
    this.#endChanges();
    if (request.lease !== 0n && this.#mutation === "putDoneAndRefused") {
      return refusal(StoreErrorCode.leaseNotFound);
    }
    return { type: "put", put };
  }

  #txn(request: TxnRequest, wantResult: boolean): OperationResult {
    const error = checkTxn(request);
    if (error !== undefined) return refusal(error);
    const chosen = prepareTxn(this.#space, request);
    if (typeof chosen === "string") return refusal(chosen);
    if (this.#isFull() && hasPut(request)) return refusal(StoreErrorCode.noSpace);
    this.#space.beginChanges();
    const txn = applyTxn(this.#space, chosen, wantResult);
    this.#endChanges();
    return { type: "txn", txn };
  }

  #compact(revision: number): OperationResult {
    if (revision <= this.compactRevision) return refusal(StoreErrorCode.compacted);
    if (revision > this.revision) return refusal(StoreErrorCode.futureRevision);
    this.#space.compact(revision);
    this.#changes.addCompaction(revision);
    this.#stateChanged = true;
    return { type: "compact", revision: this.revision };
  }

  // Leases

  #grant(id: bigint, ttlSeconds: number): OperationResult {
    if (id === 0n) return MALFORMED;
    if (ttlSeconds > LEASE_TTL_MAX_SECONDS) return refusal(StoreErrorCode.leaseTtlTooLarge);
    if (this.#leases.get(id) !== undefined) return refusal(StoreErrorCode.leaseExists);
    if (this.#isFull()) return refusal(StoreErrorCode.noSpace);
    const ttl = Math.max(ttlSeconds, LEASE_TTL_MIN_SECONDS);
    this.#leases.add(id, ttl, this.#timeMs + ttl * 1000);
    this.#writeLease(id);
    return { type: "leaseGrant", revision: this.revision, id, ttlSeconds: ttl };
  }

  #keepAlive(id: bigint): OperationResult {
    const lease = this.#leases.get(id);
    if (lease !== undefined) {
      this.#renew(lease, false);
    }
    const ttlSeconds = this.#mutation === "keepAliveWithoutTime" ? 0 : (lease?.ttlSeconds ?? 0);
    return { type: "leaseKeepAlive", revision: this.revision, id, ttlSeconds };
  }

  #renew(lease: Lease, extended: boolean): void {
    this.#leases.renew(lease, this.#timeMs + lease.ttlSeconds * 1000, extended);
    this.#writeLease(lease.id);
  }

  /** Removes a lease and, in one revision, its keys. */
  #removeLease(id: bigint): void {
    const lease = this.#leases.get(id);
    assert(lease !== undefined, "the lease exists");
    if (lease.keys.size > 0) {
      this.#space.beginChanges();
      for (const key of [...lease.keys].sort()) {
        const entry = this.#space.live(key);
        assert(entry !== undefined, "keys on a lease exist");
        this.#space.delete(entry);
      }
      this.#endChanges();
    }
    this.#leases.remove(lease);
    this.#writeLease(id);
  }

  #writeLease(id: bigint): void {
    const lease = this.#leases.get(id);
    const key = new Writer(8).i64(id).finish();
    if (lease === undefined) {
      this.#engine.delete(Table.lease, key);
    } else {
      this.#engine.put(Table.lease, key, writeLease(lease, new Writer(LEASE_SIZE_BYTES)).finish());
    }
    this.#changes.addLease(id, lease);
  }

  /** A lease as of the last batch, or undefined when there is none with this id. */
  leaseTimeToLive(id: bigint): LeaseInfo | undefined {
    const lease = this.#leases.get(id);
    if (lease === undefined) return undefined;
    const { ttlSeconds, expiresAtMs } = lease;
    return { id, grantedTtlSeconds: ttlSeconds, expiresAtMs, keys: [...lease.keys].sort() };
  }

  /** Ids of all leases, the next to expire first, as etcd lists them; of those due together the lowest. */
  leases(): bigint[] {
    const expiryMs = (id: bigint): number => this.#leases.get(id)!.expiresAtMs;
    return this.#leases.ids().sort((a, b) => expiryMs(a) - expiryMs(b));
  }

  /** Agreed time at which the next lease is due; a leader then proposes even without a request. */
  nextExpiryMs(): number | undefined {
    return this.#leases.first()?.expiresAtMs;
  }

  // Reads

  /** Reads a range of the state after the last batch. Throws StoreError. */
  range(request: RangeRequest): RangeResult {
    const error = checkRange(request);
    if (error !== undefined) throw new StoreError(error);
    if (this.#mutation === "compactedTooSoon" && request.revision > 0 && request.revision < this.revision - 9)
      throw new StoreError(StoreErrorCode.compacted);
    return readRange(this.#space, request);
  }

  /** Serves a transaction that only reads (`isReadOnlyTxn`). Throws StoreError. */
  readTxn(request: TxnRequest): TxnResult {
    assert(isReadOnlyTxn(request), "the transaction only reads");
    const error = checkTxn(request);
    if (error !== undefined) throw new StoreError(error);
    const chosen = prepareTxn(this.#space, request);
    if (typeof chosen === "string") throw new StoreError(chosen);
    return applyTxn(this.#space, chosen, true);
  }

  /**
   * The changes of the revisions from `fromRevision` to `toRevision` (both included; cut to the current one)
   * in order. A revision is never split: it stops behind the first one with which there are `countMax` events
   * or more. Revisions made of nothing but compacted changes are left out. The event objects of recent
   * revisions are shared by all callers. Throws StoreError `compacted`.
   */
  events(fromRevision: number, toRevision: number, countMax: number): StoredRecord[] {
    if (fromRevision < this.compactRevision) throw new StoreError(StoreErrorCode.compacted);
    const from = Math.max(fromRevision, 1);
    const to = Math.min(toRevision, this.revision);
    if (from > to) return [];
    return readEvents(this.#space, this.#engine, from, to, Math.max(countMax, 1));
  }

  /**
   * The same for a watcher that keeps up: from memory, whatever was compacted since, so that a compaction in the
   * batch of the changes takes nothing from it. Undefined when the first revision is not in memory (any more).
   */
  recentEvents(fromRevision: number, toRevision: number, countMax: number): StoredRecord[] | undefined {
    if (fromRevision < this.#space.recent.firstRevision) return undefined;
    const to = Math.min(toRevision, this.revision);
    return readEvents(this.#space, this.#engine, fromRevision, to, Math.max(countMax, 1));
  }

  // Digests

  /**
   * Digest of every change since the last call (records, leases, compactions, times of batches). Two replicas
   * that call it after the same batches get the same, unless their execution differed.
   */
  takeBatchDigest(): Uint8Array {
    return this.#changes.take();
  }

  /**
   * Fixes the state as it is between two batches, with `extra` of the replica layer in it; `work` then
   * computes its digest. Called after the same instances on every replica.
   */
  captureCheckpoint(cid: number, extra: Uint8Array): void {
    assert(!this.#inBatch, "checkpoints lie between batches");
    const leases = this.#leases.ids().map((id) => {
      const { ttlSeconds, expiresAtMs, extended } = this.#leases.get(id)!;
      return { id, ttlSeconds, expiresAtMs, extended };
    });
    const { revision, compactRevision } = this;
    this.#digest.capture(cid, encodeMisc({ revision, compactRevision, timeMs: this.#timeMs, leases, extra }));
  }

  /**
   * Handles about `budgetRecords` records of what is to do (the digest of the checkpoint on its way, and the
   * physical part of the compactions before the kept one), between batches. True when there is more.
   */
  work(budgetRecords: number): boolean {
    assert(!this.#inBatch, "work is done between batches");
    return this.#digest.work(budgetRecords);
  }

  /** Whether `work` has something to do. */
  get hasWork(): boolean {
    return this.#digest.hasWork;
  }

  /** A checkpoint whose digest is done: the kept one, or one of the newest few after it. */
  computedCheckpoint(cid: number): Checkpoint | undefined {
    return this.#digest.computed(cid);
  }

  /**
   * Keeps this computed checkpoint for peers, instead of the one kept before and also over restarts. `proof` is
   * what makes peers believe its root; the store does not look into it. Between batches. False when it was not
   * computed here, or too long ago.
   */
  keepCheckpoint(cid: number, proof: Uint8Array): boolean {
    assert(!this.#inBatch, "checkpoints lie between batches");
    return this.#digest.keep(cid, proof);
  }

  /** The kept checkpoint, or undefined. */
  checkpoint(): KeptCheckpoint | undefined {
    return this.#digest.kept;
  }

  /** For peers: the manifest of the kept checkpoint (see state-transfer.ts). */
  manifest(): Uint8Array | undefined {
    return this.#digest.manifest();
  }

  /** For peers: the leaves of a group of that checkpoint. */
  groupLeaves(group: number): Uint8Array | undefined {
    return this.#digest.groupLeaves(group);
  }

  /** For peers: at most `sizeMaxBytes` of the bytes of a chunk of that checkpoint. A view: do not keep it. */
  chunkPart(chunk: number, offsetBytes: number, sizeMaxBytes: number): Uint8Array | undefined {
    return this.#digest.chunkPart(chunk, offsetBytes, sizeMaxBytes);
  }

  /** For StateInstaller alone. Until the transfer is done or given up, work rests: it would remove records. */
  installTarget(): InstallTarget {
    assert(!this.#inBatch, "a state is replaced between batches");
    this.#digest.pause();
    return {
      engine: this.#engine,
      hasher: this.#hasher,
      mutation: this.#mutation,
      revision: () => this.revision,
      leafNow: (chunk) => this.#digest.leafNow(chunk),
      putState: (misc, checkpoint, leaves) => {
        this.setMeta(STATE_NAME, encodeStateRow(misc.revision, misc.compactRevision, misc.timeMs));
        putAllLeaves(this.#engine, leaves);
        putKept(this.#engine, this.#hasher, checkpoint);
        putCleanRevision(this.#engine, this.#hasher, misc.compactRevision);
        this.#digest.forgetComputed();
      },
      reload: () => this.#load(),
    };
  }

  // Named values

  /** A value put by `setMeta`, or undefined. */
  getMeta(name: string): Uint8Array | undefined {
    return this.#engine.get(Table.meta, metaKey(name));
  }

  /**
   * Keeps a small named value beside the state, in the unit of the current batch (or the next). It is this
   * replica's own: no part of the digest and not transferred.
   */
  setMeta(name: string, value: Uint8Array): void {
    this.#engine.put(Table.meta, metaKey(name), value);
  }

  // Opening

  *#load(): Generator<void, void> {
    this.#leases.clear();
    this.#timeMs = 0;
    this.#stateChanged = false;
    let revision = 1;
    let compactRevision = -1;
    const state = this.getMeta(STATE_NAME);
    try {
      if (state !== undefined) {
        const reader = new Reader(state);
        revision = reader.u53();
        compactRevision = Number(reader.i64());
        this.#timeMs = reader.u53();
        reader.end();
      }
      const rows = this.#engine.range(Table.lease, LEASE_FIRST, LEASE_END, Number.POSITIVE_INFINITY);
      for (const { key, value } of rows) {
        const reader = new Reader(value);
        const { ttlSeconds, expiresAtMs, extended } = readLease(reader);
        this.#leases.add(new Reader(key).i64(), ttlSeconds, expiresAtMs, extended);
        reader.end();
      }
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      throw new EngineCorruptError(`the store's own rows are damaged (${error.message}); repair from peers`);
    }
    yield* this.#space.load(revision, compactRevision);
    this.#digest.load();
  }
}

/** What state transfer needs of a store. */
export interface InstallTarget {
  readonly engine: Engine;
  readonly hasher: Hasher;
  readonly mutation: string;
  revision(): number;
  leafNow(chunk: number): Leaf | undefined;
  /** Puts the store's own rows for the state that is installed, which is the kept checkpoint from then on. */
  putState(misc: StateMisc, checkpoint: KeptCheckpoint, leaves: readonly Leaf[]): void;
  /** Opens the installed state, some records at each step. */
  reload(): Generator<void, void>;
}

/** Runs all steps of something in one go. */
function atOnce(steps: Generator<void, void>): void {
  while (steps.next().done !== true);
}

function encodeStateRow(revision: number, compactRevision: number, timeMs: number): Uint8Array {
  return new Writer(24).u53(revision).i64(BigInt(compactRevision)).u53(timeMs).finish();
}

const LEASE_FIRST = new Uint8Array(0);
const LEASE_END = new Uint8Array(9).fill(255);
const MALFORMED: OperationResult = { type: "error", error: StoreErrorCode.malformed };

function refusal(error: StoreErrorCode): OperationResult {
  return { type: "error", error };
}
