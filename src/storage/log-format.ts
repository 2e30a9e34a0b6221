/**
 * Bytes of the log's files.
 *
 * A log is a directory of segments, files of a fixed size that are filled with zeros before they are used,
 * so that a sync never has to write file metadata. A segment starts with one sector of header, followed by
 * batches. A batch is one write: a header of 64 bytes, then records, each behind its length in four bytes,
 * then padding to the next sector. All integers are big-endian.
 *
 * Rules that recovery builds on:
 * - A batch is written only when every batch before it is durable. A valid batch therefore proves that all
 *   records before its first sequence were durable; an empty batch (a marker) exists only to prove that.
 * - A batch starts on a sector of its own, so that writing it never touches bytes that are durable already.
 * - Header and chain bind each batch to the one before and to its segment (by a random nonce, so that bytes
 *   which a client stored can never pass for a batch).
 * - The header says how many sectors of the batch are all zeros. If more are found, some were never written:
 *   the write was torn and nobody was told that it is durable. (Sectors are taken to be written whole.)
 */
import { crc32 } from "node:zlib";

/** The unit that a disk writes whole or not at all. */
export const SECTOR_SIZE_BYTES = 512;
export const BATCH_HEADER_SIZE_BYTES = 64;
export const RECORD_HEADER_SIZE_BYTES = 4;
export const LOG_FORMAT_VERSION = 1;
export const MAX_OWNER_SIZE_BYTES = 64;
export const LOG_ID_SIZE_BYTES = 16;
export const NONCE_SIZE_BYTES = 8;
/** Chain value before the first batch of a log. */
export const CHAIN_START = 0;

const SEGMENT_MAGIC = 0x4b6d4c53; // "KmLS"
const BATCH_MAGIC = 0x4b6d4c42; // "KmLB"
const PADDING = 0xa5;
const ZERO_SECTOR = Buffer.alloc(SECTOR_SIZE_BYTES);

/** First sector of a segment. */
export interface SegmentHeader {
  /** Counts the segments of a log, from 1. */
  readonly number: number;
  readonly sizeBytes: number;
  /** Random, the same in all segments of one log. */
  readonly logId: Uint8Array;
  /** Random, of this segment alone. */
  readonly nonce: Uint8Array;
  /** Who writes this log: given by the caller, compared when it is opened again. */
  readonly owner: Uint8Array;
}

/** Header of a batch, as read. */
export interface BatchHeader {
  /** Sequence of the first record, or the one that comes next when there is none. */
  readonly firstSequence: number;
  /** Records from this sequence on are kept; older segments may be gone. */
  readonly keptFrom: number;
  readonly recordCount: number;
  readonly payloadSizeBytes: number;
  readonly zeroSectors: number;
  readonly previousChain: number;
  readonly chain: number;
}

/** What a batch is made of. */
export interface BatchContent {
  readonly nonce: Uint8Array;
  readonly firstSequence: number;
  readonly keptFrom: number;
  readonly records: readonly Uint8Array[];
  readonly previousChain: number;
}

/** Bytes up to the end of the sector in which they end. */
export function roundUpToSector(sizeBytes: number): number {
  return Math.ceil(sizeBytes / SECTOR_SIZE_BYTES) * SECTOR_SIZE_BYTES;
}

/** Bytes that a batch takes in the file. */
export function batchSizeBytes(payloadSizeBytes: number): number {
  return roundUpToSector(BATCH_HEADER_SIZE_BYTES + payloadSizeBytes);
}

/** The sector that starts a segment. */
export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const sector = Buffer.alloc(SECTOR_SIZE_BYTES);
  sector.writeUInt32BE(SEGMENT_MAGIC, 0);
  sector.writeUInt32BE(LOG_FORMAT_VERSION, 8);
  writeU53(sector, header.number, 12);
  writeU53(sector, header.sizeBytes, 20);
  sector.set(header.logId, 28);
  sector.set(header.nonce, 44);
  sector.writeUInt32BE(header.owner.length, 52);
  sector.set(header.owner, 56);
  sector.writeUInt32BE(crc32(sector.subarray(8)), 4);
  return sector;
}

/** A segment's header, the version it has when that is another one, or undefined when it is damaged. */
export function parseSegmentHeader(sector: Buffer): SegmentHeader | { version: number } | undefined {
  if (sector.length < SECTOR_SIZE_BYTES || sector.readUInt32BE(0) !== SEGMENT_MAGIC) return undefined;
  if (crc32(sector.subarray(8, SECTOR_SIZE_BYTES)) !== sector.readUInt32BE(4)) return undefined;
  const version = sector.readUInt32BE(8);
  if (version !== LOG_FORMAT_VERSION) return { version };
  const ownerSize = sector.readUInt32BE(52);
  if (ownerSize > MAX_OWNER_SIZE_BYTES) return undefined;
  return {
    number: readU53(sector, 12),
    sizeBytes: readU53(sector, 20),
    logId: new Uint8Array(sector.subarray(28, 44)),
    nonce: new Uint8Array(sector.subarray(44, 52)),
    owner: new Uint8Array(sector.subarray(56, 56 + ownerSize)),
  };
}

/** Lays a batch into the start of `into`; gives its size and its chain value. */
export function encodeBatch(into: Buffer, content: BatchContent): { sizeBytes: number; chain: number } {
  let at = BATCH_HEADER_SIZE_BYTES;
  for (const record of content.records) {
    into.writeUInt32BE(record.length, at);
    into.set(record, at + RECORD_HEADER_SIZE_BYTES);
    at += RECORD_HEADER_SIZE_BYTES + record.length;
  }
  const payloadSizeBytes = at - BATCH_HEADER_SIZE_BYTES;
  const sizeBytes = batchSizeBytes(payloadSizeBytes);
  into.fill(PADDING, at, sizeBytes);
  into.writeUInt32BE(BATCH_MAGIC, 0);
  into.set(content.nonce, 8);
  writeU53(into, content.firstSequence, 16);
  writeU53(into, content.keptFrom, 24);
  into.writeUInt32BE(content.records.length, 32);
  into.writeUInt32BE(payloadSizeBytes, 36);
  into.writeUInt32BE(countZeroSectors(into, SECTOR_SIZE_BYTES, sizeBytes), 40);
  into.writeUInt32BE(content.previousChain, 44);
  const chain = batchChain(into, 0, payloadSizeBytes);
  into.writeUInt32BE(chain, 48);
  into.fill(0, 52, BATCH_HEADER_SIZE_BYTES);
  into.writeUInt32BE(crc32(into.subarray(8, BATCH_HEADER_SIZE_BYTES)), 4);
  return { sizeBytes, chain };
}

/** The batch header at `at`, or undefined when no whole and valid one of that segment is there. */
export function parseBatchHeader(bytes: Buffer, at: number, nonce: Uint8Array): BatchHeader | undefined {
  if (at + BATCH_HEADER_SIZE_BYTES > bytes.length || bytes.readUInt32BE(at) !== BATCH_MAGIC) return undefined;
  for (let i = 0; i < NONCE_SIZE_BYTES; i++) if (bytes[at + 8 + i] !== nonce[i]) return undefined;
  if (crc32(bytes.subarray(at + 8, at + BATCH_HEADER_SIZE_BYTES)) !== bytes.readUInt32BE(at + 4)) {
    return undefined;
  }
  return {
    firstSequence: readU53(bytes, at + 16),
    keptFrom: readU53(bytes, at + 24),
    recordCount: bytes.readUInt32BE(at + 32),
    payloadSizeBytes: bytes.readUInt32BE(at + 36),
    zeroSectors: bytes.readUInt32BE(at + 40),
    previousChain: bytes.readUInt32BE(at + 44),
    chain: bytes.readUInt32BE(at + 48),
  };
}

/** Chain value over the fields of the header (which name the chain before), the payload and the padding. */
export function batchChain(bytes: Buffer, at: number, payloadSizeBytes: number): number {
  const fields = crc32(bytes.subarray(at + 8, at + 48));
  return crc32(bytes.subarray(at + BATCH_HEADER_SIZE_BYTES, at + batchSizeBytes(payloadSizeBytes)), fields);
}

/** Sectors between two sector boundaries that hold nothing but zeros. */
export function countZeroSectors(bytes: Buffer, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; at += SECTOR_SIZE_BYTES) if (isZeroSector(bytes, at)) count++;
  return count;
}

/** Whether the (maybe shortened) sector at `at` holds nothing but zeros. */
export function isZeroSector(bytes: Buffer, at: number): boolean {
  if (bytes[at] !== 0) return at >= bytes.length;
  const end = Math.min(at + SECTOR_SIZE_BYTES, bytes.length);
  return bytes.compare(ZERO_SECTOR, 0, end - at, at, end) === 0;
}

/** The records of a batch that was checked before; copies, so that they do not keep the segment in memory. */
export function* recordsOf(bytes: Buffer, at: number, header: BatchHeader): Generator<Uint8Array> {
  let position = at + BATCH_HEADER_SIZE_BYTES;
  for (let i = 0; i < header.recordCount; i++) {
    const start = position + RECORD_HEADER_SIZE_BYTES;
    position = start + bytes.readUInt32BE(position);
    yield new Uint8Array(bytes.subarray(start, position));
  }
}

/** Whether the records' lengths fill the payload exactly. */
export function recordsFit(bytes: Buffer, at: number, header: BatchHeader): boolean {
  let position = at + BATCH_HEADER_SIZE_BYTES;
  const end = position + header.payloadSizeBytes;
  for (let i = 0; i < header.recordCount; i++) {
    if (position + RECORD_HEADER_SIZE_BYTES > end) return false;
    position += RECORD_HEADER_SIZE_BYTES + bytes.readUInt32BE(position);
  }
  return position === end;
}

function writeU53(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / 0x100000000), at);
  bytes.writeUInt32BE(value >>> 0, at + 4);
}

function readU53(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 0x100000000 + bytes.readUInt32BE(at + 4);
}
