/**
 * The loop between the pure replica and the world: takes inputs one at a time, carries out what comes out, in
 * order, and gives the replica one `work` at the end of each turn of the event loop in which operations
 * arrived, so that all of one turn travel in one bundle.
 */
import type { MemberIndex, Now, ReplicaInput, ReplicaOutput, TraceEvent } from "../replica/contract.ts";
import type { BackendErrorCode, OperationResult } from "../store/types.ts";

/** At least this often the replica sees the time pass (replica/contract.ts). */
export const TICK_MS = 20;

/** A turn longer than this means that timers of the agreement ran late; it is counted. */
const SLOW_TURN_MS = 100;

/** The replica as its host sees it. */
export interface HostReplica {
  step(input: ReplicaInput, now: Now, out: ReplicaOutput[]): void;
}

/** What the loop needs of the log. */
export interface HostLog {
  append(sequence: number, record: Uint8Array): void;
  /** Makes all that was appended durable; one write for all calls that wait. */
  sync(done: (durableSequence: number) => void): void;
  /** Records below this sequence may go. */
  truncate(before: number): void;
}

/** What the loop needs of the links. A message that cannot be sent is dropped: the replica sends again. */
export interface HostLinks {
  send(to: MemberIndex, lane: "vote" | "bulk", bytes: Uint8Array): void;
}

/** Who is told what came out. */
export interface HostListener {
  result(id: number, result: OperationResult): void;
  fenced(id: number): void;
  failed(id: number, reason: BackendErrorCode): void;
  revision(revision: number): void;
  trace(event: TraceEvent): void;
  /** After each tick: the place for time-outs. */
  tick(now: Now): void;
  /** A turn of the event loop took this long. */
  slowTurn(durationMs: number): void;
  /** Something in the replica or the log threw: the process cannot go on. */
  fatal(error: unknown): void;
}

export interface HostLoopOptions {
  readonly replica: HostReplica;
  readonly log: HostLog;
  readonly links: HostLinks;
  readonly listener: HostListener;
}

function clock(): Now {
  return { monotonicMs: performance.now(), wallMs: Date.now() };
}

const WORK: ReplicaInput = { type: "work" };
const TICK: ReplicaInput = { type: "tick" };

/** Runs one replica. Nothing happens before `start` and nothing after `stop`. */
export class HostLoop {
  readonly #replica: HostReplica;
  readonly #log: HostLog;
  readonly #links: HostLinks;
  readonly #listener: HostListener;
  /** Inputs that arrived while another one was being handled, in order. */
  #waiting: ReplicaInput[] = [];
  #out: ReplicaOutput[] = [];
  #stepping = false;
  #workScheduled = false;
  #workIsNext = false;
  #running = false;
  #timer: NodeJS.Timeout | undefined;
  #lastTickMs = 0;
  readonly #work = () => {
    this.#workScheduled = false;
    this.#runWork();
  };
  readonly #nextWork = () => {
    this.#workIsNext = false;
    this.#runWork();
  };
  readonly #durable = (sequence: number) => this.input({ type: "durable", sequence });

  constructor(options: HostLoopOptions) {
    this.#replica = options.replica;
    this.#log = options.log;
    this.#links = options.links;
    this.#listener = options.listener;
  }

  start(): void {
    this.#running = true;
    this.#lastTickMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  stop(): void {
    this.#running = false;
    clearInterval(this.#timer);
    this.#waiting = [];
  }

  /** Hands one input to the replica, at once unless another one is being handled. */
  input(input: ReplicaInput): void {
    if (!this.#running) return;
    if (this.#stepping) {
      // The bytes of a message are only lent.
      this.#waiting.push(input.type === "message" ? { ...input, bytes: input.bytes.slice() } : input);
      return;
    }
    this.#step(input);
    // Requests of clients wait for the end of the turn, to share a bundle or a fence; all other inputs ask for
    // work themselves where they make any.
    if (!this.#workScheduled && (input.type === "submit" || input.type === "fence")) this.#scheduleWork();
  }

  #scheduleWork(): void {
    this.#workScheduled = true;
    // The check phase comes after all sockets that were readable in this turn have been read.
    setImmediate(this.#work);
  }

  #runWork(): void {
    if (this.#running) this.#step(WORK);
  }

  #tick(): void {
    const now = clock();
    const lateMs = now.monotonicMs - this.#lastTickMs - TICK_MS;
    this.#lastTickMs = now.monotonicMs;
    if (lateMs > SLOW_TURN_MS) this.#listener.slowTurn(lateMs);
    this.input(TICK);
    this.#listener.tick(now);
  }

  /** One input and all that waits behind it. */
  #step(first: ReplicaInput): void {
    this.#stepping = true;
    try {
      let input: ReplicaInput | undefined = first;
      for (let next = 0; input !== undefined; next++) {
        this.#replica.step(input, clock(), this.#out);
        if (this.#out.length > 0) this.#carryOut();
        input = this.#running ? this.#waiting[next] : undefined;
      }
      if (this.#waiting.length > 0) this.#waiting = [];
    } catch (error) {
      this.#listener.fatal(error);
    } finally {
      this.#stepping = false;
    }
  }

  #carryOut(): void {
    const outputs = this.#out;
    this.#out = [];
    let sync = false;
    for (const output of outputs) {
      switch (output.type) {
        case "send":
          this.#links.send(output.to, output.lane, output.bytes);
          break;
        case "append":
          this.#log.append(output.sequence, output.record);
          sync ||= output.sync;
          break;
        case "truncate":
          this.#log.truncate(output.before);
          break;
        case "moreWork":
          if (output.when === "later") {
            if (!this.#workScheduled) this.#scheduleWork();
          } else if (!this.#workIsNext) {
            this.#workIsNext = true;
            // Behind the messages of this step, which leave in the same way.
            process.nextTick(this.#nextWork);
          }
          break;
        default:
          this.#tell(output);
      }
    }
    if (sync) this.#log.sync(this.#durable);
    if (this.#out.length === 0) {
      outputs.length = 0;
      this.#out = outputs;
    }
  }

  #tell(output: Exclude<ReplicaOutput, { type: "send" | "append" | "truncate" | "moreWork" }>): void {
    switch (output.type) {
      case "result":
        this.#listener.result(output.id, output.result);
        break;
      case "fenced":
        this.#listener.fenced(output.id);
        break;
      case "failed":
        this.#listener.failed(output.id, output.reason);
        break;
      case "revision":
        this.#listener.revision(output.revision);
        break;
      case "trace":
        this.#listener.trace(output.event);
        break;
    }
  }
}
