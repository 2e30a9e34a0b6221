/**
 * Requests of etcd's KV service, read from the wire. Field numbers: api/etcdserverpb/rpc.proto.
 */
import {
  type Compare,
  CompareResult,
  CompareTarget,
  type DeleteRangeRequest,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  type SortOrder,
  type SortTarget,
  type TxnRequest,
} from "../../store/types.ts";
import { type MessageShape, messageShape, ProtoError, ProtoReader } from "../wire/proto-reader.ts";

const NO_BYTES = Buffer.alloc(0);

/** Operations nest at most as deep as a Txn has operations; what is deeper is refused as too many. */
export const TXN_DEPTH_MAX = 128;

/** A Txn that nests deeper than any that could be executed. */
export class TxnTooDeepError extends Error {
  override name = "TxnTooDeepError";
}

/** The number, or the nearest one that is exact: no revision or version ever comes near 2^53. */
function exact(value: number): number {
  return Math.min(Math.max(value, -Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
}

const RANGE = messageShape(
  "RangeRequest",
  "Key",
  "RangeEnd",
  "Limit",
  "Revision",
  "SortOrder",
  "SortTarget",
  "Serializable",
  "KeysOnly",
  "CountOnly",
  "MinModRevision",
  "MaxModRevision",
  "MinCreateRevision",
  "MaxCreateRevision",
);
const PUT = messageShape("PutRequest", "Key", "Value", "Lease", "PrevKv", "IgnoreValue", "IgnoreLease");
const DELETE_RANGE = messageShape("DeleteRangeRequest", "Key", "RangeEnd", "PrevKv");
const COMPACTION = messageShape("CompactionRequest", "Revision", "Physical");
const TXN = messageShape("TxnRequest", "Compare", "Success", "Failure");
const REQUEST_OP = messageShape(
  "RequestOp",
  "RequestRange",
  "RequestPut",
  "RequestDeleteRange",
  "RequestTxn",
);
const OPERANDS = ["Version", "CreateRevision", "ModRevision", "Value", "Lease"];
const COMPARE: MessageShape = {
  name: "Compare",
  fields: { ...messageShape("Compare", "Result", "Target", "Key", ...OPERANDS).fields, 64: "RangeEnd" },
};

export function readRangeRequest(reader: ProtoReader, end: number): RangeRequest {
  let key = "";
  let rangeEnd = "";
  let limit = 0;
  let revision = 0;
  let sortOrder = 0;
  let sortTarget = 0;
  let serializable = false;
  let keysOnly = false;
  let countOnly = false;
  let minModRevision = 0;
  let maxModRevision = 0;
  let minCreateRevision = 0;
  let maxCreateRevision = 0;
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    switch (tag) {
      case 0x0a:
        key = reader.byteString();
        break;
      case 0x12:
        rangeEnd = reader.byteString();
        break;
      case 0x18:
        limit = exact(reader.int64());
        break;
      case 0x20:
        revision = exact(reader.int64());
        break;
      case 0x28:
        sortOrder = reader.int32();
        break;
      case 0x30:
        sortTarget = reader.int32();
        break;
      case 0x38:
        serializable = reader.bool();
        break;
      case 0x40:
        keysOnly = reader.bool();
        break;
      case 0x48:
        countOnly = reader.bool();
        break;
      case 0x50:
        minModRevision = exact(reader.int64());
        break;
      case 0x58:
        maxModRevision = exact(reader.int64());
        break;
      case 0x60:
        minCreateRevision = exact(reader.int64());
        break;
      case 0x68:
        maxCreateRevision = exact(reader.int64());
        break;
      default:
        reader.skip(tag, RANGE);
    }
  }
  reader.end = outerEnd;
  return {
    key,
    rangeEnd,
    limit,
    revision,
    sortOrder: sortOrder as SortOrder,
    sortTarget: sortTarget as SortTarget,
    serializable,
    keysOnly,
    countOnly,
    minModRevision,
    maxModRevision,
    minCreateRevision,
    maxCreateRevision,
  };
}

export function readPutRequest(reader: ProtoReader, end: number): PutRequest {
  let key = "";
  let value: Uint8Array = NO_BYTES;
  let lease = 0n;
  let prevKv = false;
  let ignoreValue = false;
  let ignoreLease = false;
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    switch (tag) {
      case 0x0a:
        key = reader.byteString();
        break;
      case 0x12:
        value = reader.view();
        break;
      case 0x18:
        lease = reader.int64Exact();
        break;
      case 0x20:
        prevKv = reader.bool();
        break;
      case 0x28:
        ignoreValue = reader.bool();
        break;
      case 0x30:
        ignoreLease = reader.bool();
        break;
      default:
        reader.skip(tag, PUT);
    }
  }
  reader.end = outerEnd;
  return { key, value, lease, prevKv, ignoreValue, ignoreLease };
}

export function readDeleteRangeRequest(reader: ProtoReader, end: number): DeleteRangeRequest {
  let key = "";
  let rangeEnd = "";
  let prevKv = false;
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x0a) key = reader.byteString();
    else if (tag === 0x12) rangeEnd = reader.byteString();
    else if (tag === 0x18) prevKv = reader.bool();
    else reader.skip(tag, DELETE_RANGE);
  }
  reader.end = outerEnd;
  return { key, rangeEnd, prevKv };
}

/** CompactionRequest: only the revision matters (`physical` waits for nothing here). */
export function readCompactionRequest(bytes: Buffer): number {
  const reader = new ProtoReader(bytes);
  let revision = 0;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x08) revision = exact(reader.int64());
    else if (tag === 0x10) reader.bool();
    else reader.skip(tag, COMPACTION);
  }
  return revision;
}

/**
 * Reads a TxnRequest. An operation of no kind becomes the `placeholder`; without one it raises
 * EmptyRequestOpError.
 */
export function readTxnRequest(
  reader: ProtoReader,
  end: number,
  placeholder?: RequestOp,
  depth = 0,
): TxnRequest {
  if (depth > TXN_DEPTH_MAX) throw new TxnTooDeepError();
  const compare: Compare[] = [];
  const success: RequestOp[] = [];
  const failure: RequestOp[] = [];
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x0a) compare.push(readCompare(reader, reader.open()));
    else if (tag === 0x12) success.push(readRequestOp(reader, reader.open(), placeholder, depth));
    else if (tag === 0x1a) failure.push(readRequestOp(reader, reader.open(), placeholder, depth));
    else reader.skip(tag, TXN);
  }
  reader.end = outerEnd;
  return { compare, success, failure };
}

/** An operation of no kind that we know; etcd answers it with "key not found". */
export class EmptyRequestOpError extends Error {
  override name = "EmptyRequestOpError";
}

function readRequestOp(
  reader: ProtoReader,
  end: number,
  placeholder: RequestOp | undefined,
  depth: number,
): RequestOp {
  let op = placeholder;
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x0a) op = { type: "range", range: readRangeRequest(reader, reader.open()) };
    else if (tag === 0x12) op = { type: "put", put: readPutRequest(reader, reader.open()) };
    else if (tag === 0x1a) {
      op = { type: "deleteRange", deleteRange: readDeleteRangeRequest(reader, reader.open()) };
    } else if (tag === 0x22)
      op = { type: "txn", txn: readTxnRequest(reader, reader.open(), placeholder, depth + 1) };
    else reader.skip(tag, REQUEST_OP);
  }
  reader.end = outerEnd;
  if (op === undefined) throw new EmptyRequestOpError();
  return op;
}

function readCompare(reader: ProtoReader, end: number): Compare {
  let result = 0;
  let target = 0;
  let key = "";
  let rangeEnd = "";
  // Of the operands only the last on the wire counts (they are a oneof), and only if it fits the target.
  let operand = 0;
  let number = 0;
  let lease = 0n;
  let value: Uint8Array = NO_BYTES;
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    switch (tag) {
      case 0x08:
        result = reader.int32();
        break;
      case 0x10:
        target = reader.int32();
        break;
      case 0x1a:
        key = reader.byteString();
        break;
      case 0x20:
      case 0x28:
      case 0x30:
        operand = tag;
        number = exact(reader.int64());
        break;
      case 0x3a:
        operand = tag;
        value = reader.view();
        break;
      case 0x40:
        operand = tag;
        lease = reader.int64Exact();
        break;
      case 0x202:
        rangeEnd = reader.byteString();
        break;
      default:
        reader.skip(tag, COMPARE);
    }
  }
  reader.end = outerEnd;
  if (operand !== OPERAND_TAG[target]) {
    number = 0;
    lease = 0n;
    value = NO_BYTES;
  }
  return normalizeCompare({
    result: result as CompareResult,
    target: target as CompareTarget,
    key,
    rangeEnd,
    number,
    lease,
    value,
  });
}

const OPERAND_TAG: readonly number[] = [0x20, 0x28, 0x30, 0x3a, 0x40];

/** A condition that holds for every key, and for none (versions are from 0 to 2^53-1). */
const ALWAYS = {
  target: CompareTarget.version,
  result: CompareResult.notEqual,
  number: Number.MAX_SAFE_INTEGER,
};
const NEVER = { target: CompareTarget.version, result: CompareResult.equal, number: Number.MAX_SAFE_INTEGER };
/** Holds if the key is there. */
const EXISTS = { target: CompareTarget.version, result: CompareResult.greater, number: 0 };

/** Puts what the store need not know (unknown enum values) in words that it knows. */
function normalizeCompare(compare: Compare): Compare {
  const { result, target } = compare;
  if (result < 0 || result > 3) {
    // etcd's comparison of an unknown kind holds; a value is compared only where there is one.
    return { ...compare, ...(target === CompareTarget.value ? EXISTS : ALWAYS) };
  }
  if (target < 0 || target > 4) {
    // etcd compares nothing with nothing, and finds it equal.
    return { ...compare, ...(result === CompareResult.equal ? ALWAYS : NEVER) };
  }
  return compare;
}

const emptyOp = (key: string, sortOrder: number): RequestOp => ({
  type: "range",
  range: {
    ...readRangeRequest(new ProtoReader(NO_BYTES), 0),
    key,
    sortOrder: sortOrder as SortOrder,
  },
});

/** Two ranges that are refused for different reasons; see KvService. */
export const EMPTY_OP_PLACEHOLDERS: readonly [RequestOp, RequestOp] = [emptyOp("", 0), emptyOp("k", -1)];

/** Reads a whole message with one of the readers above. */
export function readMessage<T>(bytes: Buffer, read: (reader: ProtoReader, end: number) => T): T {
  const reader = new ProtoReader(bytes);
  const message = read(reader, bytes.length);
  if (reader.at !== bytes.length) throw new ProtoError("unexpected EOF");
  return message;
}
