/** The records of a chunk, from memory when they are recent, with or without what a compaction left over. */
import { isIndexed } from "./compaction.ts";
import { type Engine, Table } from "./engine.ts";
import type { Keyspace } from "./keyspace.ts";
import { decodeRecord, recordKey } from "./record.ts";
import { CHUNK_REVISIONS } from "./state-tree.ts";

export class ChunkReader {
  readonly #space: Keyspace;
  readonly #engine: Engine;
  /**
   * Compaction up to which garbage was collected; below -1 when that is not known. Memory may still hold
   * records of these revisions that the engine has no more.
   */
  collectedRevision = -2;

  constructor(space: Keyspace, engine: Engine) {
    this.#space = space;
    this.#engine = engine;
  }

  /** Records of a chunk in order, up to a revision; with a list for garbage its keys go there instead. */
  read(chunk: number, revisionMax: number, garbage?: Uint8Array[]): Uint8Array[] {
    const first = chunk * CHUNK_REVISIONS;
    const last = Math.min(first + CHUNK_REVISIONS - 1, revisionMax, this.#space.revision);
    if (last < first) return [];
    // What is garbage has a revision at or below the compaction.
    if (first > this.collectedRevision && Math.max(first, 2) >= this.#space.recent.firstRevision) {
      return this.#readRecent(Math.max(first, 2), last);
    }
    const records: Uint8Array[] = [];
    const check = garbage !== undefined && first <= this.collectedRevision;
    for (const { key, value } of this.entries(chunk, last)) {
      if (!check || isIndexed(this.#space, decodeRecord(value, this.#space))) records.push(value);
      else garbage.push(key);
    }
    return records;
  }

  #readRecent(first: number, last: number): Uint8Array[] {
    const records: Uint8Array[] = [];
    for (let revision = first; revision <= last; revision++) {
      for (const record of this.#space.recent.recordsOf(revision)!) records.push(record.bytes);
    }
    return records;
  }

  /** What the engine has of a chunk up to a revision in it. */
  entries(chunk: number, last: number) {
    const from = recordKey(chunk * CHUNK_REVISIONS, 0);
    return this.#engine.range(Table.record, from, recordKey(last + 1, 0), Number.POSITIVE_INFINITY);
  }
}
