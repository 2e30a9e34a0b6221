/**
 * The store's rules once more, as plainly as they can be written: a whole copy of all keys per revision. The
 * tests hold the store against it.
 */
import { compareBytes } from "../base/bytes.ts";
import { checkPut, checkTxn } from "./request-checks.ts";
import type {
  Compare,
  DeleteRangeRequest,
  KeyValue,
  Operation,
  OperationResult,
  PutRequest,
  RangeRequest,
  RangeResult,
  RequestOp,
  ResponseOp,
  StoreErrorCode,
  TxnRequest,
} from "./types.ts";

type Keys = Map<string, KeyValue>;

interface ModelEvent {
  readonly type: "put" | "delete";
  readonly kv: KeyValue;
}

class Refused extends Error {
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode) {
    super(code);
    this.code = code;
  }
}

export class NaiveModel {
  revision = 1;
  compactRevision = -1;
  timeMs = 0;
  leases = new Map<bigint, { ttl: number; expiresAtMs: number; extended: boolean }>();
  /** All keys as of each revision. */
  states = new Map<number, Keys>([[1, new Map()]]);
  /** Changes of each revision. */
  changes = new Map<number, ModelEvent[]>();

  get keys(): Keys {
    return this.states.get(this.revision)!;
  }

  beginBatch(timeMs: number): void {
    this.timeMs = Math.max(timeMs, this.timeMs);
    const due = [...this.leases].filter(([, lease]) => lease.expiresAtMs <= this.timeMs);
    due.sort(([a, x], [b, y]) => x.expiresAtMs - y.expiresAtMs || (a < b ? -1 : 1));
    for (const [id, lease] of due) {
      if (!lease.extended && this.timeMs - lease.expiresAtMs > 1000) this.#renew(lease, true);
      else this.#revoke(id);
    }
  }

  execute(operation: Operation): OperationResult {
    try {
      return this.#execute(operation);
    } catch (error) {
      if (error instanceof Refused) return { type: "error", error: error.code };
      throw error;
    }
  }

  #execute(operation: Operation): OperationResult {
    switch (operation.type) {
      case "put":
      case "deleteRange": {
        const lease = operation.type === "put" ? operation.put.lease : 0n;
        // Mistakes in the request itself come before the lease, what is missing in the store after it.
        const wellFormed = operation.type !== "put" || checkPut(operation.put) === undefined;
        if (wellFormed && lease !== 0n && !this.leases.has(lease)) throw new Refused("leaseNotFound");
        const { responses } = this.#txn({ compare: [], success: [operation], failure: [] });
        const only = responses[0]!;
        return only as OperationResult;
      }
      case "txn": {
        const error = checkTxn(operation.txn);
        if (error !== undefined) throw new Refused(error);
        return { type: "txn", txn: this.#txn(operation.txn) };
      }
      case "compact":
        if (operation.revision <= this.compactRevision) throw new Refused("compacted");
        if (operation.revision > this.revision) throw new Refused("futureRevision");
        this.compactRevision = operation.revision;
        return { type: "compact", revision: this.revision };
      case "leaseGrant": {
        if (operation.ttlSeconds > 9_000_000_000) throw new Refused("leaseTtlTooLarge");
        if (this.leases.has(operation.id)) throw new Refused("leaseExists");
        const ttl = Math.max(operation.ttlSeconds, 2);
        this.leases.set(operation.id, { ttl, expiresAtMs: this.timeMs + ttl * 1000, extended: false });
        return { type: "leaseGrant", revision: this.revision, id: operation.id, ttlSeconds: ttl };
      }
      case "leaseRevoke":
        if (!this.leases.has(operation.id)) throw new Refused("leaseNotFound");
        this.#revoke(operation.id);
        return { type: "leaseRevoke", revision: this.revision };
      case "leaseKeepAlive": {
        const lease = this.leases.get(operation.id);
        if (lease !== undefined) this.#renew(lease, false);
        const { id } = operation;
        return { type: "leaseKeepAlive", revision: this.revision, id, ttlSeconds: lease?.ttl ?? 0 };
      }
      case "noop":
        return { type: "noop", revision: this.revision };
    }
  }

  #renew(lease: { ttl: number; expiresAtMs: number; extended: boolean }, extended: boolean): void {
    lease.expiresAtMs = this.timeMs + lease.ttl * 1000;
    lease.extended = extended;
  }

  #revoke(id: bigint): void {
    this.leases.delete(id);
    const keys = [...this.keys.values()].filter((kv) => kv.lease === id).map((kv) => kv.key);
    const success = keys.sort().map((key): RequestOp => {
      return { type: "deleteRange", deleteRange: { key, rangeEnd: "", prevKv: false } };
    });
    this.#txn({ compare: [], success, failure: [] });
  }

  #txn(txn: TxnRequest) {
    const before = this.keys;
    const path = this.#path(txn, before);
    this.#check(path.ops, before, new Map(before));
    const after = new Map(before);
    const events: ModelEvent[] = [];
    const responses = this.#apply(path.ops, after, events);
    if (events.length > 0) {
      this.revision++;
      this.states.set(this.revision, after);
      this.changes.set(this.revision, events);
    }
    return { revision: this.revision, succeeded: path.succeeded, responses };
  }

  /** The operations that run, nested ones replaced by what is chosen of them. */
  #path(txn: TxnRequest, before: Keys): { succeeded: boolean; ops: ModelOp[] } {
    const succeeded = txn.compare.every((compare) => holds(before, compare));
    const ops = (succeeded ? txn.success : txn.failure).map((op): ModelOp => {
      return op.type === "txn" ? { type: "path", ...this.#path(op.txn, before) } : op;
    });
    return { succeeded, ops };
  }

  #check(ops: readonly ModelOp[], before: Keys, rest: Keys): void {
    for (const op of ops) {
      if (op.type === "path") this.#check(op.ops, before, rest);
      if (op.type === "range" && op.range.revision !== 0) {
        if (op.range.revision > this.revision) throw new Refused("futureRevision");
        if (op.range.revision < this.compactRevision) throw new Refused("compacted");
      }
      if (op.type === "deleteRange") for (const kv of within(rest, op.deleteRange)) rest.delete(kv.key);
      if (op.type !== "put") continue;
      const { put } = op;
      if (put.key === "") throw new Refused("emptyKey");
      if (put.ignoreValue && put.value.length > 0) throw new Refused("valueProvided");
      if (put.ignoreLease && put.lease !== 0n) throw new Refused("leaseProvided");
      const keeps = put.ignoreValue || put.ignoreLease;
      if (keeps && !(before.has(put.key) && rest.has(put.key))) throw new Refused("keyNotFound");
      if (put.lease !== 0n && !this.leases.has(put.lease)) throw new Refused("leaseNotFound");
    }
  }

  #apply(ops: readonly ModelOp[], keys: Keys, events: ModelEvent[]): ResponseOp[] {
    return ops.map((op): ResponseOp => {
      const next = this.revision + 1;
      const visible = () => (events.length > 0 ? next : this.revision);
      if (op.type === "path") {
        const responses = this.#apply(op.ops, keys, events);
        return { type: "txn", txn: { revision: 0, succeeded: op.succeeded, responses } };
      }
      if (op.type === "range") return { type: "range", range: this.#range(op.range, keys, visible()) };
      if (op.type === "put") {
        const prevKv = op.put.prevKv ? keys.get(op.put.key) : undefined;
        applyPut(op.put, keys, next, events);
        return { type: "put", put: { revision: next, prevKv } };
      }
      const { deleteRange } = op;
      const found = within(keys, deleteRange);
      for (const { key } of found) {
        keys.delete(key);
        const kv = {
          key,
          createRevision: 0,
          modRevision: next,
          version: 0,
          value: new Uint8Array(0),
          lease: 0n,
        };
        events.push({ type: "delete", kv });
      }
      const prevKvs = deleteRange.prevKv ? found : [];
      return { type: "deleteRange", deleteRange: { revision: visible(), deleted: found.length, prevKvs } };
    });
  }

  range(request: RangeRequest): RangeResult | StoreErrorCode {
    if (request.revision > this.revision) return "futureRevision";
    if (request.revision > 0 && request.revision < this.compactRevision) return "compacted";
    return this.#range(request, this.keys, this.revision);
  }

  #range(request: RangeRequest, current: Keys, revision: number): RangeResult {
    const past = request.revision > 0 && request.revision < revision;
    const keys = past ? this.states.get(request.revision)! : current;
    const all = within(keys, request);
    if (request.countOnly) return { revision, kvs: [], more: false, count: all.length };
    let kvs = [...all];
    const { maxModRevision, minModRevision, maxCreateRevision, minCreateRevision } = request;
    const filtered = maxModRevision || minModRevision || maxCreateRevision || minCreateRevision;
    // etcd cuts to one more than the limit before it sorts when no order is given.
    if (request.limit > 0 && request.sortOrder === 0 && !filtered) kvs = kvs.slice(0, request.limit + 1);
    if (maxModRevision) kvs = kvs.filter((kv) => kv.modRevision <= maxModRevision);
    if (minModRevision) kvs = kvs.filter((kv) => kv.modRevision >= minModRevision);
    if (maxCreateRevision) kvs = kvs.filter((kv) => kv.createRevision <= maxCreateRevision);
    if (minCreateRevision) kvs = kvs.filter((kv) => kv.createRevision >= minCreateRevision);
    const field = (["key", "version", "createRevision", "modRevision", "value"] as const)[request.sortTarget];
    const order = (a: KeyValue, b: KeyValue) => {
      if (field === "value") return compareBytes(a.value, b.value);
      return a[field] < b[field] ? -1 : a[field] > b[field] ? 1 : 0;
    };
    kvs.sort((a, b) => (request.sortOrder === 2 ? order(b, a) : order(a, b)));
    const more = request.limit > 0 && kvs.length > request.limit;
    if (more) kvs = kvs.slice(0, request.limit);
    if (request.keysOnly) kvs = kvs.map((kv) => ({ ...kv, value: new Uint8Array(0) }));
    return { revision, kvs, more, count: all.length };
  }

  /** Events with their previous versions from a revision on. */
  events(from: number) {
    const list = [];
    for (let revision = Math.max(from, 2); revision <= this.revision; revision++) {
      const prev = revision - 1 >= this.compactRevision ? this.states.get(revision - 1) : undefined;
      for (const event of this.changes.get(revision)!) {
        // etcd looks for no version before a put that creates its key, also where a delete of the same
        // transaction made room for it (IsCreateEvent in api/mvccpb).
        const creates = event.type === "put" && event.kv.createRevision === event.kv.modRevision;
        list.push({ type: event.type, kv: event.kv, prevKv: creates ? undefined : prev?.get(event.kv.key) });
      }
    }
    return list;
  }
}

type ModelOp =
  | Exclude<RequestOp, { type: "txn" }>
  | { readonly type: "path"; readonly succeeded: boolean; readonly ops: readonly ModelOp[] };

function applyPut(put: PutRequest, keys: Keys, revision: number, events: ModelEvent[]): void {
  const before = keys.get(put.key);
  const kv: KeyValue = {
    key: put.key,
    createRevision: before?.createRevision ?? revision,
    modRevision: revision,
    version: (before?.version ?? 0) + 1,
    value: put.ignoreValue ? before!.value : put.value,
    lease: put.ignoreLease ? before!.lease : put.lease,
  };
  keys.set(put.key, kv);
  events.push({ type: "put", kv });
}

function within(keys: Keys, range: Pick<DeleteRangeRequest, "key" | "rangeEnd">): KeyValue[] {
  const { key: from, rangeEnd: end } = range;
  const inside = (key: string) =>
    end === "" ? key === from : end === "\0" ? key >= from : key >= from && key < end;
  const found = [...keys.values()].filter((kv) => inside(kv.key));
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}

function holds(keys: Keys, compare: Compare): boolean {
  const found = within(keys, compare);
  if (found.length === 0 && compare.target === 3) return false;
  const subjects = found.length > 0 ? found : [undefined];
  return subjects.every((kv) => {
    const own = [kv?.version ?? 0, kv?.createRevision ?? 0, kv?.modRevision ?? 0, 0, kv?.lease ?? 0n][
      compare.target
    ]!;
    const given = compare.target === 4 ? compare.lease : compare.number;
    const order =
      compare.target === 3 ? compareBytes(kv!.value, compare.value) : own < given ? -1 : own > given ? 1 : 0;
    return [order === 0, order > 0, order < 0, order !== 0][compare.result]!;
  });
}
