/**
 * Records: one per change, appended in revision order and never changed. They are history, watch log and
 * current data in one.
 *
 * Layout (big-endian): kind u8 (1 put, 2 delete), revision u53, sub u32, create revision u53, version u53,
 * lease i64, revision and sub of the put before (u53, u32; zero when there is none), key length u32, key,
 * value. A record is found under its revision (8 bytes) and sub (4 bytes).
 */
import { readU32, toByteString } from "../base/bytes.ts";
import { Slab } from "../base/slab.ts";
import { EngineCorruptError } from "./engine.ts";
import type { KeyValue, WatchEvent } from "./types.ts";

const HEADER_SIZE_BYTES = 53;
const KIND_PUT = 1;
const KIND_DELETE = 2;
const HIGH_UNIT = 0x100000000;

/** Finds the version before a record, for watchers that want it. */
export interface PreviousSource {
  previousOf(record: StoredRecord): KeyValue | undefined;
}

/** What a new record says; see the layout above. */
export interface RecordFields {
  readonly put: boolean;
  readonly key: string;
  readonly modRevision: number;
  readonly sub: number;
  readonly createRevision: number;
  readonly version: number;
  readonly lease: bigint;
  readonly prevRevision: number;
  readonly prevSub: number;
}

/**
 * One record, in memory. It is the watch event of its change too, so that all watchers share one object with
 * its key-value pair and the version before.
 */
export class StoredRecord implements WatchEvent {
  readonly type: "put" | "delete";
  readonly key: string;
  readonly modRevision: number;
  readonly sub: number;
  readonly createRevision: number;
  readonly version: number;
  readonly lease: bigint;
  readonly prevRevision: number;
  readonly prevSub: number;
  /** The canonical bytes. */
  readonly bytes: Uint8Array;
  readonly #source: PreviousSource;
  #kv: KeyValue | undefined = undefined;

  constructor(fields: RecordFields, bytes: Uint8Array, source: PreviousSource) {
    this.type = fields.put ? "put" : "delete";
    this.key = fields.key;
    this.modRevision = fields.modRevision;
    this.sub = fields.sub;
    this.createRevision = fields.createRevision;
    this.version = fields.version;
    this.lease = fields.lease;
    this.prevRevision = fields.prevRevision;
    this.prevSub = fields.prevSub;
    this.bytes = bytes;
    this.#source = source;
  }

  /** A view of the value (empty for a delete). */
  get value(): Uint8Array {
    return this.bytes.subarray(HEADER_SIZE_BYTES + this.key.length);
  }

  get kv(): KeyValue {
    this.#kv ??= {
      key: this.key,
      createRevision: this.createRevision,
      modRevision: this.modRevision,
      version: this.version,
      value: this.value,
      lease: this.lease,
    };
    return this.#kv;
  }

  /** Looked up each time: a compaction may have come between, and then it is gone for who asks now. */
  get prevKv(): KeyValue | undefined {
    return this.#source.previousOf(this);
  }
}

/** Size of the record with this key and value. */
export function recordSizeBytes(key: string, value: Uint8Array): number {
  return HEADER_SIZE_BYTES + key.length + value.length;
}

/** View of the value in the bytes of a put record whose key is known. */
export function valueOfRecord(bytes: Uint8Array, key: string): Uint8Array {
  return bytes.subarray(HEADER_SIZE_BYTES + key.length);
}

/** Key of the record table: ascending byte order is revision order. */
export function recordKey(revision: number, sub: number): Uint8Array {
  const key = new Uint8Array(12);
  writeU53(key, 0, revision);
  writeU32(key, 8, sub);
  return key;
}

/** Main revision in a key of the record table. */
export function revisionOfKey(key: Uint8Array): number {
  return readU32(key, 0) * HIGH_UNIT + readU32(key, 4);
}

/** Encodes records into slabs, so that a put costs no buffer of its own. */
export class RecordEncoder {
  readonly #slab = new Slab();

  encode(fields: RecordFields, value: Uint8Array): Uint8Array {
    const { key, lease } = fields;
    const bytes = this.#slab.allocate(recordSizeBytes(key, value));
    bytes[0] = fields.put ? KIND_PUT : KIND_DELETE;
    writeU53(bytes, 1, fields.modRevision);
    writeU32(bytes, 9, fields.sub);
    writeU53(bytes, 13, fields.createRevision);
    writeU53(bytes, 21, fields.version);
    if (lease !== 0n) {
      const unsigned = BigInt.asUintN(64, lease);
      writeU32(bytes, 29, Number(unsigned >> 32n));
      writeU32(bytes, 33, Number(unsigned & 0xffffffffn));
    }
    writeU53(bytes, 37, fields.prevRevision);
    writeU32(bytes, 45, fields.prevSub);
    writeU32(bytes, 49, key.length);
    for (let i = 0; i < key.length; i++) bytes[HEADER_SIZE_BYTES + i] = key.charCodeAt(i);
    bytes.set(value, HEADER_SIZE_BYTES + key.length);
    return bytes;
  }
}

/**
 * Reads a record. Throws EngineCorruptError when the bytes are not the canonical encoding of a record;
 * records that come from peers are checked the same way and the caller turns the error into a refusal.
 */
export function decodeRecord(bytes: Uint8Array, source: PreviousSource): StoredRecord {
  if (bytes.length < HEADER_SIZE_BYTES)
    throw new EngineCorruptError("a record is too short; repair from peers");
  const kind = bytes[0]!;
  const keyLength = readU32(bytes, 49);
  const put = kind === KIND_PUT;
  const end = HEADER_SIZE_BYTES + keyLength;
  if ((!put && kind !== KIND_DELETE) || end > bytes.length || keyLength === 0) {
    throw new EngineCorruptError("a record is malformed; repair from peers");
  }
  const fields: RecordFields = {
    put,
    key: toByteString(bytes, HEADER_SIZE_BYTES, end),
    modRevision: readU53(bytes, 1),
    sub: readU32(bytes, 9),
    createRevision: readU53(bytes, 13),
    version: readU53(bytes, 21),
    lease: readI64(bytes, 29),
    prevRevision: readU53(bytes, 37),
    prevSub: readU32(bytes, 45),
  };
  const empty = fields.createRevision === 0 && fields.version === 0 && fields.lease === 0n;
  const consistent = put
    ? fields.version >= 1 && fields.createRevision >= 1 && fields.createRevision <= fields.modRevision
    : empty && end === bytes.length;
  if (!consistent) throw new EngineCorruptError("a record contradicts itself; repair from peers");
  return new StoredRecord(fields, bytes, source);
}

/** What to throw when the engine has another record at a position than the index or a newer record names. */
export function anotherRecord(revision: number, sub: number): EngineCorruptError {
  return new EngineCorruptError(`revision ${revision}.${sub} holds another record; repair from peers`);
}

/**
 * The key-value pair of a put record whose key and position are known. Throws EngineCorruptError when the bytes
 * are not that record.
 */
export function keyValueOfRecord(bytes: Uint8Array, key: string, revision: number, sub: number): KeyValue {
  const end = HEADER_SIZE_BYTES + key.length;
  const fits =
    bytes.length >= end &&
    bytes[0] === KIND_PUT &&
    readU53(bytes, 1) === revision &&
    readU32(bytes, 9) === sub &&
    readU32(bytes, 49) === key.length;
  if (!fits) throw anotherRecord(revision, sub);
  return {
    key,
    createRevision: readU53(bytes, 13),
    modRevision: revision,
    version: readU53(bytes, 21),
    value: bytes.subarray(end),
    lease: readI64(bytes, 29),
  };
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

function writeU53(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / HIGH_UNIT));
  writeU32(bytes, at + 4, value >>> 0);
}

function readU53(bytes: Uint8Array, at: number): number {
  const value = readU32(bytes, at) * HIGH_UNIT + readU32(bytes, at + 4);
  if (!Number.isSafeInteger(value)) throw new EngineCorruptError("a record has an impossible number");
  return value;
}

function readI64(bytes: Uint8Array, at: number): bigint {
  const high = readU32(bytes, at);
  const low = readU32(bytes, at + 4);
  if (high === 0 && low === 0) return 0n;
  return BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));
}
