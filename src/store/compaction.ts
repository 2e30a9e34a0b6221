/**
 * Physical compaction: finds, in slices, what a logical compaction left without use. The index forgets it at
 * once; the records go later, oldest first, so that a crash in between never brings a deleted key back.
 */
import type { KeyEntry } from "./key-index.ts";
import { lastVersionAt } from "./key-index.ts";
import type { Keyspace } from "./keyspace.ts";
import { CHUNK_REVISIONS } from "./state-tree.ts";

const SUB_UNIT = 0x100000000;

/** Records that are to be removed, in an order in which they may be, and by chunk of the digest. */
export class Removals {
  /** Revision and sub, two numbers a record. */
  readonly positions: number[] = [];
  readonly #byChunk = new Map<number, Set<number>>();

  add(revision: number, sub: number): void {
    this.positions.push(revision, sub);
    const chunk = Math.floor(revision / CHUNK_REVISIONS);
    const place = (revision % CHUNK_REVISIONS) * SUB_UNIT + sub;
    const places = this.#byChunk.get(chunk);
    if (places === undefined) this.#byChunk.set(chunk, new Set([place]));
    else places.add(place);
  }

  has(revision: number, sub: number): boolean {
    const places = this.#byChunk.get(Math.floor(revision / CHUNK_REVISIONS));
    return places?.has((revision % CHUNK_REVISIONS) * SUB_UNIT + sub) ?? false;
  }

  /** Chunks that lose records. */
  chunks(): IterableIterator<number> {
    return this.#byChunk.keys();
  }
}

/** Walks over all keys and collects what a compaction at `revision` removes. */
export class GarbageCollector {
  readonly removals = new Removals();
  readonly #space: Keyspace;
  readonly #revision: number;
  #next = "";

  constructor(space: Keyspace, revision: number) {
    this.#space = space;
    this.#revision = revision;
  }

  /** Visits at most `countMax` keys; true when there are more. */
  work(countMax: number): boolean {
    const gone: KeyEntry[] = [];
    let visited = 0;
    let more = false;
    this.#space.index.scan(this.#next, undefined, (entry) => {
      if (visited++ >= countMax) {
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
      this.removals.add(entry.modRevision, entry.sub);
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
    for (let i = 0; i < end; i += 2) {
      const place = history[i + 1]!;
      this.removals.add(history[i]!, (place - (place % 2)) / 2);
    }
  }
}
