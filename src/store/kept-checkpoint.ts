/**
 * The checkpoint that a member keeps for others, as rows of the meta table: one for each group's leaves, and one
 * that says which checkpoint they are of. Written in one unit, so that a crash leaves this checkpoint or the one
 * before. Everything is checked against the root when it is read; what does not fit is as if it were not there,
 * and the next checkpoint is then computed from nothing.
 */
import { concatBytes, equalBytes, fromByteString } from "../base/bytes.ts";
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { DIGEST_SIZE_BYTES, type Hasher } from "../base/crypto.ts";
import { type Engine, EngineCorruptError, Table } from "./engine.ts";
import { metaKey, numberedMetaKey } from "./staging.ts";
import {
  decodeLeaves,
  decodeManifest,
  decodeMisc,
  encodeLeaves,
  GROUP_CHUNKS,
  groupHash,
  type Leaf,
  rootHash,
} from "./state-tree.ts";

const HEAD_KEY: Uint8Array = metaKey("store/checkpoint");
const CLEAN_KEY: Uint8Array = metaKey("store/clean");
const SEAL_DOMAIN = fromByteString("kmmr/state/row/1");
const LEAVES_PREFIX = "store/leaves/";

export interface Checkpoint {
  /** Consensus instance after which the state was fixed. */
  readonly cid: number;
  readonly revision: number;
  /** Digest over the whole replicated state. */
  readonly root: Uint8Array;
}

/** A checkpoint that can be served. */
export interface KeptCheckpoint extends Checkpoint {
  /** Encoded, for peers. */
  readonly manifest: Uint8Array;
  /** What makes others believe the root; the store does not look into it. */
  readonly proof: Uint8Array;
}

export interface LoadedCheckpoint {
  readonly kept: KeptCheckpoint;
  readonly compactRevision: number;
  readonly groups: ReadonlyMap<number, Uint8Array>;
  readonly leaves: ReadonlyMap<number, Leaf>;
}

function leavesKey(group: number): Uint8Array {
  return numberedMetaKey(LEAVES_PREFIX, group);
}

/** A row together with its hash: only an engine with checksums finds damage by itself. */
function sealed(hasher: Hasher, row: Uint8Array): Uint8Array {
  return concatBytes([row, hasher.hash(SEAL_DOMAIN, row)]);
}

/** The row without its hash. Throws DecodeError when that does not fit. */
function unsealed(hasher: Hasher, row: Uint8Array): Reader {
  const content = row.subarray(0, Math.max(row.length - DIGEST_SIZE_BYTES, 0));
  if (!equalBytes(hasher.hash(SEAL_DOMAIN, content), row.subarray(content.length))) {
    throw new DecodeError("a row does not fit its hash");
  }
  return new Reader(content);
}

/** Puts the row of one group into the open unit; a group without leaves has none. */
export function putLeaves(engine: Engine, group: number, leaves: readonly Leaf[]): void {
  if (leaves.length === 0) engine.delete(Table.meta, leavesKey(group));
  else engine.put(Table.meta, leavesKey(group), encodeLeaves(group, leaves));
}

/** Puts all rows of groups; `leaves` in any order. */
export function putAllLeaves(engine: Engine, leaves: readonly Leaf[]): void {
  const groups = new Map<number, Leaf[]>();
  for (const leaf of leaves) {
    const group = Math.floor(leaf.chunk / GROUP_CHUNKS);
    const others = groups.get(group);
    if (others === undefined) groups.set(group, [leaf]);
    else others.push(leaf);
  }
  for (const [group, of] of groups) {
    putLeaves(
      engine,
      group,
      of.sort((a, b) => a.chunk - b.chunk),
    );
  }
}

/** Says, in the open unit, which checkpoint the rows of the groups are of. */
export function putKept(engine: Engine, hasher: Hasher, kept: KeptCheckpoint): void {
  const { cid, root, manifest, proof } = kept;
  const writer = new Writer(64 + manifest.length + proof.length);
  const row = writer.u53(cid).raw(root).bytes(manifest).bytes(proof).finish();
  engine.put(Table.meta, HEAD_KEY, sealed(hasher, row));
}

/** The kept checkpoint; undefined when there is none that is whole and of a state up to `revisionMax`. */
export function loadKept(engine: Engine, hasher: Hasher, revisionMax: number): LoadedCheckpoint | undefined {
  try {
    return readKept(engine, hasher, revisionMax);
  } catch (error) {
    if (error instanceof DecodeError || error instanceof EngineCorruptError) return undefined;
    throw error;
  }
}

function readKept(engine: Engine, hasher: Hasher, revisionMax: number): LoadedCheckpoint | undefined {
  const head = engine.get(Table.meta, HEAD_KEY);
  if (head === undefined) return undefined;
  const reader = unsealed(hasher, head);
  const cid = reader.u53();
  const root = reader.raw(DIGEST_SIZE_BYTES).slice();
  const encoded = reader.bytes().slice();
  const proof = reader.bytes().slice();
  reader.end();
  const manifest = decodeManifest(encoded);
  if (!equalBytes(rootHash(hasher, manifest), root)) return undefined;
  const { revision, compactRevision } = decodeMisc(manifest.misc);
  if (revision > revisionMax) return undefined;
  const leaves = new Map<number, Leaf>();
  const groups = new Map<number, Uint8Array>();
  for (const { group, hash } of manifest.groups) {
    const row = engine.get(Table.meta, leavesKey(group));
    if (row === undefined || !equalBytes(groupHash(hasher, row), hash)) return undefined;
    for (const leaf of decodeLeaves(group, row)) leaves.set(leaf.chunk, leaf);
    groups.set(group, hash);
  }
  return { kept: { cid, revision, root, manifest: encoded, proof }, compactRevision, groups, leaves };
}

/** Says, in the open unit, that the engine holds nothing any more that a compaction at this revision removes. */
export function putCleanRevision(engine: Engine, hasher: Hasher, compactRevision: number): void {
  const row = new Writer(8).i64(BigInt(compactRevision)).finish();
  engine.put(Table.meta, CLEAN_KEY, sealed(hasher, row));
}

/** The newest compaction whose garbage is out of the engine; below -1 when that is not known. */
export function loadCleanRevision(engine: Engine, hasher: Hasher): number {
  try {
    const row = engine.get(Table.meta, CLEAN_KEY);
    if (row === undefined) return -2;
    const reader = unsealed(hasher, row);
    const compactRevision = Number(reader.i64());
    reader.end();
    return compactRevision;
  } catch (error) {
    if (error instanceof DecodeError || error instanceof EngineCorruptError) return -2;
    throw error;
  }
}
