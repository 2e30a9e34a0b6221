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
  #stopped: (() => void) | undefined;
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

  /**
   * Gives up; calls `done` when nothing of it is under way any more. What was written is removed, or used if
   * it is whole, when the log is opened next.
   */
  stop(done: () => void): void {
    this.#stopped = done;
    clearTimeout(this.#timer);
    if (!this.#inStep) this.#afterStop();
  }

  #afterStop(): void {
    this.#draft.abandon();
    this.#stopped?.();
  }

  #later(): void {
    this.#timer = setTimeout(() => this.#step(), PAUSE_MS);
    this.#timer.unref();
  }

  #step(): void {
    let piece: ReturnType<SegmentDraft["next"]>;
    try {
      piece = this.#draft.next();
    } catch (error) {
      this.#draft.remove();
      this.#done(error as NodeJS.ErrnoException);
      return;
    }
    this.#inStep = true;
    if (!piece) {
      this.#draft.finishLater((error, file) => this.#afterFinish(error, file));
      return;
    }
    const { fd, offset, sizeBytes } = piece;
    write(fd, ZEROS, 0, sizeBytes, offset, (error, written) => {
      if (error) this.#afterStep(error);
      else if (written < sizeBytes)
        this.#afterStep(Object.assign(new Error("short write"), { code: "ENOSPC" }));
      else fdatasync(fd, (syncError) => this.#afterStep(syncError));
    });
  }

  #afterFinish(error: NodeJS.ErrnoException | null, file: SegmentFile | undefined): void {
    if (this.#stopped) this.#afterStop();
    else if (error || !file) this.#done(error ?? new Error("no segment was made"));
    else this.#done(null, { ...file, header: this.#draft.header });
  }

  #afterStep(error: NodeJS.ErrnoException | null): void {
    this.#inStep = false;
    if (this.#stopped) {
      this.#afterStop();
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
