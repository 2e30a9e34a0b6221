/**
 * One real replica, with the test in the place of all other members: it says what they say, and looks at what
 * this one answers.
 */

import { decodeMessage, encodeMessage, type Message } from "../../consensus/messages.ts";
import type { ConsensusOptions } from "../../consensus/options.ts";
import { MemoryEngine } from "../../storage/memory-engine.ts";
import type { LogRecord, LogRecovery, ReplicaInput, ReplicaOutput, TraceEvent } from "../contract.ts";
import { Replica } from "../replica.ts";
import { testHasher, testMembership, testSigner, testVerifier } from "./cluster.ts";
import { Forge, type MessageOf, WALL_START_MS } from "./forge.ts";

export interface SoloSetup {
  readonly n?: number;
  readonly self?: number;
  readonly options?: Partial<ConsensusOptions>;
}

export class Solo {
  readonly forge: Forge;
  readonly self: number;
  replica: Replica;
  /** What it sent since the last `forget`. */
  sent: { readonly to: number; readonly bytes: Uint8Array; readonly message: Message }[] = [];
  traces: TraceEvent[] = [];
  /** What its log holds; records beyond `durable` are lost in a crash. */
  log: LogRecord[] = [];
  durable = 0;
  /** While true nothing it appends reaches the disk. */
  diskStalls = false;
  now = 1_000;
  #asked = 0;
  #incarnation = 1;
  readonly #engine = new MemoryEngine();
  readonly #options: Partial<ConsensusOptions>;

  constructor({ n = 4, self = 3, options = {} }: SoloSetup = {}) {
    this.forge = new Forge(testMembership(n));
    this.self = self;
    this.#options = options;
    this.replica = this.#make("fresh");
    this.#start();
  }

  #make(state: LogRecovery["state"]): Replica {
    return new Replica({
      membership: this.forge.membership,
      self: this.self,
      signer: testSigner(this.self),
      verifier: testVerifier,
      hasher: testHasher,
      engine: this.#engine,
      incarnation: this.#incarnation,
      recovery: { records: [...this.log], nextSequence: (this.log.at(-1)?.sequence ?? 0) + 1, state },
      options: this.#options,
    });
  }

  #start(): void {
    for (let peer = 0; peer < this.forge.membership.n; peer++) {
      if (peer === this.self) continue;
      this.step({ type: "linkUp", peer });
      this.receive(peer, { type: "heartbeat", regency: this.replica.regency, decided: 0 });
    }
  }

  /** kill -9 and a new start: what was not on disk is gone. */
  restart(state: LogRecovery["state"] = "clean"): void {
    this.log = state === "lost" ? [] : this.log.filter(({ sequence }) => sequence <= this.durable);
    this.#incarnation += 1;
    this.diskStalls = false;
    this.forget();
    this.replica = this.#make(state);
    this.#start();
  }

  /** Forgets what was sent and traced so far. */
  forget(): void {
    this.sent = [];
    this.traces = [];
  }

  step(input: ReplicaInput): void {
    const out: ReplicaOutput[] = [];
    this.replica.step(input, { monotonicMs: this.now, wallMs: WALL_START_MS + this.now }, out);
    for (const output of out) {
      if (output.type === "send") {
        this.sent.push({ to: output.to, bytes: output.bytes, message: decodeMessage(output.bytes) });
      } else if (output.type === "append") {
        this.log.push({ sequence: output.sequence, record: output.record });
        if (output.sync) this.#asked = output.sequence;
      } else if (output.type === "truncate") {
        this.log = this.log.filter(({ sequence }) => sequence >= output.before);
      } else if (output.type === "trace") this.traces.push(output.event);
    }
    if (!this.diskStalls) this.syncDisk();
  }

  /** Everything appended so far reaches the disk. */
  syncDisk(): void {
    if (this.#asked <= this.durable) return;
    this.durable = this.#asked;
    this.step({ type: "durable", sequence: this.durable });
  }

  receive(from: number, ...messages: readonly (Message | Uint8Array)[]): void {
    for (const message of messages) {
      const bytes = message instanceof Uint8Array ? message : encodeMessage(message);
      this.step({ type: "message", from, bytes });
    }
    this.step({ type: "work" });
  }

  /** Lets time pass; the other members are alive and know nothing new. */
  run(durationMs: number, heartbeats: { regency?: number; decided?: number; silent?: number[] } = {}): void {
    const { n } = this.forge.membership;
    for (let passed = 0; passed < durationMs; passed += 10) {
      this.now += 10;
      if (this.now % 100 === 0) {
        for (let peer = 0; peer < n; peer++) {
          if (peer === this.self || heartbeats.silent?.includes(peer)) continue;
          const regency = heartbeats.regency ?? this.replica.regency;
          this.receive(peer, { type: "heartbeat", regency, decided: heartbeats.decided ?? 0 });
        }
      }
      this.step({ type: "tick" });
      this.step({ type: "work" });
    }
  }

  /** Messages of a type that it sent, to each receiver; a broadcast counts once. */
  said<T extends Message["type"]>(type: T): MessageOf<T>[] {
    const seen = new Set<string>();
    const said: MessageOf<T>[] = [];
    for (const { message, bytes } of this.sent) {
      const key = bytes.join();
      if (message.type !== type || seen.has(key)) continue;
      seen.add(key);
      said.push(message as MessageOf<T>);
    }
    return said;
  }

  /** What it holds against members. */
  get complaints(): string[] {
    return this.traces.flatMap((event) =>
      event.kind === "misbehaviour" ? [`${event.member}: ${event.what}`] : [],
    );
  }

  /** Why it asked for other leaders. */
  get accusations(): string[] {
    return this.traces.flatMap((event) => (event.kind === "stop" ? [event.reason] : []));
  }
}
