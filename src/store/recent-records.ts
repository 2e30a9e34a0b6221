/**
 * The newest records, kept in memory up to a number of bytes: watchers and reads of what was just written
 * are served from here without touching the engine. Whole revisions come and go.
 */
import type { StoredRecord } from "./record.ts";

export class RecentRecords {
  readonly #sizeMaxBytes: number;
  /** Records of revision `#first + i` at `#head + i`. */
  #revisions: StoredRecord[][] = [];
  #head = 0;
  #first = 0;
  #sizeBytes = 0;

  /** Keeps at most `sizeMaxBytes` of record bytes. */
  constructor(sizeMaxBytes: number) {
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  /** The oldest revision that is here; every later one is here too. Infinity when none is. */
  get firstRevision(): number {
    return this.#head < this.#revisions.length ? this.#first : Number.POSITIVE_INFINITY;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Adds the records of the revision that follows the newest one here. */
  append(revision: number, records: StoredRecord[]): void {
    if (this.#head === this.#revisions.length) {
      this.#revisions.length = 0;
      this.#head = 0;
      this.#first = revision;
    }
    this.#revisions.push(records);
    for (const record of records) this.#sizeBytes += record.bytes.length;
    while (this.#sizeBytes > this.#sizeMaxBytes) this.#dropOldest();
  }

  #dropOldest(): void {
    for (const record of this.#revisions[this.#head]!) this.#sizeBytes -= record.bytes.length;
    // An empty list in its place lets the records go before the array is cut.
    this.#revisions[this.#head] = [];
    this.#head++;
    this.#first++;
    if (this.#head >= 1024 && this.#head * 2 >= this.#revisions.length) {
      this.#revisions = this.#revisions.slice(this.#head);
      this.#head = 0;
    }
  }

  /** All records of one revision in order, or undefined when it is not here. */
  recordsOf(revision: number): readonly StoredRecord[] | undefined {
    return revision < this.#first ? undefined : this.#revisions[this.#head + revision - this.#first];
  }

  get(revision: number, sub: number): StoredRecord | undefined {
    return this.recordsOf(revision)?.[sub];
  }

  clear(): void {
    this.#revisions = [];
    this.#head = 0;
    this.#sizeBytes = 0;
  }
}
