/**
 * A small cluster in one process for unit tests: messages arrive in order after one millisecond, logs are
 * durable at once. The simulator (simulator/) is the place for everything else.
 */
import { toHex } from "../../base/bytes.ts";
import type { Hasher, Signer, Verifier } from "../../base/crypto.ts";
import { type Member, Membership } from "../../consensus/membership.ts";
import { encodeMessage, type Message } from "../../consensus/messages.ts";
import type { ConsensusOptions } from "../../consensus/options.ts";
import { MemoryEngine } from "../../storage/memory-engine.ts";
import type { Operation, OperationResult } from "../../store/types.ts";
import type { LogRecord, LogRecovery, ReplicaOutput, TraceEvent } from "../contract.ts";
import { Replica } from "../replica.ts";

/** A quick 32-byte hash without cryptographic strength. */
export const testHasher: Hasher = {
  hash(...parts) {
    const state = new Uint32Array([0x9e3779b9, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f, 1, 2, 3, 4]);
    let lane = 0;
    for (const part of parts) {
      for (const byte of part) {
        lane = (lane + 1) & 7;
        state[lane] = Math.imul(state[lane]! ^ byte, 0x01000193) + state[(lane + 7) & 7]!;
      }
    }
    for (let round = 0; round < 32; round++) {
      const i = round & 7;
      const mixed = state[i]! ^ (state[(i + 7) & 7]! >>> 15);
      state[i] = Math.imul(mixed, 0x85ebca6b) ^ (mixed >>> 13);
    }
    return new Uint8Array(state.buffer.slice(0));
  },
};

export function testSigner(member: number): Signer {
  return {
    sign(statement) {
      const digest = testHasher.hash(new Uint8Array([member]), statement);
      const signature = new Uint8Array(64);
      signature.set(digest);
      signature.set(digest, 32);
      return signature;
    },
  };
}

export const testVerifier: Verifier = {
  verify(publicKey, statement, signature) {
    return toHex(testSigner(publicKey[0]!).sign(statement)) === toHex(signature);
  },
};

export function testMembership(n: number): Membership {
  const members: Member[] = Array.from({ length: n }, (_, i) => ({
    name: `m${i}`,
    id: BigInt(i + 1),
    publicKey: new Uint8Array(32).fill(i),
  }));
  return new Membership(1n, 1, members, testHasher);
}

interface Node {
  replica: Replica;
  engine: MemoryEngine;
  log: LogRecord[];
  /** Records up to this one are on disk; a crash loses the others. */
  durable: number;
  /** Up to this one the replica asked for it. */
  asked: number;
  diskStalls: boolean;
  up: boolean;
  incarnation: number;
}

export class TestCluster {
  readonly membership: Membership;
  readonly nodes: Node[] = [];
  readonly traces: { readonly member: number; readonly event: TraceEvent }[] = [];
  readonly results = new Map<number, OperationResult | string>();
  /** Messages for which this returns true are lost. */
  drop: (from: number, to: number, bytes: Uint8Array) => boolean = () => false;
  /** What leaves instead of a message: how a member is made to lie. Undefined leaves it as it is. */
  alter: (from: number, to: number, bytes: Uint8Array) => readonly Uint8Array[] | undefined = () => undefined;
  /** Sees every output of every member, in order. */
  observe: (member: number, output: ReplicaOutput) => void = () => {};
  now = 1_000;
  #queue: { readonly from: number; readonly to: number; readonly bytes: Uint8Array }[] = [];
  #nextId = 1;
  readonly #options: (member: number) => Partial<ConsensusOptions>;

  /** @param options for all members, or for each by its index */
  constructor(
    n = 4,
    options: Partial<ConsensusOptions> | ((member: number) => Partial<ConsensusOptions>) = {},
  ) {
    this.membership = testMembership(n);
    this.#options = typeof options === "function" ? options : () => options;
    for (let i = 0; i < n; i++) {
      const engine = new MemoryEngine();
      const disk = { log: [], durable: 0, asked: 0, diskStalls: false };
      const node = { engine, ...disk, up: true, incarnation: 1 } as Partial<Node> as Node;
      this.nodes.push(node);
      node.replica = this.#make(i, "fresh");
    }
    for (let i = 0; i < n; i++) this.#linkAll(i);
  }

  #make(self: number, state: LogRecovery["state"]): Replica {
    const node = this.nodes[self]!;
    return new Replica({
      membership: this.membership,
      self,
      signer: testSigner(self),
      verifier: testVerifier,
      hasher: testHasher,
      engine: node.engine,
      incarnation: node.incarnation,
      recovery: { records: [...node.log], nextSequence: (node.log.at(-1)?.sequence ?? 0) + 1, state },
      // The least: transfers of states begin soonest. No fast instances, where a test does not ask for them.
      options: { keptCheckpoints: 1, certifyInstances: 1, ...this.#options(self) },
    });
  }

  #linkAll(self: number): void {
    for (let peer = 0; peer < this.nodes.length; peer++) {
      if (peer === self || !this.nodes[peer]!.up) continue;
      this.#step(self, { type: "linkUp", peer });
      this.#step(peer, { type: "linkUp", peer: self });
    }
  }

  #step(self: number, input: Parameters<Replica["step"]>[0]): void {
    const node = this.nodes[self]!;
    if (!node.up) return;
    const out: ReplicaOutput[] = [];
    node.replica.step(input, { monotonicMs: this.now, wallMs: 1_700_000_000_000 + this.now }, out);
    let durable = 0;
    for (const output of out) {
      this.observe(self, output);
      if (output.type === "send") {
        for (const bytes of this.alter(self, output.to, output.bytes) ?? [output.bytes]) {
          this.#queue.push({ from: self, to: output.to, bytes });
        }
      } else if (output.type === "append") {
        node.log.push({ sequence: output.sequence, record: output.record });
        if (output.sync) durable = output.sequence;
      } else if (output.type === "truncate") {
        node.log = node.log.filter((record) => record.sequence >= output.before);
      } else if (output.type === "trace") this.traces.push({ member: self, event: output.event });
      else if (output.type === "result") this.results.set(output.id, output.result);
      else if (output.type === "failed") this.results.set(output.id, output.reason);
      else if (output.type === "fenced") this.results.set(output.id, "fenced");
    }
    if (durable > 0) node.asked = durable;
    this.#syncDisk(self);
  }

  #syncDisk(self: number): void {
    const node = this.nodes[self]!;
    if (node.diskStalls || node.asked <= node.durable) return;
    node.durable = node.asked;
    this.#step(self, { type: "durable", sequence: node.durable });
  }

  /** While it stalls nothing that the member appends reaches its disk. */
  stallDisk(member: number, stalls: boolean): void {
    this.nodes[member]!.diskStalls = stalls;
    this.#syncDisk(member);
  }

  /** A message that `from` did not think of itself; `alter` does not see it. */
  send(from: number, to: number, message: Message | Uint8Array): void {
    const bytes = message instanceof Uint8Array ? message : encodeMessage(message);
    this.#queue.push({ from, to, bytes });
  }

  submit(member: number, operation: Operation): number {
    const id = this.#nextId++;
    this.#step(member, { type: "submit", id, operation });
    return id;
  }

  fence(member: number): number {
    const id = this.#nextId++;
    this.#step(member, { type: "fence", id });
    return id;
  }

  kill(member: number): void {
    this.nodes[member]!.up = false;
    for (let peer = 0; peer < this.nodes.length; peer++) {
      if (peer !== member) this.#step(peer, { type: "linkDown", peer: member });
    }
  }

  /** kill -9 with a loss of power: records that nobody asked to sync are gone. */
  crash(member: number): void {
    this.kill(member);
    const node = this.nodes[member]!;
    node.log = node.log.filter(({ sequence }) => sequence <= node.durable);
  }

  start(member: number, state: "clean" | "uncertain" | "lost" = "clean"): void {
    const node = this.nodes[member]!;
    node.incarnation += 1;
    node.up = true;
    if (state === "lost") {
      node.log = [];
      node.durable = 0;
      node.asked = 0;
      node.engine = new MemoryEngine();
    }
    node.replica = this.#make(member, state);
    this.#linkAll(member);
  }

  /** Lets time pass in steps of one millisecond. */
  run(durationMs: number): void {
    for (let i = 0; i < durationMs; i++) {
      this.now += 1;
      const messages = this.#queue;
      this.#queue = [];
      for (const { from, to, bytes } of messages) {
        if (!this.nodes[from]!.up || this.drop(from, to, bytes)) continue;
        this.#step(to, { type: "message", from, bytes });
      }
      for (let self = 0; self < this.nodes.length; self++) {
        if (this.now % 10 === 0) this.#step(self, { type: "tick" });
        this.#step(self, { type: "work" });
      }
    }
  }
}

/** A put of short texts. */
export function put(key: string, value: string): Operation {
  return {
    type: "put",
    put: {
      key,
      value: Uint8Array.from(value, (c) => c.charCodeAt(0)),
      lease: 0n,
      prevKv: false,
      ignoreValue: false,
      ignoreLease: false,
    },
  };
}
