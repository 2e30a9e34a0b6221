/**
 * Random requests over a small set of keys, with every option, every limit and every mistake that a server must
 * tell.
 */
import type { Prng } from "../base/prng.ts";
import type { FillReference, LeaseReference, RevisionReference, SymbolicMessage } from "./operation.ts";

const leaseSlots = 12;

const oddKeys = [
  "\0",
  "\0\0",
  "\xff",
  "\xff\xff",
  "a",
  "a\0",
  "a\xff",
  "b",
  "k",
  "k/",
  "k/\0",
  `long/${"x".repeat(300)}`,
];

export class RequestGenerator {
  readonly random: Prng;
  #keys: string[] = [];
  /**
   * Whether puts of this transaction may keep the value or lease that is there; then its deletes have no end at or
   * below their start (which "\0", for all that follow, is). Both together make every member of an etcd 3.6.16
   * panic: its check for duplicate keys does not see such a delete, and the put then misses its key.
   */
  #keepsValues = false;

  constructor(random: Prng) {
    this.random = random;
  }

  /** Takes a new set of keys, which the requests from now on are about. */
  changeKeys(): void {
    this.#keys = Array.from({ length: this.random.between(3, 30) }, () => this.#newKey());
  }

  #newKey(): string {
    const random = this.random;
    switch (random.below(4)) {
      case 0:
        return random.pick(oddKeys);
      case 1: {
        let key = "";
        for (let i = random.between(1, 5); i > 0; i--) key += String.fromCharCode(random.below(256));
        return key;
      }
      case 2:
        return `/registry/${random.pick(["pods", "leases", "events"])}/ns${random.below(2)}/o${random.below(20)}`;
      default:
        return `k/${random.below(20)}`;
    }
  }

  key(): string {
    if (this.random.chance(0.01)) return "";
    return this.random.chance(0.03) ? this.#newKey() : this.random.pick(this.#keys);
  }

  /** `key` and `range_end` of every shape. */
  interval(singleProbability: number): { key: string; range_end?: string } {
    const random = this.random;
    const key = this.key();
    if (random.chance(singleProbability)) return { key };
    switch (random.below(16)) {
      case 0:
      case 1:
      case 2:
        return { key: "\0", range_end: "\0" };
      case 3:
      case 4:
        return { key, range_end: "\0" };
      case 5:
      case 6: {
        const prefix = key.slice(0, random.between(1, Math.max(1, key.length)));
        return { key: prefix, range_end: prefixEnd(prefix) };
      }
      case 7:
        return { key, range_end: `${key}\0` };
      case 8:
        return { key, range_end: key };
      case 9:
        return { key, range_end: random.pick(this.#keys) };
      default: {
        const other = random.pick(this.#keys);
        return key < other ? { key, range_end: other } : { key: other, range_end: `${key}\xff` };
      }
    }
  }

  value(): string | FillReference {
    const random = this.random;
    if (random.chance(0.002)) return { $fill: "v", sizeBytes: random.between(1000, 40_000) };
    if (random.chance(0.05)) return "";
    if (random.chance(0.2)) {
      let value = "";
      for (let i = random.between(1, 12); i > 0; i--) value += String.fromCharCode(random.below(256));
      return value;
    }
    return `v${random.below(12)}`;
  }

  /** A revision to read at, mostly the newest. */
  revision(): RevisionReference | undefined {
    const random = this.random;
    if (random.chance(0.7)) return undefined;
    switch (random.below(12)) {
      case 0:
        return { $revision: "absolute", delta: random.pick([-1, -7, 1]) };
      case 1:
        return { $revision: "absolute", delta: 2 ** 40 };
      case 2:
        return { $revision: "head", delta: random.between(1, 3) };
      case 3:
      case 4:
        return { $revision: "compact", delta: random.between(-2, 3) };
      case 5:
      case 6:
        return { $revision: "key", key: random.pick(this.#keys), delta: random.between(-1, 1) };
      default:
        return { $revision: "head", delta: -random.below(random.pick([2, 10, 100])) };
    }
  }

  lease(): LeaseReference {
    const random = this.random;
    if (random.chance(0.05)) return { $lease: "id", number: random.pick([0, -1, -5, 424242]) };
    if (random.chance(0.3)) return { $lease: "chosen", number: random.below(8) };
    return { $lease: "id", number: 1000 + random.below(leaseSlots) };
  }

  range(): SymbolicMessage {
    const random = this.random;
    const request: { [field: string]: SymbolicMessage[string] } = this.interval(0.3);
    request.revision = this.revision();
    if (random.chance(0.35)) request.limit = random.chance(0.03) ? -1 : random.between(1, 6);
    if (random.chance(0.35)) {
      request.sort_order = random.below(3);
      request.sort_target = random.below(5);
      if (random.chance(0.02)) request.sort_order = random.pick([3, -1, 99]);
      if (random.chance(0.02)) request.sort_target = random.pick([5, -1, 99]);
    }
    if (random.chance(0.4)) request.serializable = true;
    if (random.chance(0.15)) request.keys_only = true;
    if (random.chance(0.15)) request.count_only = true;
    for (const field of [
      "min_mod_revision",
      "max_mod_revision",
      "min_create_revision",
      "max_create_revision",
    ]) {
      if (random.chance(0.06)) {
        request[field] = { $revision: "head", delta: -random.below(60) };
        if (random.chance(0.05)) request[field] = { $revision: "absolute", delta: -1 };
      }
    }
    return request;
  }

  put(): SymbolicMessage {
    const random = this.random;
    const request: { [field: string]: SymbolicMessage[string] } = { key: this.key() };
    if (random.chance(0.08)) request.ignore_value = true;
    if (random.chance(0.08)) request.ignore_lease = true;
    if (request.ignore_value === undefined || random.chance(0.1)) request.value = this.value();
    if (random.chance(request.ignore_lease === undefined ? 0.25 : 0.1)) request.lease = this.lease();
    if (random.chance(0.4)) request.prev_kv = true;
    return request;
  }

  deleteRange(): SymbolicMessage {
    const interval = this.interval(0.7);
    return this.random.chance(0.4) ? { ...interval, prev_kv: true } : { ...interval };
  }

  compact(): SymbolicMessage {
    const random = this.random;
    const revision: RevisionReference = random.chance(0.75)
      ? { $revision: "head", delta: -random.below(random.pick([1, 5, 60])) }
      : random.pick<RevisionReference>([
          { $revision: "compact", delta: random.between(-2, 1) },
          { $revision: "head", delta: random.between(1, 2) },
          { $revision: "absolute", delta: random.pick([0, -1]) },
        ]);
    return random.chance(0.3) ? { revision, physical: true } : { revision };
  }

  /**
   * Terms long enough never to run out during a run: expiry is a matter of time and not compared. Terms below the
   * servers' least one are tried too; the runner revokes those leases at once.
   */
  leaseGrant(): SymbolicMessage {
    const random = this.random;
    if (random.chance(0.05)) return { TTL: random.pick([0, -1, 1, 2, 3]), ID: this.lease() };
    const ttl = random.chance(0.05)
      ? random.pick([9_000_000_000, 9_000_000_001, 2 ** 45])
      : random.between(5000, 6000);
    return random.chance(0.3) ? { TTL: ttl } : { TTL: ttl, ID: this.lease() };
  }

  txn(depth: number): SymbolicMessage {
    const random = this.random;
    if (depth === 0) this.#keepsValues = random.chance(0.5);
    const list = <T>(bound: number, make: () => T): T[] =>
      Array.from({ length: random.below(bound + 1) }, make);
    // Half of the transactions do without writes or without nesting, which stores treat in ways of their own.
    const readOnly = random.chance(0.15);
    const make = () => this.requestOp(depth, readOnly);
    return {
      compare: list(random.chance(0.5) ? 1 : 3, () => this.compare()),
      success: list(random.chance(0.5) ? 1 : 4, make),
      failure: list(random.chance(0.5) ? 1 : 4, make),
    };
  }

  requestOp(depth: number, readOnly: boolean): SymbolicMessage {
    const random = this.random;
    if (random.chance(0.005)) return {};
    const kind = readOnly ? 0 : random.below(10);
    if (kind < 3) return { request_range: this.range() };
    if (kind < 7) return { request_put: this.#txnPut() };
    if (kind < 9 || depth >= 3) return { request_delete_range: this.#txnDeleteRange() };
    return { request_txn: this.txn(depth + 1) };
  }

  #txnPut(): SymbolicMessage {
    const request = this.put();
    return this.#keepsValues ? request : { ...request, ignore_value: undefined, ignore_lease: undefined };
  }

  #txnDeleteRange(): SymbolicMessage {
    const request = this.deleteRange();
    const end = request.range_end;
    const odd = end !== undefined && String(end) <= String(request.key);
    return this.#keepsValues && odd ? { key: request.key } : request;
  }

  compare(): SymbolicMessage {
    const random = this.random;
    const target = random.chance(0.01) ? 9 : random.below(5);
    const result = random.chance(0.01) ? 9 : random.below(4);
    const interval = this.interval(0.75);
    const common = { result, target, ...interval };
    // Now and then the operand of another target, or none: servers must take it as zero.
    const operand = random.chance(0.04) ? random.below(6) : target;
    switch (operand) {
      case 0:
        return { ...common, version: random.chance(0.05) ? -1 : random.below(4) };
      case 1:
        return { ...common, create_revision: this.#operandRevision(interval.key) };
      case 2:
        return { ...common, mod_revision: this.#operandRevision(interval.key) };
      case 3:
        return { ...common, value: this.value() };
      case 4:
        return { ...common, lease: this.#operandLease(result) };
      default:
        return common;
    }
  }

  /** Which of two ids that a server chose is the lesser is chance, so an order is asked only of ids of ours. */
  #operandLease(result: number): LeaseReference {
    if (this.random.chance(0.4)) return { $lease: "id", number: 0 };
    const lease = this.lease();
    const ordered = result === 1 || result === 2;
    return ordered && lease.$lease === "chosen" ? { $lease: "id", number: 1000 } : lease;
  }

  #operandRevision(key: string): RevisionReference {
    const random = this.random;
    if (random.chance(0.3)) return { $revision: "absolute", delta: 0 };
    if (random.chance(0.7))
      return { $revision: "key", key, delta: random.chance(0.8) ? 0 : random.between(-1, 1) };
    return { $revision: "head", delta: -random.below(20) };
  }

  /** The transactions of a kube-apiserver: create, guarded update, guarded delete. */
  kubernetesTxn(): SymbolicMessage {
    const random = this.random;
    const key = this.key();
    const guard = (revision: RevisionReference): SymbolicMessage => ({
      result: 0,
      target: 2,
      key,
      mod_revision: revision,
    });
    const known: RevisionReference = { $revision: "key", key, delta: random.chance(0.9) ? 0 : -1 };
    const read = { request_range: { key } };
    const put = { request_put: { key, value: this.value() } };
    switch (random.below(3)) {
      case 0:
        return { compare: [guard({ $revision: "absolute", delta: 0 })], success: [put], failure: [] };
      case 1:
        return { compare: [guard(known)], success: [put], failure: [read] };
      default:
        return { compare: [guard(known)], success: [{ request_delete_range: { key } }], failure: [read] };
    }
  }

  /** At and above the limit of 128 operations, also spread over nested transactions. */
  hugeTxn(): SymbolicMessage {
    const random = this.random;
    const count = random.pick([127, 128, 129, 140]);
    const read = (): SymbolicMessage => ({ request_range: { key: this.key() } });
    const reads = (length: number): SymbolicMessage[] => Array.from({ length }, read);
    switch (random.below(4)) {
      case 0:
        return { success: reads(count) };
      case 1:
        return {
          success: Array.from({ length: count }, (_, i) => ({
            request_put: { key: `bulk/${i}`, value: "x" },
          })),
        };
      case 2:
        return { compare: Array.from({ length: count }, () => this.compare()), failure: [read()] };
      default:
        return { success: [...reads(random.below(4)), { request_txn: { success: reads(count - 2) } }] };
    }
  }
}

/** The end of the range of all keys with the prefix, "\0" (all that follow) when there is none. */
function prefixEnd(prefix: string): string {
  for (let i = prefix.length - 1; i >= 0; i--) {
    const code = prefix.charCodeAt(i);
    if (code < 255) return prefix.slice(0, i) + String.fromCharCode(code + 1);
  }
  return "\0";
}
