/**
 * Leases by agreed time: which exist, when each is due, and which keys hang on it. The next due one is on top
 * of a heap ordered by (expiry, id), so that every replica expires the same leases in the same order.
 */
import { assert } from "../base/assert.ts";

export interface Lease {
  readonly id: bigint;
  readonly ttlSeconds: number;
  expiresAtMs: number;
  /** See LeaseRow. */
  extended: boolean;
  readonly keys: Set<string>;
  /** Where it stands in the heap. */
  heapIndex: number;
}

export class LeaseBook {
  readonly #leases = new Map<bigint, Lease>();
  readonly #heap: Lease[] = [];

  get count(): number {
    return this.#leases.size;
  }

  get(id: bigint): Lease | undefined {
    return this.#leases.get(id);
  }

  /** The lease that is due first, or undefined when there is none. */
  first(): Lease | undefined {
    return this.#heap[0];
  }

  /** All ids, ascending. */
  ids(): bigint[] {
    return [...this.#leases.keys()].sort(compareIds);
  }

  add(id: bigint, ttlSeconds: number, expiresAtMs: number, extended = false): Lease {
    assert(!this.#leases.has(id), "a lease is added once");
    const keys = new Set<string>();
    const lease = { id, ttlSeconds, expiresAtMs, extended, keys, heapIndex: this.#heap.length };
    this.#leases.set(id, lease);
    this.#heap.push(lease);
    this.#rise(lease);
    return lease;
  }

  renew(lease: Lease, expiresAtMs: number, extended = false): void {
    lease.expiresAtMs = expiresAtMs;
    lease.extended = extended;
    this.#sink(lease);
    this.#rise(lease);
  }

  remove(lease: Lease): void {
    this.#leases.delete(lease.id);
    const last = this.#heap.pop();
    assert(last !== undefined, "a lease in the book is in the heap");
    if (last === lease) return;
    this.#place(last, lease.heapIndex);
    this.#sink(last);
    this.#rise(last);
  }

  attach(id: bigint, key: string): void {
    this.#leases.get(id)?.keys.add(key);
  }

  detach(id: bigint, key: string): void {
    this.#leases.get(id)?.keys.delete(key);
  }

  clear(): void {
    this.#leases.clear();
    this.#heap.length = 0;
  }

  #place(lease: Lease, index: number): void {
    this.#heap[index] = lease;
    lease.heapIndex = index;
  }

  #rise(lease: Lease): void {
    let index = lease.heapIndex;
    while (index > 0) {
      const parentIndex = (index - 1) >>> 1;
      const parent = this.#heap[parentIndex]!;
      if (!isDueBefore(lease, parent)) break;
      this.#place(parent, index);
      index = parentIndex;
    }
    this.#place(lease, index);
  }

  #sink(lease: Lease): void {
    let index = lease.heapIndex;
    for (;;) {
      let childIndex = index * 2 + 1;
      const left = this.#heap[childIndex];
      if (left === undefined) break;
      const right = this.#heap[childIndex + 1];
      let child = left;
      if (right !== undefined && isDueBefore(right, left)) {
        child = right;
        childIndex++;
      }
      if (!isDueBefore(child, lease)) break;
      this.#place(child, index);
      index = childIndex;
    }
    this.#place(lease, index);
  }
}

function isDueBefore(a: Lease, b: Lease): boolean {
  return a.expiresAtMs !== b.expiresAtMs ? a.expiresAtMs < b.expiresAtMs : a.id < b.id;
}

function compareIds(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
