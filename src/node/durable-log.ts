/**
 * The write-ahead log as the host loop uses it: numbers checked, syncs measured, and cut only once the state
 * that makes its records needless is on disk.
 */
import { assert } from "../base/assert.ts";
import type { Log } from "../storage/log.ts";
import type { HostLog } from "./host-loop.ts";

/** Bytes waiting for the disk at which no more requests are taken; the log itself gives up at twice that. */
const OVERLOAD_SIZE_BYTES = 64 * 2 ** 20;

export interface DurableLogOptions {
  readonly log: Log;
  /** Resolves once all that was committed to the state so far is on disk. */
  readonly stateFlushed: () => Promise<void>;
  /** Told how long each sync took. */
  readonly synced: (durationMs: number) => void;
  readonly fatal: (error: unknown) => void;
}

export class DurableLog implements HostLog {
  readonly #options: DurableLogOptions;
  readonly #log: Log;
  /** Sequence up to which records may go once the state is flushed; 0 when nothing waits. */
  #truncateBefore = 0;
  #flushing = false;
  #closed = false;

  constructor(options: DurableLogOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  get bufferedBytes(): number {
    return this.#log.bufferedBytes;
  }

  get overloaded(): boolean {
    return this.#log.bufferedBytes > OVERLOAD_SIZE_BYTES;
  }

  append(sequence: number, record: Uint8Array): void {
    const given = this.#log.append(record);
    assert(given === sequence, `the log gives ${given} to the record that the replica numbers ${sequence}`);
  }

  sync(done: (durableSequence: number) => void): void {
    const startedMs = performance.now();
    this.#log.sync((sequence) => {
      this.#options.synced(performance.now() - startedMs);
      done(sequence);
    });
  }

  truncate(before: number): void {
    this.#truncateBefore = Math.max(this.#truncateBefore, before);
    if (!this.#flushing) this.#flush();
  }

  #flush(): void {
    const before = this.#truncateBefore;
    this.#flushing = true;
    this.#options.stateFlushed().then(
      () => {
        this.#flushing = false;
        if (this.#closed) return;
        this.#log.truncateBefore(before);
        if (this.#truncateBefore > before) this.#flush();
      },
      (error: unknown) => {
        if (!this.#closed) this.#options.fatal(error);
      },
    );
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#log.close();
  }
}
