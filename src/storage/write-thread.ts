/**
 * On which thread the log writes a batch. Small ones on the calling thread while the disk is quick: with so little to
 * do nothing else is lost by waiting, and the way to the thread pool and back takes as long as the disk.
 */
import { write, writeSync } from "node:fs";

/** As `fs.write` with these arguments. */
export type WriteFunction = (
  fd: number,
  bytes: Buffer,
  offset: number,
  sizeBytes: number,
  position: number,
  done: (error: NodeJS.ErrnoException | null, written: number) => void,
) => void;

/** Larger batches come with load, and then there is other work to do while the disk writes. */
const INLINE_SIZE_BYTES = 4096;
const INLINE_LIMIT_MS = 1;
/** Weight of the newest write in the average. */
const AVERAGE_WEIGHT = 1 / 8;

const writeInline: WriteFunction = (fd, bytes, offset, sizeBytes, position, done) => {
  let written: number;
  try {
    written = writeSync(fd, bytes, offset, sizeBytes, position);
  } catch (error) {
    done(error as NodeJS.ErrnoException, 0);
    return;
  }
  done(null, written);
};

export interface WriteThreadOptions {
  /** How a batch is written in the thread pool; for tests that make it fail. */
  readonly write?: WriteFunction;
  /**
   * Batches of up to 4 KiB are written on the calling thread as long as writes take less than this on average; 1 by
   * default, never with 0 or where `write` is given.
   */
  readonly inlineLimitMs?: number;
}

export class WriteThread {
  readonly #pooled: WriteFunction;
  readonly #limitMs: number;
  /** Moving average of how long a write takes; beyond any limit until the disk has shown what it can do. */
  #averageMs = 1000;

  constructor(options: WriteThreadOptions) {
    this.#pooled = options.write ?? write;
    this.#limitMs = options.inlineLimitMs ?? (options.write === undefined ? INLINE_LIMIT_MS : 0);
  }

  /** Whether a batch of this many bytes of records is to be written on the calling thread. */
  isCalling(sizeBytes: number): boolean {
    return sizeBytes <= INLINE_SIZE_BYTES && this.#averageMs < this.#limitMs;
  }

  writer(calling: boolean): WriteFunction {
    return calling ? writeInline : this.#pooled;
  }

  /** A write, on whichever thread, took this long. */
  note(durationMs: number): void {
    this.#averageMs += AVERAGE_WEIGHT * (durationMs - this.#averageMs);
  }
}
