/**
 * The simulated process around one member: hands its replica one input at a time, carries out the outputs,
 * and dies and comes back at any boundary between two of them.
 */
import { InvariantError } from "../base/assert.ts";
import type { Prng } from "../base/prng.ts";
import { describeBytes } from "../consensus/describe.ts";
import type {
  LogRecovery,
  MemberIndex,
  Now,
  ReplicaInput,
  ReplicaOutput,
  TraceEvent,
} from "../replica/contract.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import type { BackendErrorCode, Operation, OperationResult } from "../store/types.ts";
import type { SimulatedClock } from "./clock.ts";
import { describeInput } from "./describe.ts";
import { LogDamagedError, type SimulatedLog } from "./disk.ts";
import { type AimedKind, kindOf } from "./message-kinds.ts";
import type { Network } from "./network.ts";
import type { Scheduler } from "./scheduler.ts";
import type { StoreView } from "./store-view.ts";

/** What the host runs: the real replica, or one that a Byzantine member has bent. */
export interface SimulatedReplica {
  step(input: ReplicaInput, now: Now, out: ReplicaOutput[]): void;
  readonly store: StoreView;
  /** Last instance whose effects are in the store. */
  readonly lastExecuted: number;
  /** Whether it may answer its clients. */
  readonly serving: boolean;
}

export type ReplicaFactory = (
  member: MemberIndex,
  engine: MemoryEngine,
  recovery: LogRecovery,
  incarnation: number,
) => SimulatedReplica;

/** Where a planned crash strikes: before or after the next output of a kind is carried out. */
export interface CrashPoint {
  readonly output: "send" | "append" | "result" | "any";
  /** Only messages of this kind, of the outputs "send". */
  readonly message?: AimedKind;
  readonly when: "before" | "after";
  /** Outputs of that kind to let pass first. */
  readonly skip: number;
}

export interface HostOptions {
  readonly tickMs: number;
  /** Mean time from an input to the `work` call that ends the turn. */
  readonly workDelayMeanMs: number;
  /** Mean time between two flushes of the engine. */
  readonly flushMeanMs: number;
}

/** Who watches a member. */
export interface HostObserver {
  started(member: MemberIndex, incarnation: number): void;
  stopped(member: MemberIndex, why: "crash" | "damaged log" | "broken invariant"): void;
  trace(member: MemberIndex, event: TraceEvent): void;
  /** Before a message goes out. */
  sent(member: MemberIndex, bytes: Uint8Array): void;
  /** After each input that made the store's revision change. */
  changed(member: MemberIndex): void;
  invariant(member: MemberIndex, error: Error): void;
  line(member: MemberIndex, text: () => string): void;
}

export interface HostParts {
  readonly member: MemberIndex;
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly clock: SimulatedClock;
  readonly makeLog: (onDurable: (sequence: number) => void) => SimulatedLog;
  readonly makeReplica: ReplicaFactory;
  readonly prng: Prng;
  readonly options: HostOptions;
  readonly observer: HostObserver;
}

/** What became of a submission; undefined when the process died first. */
export type Answer =
  | { result: OperationResult }
  | { failed: BackendErrorCode }
  | { fenced: true }
  | undefined;

/** Inputs that wait for a paused process. What comes beyond is lost, as in a socket that nobody reads. */
const PAUSED_INPUTS_MAX = 50_000;

export class Host {
  readonly member: MemberIndex;
  readonly log: SimulatedLog;
  readonly #parts: HostParts;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #replica: SimulatedReplica | undefined;
  #engine = new MemoryEngine({ crashable: true });
  #incarnation = 0;
  #nextId = 1;
  #workPlanned = false;
  #pausedUntilMs = 0;
  #paused: ReplicaInput[] = [];
  #crashPoint: CrashPoint | undefined;
  #truncateBefore = 0;
  /** A damaged log keeps the process from starting ever again. */
  #dead = false;

  constructor(parts: HostParts) {
    this.member = parts.member;
    this.#parts = parts;
    this.log = parts.makeLog((sequence) => this.input({ type: "durable", sequence }));
  }

  get running(): boolean {
    return this.#replica !== undefined;
  }

  get dead(): boolean {
    return this.#dead;
  }

  get incarnation(): number {
    return this.#incarnation;
  }

  /** Requests of clients without an answer. */
  get waiting(): number {
    return this.#waiting.size;
  }

  get lastExecuted(): number {
    return this.#replica?.lastExecuted ?? 0;
  }

  get serving(): boolean {
    return this.#replica?.serving ?? false;
  }

  /** The store of a running member. */
  get store(): StoreView | undefined {
    return this.#replica?.store;
  }

  /** Starts the process, with whatever its disk holds. */
  start(): void {
    if (this.running || this.#dead) return;
    const { member, clock, scheduler, network, observer } = this.#parts;
    let recovery: LogRecovery;
    try {
      recovery = this.log.open();
    } catch (error) {
      if (!(error instanceof LogDamagedError)) throw error;
      this.#dead = true;
      observer.stopped(member, "damaged log");
      return;
    }
    if (recovery.state === "lost") this.#engine = new MemoryEngine({ crashable: true });
    this.#incarnation++;
    clock.restart(scheduler.nowMs);
    this.#truncateBefore = 0;
    this.#crashPoint = undefined;
    this.#pausedUntilMs = 0;
    this.#paused = [];
    this.#workPlanned = false;
    try {
      this.#replica = this.#parts.makeReplica(member, this.#engine, recovery, this.#incarnation);
    } catch (error) {
      this.#dead = true;
      observer.invariant(member, error as Error);
      return;
    }
    observer.started(member, this.#incarnation);
    network.memberUp(member);
    this.#planTick(this.#incarnation);
    this.#planFlush(this.#incarnation);
    observer.changed(member);
  }

  /** Kills the process between two outputs. */
  crash(why: "crash" | "broken invariant" = "crash"): void {
    if (!this.running) return;
    this.#replica = undefined;
    this.log.crash();
    // Without a sync of its own, the engine keeps some first part of the units since its last flush.
    this.#engine.flush(this.#parts.prng.between(0, this.#engine.unflushedUnits));
    this.#engine = this.#engine.crash();
    this.#parts.network.memberDown(this.member);
    this.#parts.observer.stopped(this.member, why);
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const done of waiting) done(undefined);
  }

  /** Kills the process at the next place of this kind. */
  crashAt(point: CrashPoint): void {
    this.#crashPoint = point;
  }

  /** Takes a planned crash back, and wakes a paused process. */
  spare(): void {
    this.#crashPoint = undefined;
    if (this.#pausedUntilMs > 0) this.#resume();
  }

  /** The process gets no CPU for a while. */
  pause(durationMs: number): void {
    if (!this.running) return;
    const untilMs = this.#parts.scheduler.nowMs + durationMs;
    if (untilMs <= this.#pausedUntilMs) return;
    this.#pausedUntilMs = untilMs;
    const incarnation = this.#incarnation;
    this.#parts.scheduler.at(untilMs, () => {
      if (incarnation === this.#incarnation && this.#pausedUntilMs === untilMs) this.#resume();
    });
  }

  #resume(): void {
    this.#pausedUntilMs = 0;
    const inputs = this.#paused;
    this.#paused = [];
    for (const input of inputs) this.input(input);
  }

  /** Submits an operation; `done` is called once, later. False when the process is not there to take it. */
  submit(operation: Operation, done: (answer: Answer) => void): boolean {
    if (!this.running) return false;
    const id = this.#nextId++;
    this.#waiting.set(id, done);
    this.input({ type: "submit", id, operation });
    return true;
  }

  fence(done: (answer: Answer) => void): boolean {
    if (!this.running) return false;
    const id = this.#nextId++;
    this.#waiting.set(id, done);
    this.input({ type: "fence", id });
    return true;
  }

  /** Hands one input to the replica and carries out what it wants. */
  input(input: ReplicaInput): void {
    const replica = this.#replica;
    if (replica === undefined) return;
    const { scheduler, clock, observer, member } = this.#parts;
    if (scheduler.nowMs < this.#pausedUntilMs) {
      if (this.#paused.length < PAUSED_INPUTS_MAX) this.#paused.push(input);
      return;
    }
    const out: ReplicaOutput[] = [];
    try {
      replica.step(input, clock.read(scheduler.nowMs), out);
    } catch (error) {
      this.#fail(error as Error);
      return;
    }
    observer.line(member, () => describeInput(input));
    if (input.type !== "work" && input.type !== "tick") this.#planWork();
    this.#carryOut(out);
  }

  #fail(error: Error): void {
    const { observer, member } = this.#parts;
    observer.invariant(member, error instanceof InvariantError ? error : (error ?? new Error("thrown")));
    this.crash("broken invariant");
  }

  #carryOut(outputs: readonly ReplicaOutput[]): void {
    const incarnation = this.#incarnation;
    let changed = false;
    for (const output of outputs) {
      if (this.#strikes(output, "before")) break;
      changed ||= output.type === "revision";
      this.#carryOutOne(output);
      // Whatever the output caused (an answered client asks again at once) may have ended this process.
      if (!this.running || incarnation !== this.#incarnation) return;
      if (this.#strikes(output, "after")) break;
    }
    if (changed) this.#parts.observer.changed(this.member);
    if (this.#crashPoint !== undefined && this.#crashPoint.skip < 0) this.crash();
  }

  /** Whether the planned crash strikes here; a negative skip marks that it has. */
  #strikes(output: ReplicaOutput, when: CrashPoint["when"]): boolean {
    const point = this.#crashPoint;
    if (point === undefined || point.when !== when) return false;
    if (point.output !== "any" && point.output !== output.type) return false;
    if (point.message !== undefined && output.type === "send" && kindOf(output.bytes) !== point.message) {
      return false;
    }
    this.#crashPoint = { ...point, skip: point.skip - 1 };
    return this.#crashPoint.skip < 0;
  }

  #carryOutOne(output: ReplicaOutput): void {
    const { network, observer } = this.#parts;
    switch (output.type) {
      case "send":
        observer.line(this.member, () => `-> ${output.to} ${output.lane} ${describeBytes(output.bytes)}`);
        observer.sent(this.member, output.bytes);
        network.send(this.member, output.to, output.lane, output.bytes);
        return;
      case "append":
        observer.line(this.member, () => `append ${output.sequence} ${output.sync ? "sync" : ""}`);
        this.log.append(output.sequence, output.record, output.sync);
        return;
      case "truncate":
        this.#truncateBefore = Math.max(this.#truncateBefore, output.before);
        return;
      case "result":
        this.#answer(output.id, { result: output.result });
        return;
      case "fenced":
        this.#answer(output.id, { fenced: true });
        return;
      case "failed":
        this.#answer(output.id, { failed: output.reason });
        return;
      case "trace":
        observer.trace(this.member, output.event);
        return;
      case "moreWork":
        this.#planWork();
        return;
      case "revision":
        return;
    }
  }

  #answer(id: number, answer: Answer): void {
    const done = this.#waiting.get(id);
    if (done === undefined) return;
    this.#waiting.delete(id);
    done(answer);
  }

  #planWork(): void {
    if (this.#workPlanned) return;
    this.#workPlanned = true;
    const incarnation = this.#incarnation;
    this.#parts.scheduler.after(this.#exponentialMs(this.#parts.options.workDelayMeanMs), () => {
      if (incarnation !== this.#incarnation || !this.running) return;
      this.#workPlanned = false;
      this.input({ type: "work" });
    });
  }

  #planTick(incarnation: number): void {
    this.#parts.scheduler.after(this.#parts.options.tickMs, () => {
      if (incarnation !== this.#incarnation || !this.running) return;
      // A paused process gets one tick when it wakes, not one for each that it slept through.
      if (this.#parts.scheduler.nowMs >= this.#pausedUntilMs) this.input({ type: "tick" });
      this.#planTick(incarnation);
    });
  }

  #planFlush(incarnation: number): void {
    this.#parts.scheduler.after(this.#exponentialMs(this.#parts.options.flushMeanMs), () => {
      if (incarnation !== this.#incarnation || !this.running) return;
      this.#engine.flush();
      this.log.truncate(this.#truncateBefore);
      this.#planFlush(incarnation);
    });
  }

  #exponentialMs(meanMs: number): number {
    return -Math.log((this.#parts.prng.u32() + 1) / 0x1_0000_0001) * meanMs;
  }
}
