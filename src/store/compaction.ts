/**
 * Physical compaction: finds, in slices, what a logical compaction left without use. The index forgets it at
 * once; the records go later (state-digest.ts), oldest first, so that a crash in between never brings a
 * deleted key back.
 */
import type { KeyEntry } from "./key-index.ts";
import { lastVersionAt } from "./key-index.ts";
import type { Keyspace } from "./keyspace.ts";
import type { StoredRecord } from "./record.ts";
import { CHUNK_REVISIONS } from "./state-tree.ts";

/** Whether the index still names this record; once garbage was collected, the others are garbage. */
export function isIndexed(space: Keyspace, record: StoredRecord): boolean {
  const { modRevision, sub } = record;
  const entry = space.index.get(record.key);
  if (entry === undefined) return false;
  if (entry.modRevision === modRevision && entry.sub === sub) return true;
  const { history } = entry;
  if (history === undefined) return false;
  for (let at = lastVersionAt(history, modRevision); at >= 0 && history[at] === modRevision; at -= 2) {
    if (Math.floor(history[at + 1]! / 2) === sub) return true;
  }
  return false;
}

/** Walks over all keys and lets the index forget what a compaction at `revision` removes. */
export class GarbageCollector {
  /** Chunks of the digest in which there is garbage now. */
  readonly chunks = new Set<number>();
  readonly #space: Keyspace;
  readonly #revision: number;
  #next = "";
  #left = 0;

  constructor(space: Keyspace, revision: number) {
    this.#space = space;
    this.#revision = revision;
  }

  /** Visits at most `countMax` keys and a bounded number of their versions; true when there are more keys. */
  work(countMax: number): boolean {
    const gone: KeyEntry[] = [];
    this.#left = countMax;
    let more = false;
    this.#space.index.scan(this.#next, undefined, (entry) => {
      if (this.#left-- <= 0) {
        this.#next = entry.key;
        more = true;
        return false;
      }
      if (this.#collect(entry)) gone.push(entry);
      return true;
    });
    for (const entry of gone) this.#space.index.remove(entry);
    return more;
  }

  /** Collects the versions of one key that go; true when all of it goes. */
  #collect(entry: KeyEntry): boolean {
    const { history } = entry;
    if (entry.modRevision <= this.#revision) {
      if (history !== undefined) this.#drop(history, history.length);
      entry.history = undefined;
      // A deletion at the very revision stays for watchers that start there.
      if (!entry.tombstone || entry.modRevision === this.#revision) return false;
      this.#dropVersion(entry.modRevision);
      return true;
    }
    if (history === undefined) return false;
    const newest = lastVersionAt(history, this.#revision);
    if (newest < 0) return false;
    const isOldTombstone = history[newest + 1]! % 2 === 1 && history[newest]! < this.#revision;
    const end = isOldTombstone ? newest + 2 : newest;
    if (end === 0) return false;
    this.#drop(history, end);
    entry.history = end === history.length ? undefined : history.slice(end);
    return false;
  }

  #drop(history: readonly number[], end: number): void {
    for (let i = 0; i < end; i += 2) this.#dropVersion(history[i]!);
  }

  #dropVersion(revision: number): void {
    this.#left--;
    this.chunks.add(Math.floor(revision / CHUNK_REVISIONS));
  }
}
