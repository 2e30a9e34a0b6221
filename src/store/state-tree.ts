/**
 * The shape of the state digest, its hashes and the canonical bytes of its parts.
 *
 * The records of 64 consecutive revisions make a chunk; its leaf is the hash of its bytes. 256 chunks make a
 * group, whose hash covers the leaves and sizes of its chunks. The root covers the groups and the hash of the
 * rest of the state (leases, revisions, time, and what the replica keeps beside). Chunks and groups without
 * records do not occur. Every hash names what it is of and its index, so that no part passes for another.
 */
import { concatBytes, fromByteString } from "../base/bytes.ts";
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { DIGEST_SIZE_BYTES, type Hasher } from "../base/crypto.ts";

export const CHUNK_REVISIONS = 64;
export const GROUP_CHUNKS = 256;
export const GROUP_REVISIONS: number = CHUNK_REVISIONS * GROUP_CHUNKS;

const LEAF_DOMAIN = fromByteString("kmmr/state/leaf/1");
const GROUP_DOMAIN = fromByteString("kmmr/state/group/1");
const MISC_DOMAIN = fromByteString("kmmr/state/misc/1");
const ROOT_DOMAIN = fromByteString("kmmr/state/root/1");
/** A manifest of the largest state there can be (2^53 revisions) would have more; this is 16 TiB of records. */
const GROUPS_MAX = 1 << 22;
const LEASES_MAX = 1 << 24;

/** Digest of one chunk. */
export interface Leaf {
  readonly chunk: number;
  /** Size of the chunk's bytes. */
  readonly sizeBytes: number;
  readonly hash: Uint8Array;
}

export interface GroupHash {
  readonly group: number;
  readonly hash: Uint8Array;
}

/** What the root covers. */
export interface Manifest {
  /** Canonical bytes of `StateMisc`. */
  readonly misc: Uint8Array;
  /** Ascending. */
  readonly groups: readonly GroupHash[];
}

export interface LeaseRow {
  readonly id: bigint;
  readonly ttlSeconds: number;
  readonly expiresAtMs: number;
  /** Whether an outage put its expiry off since it was last renewed (Store.beginBatch). */
  readonly extended: boolean;
}

/** Bytes of a lease without its id, as `writeLease` writes them. */
export const LEASE_SIZE_BYTES = 17;

/** Writes what a lease is beside its id. */
export function writeLease({ ttlSeconds, expiresAtMs, extended }: Omit<LeaseRow, "id">, w: Writer): Writer {
  return w.u53(ttlSeconds).u53(expiresAtMs).boolean(extended);
}

/** Reads what `writeLease` wrote. Throws DecodeError. */
export function readLease(r: Reader): Omit<LeaseRow, "id"> {
  return { ttlSeconds: r.u53(), expiresAtMs: r.u53(), extended: r.boolean() };
}

/** The state beside the records. */
export interface StateMisc {
  readonly revision: number;
  readonly compactRevision: number;
  readonly timeMs: number;
  /** Ascending by id. */
  readonly leases: readonly LeaseRow[];
  /** What the replica layer keeps with the state; the store does not look into it. */
  readonly extra: Uint8Array;
}

/** Bytes of a chunk: each record behind its length. */
export function chunkBytes(records: readonly Uint8Array[]): Uint8Array {
  let sizeBytes = 0;
  for (const record of records) sizeBytes += 4 + record.length;
  const bytes = new Uint8Array(sizeBytes);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const record of records) {
    view.setUint32(at, record.length);
    bytes.set(record, at + 4);
    at += 4 + record.length;
  }
  return bytes;
}

/** The records in the bytes of a chunk, as views. Throws DecodeError. */
export function recordsOfChunk(bytes: Uint8Array): Uint8Array[] {
  const reader = new Reader(bytes);
  const records: Uint8Array[] = [];
  while (reader.remaining > 0) records.push(reader.bytes());
  return records;
}

export function leafHash(hasher: Hasher, chunk: number, bytes: Uint8Array): Uint8Array {
  return hasher.hash(concatBytes([LEAF_DOMAIN, new Writer(8).u53(chunk).finish(), bytes]));
}

/** Canonical bytes of the leaves of one group, ascending by chunk. */
export function encodeLeaves(group: number, leaves: readonly Leaf[]): Uint8Array {
  const writer = new Writer(16 + leaves.length * 44).raw(GROUP_DOMAIN).u53(group);
  writer.list(leaves, (leaf, to) => to.u53(leaf.chunk).u32(leaf.sizeBytes).raw(leaf.hash));
  return writer.finish();
}

/** Reads the leaves of a group. Throws DecodeError when they are not of that group or not in order. */
export function decodeLeaves(group: number, bytes: Uint8Array): Leaf[] {
  const reader = new Reader(bytes);
  expectDomain(reader, GROUP_DOMAIN);
  if (reader.u53() !== group) throw new DecodeError("leaves of another group");
  let next = group * GROUP_CHUNKS;
  const end = next + GROUP_CHUNKS;
  const leaves = reader.list(GROUP_CHUNKS, (from) => {
    const leaf = { chunk: from.u53(), sizeBytes: from.u32(), hash: from.raw(DIGEST_SIZE_BYTES).slice() };
    if (leaf.chunk < next || leaf.chunk >= end || leaf.sizeBytes === 0)
      throw new DecodeError("leaf out of place");
    next = leaf.chunk + 1;
    return leaf;
  });
  reader.end();
  if (leaves.length === 0) throw new DecodeError("a group without leaves");
  return leaves;
}

/** Hash of a group: of the canonical bytes of its leaves. */
export function groupHash(hasher: Hasher, leavesBytes: Uint8Array): Uint8Array {
  return hasher.hash(leavesBytes);
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  const writer = new Writer(64 + manifest.misc.length + manifest.groups.length * 40);
  writer.raw(ROOT_DOMAIN).bytes(manifest.misc);
  writer.list(manifest.groups, ({ group, hash }, to) => to.u53(group).raw(hash));
  return writer.finish();
}

/** Reads a manifest. Throws DecodeError. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  const reader = new Reader(bytes);
  expectDomain(reader, ROOT_DOMAIN);
  const misc = reader.bytes().slice();
  let next = 0;
  const groups = reader.list(GROUPS_MAX, (from) => {
    const entry = { group: from.u53(), hash: from.raw(DIGEST_SIZE_BYTES).slice() };
    if (entry.group < next) throw new DecodeError("groups out of order");
    next = entry.group + 1;
    return entry;
  });
  reader.end();
  return { misc, groups };
}

/** The root: it covers the hash of `misc` and every group. */
export function rootHash(hasher: Hasher, manifest: Manifest): Uint8Array {
  const misc = hasher.hash(concatBytes([MISC_DOMAIN, manifest.misc]));
  return hasher.hash(encodeManifest({ misc, groups: manifest.groups }));
}

export function encodeMisc(misc: StateMisc): Uint8Array {
  const writer = new Writer(64 + misc.leases.length * 25 + misc.extra.length);
  writer.u53(misc.revision).i64(BigInt(misc.compactRevision)).u53(misc.timeMs);
  writer.list(misc.leases, (row, to) => writeLease(row, to.i64(row.id)));
  return writer.bytes(misc.extra).finish();
}

/** Reads what `encodeMisc` wrote. Throws DecodeError. */
export function decodeMisc(bytes: Uint8Array): StateMisc {
  const reader = new Reader(bytes);
  const revision = reader.u53();
  const compactRevision = Number(reader.i64());
  const timeMs = reader.u53();
  const leases = reader.list(LEASES_MAX, (from) => ({ id: from.i64(), ...readLease(from) }));
  const extra = reader.bytes().slice();
  reader.end();
  if (revision < 1 || compactRevision < -1 || compactRevision > revision)
    throw new DecodeError("bad revisions");
  return { revision, compactRevision, timeMs, leases, extra };
}

function expectDomain(reader: Reader, domain: Uint8Array): void {
  const found = reader.raw(domain.length);
  for (let i = 0; i < domain.length; i++)
    if (found[i] !== domain[i]) throw new DecodeError("another kind of bytes");
}
