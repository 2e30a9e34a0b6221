/**
 * The digest of the whole state at checkpoints, brought up to date in slices while later batches execute, and
 * the one checkpoint that is kept for others.
 *
 * A checkpoint fixes the state as of one batch. Records up to its revision never change afterwards; what its
 * compaction removes is left out of the digest first, and removed from the engine only once the checkpoint is
 * kept. So the kept one can be served until a later one takes its place, and over restarts: it lies in the
 * engine with its leaves (kept-checkpoint.ts). Computed checkpoints that are not kept (yet) lie in memory only,
 * each as what differs from the one before it.
 */
import { assert } from "../base/assert.ts";
import { equalBytes, toByteString } from "../base/bytes.ts";
import type { Hasher } from "../base/crypto.ts";
import { ChunkReader } from "./chunk-reader.ts";
import { GarbageCollector } from "./compaction.ts";
import type { Engine } from "./engine.ts";
import { type ChunkGarbage, GarbageRemoval } from "./garbage-removal.ts";
import {
  type Checkpoint,
  type KeptCheckpoint,
  loadCleanRevision,
  loadKept,
  putCleanRevision,
  putKept,
  putLeaves,
} from "./kept-checkpoint.ts";
import type { Keyspace } from "./keyspace.ts";
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

/** Computed checkpoints that wait to be kept; beyond it the oldest is given up. */
export const COMPUTED_MAX = 4;

type Groups = ReadonlyMap<number, Uint8Array>;

interface ComputedCheckpoint extends Checkpoint {
  readonly compactRevision: number;
  readonly manifest: Uint8Array;
  readonly groups: Groups;
  /** Leaves that differ from the checkpoint before; undefined where there are no records any more. */
  readonly leaves: Map<number, Leaf | undefined>;
  readonly garbage: ChunkGarbage[];
}

/** A checkpoint on its way, or what a crash left to do for the one that is kept. */
interface Job {
  readonly type: "checkpoint" | "cleaning";
  readonly cid: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly misc: Uint8Array;
  readonly collector: GarbageCollector;
  isCollected: boolean;
  /** Chunks to look at, last first. */
  chunks: number[];
  readonly leaves: Map<number, Leaf | undefined>;
  readonly garbage: ChunkGarbage[];
}

export class StateDigest {
  readonly #space: Keyspace;
  readonly #engine: Engine;
  readonly #hasher: Hasher;
  readonly #reader: ChunkReader;
  readonly #removal: GarbageRemoval;
  #kept: KeptCheckpoint | undefined;
  #keptCompactRevision = -1;
  #keptGroups: Groups = new Map();
  /** Leaves of the kept checkpoint. */
  readonly #leaves = new Map<number, Leaf>();
  /** Computed after the kept one, oldest first. */
  #computed: ComputedCheckpoint[] = [];
  #job: Job | undefined;
  /** While a state is transferred nothing may leave the engine. */
  #paused = false;
  #served: { readonly chunk: number; readonly bytes: Uint8Array } | undefined;

  constructor(space: Keyspace, engine: Engine, hasher: Hasher) {
    this.#space = space;
    this.#engine = engine;
    this.#hasher = hasher;
    this.#reader = new ChunkReader(space, engine);
    this.#removal = new GarbageRemoval(engine);
  }

  /** The checkpoint that is served. */
  get kept(): KeptCheckpoint | undefined {
    return this.#kept;
  }

  /** A checkpoint whose digest is done, kept or not. */
  computed(cid: number): Checkpoint | undefined {
    if (this.#kept?.cid === cid) return this.#kept;
    return this.#computed.find((each) => each.cid === cid);
  }

  get hasWork(): boolean {
    return !this.#paused && (this.#job !== undefined || !this.#removal.isEmpty);
  }

  // Computing

  /** Fixes the state as it is now. A checkpoint that is still on its way is computed first. */
  capture(cid: number, misc: Uint8Array): void {
    this.#paused = false;
    while (this.#job !== undefined) this.#workOnJob(this.#job, Number.POSITIVE_INFINITY);
    const { revision, compactRevision } = this.#space;
    this.#begin("checkpoint", { cid, revision, compactRevision, misc });
  }

  #begin(type: Job["type"], of: Pick<Job, "cid" | "revision" | "compactRevision" | "misc">): void {
    const collector = new GarbageCollector(this.#space, of.compactRevision);
    const leaves: Job["leaves"] = new Map();
    this.#job = { type, ...of, collector, isCollected: false, chunks: [], leaves, garbage: [] };
    if (of.compactRevision === this.#reader.collectedRevision) this.#beginHashing(this.#job);
    this.#reader.collectedRevision = of.compactRevision;
  }

  /** Handles about `budget` records of what is to do; true when there is more. */
  work(budget: number): boolean {
    if (this.#paused) return false;
    let left = budget;
    if (this.#job !== undefined) {
      // Half for the removal: a checkpoint behind each other must not let garbage pile up.
      left = budget / 2;
      this.#workOnJob(this.#job, left);
    }
    while (left > 0 && !this.#removal.isEmpty) {
      left -= Math.max(this.#removal.removeSome(), 1);
      if (this.#removal.isEmpty) this.#noteClean();
      this.#engine.commit();
    }
    return this.hasWork;
  }

  /** Into the open unit: all garbage of the kept checkpoint is gone. */
  #noteClean(): void {
    putCleanRevision(this.#engine, this.#hasher, this.#keptCompactRevision);
  }

  #workOnJob(job: Job, budget: number): void {
    let left = budget;
    while (this.#job === job && left > 0) {
      if (!job.isCollected) {
        // Looking at a key is far quicker than hashing a record.
        const keys = Math.min(left * 8, 1_000_000);
        left -= keys / 8;
        if (!job.collector.work(keys)) this.#beginHashing(job);
        continue;
      }
      const chunk = job.chunks.pop();
      if (chunk !== undefined) left -= this.#examineChunk(job, chunk);
      else if (job.type === "checkpoint") this.#finish(job);
      else this.#finishCleaning(job);
    }
  }

  #beginHashing(job: Job): void {
    const chunks = new Set(job.collector.chunks);
    if (job.type === "checkpoint") {
      const hashed = (this.#computed.at(-1) ?? this.#kept)?.revision ?? 0;
      const last = Math.floor(job.revision / CHUNK_REVISIONS);
      for (let chunk = Math.floor((hashed + 1) / CHUNK_REVISIONS); chunk <= last; chunk++) chunks.add(chunk);
    }
    job.chunks = [...chunks].sort((a, b) => b - a);
    job.isCollected = true;
  }

  /** Reads one chunk, and hashes it for a checkpoint; gives the number of records in it, at least 1. */
  #examineChunk(job: Job, chunk: number): number {
    const keys: Uint8Array[] = [];
    const records = this.#reader.read(chunk, job.revision, keys);
    if (keys.length > 0) job.garbage.push({ chunk, keys });
    if (job.type === "checkpoint") {
      job.leaves.set(chunk, records.length === 0 ? undefined : this.#leafOf(chunk, chunkBytes(records)));
    }
    return Math.max(records.length + keys.length, 1);
  }

  #leafOf(chunk: number, bytes: Uint8Array): Leaf {
    return { chunk, sizeBytes: bytes.length, hash: leafHash(this.#hasher, chunk, bytes) };
  }

  /** All leaves are there: the groups that changed, then the root. */
  #finish(job: Job): void {
    this.#job = undefined;
    const groups = new Map(this.#computed.at(-1)?.groups ?? this.#keptGroups);
    const layers = [...this.#computed.map((each) => each.leaves), job.leaves];
    for (const group of groupsOf(job.leaves.keys())) {
      const leaves = this.#leavesOf(group, layers);
      if (leaves.length === 0) groups.delete(group);
      else groups.set(group, groupHash(this.#hasher, encodeLeaves(group, leaves)));
    }
    const inOrder = [...groups].map(([group, hash]) => ({ group, hash }));
    inOrder.sort((a, b) => a.group - b.group);
    const manifest = { misc: job.misc, groups: inOrder };
    const { cid, revision, compactRevision, leaves, garbage } = job;
    this.#computed.push({
      cid,
      revision,
      compactRevision,
      root: rootHash(this.#hasher, manifest),
      manifest: encodeManifest(manifest),
      groups,
      leaves,
      garbage,
    });
    if (this.#computed.length > COMPUTED_MAX) this.#giveUpOldest();
  }

  /** What the oldest one changed becomes part of what the next one changed. */
  #giveUpOldest(): void {
    const [oldest, next, ...others] = this.#computed;
    assert(oldest !== undefined && next !== undefined, "there are two");
    const leaves = new Map([...oldest.leaves, ...next.leaves]);
    this.#computed = [{ ...next, leaves, garbage: [...oldest.garbage, ...next.garbage] }, ...others];
  }

  /** Leaves of a group: those of the kept checkpoint under the given changes, newest last. */
  #leavesOf(group: number, layers: readonly ReadonlyMap<number, Leaf | undefined>[] = []): Leaf[] {
    const leaves: Leaf[] = [];
    for (let chunk = group * GROUP_CHUNKS; chunk < (group + 1) * GROUP_CHUNKS; chunk++) {
      const leaf = (layers.findLast((layer) => layer.has(chunk)) ?? this.#leaves).get(chunk);
      if (leaf !== undefined) leaves.push(leaf);
    }
    return leaves;
  }

  // Keeping

  /**
   * Serves this computed checkpoint from now on, also after a restart, with what proves it to others. What it
   * does not contain leaves the engine. False when it is not (or no more) there.
   */
  keep(cid: number, proof: Uint8Array): boolean {
    const at = this.#computed.findIndex((each) => each.cid === cid);
    const next = this.#computed[at];
    if (next === undefined) return false;
    const changed = new Set<number>();
    for (const { leaves, garbage } of this.#computed.splice(0, at + 1)) {
      for (const [chunk, leaf] of leaves) {
        if (leaf === undefined) this.#leaves.delete(chunk);
        else this.#leaves.set(chunk, leaf);
      }
      for (const group of groupsOf(leaves.keys())) changed.add(group);
      this.#removal.add(garbage);
    }
    const { revision, root, manifest } = next;
    this.#kept = { cid, revision, root, manifest, proof };
    this.#keptCompactRevision = next.compactRevision;
    this.#keptGroups = next.groups;
    this.#served = undefined;
    for (const group of changed) putLeaves(this.#engine, group, this.#leavesOf(group));
    putKept(this.#engine, this.#hasher, this.#kept);
    if (this.#removal.isEmpty) this.#noteClean();
    this.#engine.commit();
    return true;
  }

  #finishCleaning(job: Job): void {
    this.#job = undefined;
    this.#removal.add(job.garbage);
    if (!this.#removal.isEmpty) return;
    this.#noteClean();
    this.#engine.commit();
  }

  /** Begins with the checkpoint that the engine holds, if it does; the records are loaded already. */
  load(): void {
    this.#leaves.clear();
    this.#computed = [];
    this.#job = undefined;
    this.#removal.clear();
    this.#served = undefined;
    this.#paused = false;
    const loaded = loadKept(this.#engine, this.#hasher, this.#space.revision);
    this.#kept = loaded?.kept;
    this.#keptCompactRevision = loaded?.compactRevision ?? -1;
    this.#keptGroups = loaded?.groups ?? new Map();
    this.#reader.collectedRevision = loadCleanRevision(this.#engine, this.#hasher);
    if (loaded === undefined) return;
    for (const [chunk, leaf] of loaded.leaves) this.#leaves.set(chunk, leaf);
    const { cid, revision } = loaded.kept;
    const { compactRevision } = loaded;
    if (this.#reader.collectedRevision >= compactRevision) return;
    // A crash came before all garbage was gone.
    this.#begin("cleaning", { cid, revision, compactRevision, misc: new Uint8Array(0) });
  }

  /** Until the next `load` or `capture` nothing leaves the engine. */
  pause(): void {
    this.#paused = true;
  }

  /** Nothing that was computed can be kept any more: another state takes the place of this one. */
  forgetComputed(): void {
    this.#computed = [];
  }

  // Serving

  /** The kept checkpoint's manifest, encoded. */
  manifest(): Uint8Array | undefined {
    return this.#kept?.manifest;
  }

  /** The leaves of a group of the kept checkpoint, encoded; undefined when it has none. */
  groupLeaves(group: number): Uint8Array | undefined {
    return this.#keptGroups.has(group) ? encodeLeaves(group, this.#leavesOf(group)) : undefined;
  }

  /** At most `sizeMaxBytes` of a chunk's bytes from an offset on, or undefined when there are none (yet). */
  chunkPart(chunk: number, offsetBytes: number, sizeMaxBytes: number): Uint8Array | undefined {
    if (this.#served?.chunk !== chunk) this.#served = this.#readServed(chunk);
    const bytes = this.#served?.bytes;
    if (bytes === undefined || offsetBytes >= bytes.length) return undefined;
    return bytes.subarray(offsetBytes, offsetBytes + sizeMaxBytes);
  }

  #readServed(chunk: number) {
    const leaf = this.#leaves.get(chunk);
    if (this.#kept === undefined || leaf === undefined) return undefined;
    const garbage = this.#removal.keysOf(chunk);
    const last = Math.min((chunk + 1) * CHUNK_REVISIONS - 1, this.#kept.revision);
    const records =
      garbage.size === 0
        ? this.#reader.read(chunk, last)
        : this.#reader
            .entries(chunk, last)
            .filter(({ key }) => !garbage.has(toByteString(key)))
            .map(({ value }) => value);
    const bytes = chunkBytes(records);
    // Does not fit while garbage is searched for after a crash; the one who asks does so again.
    return equalBytes(this.#leafOf(chunk, bytes).hash, leaf.hash) ? { chunk, bytes } : undefined;
  }

  /** The leaf of a chunk as the engine has it now, whatever the checkpoints say. */
  leafNow(chunk: number): Leaf | undefined {
    const records = this.#reader.read(chunk, Number.MAX_SAFE_INTEGER - 1);
    return records.length === 0 ? undefined : this.#leafOf(chunk, chunkBytes(records));
  }
}

function groupsOf(chunks: Iterable<number>): Set<number> {
  const groups = new Set<number>();
  for (const chunk of chunks) groups.add(Math.floor(chunk / GROUP_CHUNKS));
  return groups;
}
