/**
 * Checks leases exactly, by agreed time: a model of them executes the decided operations, each at the decided time of
 * its instance. Every answer about a lease, every key that goes with one, and the leases that members were seen to
 * have must be the model's. Where an instance is not known the check ends; what was not tied to an instance (the
 * process died over its answer) is left out.
 */
import type { MemberIndex } from "../../replica/contract.ts";
import type { Operation, OperationResult, PutRequest } from "../../store/types.ts";
import type { ClientRecord, Report } from "../history.ts";
import type { DecidedBatch } from "./decided-log.ts";
import { LEASED_PREFIX } from "./exactly-once.ts";
import { describeRecord } from "./linearizability.ts";
import { valueTag } from "./validity.ts";

/** etcd's least time to live. */
const TTL_MIN_SECONDS = 2;
/** A lease that is overdue by more gets its whole time again, once until it is renewed. */
const OVERDUE_MS_MAX = 1000;

/** The leases that a member was seen to have after an instance. */
export interface LeaseSighting {
  readonly member: MemberIndex;
  readonly cid: number;
  /** Agreed time of expiry by lease. */
  readonly leases: ReadonlyMap<bigint, number>;
}

export interface AgreedLeaseParts {
  readonly batch: (cid: number) => DecidedBatch | undefined;
  readonly lastCid: number;
  readonly records: readonly ClientRecord[];
  readonly sightings: readonly LeaseSighting[];
  /** Keys below the prefix of leased ones that an instance deleted; undefined when that is not known. */
  readonly deletedIn: (cid: number) => readonly string[] | undefined;
}

interface ModelLease {
  readonly ttlSeconds: number;
  expiresAtMs: number;
  extended: boolean;
}

class LeaseModel {
  readonly leases = new Map<bigint, ModelLease>();
  readonly #leaseOfKey = new Map<string, bigint>();
  /** Keys that went with a lease in the present instance. */
  removed = new Set<string>();
  #timeMs = 0;

  begin(timestampMs: number): void {
    this.removed = new Set();
    this.#timeMs = Math.max(this.#timeMs, timestampMs);
    for (const [id, lease] of this.leases) {
      if (lease.expiresAtMs > this.#timeMs) continue;
      if (!lease.extended && this.#timeMs - lease.expiresAtMs > OVERDUE_MS_MAX) this.#renew(lease, true);
      else this.#remove(id);
    }
  }

  #renew(lease: ModelLease, extended: boolean): void {
    lease.expiresAtMs = this.#timeMs + lease.ttlSeconds * 1000;
    lease.extended = extended;
  }

  #remove(id: bigint): void {
    this.leases.delete(id);
    for (const [key, lease] of this.#leaseOfKey) {
      if (lease !== id) continue;
      this.#leaseOfKey.delete(key);
      this.removed.add(key);
    }
  }

  /** Executes it; what its answer has to be, or undefined when it is not about leases. */
  execute(operation: Operation): string | undefined {
    switch (operation.type) {
      case "leaseGrant": {
        if (this.leases.has(operation.id)) return "error leaseExists";
        const ttlSeconds = Math.max(operation.ttlSeconds, TTL_MIN_SECONDS);
        const expiresAtMs = this.#timeMs + ttlSeconds * 1000;
        this.leases.set(operation.id, { ttlSeconds, expiresAtMs, extended: false });
        return `leaseGrant ${ttlSeconds}`;
      }
      case "leaseKeepAlive": {
        const lease = this.leases.get(operation.id);
        if (lease !== undefined) this.#renew(lease, false);
        return `leaseKeepAlive ${lease?.ttlSeconds ?? 0}`;
      }
      case "leaseRevoke":
        if (!this.leases.has(operation.id)) return "error leaseNotFound";
        this.#remove(operation.id);
        return "leaseRevoke";
      case "put":
        return this.#put(operation.put);
      default:
        return undefined;
    }
  }

  #put({ key, lease }: PutRequest): string | undefined {
    if (lease !== 0n && !this.leases.has(lease)) return "error leaseNotFound";
    if (lease === 0n) {
      this.#leaseOfKey.delete(key);
      return undefined;
    }
    this.#leaseOfKey.set(key, lease);
    return "put";
  }
}

/** What an answer says of leases, as the model says it. */
function saidOf(result: OperationResult): string {
  if (result.type === "error") return `error ${result.error}`;
  if (result.type === "leaseGrant" || result.type === "leaseKeepAlive")
    return `${result.type} ${result.ttlSeconds}`;
  return result.type;
}

/** Names a request about a lease, the same as its operation where it is executed; undefined for others. */
function nameOf(operation: Operation): string | undefined {
  if (operation.type === "put") return `put ${operation.put.key} ${valueTag(operation.put.value)}`;
  if (operation.type === "leaseGrant" || operation.type === "leaseRevoke") {
    return `${operation.type} ${operation.id}`;
  }
  return operation.type === "leaseKeepAlive" ? `${operation.type} ${operation.id}` : undefined;
}

export function checkAgreedLeases(parts: AgreedLeaseParts, report: Report): void {
  const violation = (message: string) => report({ checker: "leases", message });
  const records = groupBy(parts.records.filter(isAnswered), ({ executedIn }) => executedIn!);
  const sightings = groupBy(parts.sightings, ({ cid }) => cid);
  const model = new LeaseModel();
  for (let cid = 1; cid <= parts.lastCid; cid++) {
    const batch = parts.batch(cid);
    if (batch === undefined) return;
    model.begin(batch.timestampMs);
    const expected = new Map<string, string[]>();
    for (const operation of batch.operations) {
      const answer = model.execute(operation);
      const name = answer === undefined ? undefined : nameOf(operation);
      if (name !== undefined) expected.set(name, [...(expected.get(name) ?? []), answer!]);
    }
    for (const record of records.get(cid) ?? []) {
      const wrong = checkAnswer(record, expected);
      if (wrong !== undefined) violation(`instance ${cid}, ${describeRecord(record)}: ${wrong}`);
    }
    const deleted = parts.deletedIn(cid);
    if (deleted !== undefined) checkDeleted(deleted, model.removed, cid, violation);
    for (const sighting of sightings.get(cid) ?? []) checkSighting(sighting, model, violation);
  }
}

function isAnswered({ trusted, outcome, executedIn }: ClientRecord): boolean {
  return trusted && outcome?.type === "written" && executedIn !== undefined;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => number): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

function checkAnswer(record: ClientRecord, expected: Map<string, string[]>): string | undefined {
  const { request, outcome } = record;
  if (request.type !== "write" || outcome?.type !== "written") return undefined;
  const name = nameOf(request.operation);
  if (name === undefined) return undefined;
  // A client's requests of one kind for one lease are executed and answered in one order.
  const answer = expected.get(name)?.shift();
  const said = saidOf(outcome.result);
  if (answer === undefined || answer === said) return undefined;
  return `answered "${said}" instead of "${answer}"`;
}

function checkDeleted(
  deleted: readonly string[],
  removed: ReadonlySet<string>,
  cid: number,
  violation: (message: string) => void,
): void {
  const unexplained = deleted.filter((key) => !removed.has(key));
  if (unexplained.length > 0) {
    violation(`instance ${cid} deletes ${unexplained.join(", ")}, whose lease is alive by agreed time`);
  }
  const left = [...removed].filter((key) => key.startsWith(LEASED_PREFIX) && !deleted.includes(key));
  if (left.length > 0) violation(`instance ${cid} keeps ${left.join(", ")}, whose lease ends in it`);
}

function checkSighting(
  { member, cid, leases }: LeaseSighting,
  model: LeaseModel,
  violation: (message: string) => void,
): void {
  for (const id of new Set([...leases.keys(), ...model.leases.keys()])) {
    const has = leases.get(id);
    const should = model.leases.get(id)?.expiresAtMs;
    if (has === should) continue;
    violation(
      `after instance ${cid} lease ${id} ends at ${has ?? "no time (gone)"} at member ${member}, ` +
        `by agreed time at ${should ?? "no time (gone)"}`,
    );
    return;
  }
}
