/** Draws what a client asks for next: random etcd requests over a small set of keys that all fight over. */
import { fromByteString } from "../base/bytes.ts";
import type { Prng } from "../base/prng.ts";
import { type Compare, CompareResult, CompareTarget, type PutRequest } from "../store/types.ts";
import { LEASED_PREFIX } from "./checkers/exactly-once.ts";
import { byzantineMark } from "./checkers/validity.ts";
import type { ClientRecord, ClientRequest } from "./history.ts";
import { REQUEST_KINDS, type RequestKind, type WorkloadOptions } from "./options.ts";
import { plainRange } from "./store-view.ts";

/** Leases that one client tends at a time. */
const LEASES_MAX = 4;

export class Workload {
  readonly #client: number;
  readonly #prng: Prng;
  readonly #options: WorkloadOptions;
  readonly #mark: string;
  readonly #kinds: readonly RequestKind[];
  readonly #weightTotal: number;
  /** Mod revision of keys as this client saw them last. */
  readonly #seen = new Map<string, number>();
  #leases: bigint[] = [];
  #revision = 1;
  #counter = 0;

  /** @param trusted false for a client of a Byzantine member: its values carry that member's mark */
  constructor(client: number, member: number, trusted: boolean, prng: Prng, options: WorkloadOptions) {
    this.#client = client;
    this.#prng = prng;
    this.#options = options;
    this.#mark = trusted ? "" : byzantineMark(member);
    // A Byzantine member may repeat or change what its clients ask, and only values carry a mark.
    const harmless: readonly RequestKind[] = ["put", "compareAndPut", "readOne", "readAll", "noop"];
    this.#kinds = trusted ? REQUEST_KINDS : harmless;
    this.#weightTotal = this.#kinds.reduce((sum, kind) => sum + options.weights[kind], 0);
  }

  next(): ClientRequest {
    let at = this.#prng.below(this.#weightTotal);
    for (const kind of this.#kinds) {
      at -= this.#options.weights[kind];
      if (at < 0) return this.#draw(kind);
    }
    return this.put();
  }

  put(): ClientRequest {
    return { type: "write", operation: { type: "put", put: this.#putRequest(this.#key(), 0n) } };
  }

  readAll(): ClientRequest {
    return { type: "read", range: plainRange("\0", "\0"), fenced: true };
  }

  #draw(kind: RequestKind): ClientRequest {
    switch (kind) {
      case "put":
        return this.put();
      case "compareAndPut":
        return this.#compareAndPut();
      case "deleteOne":
        return this.#delete(this.#key(), "");
      case "deleteRange": {
        const from = this.#prng.below(this.#options.keys);
        return this.#delete(keyName(from), keyName(from + this.#prng.between(1, 5)));
      }
      case "readOne":
        return { type: "read", range: plainRange(this.#key(), ""), fenced: true };
      case "readAll":
        return this.readAll();
      case "readPast": {
        const revision = Math.max(1, this.#revision - this.#prng.below(20));
        return { type: "read", range: plainRange("k/", "k0", revision, this.#prng.below(4)), fenced: true };
      }
      case "readLocal":
        return { type: "read", range: plainRange("k/", "k0", 0, this.#prng.below(4)), fenced: false };
      case "compact":
        return {
          type: "write",
          operation: { type: "compact", revision: Math.max(1, this.#revision - 10 - this.#prng.below(40)) },
        };
      case "noop":
        return { type: "write", operation: { type: "noop" } };
      default:
        return this.#leaseRequest(kind);
    }
  }

  #leaseRequest(kind: "leaseGrant" | "leasedPut" | "leaseKeepAlive" | "leaseRevoke"): ClientRequest {
    const prng = this.#prng;
    if (kind === "leaseGrant" || this.#leases.length === 0) {
      // Ids are drawn before ordering; a client's own are never used twice.
      const id = BigInt(this.#client * 1_000_000 + ++this.#counter);
      const ttlSeconds = prng.between(1, this.#options.leaseTtlSecondsMax);
      return { type: "write", operation: { type: "leaseGrant", id, ttlSeconds } };
    }
    const id = prng.pick(this.#leases);
    if (kind === "leasedPut") {
      // Two keys a lease and client, so that keys move from lease to lease.
      const key = `${LEASED_PREFIX}${this.#client}/${prng.below(2 * LEASES_MAX)}`;
      return { type: "write", operation: { type: "put", put: this.#putRequest(key, id) } };
    }
    if (kind === "leaseRevoke") this.#leases = this.#leases.filter((lease) => lease !== id);
    return { type: "write", operation: { type: kind, id } };
  }

  #key(): string {
    return keyName(this.#prng.below(this.#options.keys));
  }

  #putRequest(key: string, lease: bigint): PutRequest {
    const tag = `${this.#mark}c${this.#client}.${++this.#counter}|`;
    const padding = ".".repeat(this.#prng.below(Math.max(1, this.#options.valueSizeBytesMax - tag.length)));
    const value = fromByteString(tag + padding);
    return { key, value, lease, prevKv: this.#prng.chance(0.3), ignoreValue: false, ignoreLease: false };
  }

  #compareAndPut(): ClientRequest {
    const key = this.#key();
    const compare: Compare = {
      result: this.#prng.chance(0.9) ? CompareResult.equal : CompareResult.less,
      target: CompareTarget.mod,
      key,
      rangeEnd: "",
      number: this.#seen.get(key) ?? 0,
      lease: 0n,
      value: new Uint8Array(0),
    };
    const put = { type: "put", put: this.#putRequest(key, 0n) } as const;
    const range = { type: "range", range: plainRange(key, "") } as const;
    return {
      type: "write",
      operation: { type: "txn", txn: { compare: [compare], success: [put], failure: [range] } },
    };
  }

  #delete(key: string, rangeEnd: string): ClientRequest {
    return {
      type: "write",
      operation: { type: "deleteRange", deleteRange: { key, rangeEnd, prevKv: false } },
    };
  }

  /** Takes note of an answer, so that later requests are about something that is there. */
  learn(record: ClientRecord): void {
    const { outcome, request } = record;
    if (outcome?.type === "read") {
      this.#revision = Math.max(this.#revision, outcome.result.revision);
      for (const kv of outcome.result.kvs) this.#seen.set(kv.key, kv.modRevision);
    }
    if (outcome?.type !== "written" || request.type !== "write") return;
    const { result } = outcome;
    if (result.type === "put" && request.operation.type === "put") {
      this.#revision = Math.max(this.#revision, result.put.revision);
      this.#seen.set(request.operation.put.key, result.put.revision);
    }
    if (result.type === "txn") {
      this.#revision = Math.max(this.#revision, result.txn.revision);
      for (const response of result.txn.responses) {
        if (response.type === "range")
          for (const kv of response.range.kvs) this.#seen.set(kv.key, kv.modRevision);
      }
    }
    if (result.type === "leaseGrant") this.#leases = [...this.#leases, result.id].slice(-LEASES_MAX);
    if (result.type === "leaseKeepAlive" && result.ttlSeconds === 0) {
      this.#leases = this.#leases.filter((lease) => lease !== result.id);
    }
  }
}

function keyName(index: number): string {
  return `k/${String(index).padStart(2, "0")}`;
}
