/**
 * Canonical bytes of operations, as they stand in bundles: one tag byte, then the fields in the order of
 * types.ts. Decoding is strict: what it accepts encodes to the same bytes again.
 */
import { toByteString } from "../base/bytes.ts";
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { isKnownCompare, TXN_OPS_MAX } from "./request-checks.ts";
import {
  type Compare,
  type CompareResult,
  type CompareTarget,
  type DeleteRangeRequest,
  type Operation,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  SortOrder,
  SortTarget,
  type TxnRequest,
} from "./types.ts";

const Tag = {
  put: 1,
  deleteRange: 2,
  txn: 3,
  compact: 4,
  leaseGrant: 5,
  leaseRevoke: 6,
  leaseKeepAlive: 7,
  noop: 8,
  range: 9,
} as const;

const PREV_KV = 1;
const IGNORE_VALUE = 2;
const IGNORE_LEASE = 4;
const SERIALIZABLE = 1;
const KEYS_ONLY = 2;
const COUNT_ONLY = 4;
const HIGH_UNIT = 0x100000000;

/** The canonical bytes of an operation. Numbers beyond +-(2^53-1) are cut to that. */
export function encodeOperation(operation: Operation): Uint8Array {
  const writer = new Writer(operation.type === "put" ? sizeOfPut(operation.put) : 256);
  writeOperation(writer, operation);
  return writer.finish();
}

/**
 * The operation that the bytes encode; byte arrays in it are views. Throws DecodeError for all else, also for
 * transactions nested deeper than any that could be executed.
 */
export function decodeOperation(bytes: Uint8Array): Operation {
  if (bytes[0] === Tag.put) {
    const put = decodePlainPut(bytes);
    if (put !== undefined) return put;
  }
  const reader = new Reader(bytes);
  const operation = readOperation(reader);
  reader.end();
  return operation;
}

/**
 * The put in these bytes when it is an ordinary one (no lease) and well formed; else undefined. Most operations
 * are, and this takes half the time of the reader.
 */
function decodePlainPut(bytes: Uint8Array): Operation | undefined {
  const { length } = bytes;
  const valueLengthAt = 5 + lengthAt(bytes, 1);
  const valueAt = valueLengthAt + 4;
  const leaseAt = valueAt + (valueAt <= length ? lengthAt(bytes, valueLengthAt) : 0);
  if (length !== leaseAt + 9) return undefined;
  for (let i = leaseAt; i < leaseAt + 8; i++) if (bytes[i] !== 0) return undefined;
  const flags = bytes[leaseAt + 8]!;
  if (flags > PREV_KV) return undefined;
  return {
    type: "put",
    put: {
      key: toByteString(bytes, 5, valueLengthAt),
      value: bytes.subarray(valueAt, leaseAt),
      lease: 0n,
      prevKv: flags === PREV_KV,
      ignoreValue: false,
      ignoreLease: false,
    },
  };
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return bytes[at]! * 0x1000000 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
}

function sizeOfPut(put: PutRequest): number {
  return 32 + put.key.length + put.value.length;
}

function writeOperation(writer: Writer, operation: Operation): void {
  switch (operation.type) {
    case "put":
      writePut(writer.u8(Tag.put), operation.put);
      break;
    case "deleteRange":
      writeDeleteRange(writer.u8(Tag.deleteRange), operation.deleteRange);
      break;
    case "txn":
      writeTxn(writer.u8(Tag.txn), operation.txn);
      break;
    case "compact":
      writeSigned(writer.u8(Tag.compact), operation.revision);
      break;
    case "leaseGrant":
      writeSigned(writer.u8(Tag.leaseGrant).i64(operation.id), operation.ttlSeconds);
      break;
    case "leaseRevoke":
      writer.u8(Tag.leaseRevoke).i64(operation.id);
      break;
    case "leaseKeepAlive":
      writer.u8(Tag.leaseKeepAlive).i64(operation.id);
      break;
    case "noop":
      writer.u8(Tag.noop);
      break;
  }
}

function readOperation(reader: Reader): Operation {
  const tag = reader.u8();
  switch (tag) {
    case Tag.put:
      return { type: "put", put: readPut(reader) };
    case Tag.deleteRange:
      return { type: "deleteRange", deleteRange: readDeleteRange(reader) };
    case Tag.txn:
      return { type: "txn", txn: readTxn(reader, 1) };
    case Tag.compact:
      return { type: "compact", revision: readSigned(reader) };
    case Tag.leaseGrant:
      return { type: "leaseGrant", id: reader.i64(), ttlSeconds: readSigned(reader) };
    case Tag.leaseRevoke:
      return { type: "leaseRevoke", id: reader.i64() };
    case Tag.leaseKeepAlive:
      return { type: "leaseKeepAlive", id: reader.i64() };
    case Tag.noop:
      return { type: "noop" };
    default:
      throw new DecodeError(`unknown operation ${tag}`);
  }
}

/** A safe integer, also a negative one, in eight bytes of two's complement. */
function writeSigned(writer: Writer, value: number): void {
  const safe = Math.max(Math.min(value, Number.MAX_SAFE_INTEGER), Number.MIN_SAFE_INTEGER);
  writer.u32(Math.floor(safe / HIGH_UNIT) >>> 0).u32(safe >>> 0);
}

function readSigned(reader: Reader): number {
  const value = (reader.u32() | 0) * HIGH_UNIT + reader.u32();
  if (!Number.isSafeInteger(value)) throw new DecodeError("integer beyond 2^53-1");
  return value;
}

function readFlags(reader: Reader, known: number): number {
  const flags = reader.u8();
  if ((flags & ~known) !== 0) throw new DecodeError(`unknown flags ${flags}`);
  return flags;
}

function writePut(writer: Writer, put: PutRequest): void {
  writer.byteString(put.key).bytes(put.value).i64(put.lease);
  writer.u8(
    (put.prevKv ? PREV_KV : 0) | (put.ignoreValue ? IGNORE_VALUE : 0) | (put.ignoreLease ? IGNORE_LEASE : 0),
  );
}

function readPut(reader: Reader): PutRequest {
  const key = reader.byteString();
  const value = reader.bytes();
  const lease = reader.i64();
  const flags = readFlags(reader, PREV_KV | IGNORE_VALUE | IGNORE_LEASE);
  return {
    key,
    value,
    lease,
    prevKv: (flags & PREV_KV) !== 0,
    ignoreValue: (flags & IGNORE_VALUE) !== 0,
    ignoreLease: (flags & IGNORE_LEASE) !== 0,
  };
}

function writeDeleteRange(writer: Writer, request: DeleteRangeRequest): void {
  writer.byteString(request.key).byteString(request.rangeEnd).boolean(request.prevKv);
}

function readDeleteRange(reader: Reader): DeleteRangeRequest {
  return { key: reader.byteString(), rangeEnd: reader.byteString(), prevKv: reader.boolean() };
}

function writeRange(writer: Writer, range: RangeRequest): void {
  writer.byteString(range.key).byteString(range.rangeEnd);
  writer.u8(range.sortOrder).u8(range.sortTarget);
  writer.u8(
    (range.serializable ? SERIALIZABLE : 0) |
      (range.keysOnly ? KEYS_ONLY : 0) |
      (range.countOnly ? COUNT_ONLY : 0),
  );
  writeSigned(writer, range.limit);
  writeSigned(writer, range.revision);
  writeSigned(writer, range.minModRevision);
  writeSigned(writer, range.maxModRevision);
  writeSigned(writer, range.minCreateRevision);
  writeSigned(writer, range.maxCreateRevision);
}

function readRange(reader: Reader): RangeRequest {
  const key = reader.byteString();
  const rangeEnd = reader.byteString();
  const sortOrder = reader.u8();
  const sortTarget = reader.u8();
  if (sortOrder > SortOrder.descend || sortTarget > SortTarget.value)
    throw new DecodeError("unknown sorting");
  const flags = readFlags(reader, SERIALIZABLE | KEYS_ONLY | COUNT_ONLY);
  return {
    key,
    rangeEnd,
    sortOrder: sortOrder as SortOrder,
    sortTarget: sortTarget as SortTarget,
    serializable: (flags & SERIALIZABLE) !== 0,
    keysOnly: (flags & KEYS_ONLY) !== 0,
    countOnly: (flags & COUNT_ONLY) !== 0,
    limit: readSigned(reader),
    revision: readSigned(reader),
    minModRevision: readSigned(reader),
    maxModRevision: readSigned(reader),
    minCreateRevision: readSigned(reader),
    maxCreateRevision: readSigned(reader),
  };
}

function writeCompare(compare: Compare, writer: Writer): void {
  writer.u8(compare.result).u8(compare.target).byteString(compare.key).byteString(compare.rangeEnd);
  writeSigned(writer, compare.number);
  writer.i64(compare.lease).bytes(compare.value);
}

function readCompare(reader: Reader): Compare {
  const result = reader.u8();
  const target = reader.u8();
  if (!isKnownCompare(result, target)) throw new DecodeError("unknown comparison");
  return {
    result: result as CompareResult,
    target: target as CompareTarget,
    key: reader.byteString(),
    rangeEnd: reader.byteString(),
    number: readSigned(reader),
    lease: reader.i64(),
    value: reader.bytes(),
  };
}

function writeRequestOp(op: RequestOp, writer: Writer): void {
  if (op.type === "range") writeRange(writer.u8(Tag.range), op.range);
  else writeOperation(writer, op);
}

function readRequestOp(reader: Reader, depth: number): RequestOp {
  const tag = reader.u8();
  switch (tag) {
    case Tag.range:
      return { type: "range", range: readRange(reader) };
    case Tag.put:
      return { type: "put", put: readPut(reader) };
    case Tag.deleteRange:
      return { type: "deleteRange", deleteRange: readDeleteRange(reader) };
    case Tag.txn:
      return { type: "txn", txn: readTxn(reader, depth + 1) };
    default:
      throw new DecodeError(`unknown operation in a transaction: ${tag}`);
  }
}

function writeTxn(writer: Writer, txn: TxnRequest): void {
  writer.list(txn.compare, writeCompare);
  writer.list(txn.success, writeRequestOp);
  writer.list(txn.failure, writeRequestOp);
}

function readTxn(reader: Reader, depth: number): TxnRequest {
  // Every level takes at least one of the operations that a transaction may have.
  if (depth > TXN_OPS_MAX + 1) throw new DecodeError("transactions nested too deep");
  const readOp = (from: Reader) => readRequestOp(from, depth);
  return {
    compare: reader.list(reader.remaining, readCompare),
    success: reader.list(reader.remaining, readOp),
    failure: reader.list(reader.remaining, readOp),
  };
}
