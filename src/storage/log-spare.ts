/** Prepares the next segment in the background, in small steps with pauses, so that syncs do not wait for it. */
import { fdatasync, write } from "node:fs";
import type { SegmentHeader } from "./log-format.ts";
import { SegmentDraft, type SegmentFile, ZEROS } from "./log-segment.ts";

/** Pause between two steps: 128 KiB each, so that 16 MiB are ready after about a second. */
const PAUSE_MS = 5;

/** A segment that is ready for use. */
export interface SpareSegment extends SegmentFile {
  readonly header: SegmentHeader;
}

type Done = (error: NodeJS.ErrnoException | null, spare?: SpareSegment) => void;

/** One segment in preparation. Calls `done` once, unless it is stopped before. */
export class SparePreparation {
  readonly #draft: SegmentDraft;
  readonly #done: Done;
  #hurried = false;
  #stopped = false;
  #inStep = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(directory: string, header: SegmentHeader, done: Done) {
    this.#draft = new SegmentDraft(directory, header);
    this.#done = done;
    this.#later();
  }

  /** The segment is needed now: no more pauses. */
  hurry(): void {
    if (this.#hurried) return;
    this.#hurried = true;
    if (this.#inStep || this.#stopped) return;
    clearTimeout(this.#timer);
    this.#step();
  }

  /** Gives up; what was written is removed when the log is opened next. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    if (!this.#inStep) this.#draft.abandon();
  }

  #later(): void {
    this.#timer = setTimeout(() => this.#step(), PAUSE_MS);
    this.#timer.unref();
  }

  #step(): void {
    let piece: ReturnType<SegmentDraft["next"]>;
    try {
      piece = this.#draft.next();
      if (!piece) {
        const file = this.#draft.finish();
        this.#done(null, { ...file, header: this.#draft.header });
        return;
      }
    } catch (error) {
      this.#draft.remove();
      this.#done(error as NodeJS.ErrnoException);
      return;
    }
    const { fd, offset, sizeBytes } = piece;
    this.#inStep = true;
    write(fd, ZEROS, 0, sizeBytes, offset, (error, written) => {
      if (error) this.#afterStep(error);
      else if (written < sizeBytes)
        this.#afterStep(Object.assign(new Error("short write"), { code: "ENOSPC" }));
      else fdatasync(fd, (syncError) => this.#afterStep(syncError));
    });
  }

  #afterStep(error: NodeJS.ErrnoException | null): void {
    this.#inStep = false;
    if (this.#stopped) {
      this.#draft.abandon();
    } else if (error) {
      this.#draft.remove();
      this.#done(error);
    } else if (this.#hurried) {
      this.#step();
    } else {
      this.#later();
    }
  }
}
