/**
 * How many bytes the state holds, for the quota. It is a function of the logical state alone, so that every
 * replica refuses the same writes: current records count, and those that a later change made history, until
 * compaction passes that change. What is on disk may lag behind.
 */
export class SizeBook {
  #liveBytes = 0;
  #historyBytes = 0;
  /** Bytes that became history at revision `#base + i`, for the revisions above the last compaction. */
  #historyByRevision: number[] = [];
  #base = 0;

  get totalBytes(): number {
    return this.#liveBytes + this.#historyBytes;
  }

  /** Starts over, after a compaction at the given revision. */
  reset(compactRevision: number): void {
    this.#liveBytes = 0;
    this.#historyBytes = 0;
    this.#historyByRevision = [];
    this.#base = compactRevision + 1;
  }

  addLive(sizeBytes: number): void {
    this.#liveBytes += sizeBytes;
  }

  removeLive(sizeBytes: number): void {
    this.#liveBytes -= sizeBytes;
  }

  /** Bytes that compaction at `revision` or later will free. */
  addHistory(revision: number, sizeBytes: number): void {
    const index = revision - this.#base;
    if (index < 0) return;
    const list = this.#historyByRevision;
    while (list.length <= index) list.push(0);
    list[index]! += sizeBytes;
    this.#historyBytes += sizeBytes;
  }

  compact(revision: number): void {
    const count = revision + 1 - this.#base;
    if (count <= 0) return;
    const list = this.#historyByRevision;
    const end = Math.min(count, list.length);
    for (let i = 0; i < end; i++) this.#historyBytes -= list[i]!;
    this.#historyByRevision = list.slice(end);
    this.#base = revision + 1;
  }
}
