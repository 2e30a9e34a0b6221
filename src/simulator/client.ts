/**
 * A simulated client: attached to one member as a kube-apiserver is to its own host's, it asks for one thing
 * after another and writes down what it was told, and when.
 */
import type { Prng } from "../base/prng.ts";
import { StoreError } from "../store/types.ts";
import type { ClientRecord, ClientRequest } from "./history.ts";
import type { Answer, Host } from "./host.ts";
import type { WorkloadOptions } from "./options.ts";
import type { Scheduler } from "./scheduler.ts";
import type { StoreView } from "./store-view.ts";
import { Workload } from "./workload.ts";

/** Requests without an answer yet, after which a client asks for nothing more. */
const OPEN_MAX = 24;
/** Pause of a client that only wants to see whether it is served. */
const PROBE_PAUSE_MS = 30;

export interface ClientParts {
  readonly id: number;
  readonly host: Host;
  readonly scheduler: Scheduler;
  readonly prng: Prng;
  readonly options: WorkloadOptions;
  readonly records: ClientRecord[];
  readonly trusted: boolean;
  /** Called with every write that its member has answered. */
  readonly answered: (record: ClientRecord) => void;
}

export class Client {
  readonly id: number;
  readonly host: Host;
  readonly #parts: ClientParts;
  readonly #workload: Workload;
  #open = 0;
  /** When the fenced reads began that have no answer, oldest first. */
  readonly #openReads = new Map<ClientRecord, number>();
  #stopped = false;
  #probing = false;
  /** Writes and fenced reads that began after `probe` and succeeded. */
  #probesWritten = 0;
  #probesRead = 0;

  constructor(parts: ClientParts) {
    this.id = parts.id;
    this.host = parts.host;
    this.#parts = parts;
    this.#workload = new Workload(
      parts.id,
      parts.host.member,
      parts.trusted,
      parts.prng.fork(),
      parts.options,
    );
  }

  start(): void {
    this.#planNext();
  }

  /** Asks for nothing more; answers to what is open are still taken. */
  stop(): void {
    this.#stopped = true;
  }

  /** From here on only puts and fenced reads in turn, until both have succeeded. */
  probe(): void {
    this.#probing = true;
    this.#probesWritten = 0;
    this.#probesRead = 0;
  }

  /** Whether the member has served this client since `probe`. */
  get served(): boolean {
    return this.#probesWritten >= 2 && this.#probesRead >= 2;
  }

  /** For how long the oldest fenced read has been waiting; 0 when none is. */
  get readWaitedMs(): number {
    const [invokedMs] = this.#openReads.values();
    return invokedMs === undefined ? 0 : this.#parts.scheduler.nowMs - invokedMs;
  }

  #planNext(): void {
    const { prng, options, scheduler } = this.#parts;
    const meanMs = this.#probing ? Math.min(options.thinkMeanMs, PROBE_PAUSE_MS) : options.thinkMeanMs;
    const thinkMs = -Math.log((prng.u32() + 1) / 0x1_0000_0001) * meanMs;
    scheduler.after(thinkMs + 0.001, () => this.#next());
  }

  #next(): void {
    if (this.#stopped) return;
    if (!this.host.running || this.#open >= OPEN_MAX) {
      this.#planNext();
      return;
    }
    this.#ask(this.#probing ? this.#probeRequest() : this.#workload.next());
  }

  #probeRequest(): ClientRequest {
    return this.#probesWritten > this.#probesRead ? this.#workload.readAll() : this.#workload.put();
  }

  #ask(request: ClientRequest): void {
    const { scheduler, records, trusted, options } = this.#parts;
    const record: ClientRecord = {
      client: this.id,
      member: this.host.member,
      request,
      invokedMs: scheduler.nowMs,
      returnedMs: Number.POSITIVE_INFINITY,
      outcome: undefined,
      trusted,
    };
    const probe = this.#probing;
    let moved = false;
    const goOn = () => {
      if (moved) return;
      moved = true;
      this.#planNext();
    };
    records.push(record);
    this.#open++;
    if (request.type === "read" && request.fenced) this.#openReads.set(record, record.invokedMs);
    const done = (answer: Answer) => {
      this.#open--;
      this.#openReads.delete(record);
      this.#take(record, answer, probe);
      goOn();
    };
    // Whoever waits long enough gives up and goes on; the answer may still come.
    scheduler.after(options.patienceMs, goOn);
    if (request.type === "write") this.host.submit(request.operation, done);
    else if (request.fenced) this.host.fence(done);
    else if (this.host.serving) done({ fenced: true });
    else done({ failed: "stopped" });
  }

  #take(record: ClientRecord, answer: Answer, probe: boolean): void {
    if (answer === undefined) return;
    record.returnedMs = this.#parts.scheduler.nowMs;
    if ("failed" in answer) {
      if (answer.failed === "tooManyRequests" || answer.failed === "requestTooLarge")
        record.outcome = { type: "notTaken" };
      else record.returnedMs = Number.POSITIVE_INFINITY;
      return;
    }
    if ("result" in answer) {
      record.outcome = { type: "written", result: answer.result };
      this.#parts.answered(record);
      if (probe) this.#probesWritten++;
    } else {
      this.#read(record);
      if (probe) this.#probesRead++;
    }
    this.#workload.learn(record);
  }

  #read(record: ClientRecord): void {
    const store: StoreView | undefined = this.host.store;
    if (store === undefined || record.request.type !== "read") return;
    try {
      record.outcome = { type: "read", result: store.range(record.request.range) };
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      record.outcome = { type: "refused", code: error.code };
    }
  }
}
