/** The segments of an open log: the one in use, a spare one behind it, and those that truncation removes. */
import { close, closeSync, unlink } from "node:fs";
import { SECTOR_SIZE_BYTES } from "./log-format.ts";
import type { RecoveredSegment } from "./log-recovery.ts";
import { newSegmentHeader, openForDurableWrites } from "./log-segment.ts";
import { SparePreparation } from "./log-spare.ts";

/** Keeps a segment ready ahead of need. The caller writes at `offset` of `fd` and says so with `advance`. */
export class LogFiles {
  readonly #directory: string;
  readonly #owner: Uint8Array;
  readonly #segmentSizeBytes: number;
  /** In order; at most one spare stands behind the active one. */
  readonly #segments: RecoveredSegment[];
  #activeIndex: number;
  #fd: number;
  #offset: number;
  #preparation: SparePreparation | undefined;
  #removing = 0;
  #whenRemoved: (() => void) | undefined;
  #whenReady: ((error: NodeJS.ErrnoException | null) => void) | undefined;

  /** `segments` holds at least one; those after the active one are spare. */
  constructor(
    directory: string,
    owner: Uint8Array,
    segmentSizeBytes: number,
    segments: readonly RecoveredSegment[],
    activeIndex: number,
  ) {
    this.#directory = directory;
    this.#owner = owner;
    this.#segmentSizeBytes = segmentSizeBytes;
    this.#segments = [...segments];
    this.#activeIndex = activeIndex;
    this.#fd = openForDurableWrites(this.#active.path);
    this.#offset = this.#active.endOffset;
    this.#prepareSpare();
  }

  get #active(): RecoveredSegment {
    return this.#segments[this.#activeIndex]!;
  }

  get count(): number {
    return this.#segments.length;
  }

  get path(): string {
    return this.#active.path;
  }

  get nonce(): Uint8Array {
    return this.#active.header.nonce;
  }

  get fd(): number {
    return this.#fd;
  }

  get offset(): number {
    return this.#offset;
  }

  /** Bytes of batches that any segment takes while it is empty. */
  get capacityBytes(): number {
    const spares = this.#segments.slice(this.#activeIndex + 1).map((segment) => segment.header.sizeBytes);
    return Math.min(this.#segmentSizeBytes, ...spares) - SECTOR_SIZE_BYTES;
  }

  /** Whether a batch of that size fits behind what is in the active segment. */
  fits(sizeBytes: number): boolean {
    return this.#offset + sizeBytes <= this.#active.header.sizeBytes;
  }

  /** A batch that starts with `firstSequence` was written at `offset`. */
  advance(sizeBytes: number, firstSequence: number): void {
    if (this.#active.firstSequence === undefined) {
      this.#segments[this.#activeIndex] = { ...this.#active, firstSequence };
    }
    this.#offset += sizeBytes;
  }

  /** Goes on to the spare segment; false when `whenReady` is called later, once there is one to try again. */
  rotate(whenReady: (error: NodeJS.ErrnoException | null) => void): boolean {
    const next = this.#segments[this.#activeIndex + 1];
    if (!next) {
      this.#whenReady = whenReady;
      this.#prepareSpare();
      this.#preparation?.hurry();
      return false;
    }
    const left = this.#fd;
    this.#fd = openForDurableWrites(next.path);
    close(left, () => {});
    this.#activeIndex++;
    this.#offset = SECTOR_SIZE_BYTES;
    this.#prepareSpare();
    return true;
  }

  /** Removes segments that hold only records below `sequence`. */
  removeBelow(sequence: number): void {
    while (this.#activeIndex > 0) {
      const following = this.#segments[1]!.firstSequence;
      if (following === undefined || following > sequence) return;
      const [removed] = this.#segments.splice(0, 1);
      this.#activeIndex--;
      // A file that stays behind by an error, or by a crash, is harmless: the next start removes it when later ones
      // are gone, and else takes it in again, to be removed as now.
      this.#removing++;
      unlink(removed!.path, () => {
        this.#removing--;
        if (this.#removing === 0) this.#whenRemoved?.();
      });
    }
  }

  /** Not while a write is under way. `done` is called when no file is touched any more. */
  close(done: () => void): void {
    closeSync(this.#fd);
    const afterRemovals = (): void => {
      if (this.#removing === 0) done();
      else this.#whenRemoved = done;
    };
    if (this.#preparation) this.#preparation.stop(afterRemovals);
    else afterRemovals();
  }

  #prepareSpare(): void {
    if (this.#preparation || this.#activeIndex + 1 < this.#segments.length) return;
    const last = this.#segments.at(-1)!.header;
    const header = newSegmentHeader(last.number + 1, this.#segmentSizeBytes, last.logId, this.#owner);
    this.#preparation = new SparePreparation(this.#directory, header, (error, spare) => {
      this.#preparation = undefined;
      if (spare) this.#segments.push({ ...spare, firstSequence: undefined, endOffset: SECTOR_SIZE_BYTES });
      // An error matters only when the active segment is full: preparing is tried again then.
      const whenReady = this.#whenReady;
      this.#whenReady = undefined;
      whenReady?.(error);
    });
  }
}
