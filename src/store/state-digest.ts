/**
 * The digest of the whole state at checkpoints, brought up to date in slices while later batches execute.
 *
 * A checkpoint fixes the state as of one batch. Records up to its revision never change afterwards; what its
 * compaction removes is left out of the digest first and removed from the engine once the digest is done. So
 * the checkpoint before can be served to others until the new one is finished.
 */
import { assert } from "../base/assert.ts";
import type { Hasher } from "../base/crypto.ts";
import { GarbageCollector, isIndexed } from "./compaction.ts";
import { type Engine, Table } from "./engine.ts";
import type { Keyspace } from "./keyspace.ts";
import { decodeRecord, recordKey } from "./record.ts";
import {
  CHUNK_REVISIONS,
  chunkBytes,
  encodeLeaves,
  encodeManifest,
  GROUP_CHUNKS,
  groupHash,
  type Leaf,
  leafHash,
  rootHash,
} from "./state-tree.ts";

/** Deletions that go to the engine in one unit. */
const REMOVALS_PER_UNIT = 256;

export interface Checkpoint {
  /** Consensus instance after which the state was fixed. */
  readonly cid: number;
  readonly revision: number;
  /** Digest over the whole replicated state. */
  readonly root: Uint8Array;
}

interface FinishedCheckpoint extends Checkpoint {
  /** Encoded, for peers. */
  readonly manifest: Uint8Array;
}

/** A checkpoint on its way. */
interface Job {
  readonly cid: number;
  readonly revision: number;
  readonly misc: Uint8Array;
  phase: "collect" | "hash" | "remove";
  readonly collector: GarbageCollector;
  /** Chunks to hash, last first. */
  chunks: number[];
  readonly leaves: Map<number, Leaf | undefined>;
  /** Keys of the records to remove, in revision order: neighbours lie on one page. */
  readonly garbage: Uint8Array[];
  removed: number;
}

export class StateDigest {
  readonly #space: Keyspace;
  readonly #engine: Engine;
  readonly #hasher: Hasher;
  /** Leaves of the finished checkpoint. */
  #leaves = new Map<number, Leaf>();
  #groups = new Map<number, Uint8Array>();
  /** Records of later revisions are not in the leaves. */
  #hashedRevision = 0;
  /**
   * Compaction up to which garbage was collected; below -1 when that is not known. Memory may still hold
   * records of these revisions that the engine has no more.
   */
  #collectedRevision = -2;
  #finished: FinishedCheckpoint | undefined;
  #job: Job | undefined;
  #served: { readonly chunk: number; readonly bytes: Uint8Array } | undefined;

  constructor(space: Keyspace, engine: Engine, hasher: Hasher) {
    this.#space = space;
    this.#engine = engine;
    this.#hasher = hasher;
  }

  /** The newest finished checkpoint. */
  get finished(): Checkpoint | undefined {
    return this.#finished;
  }

  /** Fixes the state as it is now. A checkpoint that is still on its way is finished first. */
  capture(cid: number, misc: Uint8Array): void {
    while (this.work(Number.POSITIVE_INFINITY));
    const { revision, compactRevision } = this.#space;
    this.#job = {
      cid,
      revision,
      misc,
      phase: "collect",
      collector: new GarbageCollector(this.#space, compactRevision),
      chunks: [],
      leaves: new Map(),
      garbage: [],
      removed: 0,
    };
    if (compactRevision === this.#collectedRevision) this.#beginHashing(this.#job);
    this.#collectedRevision = compactRevision;
  }

  /** Handles about `budget` records of the checkpoint on its way; true when more is to do. */
  work(budget: number): boolean {
    let left = budget;
    while (this.#job !== undefined && left > 0) {
      const job = this.#job;
      if (job.phase === "collect") {
        // Looking at a key is far quicker than hashing a record.
        const keys = Math.min(left * 8, 1_000_000);
        left -= keys / 8;
        if (!job.collector.work(keys)) this.#beginHashing(job);
      } else if (job.phase === "hash") {
        const chunk = job.chunks.pop();
        if (chunk === undefined) this.#finish(job);
        else left -= this.#hashChunk(job, chunk);
      } else {
        left -= this.#remove(job);
      }
    }
    return this.#job !== undefined;
  }

  #beginHashing(job: Job): void {
    const chunks = new Set(job.collector.chunks);
    const first = Math.floor((this.#hashedRevision + 1) / CHUNK_REVISIONS);
    const last = Math.floor(job.revision / CHUNK_REVISIONS);
    for (let chunk = first; chunk <= last; chunk++) chunks.add(chunk);
    job.chunks = [...chunks].sort((a, b) => b - a);
    job.phase = "hash";
  }

  /** Hashes one chunk; gives the number of records that it read, at least 1. */
  #hashChunk(job: Job, chunk: number): number {
    const garbageBefore = job.garbage.length;
    const records = this.#readChunk(chunk, job.revision, job.garbage);
    job.leaves.set(chunk, records.length === 0 ? undefined : this.#leafOf(chunk, chunkBytes(records)));
    return records.length + Math.max(job.garbage.length - garbageBefore, 1);
  }

  #leafOf(chunk: number, bytes: Uint8Array): Leaf {
    return { chunk, sizeBytes: bytes.length, hash: leafHash(this.#hasher, chunk, bytes) };
  }

  /** Records of a chunk in order, up to a revision; with a list for garbage its keys go there instead. */
  #readChunk(chunk: number, revisionMax: number, garbage: Uint8Array[] | undefined): Uint8Array[] {
    const first = chunk * CHUNK_REVISIONS;
    const last = Math.min(first + CHUNK_REVISIONS - 1, revisionMax, this.#space.revision);
    const records: Uint8Array[] = [];
    if (last < first) return records;
    // What is garbage has a revision at or below the compaction.
    if (first > this.#collectedRevision && Math.max(first, 2) >= this.#space.recent.firstRevision) {
      for (let revision = Math.max(first, 2); revision <= last; revision++) {
        for (const record of this.#space.recent.recordsOf(revision)!) records.push(record.bytes);
      }
      return records;
    }
    const check = garbage !== undefined && first <= this.#collectedRevision;
    const to = recordKey(last + 1, 0);
    const entries = this.#engine.range(Table.record, recordKey(first, 0), to, Number.POSITIVE_INFINITY);
    for (const { key, value } of entries) {
      if (!check || isIndexed(this.#space, decodeRecord(value, this.#space))) records.push(value);
      else garbage.push(key);
    }
    return records;
  }

  /** All leaves are there: the groups that changed, then the root. */
  #finish(job: Job): void {
    const groups = new Set<number>();
    for (const [chunk, leaf] of job.leaves) {
      groups.add(Math.floor(chunk / GROUP_CHUNKS));
      if (leaf === undefined) this.#leaves.delete(chunk);
      else this.#leaves.set(chunk, leaf);
    }
    for (const group of groups) {
      const leaves = this.#leavesOf(group);
      if (leaves.length === 0) this.#groups.delete(group);
      else this.#groups.set(group, groupHash(this.#hasher, encodeLeaves(group, leaves)));
    }
    this.#hashedRevision = job.revision;
    this.#publish(job.cid, job.revision, job.misc);
    job.phase = "remove";
  }

  #publish(cid: number, revision: number, misc: Uint8Array): void {
    const groups = [...this.#groups].map(([group, hash]) => ({ group, hash }));
    groups.sort((a, b) => a.group - b.group);
    const manifest = { misc, groups };
    const root = rootHash(this.#hasher, manifest);
    this.#finished = { cid, revision, root, manifest: encodeManifest(manifest) };
    this.#served = undefined;
  }

  #leavesOf(group: number): Leaf[] {
    const leaves: Leaf[] = [];
    for (let chunk = group * GROUP_CHUNKS; chunk < (group + 1) * GROUP_CHUNKS; chunk++) {
      const leaf = this.#leaves.get(chunk);
      if (leaf !== undefined) leaves.push(leaf);
    }
    return leaves;
  }

  /** Removes some records that the finished checkpoint does not have any more. */
  #remove(job: Job): number {
    const start = job.removed;
    const end = Math.min(start + REMOVALS_PER_UNIT, job.garbage.length);
    for (let i = start; i < end; i++) this.#engine.delete(Table.record, job.garbage[i]!);
    if (end > start) this.#engine.commit();
    job.removed = end;
    if (end === job.garbage.length) this.#job = undefined;
    return Math.max(end - start, 1);
  }

  // Serving

  /** The finished checkpoint's manifest, encoded. */
  manifest(): Uint8Array | undefined {
    return this.#finished?.manifest;
  }

  /** The leaves of a group of the finished checkpoint, encoded; undefined when it has none. */
  groupLeaves(group: number): Uint8Array | undefined {
    if (this.#finished === undefined || !this.#groups.has(group)) return undefined;
    return encodeLeaves(group, this.#leavesOf(group));
  }

  /** At most `sizeMaxBytes` of a chunk's bytes from an offset on, or undefined when there are none. */
  chunkPart(chunk: number, offsetBytes: number, sizeMaxBytes: number): Uint8Array | undefined {
    if (this.#finished === undefined || !this.#leaves.has(chunk)) return undefined;
    if (this.#served?.chunk !== chunk) {
      // The finished checkpoint's own garbage may still be there; that of one on its way belongs to it.
      const garbage = this.#job?.phase === "remove" ? [] : undefined;
      const records = this.#readChunk(chunk, this.#finished.revision, garbage);
      this.#served = { chunk, bytes: chunkBytes(records) };
    }
    const { bytes } = this.#served;
    return offsetBytes < bytes.length ? bytes.subarray(offsetBytes, offsetBytes + sizeMaxBytes) : undefined;
  }

  // Installing

  /** The leaf of a chunk as the engine has it now, whatever the checkpoints say. */
  leafNow(chunk: number): Leaf | undefined {
    const records = this.#readChunk(chunk, Number.MAX_SAFE_INTEGER - 1, undefined);
    return records.length === 0 ? undefined : this.#leafOf(chunk, chunkBytes(records));
  }

  /** Forgets all checkpoints: the state is about to be replaced. */
  reset(): void {
    this.#leaves.clear();
    this.#groups.clear();
    this.#hashedRevision = 0;
    this.#collectedRevision = -2;
    this.#finished = undefined;
    this.#job = undefined;
    this.#served = undefined;
  }

  /** Takes over a checkpoint whose state was just installed, so that it can be served and built upon. */
  adopt(cid: number, revision: number, misc: Uint8Array, leaves: readonly Leaf[]): void {
    this.reset();
    const groups = new Set<number>();
    for (const leaf of leaves) {
      this.#leaves.set(leaf.chunk, leaf);
      groups.add(Math.floor(leaf.chunk / GROUP_CHUNKS));
    }
    for (const group of groups) {
      this.#groups.set(group, groupHash(this.#hasher, encodeLeaves(group, this.#leavesOf(group))));
    }
    this.#hashedRevision = revision;
    this.#publish(cid, revision, misc);
    assert(this.#finished !== undefined, "the checkpoint is published");
  }
}
