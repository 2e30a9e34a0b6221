/**
 * Random operations, all from one seed. Swarm style: for some thousand operations at a time some kinds of
 * operation are left out and the others weighted at random, over a small set of keys of their own; so that runs
 * get far into corners (many deletes, only leases, huge transactions) that an even mix never reaches.
 */
import type { Operation, RevisionReference, SymbolicMessage } from "./operation.ts";
import { RequestGenerator } from "./request-generator.ts";

type Maker = (generator: Generator) => Operation;

/** Every kind of operation with its usual weight. */
const makers: { readonly [name: string]: readonly [number, Maker] } = {
  range: [30, (g) => g.call("range", g.range())],
  put: [22, (g) => g.call("put", g.put())],
  deleteRange: [8, (g) => g.call("deleteRange", g.deleteRange())],
  txn: [16, (g) => g.call("txn", g.txn(0))],
  kubernetes: [6, (g) => g.call("txn", g.kubernetesTxn())],
  hugeTxn: [0.3, (g) => g.call("txn", g.hugeTxn())],
  compact: [0.5, (g) => g.call("compact", g.compact())],
  leaseGrant: [1.5, (g) => g.call("leaseGrant", g.leaseGrant())],
  leaseRevoke: [1, (g) => g.call("leaseRevoke", { ID: g.lease() })],
  leaseKeepAlive: [1, (g) => g.call("leaseKeepAlive", { ID: g.lease() })],
  leaseTimeToLive: [2, (g) => g.call("leaseTimeToLive", { ID: g.lease(), keys: g.random.chance(0.6) })],
  leaseLeases: [0.5, (g) => g.call("leaseLeases", {})],
  alarm: [0.2, (g) => g.call("alarm", { action: 0 })],
  big: [0.2, (g) => g.big()],
  watch: [2, (g) => g.watch()],
  watchCancel: [0.8, (g) => g.watchCancel()],
  watchProgress: [0.5, (g) => ({ kind: "watchProgress", stream: g.random.below(streamCount) })],
  watchClose: [0.2, (g) => ({ kind: "watchClose", stream: g.random.below(streamCount) })],
};

const streamCount = 6;
const epochOperations = 1500;

export class Generator extends RequestGenerator {
  #weights: readonly (readonly [number, Maker])[] = [];
  #weightSum = 0;
  #left = 0;

  next(): Operation {
    if (this.#left === 0) this.#startEpoch();
    this.#left -= 1;
    let point = (this.random.u32() / 0x100000000) * this.#weightSum;
    for (const [weight, maker] of this.#weights) {
      point -= weight;
      if (point < 0) return maker(this);
    }
    return makers.range![1](this);
  }

  #startEpoch(): void {
    const random = this.random;
    this.#left = random.between(epochOperations / 2, epochOperations * 2);
    const weights: (readonly [number, Maker])[] = [];
    for (const [weight, maker] of Object.values(makers)) {
      if (random.chance(0.15)) continue;
      weights.push([weight * 2 ** random.between(-2, 2), maker]);
    }
    this.#weights = weights;
    this.#weightSum = weights.reduce((sum, [weight]) => sum + weight, 0);
    this.changeKeys();
  }

  call(rpc: Extract<Operation, { kind: "call" }>["rpc"], request: SymbolicMessage): Operation {
    return { kind: "call", rpc, member: this.random.below(16), request };
  }

  /** Big values, requests above the limits, and deletes of many big values at once (watchers get fragments). */
  big(): Operation {
    const random = this.random;
    const kib = 1024;
    switch (random.below(16)) {
      case 0:
        return this.call("put", { key: this.key(), value: { $fill: "L", sizeBytes: 1600 * kib } });
      case 1:
        return this.call("put", { key: this.key(), value: { $fill: "M", sizeBytes: 2300 * kib } });
      case 2:
        return this.call("deleteRange", { key: "big/", range_end: "big0", prev_kv: random.chance(0.3) });
      default:
        return this.call("put", {
          key: `big/${random.below(8)}`,
          value: { $fill: random.pick(["a", "b"]), sizeBytes: 400 * kib },
        });
    }
  }

  watch(): Operation {
    const random = this.random;
    const request: { [field: string]: SymbolicMessage[string] } = this.interval(0.2);
    // A short prefix of big keys now and then, to see what the big deletes bring.
    if (random.chance(0.1)) Object.assign(request, { key: "big/", range_end: "big0" });
    if (random.chance(0.6)) request.prev_kv = true;
    if (random.chance(0.3)) request.fragment = true;
    if (random.chance(0.3)) request.progress_notify = true;
    if (random.chance(0.25)) request.filters = random.pick(["\0", "\x01", "\0\x01", "\x01\x01"]);
    if (random.chance(0.15)) request.watch_id = random.between(1, 5);
    const member = random.below(16);
    const stream = random.below(streamCount);
    switch (random.below(6)) {
      case 0:
        request.start_revision = random.pick<RevisionReference>([
          { $revision: "head", delta: -random.below(200) },
          { $revision: "head", delta: -random.below(5) },
          { $revision: "compact", delta: random.below(4) },
        ]);
        break;
      case 1:
        request.start_revision = random.pick<RevisionReference>([
          { $revision: "head", delta: random.between(1, 30) },
          { $revision: "compact", delta: -random.between(1, 3) },
          { $revision: "absolute", delta: random.pick([1, -1, -3]) },
        ]);
        break;
      default:
    }
    return { kind: "watch", stream, member, request };
  }

  watchCancel(): Operation {
    const random = this.random;
    return {
      kind: "watchCancel",
      stream: random.below(streamCount),
      nth: random.below(16),
      unknown: random.chance(0.1),
    };
  }
}
