/**
 * The door's view of the replica: requests go in with an id, answers come back by it.
 */
import { randomBytes } from "node:crypto";
import type { Backend, BackendStatus, MemberInfo } from "../gateway/backend.ts";
import type { ReplicaInput } from "../replica/contract.ts";
import type { Store } from "../store/store.ts";
import type { BackendErrorCode, Operation, OperationResult } from "../store/types.ts";
import { Pending } from "./pending.ts";

/** What the backend asks of the replica that it stands for. */
export interface ReplicaView {
  readonly store: Store;
  /** Index of the leader, undefined while none is known. */
  leader(): number | undefined;
  regency(): number;
  lastDecided(): number;
  lastExecuted(): number;
  serving(): boolean;
}

export interface ReplicaBackendOptions {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly members: readonly MemberInfo[];
  readonly view: ReplicaView;
  /** Hands an input to the host loop. */
  readonly input: (input: ReplicaInput) => void;
  readonly databaseSize: () => { readonly total: number; readonly inUse: number };
  readonly quotaBytes: number;
  readonly requestTimeoutMs: number;
  readonly maxPendingRequests: number;
  readonly readMode: "fenced" | "ordered";
  /** Whether so much waits for the disk that no further request should be taken. */
  readonly overloaded: () => boolean;
  /** Told of every request that got no agreement. */
  readonly requestFailed: (count: number) => void;
}

type Answer = OperationResult | BackendErrorCode | undefined;

const NOOP: Operation = { type: "noop" };

/** Implements the door's Backend over a replica that a host loop runs. */
export class ReplicaBackend implements Backend {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly #options: ReplicaBackendOptions;
  readonly #pending: Pending<Answer>;
  readonly #listeners: ((revision: number) => void)[] = [];
  /** Fences of ordered reads that share the next empty operation. */
  #orderedFences: ((error: BackendErrorCode | undefined) => void)[] = [];
  #orderedFenceScheduled = false;
  #stopped = false;

  constructor(options: ReplicaBackendOptions) {
    this.clusterId = options.clusterId;
    this.memberId = options.memberId;
    this.#options = options;
    this.#pending = new Pending({ timeoutMs: options.requestTimeoutMs, limit: options.maxPendingRequests });
  }

  get store(): Store {
    return this.#options.view.store;
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  newLeaseId(): bigint {
    const id = randomBytes(8).readBigInt64BE() & 0x7fffffffffffffffn;
    return id === 0n ? 1n : id;
  }

  members(): readonly MemberInfo[] {
    return this.#options.members;
  }

  status(): BackendStatus {
    const view = this.#options.view;
    const size = this.#options.databaseSize();
    const leader = view.leader();
    return {
      leaderId: leader === undefined ? 0n : this.#options.members[leader]!.id,
      regency: view.regency(),
      lastDecided: view.lastDecided(),
      lastExecuted: view.lastExecuted(),
      dbSizeBytes: size.total,
      dbSizeInUseBytes: size.inUse,
      quotaBytes: this.#options.quotaBytes,
      errors: leader === undefined ? ["etcdserver: no leader"] : [],
    };
  }

  regency(): number {
    return this.#options.view.regency();
  }

  hasLeader(): boolean {
    return this.#options.view.leader() !== undefined;
  }

  unavailable(): BackendErrorCode | undefined {
    return this.#stopped || !this.#options.view.serving() ? "stopped" : undefined;
  }

  submit(operation: Operation, done: (result: OperationResult | BackendErrorCode) => void): void {
    const id = this.#add(done as (answer: Answer) => void);
    if (id !== undefined) this.#options.input({ type: "submit", id, operation });
  }

  fence(done: (error: BackendErrorCode | undefined) => void): void {
    if (this.#options.readMode === "ordered") {
      this.#orderedFence(done);
      return;
    }
    const id = this.#add(done as (answer: Answer) => void);
    if (id !== undefined) this.#options.input({ type: "fence", id });
  }

  /** Takes the request in, or refuses it in a turn of its own; undefined when it was refused. */
  #add(done: (answer: Answer) => void): number | undefined {
    const full = this.#pending.full || this.#options.overloaded();
    const refusal = this.#stopped ? "stopped" : full ? "tooManyRequests" : undefined;
    if (refusal !== undefined) {
      queueMicrotask(() => done(refusal));
      return undefined;
    }
    return this.#pending.add(done, performance.now());
  }

  /** One empty operation for all reads of a turn: what it is ordered behind was acknowledged before. */
  #orderedFence(done: (error: BackendErrorCode | undefined) => void): void {
    this.#orderedFences.push(done);
    if (this.#orderedFenceScheduled) return;
    this.#orderedFenceScheduled = true;
    queueMicrotask(() => {
      const fences = this.#orderedFences;
      this.#orderedFences = [];
      this.#orderedFenceScheduled = false;
      this.submit(NOOP, (result) => {
        const error = typeof result === "string" ? result : undefined;
        for (const fence of fences) fence(error);
      });
    });
  }

  onRevision(listener: (revision: number) => void): void {
    this.#listeners.push(listener);
  }

  /** From the host loop: an operation was executed here. */
  result(id: number, result: OperationResult): void {
    this.#pending.answer(id, result);
  }

  /** From the host loop: all that was acknowledged before the fence is executed here. */
  fenced(id: number): void {
    this.#pending.answer(id, undefined);
  }

  failed(id: number, reason: BackendErrorCode): void {
    if (this.#pending.answer(id, reason)) this.#options.requestFailed(1);
  }

  revision(revision: number): void {
    for (const listener of this.#listeners) listener(revision);
  }

  /** Ends what has waited too long. */
  tick(monotonicMs: number): void {
    const expired = this.#pending.expire(monotonicMs, "timeout");
    if (expired > 0) this.#options.requestFailed(expired);
  }

  /** Answers all that waits, and all that comes, with "stopped". */
  stop(): void {
    this.#stopped = true;
    this.#pending.end("stopped");
  }
}
