/** A backend of one: a store in memory that executes at once, in one batch per turn. For tests of the door. */
import { createHash } from "node:crypto";
import type { Hasher } from "../../base/crypto.ts";
import { MemoryEngine } from "../../storage/memory-engine.ts";
import { Store } from "../../store/store.ts";
import type { BackendErrorCode, Operation, OperationResult } from "../../store/types.ts";
import type { Backend, BackendStatus, MemberInfo } from "../backend.ts";

const hasher: Hasher = {
  hash(...parts) {
    const hash = createHash("sha256");
    for (const part of parts) hash.update(part);
    return hash.digest();
  },
};

type Done = (result: OperationResult | BackendErrorCode) => void;

export class LocalBackend implements Backend {
  readonly clusterId = 0xc0ffee_0000_0001n;
  readonly memberId = 0xbeef_0000_0000_0002n;
  readonly store: Store;
  /** What the door is told; tests change these. */
  leader = true;
  reason: BackendErrorCode | undefined;
  /** Answers every operation and fence with this instead of executing. */
  failWith: BackendErrorCode | undefined;
  /** Takes operations and fences but does not answer them. */
  held = false;
  /** Milliseconds added to the clock of batches. */
  clockAheadMs = 0;
  #queue: { operation: Operation; done: Done }[] = [];
  #fences: ((error: BackendErrorCode | undefined) => void)[] = [];
  #scheduled = false;
  readonly #listeners: ((revision: number) => void)[] = [];
  #nextLease = 1n;
  #batches = 0;

  constructor(options: { quotaBytes?: number } = {}) {
    this.store = new Store({ engine: new MemoryEngine(), hasher, ...options });
  }

  /** Operations that wait to be executed. */
  get waiting(): number {
    return this.#queue.length;
  }

  newLeaseId(): bigint {
    return 0x7000_0000_0000_0000n + this.#nextLease++;
  }

  members(): readonly MemberInfo[] {
    const name = "local";
    return [
      {
        id: this.memberId,
        name,
        peerUrls: ["https://127.0.0.1:2380"],
        clientUrls: ["http://127.0.0.1:2379"],
      },
    ];
  }

  status(): BackendStatus {
    return {
      leaderId: this.leader ? this.memberId : 0n,
      regency: 1,
      lastDecided: this.#batches,
      lastExecuted: this.#batches,
      dbSizeBytes: 20480,
      dbSizeInUseBytes: 16384,
      quotaBytes: this.store.quotaBytes,
      errors: [],
    };
  }

  regency(): number {
    return 1;
  }

  hasLeader(): boolean {
    return this.leader;
  }

  unavailable(): BackendErrorCode | undefined {
    return this.reason;
  }

  submit(operation: Operation, done: Done): void {
    this.#queue.push({ operation, done });
    this.#schedule();
  }

  fence(done: (error: BackendErrorCode | undefined) => void): void {
    this.#fences.push(done);
    this.#schedule();
  }

  onRevision(listener: (revision: number) => void): void {
    this.#listeners.push(listener);
  }

  /** Executes these operations in one batch, now. */
  execute(...operations: readonly Operation[]): OperationResult[] {
    const before = this.store.revision;
    this.store.beginBatch(Date.now() + this.clockAheadMs);
    const results = operations.map((operation) => this.store.execute(operation));
    this.store.endBatch();
    this.#batches++;
    if (this.store.revision !== before) for (const listener of this.#listeners) listener(this.store.revision);
    return results;
  }

  /** Lets what was held go on. */
  release(): void {
    this.held = false;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.held) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    if (this.held) return;
    const queue = this.#queue;
    const fences = this.#fences;
    this.#queue = [];
    this.#fences = [];
    const { failWith } = this;
    if (failWith !== undefined) {
      for (const { done } of queue) done(failWith);
    } else if (queue.length > 0) {
      const results = this.execute(...queue.map(({ operation }) => operation));
      for (const [i, { done }] of queue.entries()) done(results[i]!);
    }
    for (const done of fences) done(failWith);
  }
}
