/** Responses of etcd's KV service, written to the wire. Field numbers: api/etcdserverpb/rpc.proto. */
import { unreachable } from "../../base/assert.ts";
import type {
  DeleteRangeResult,
  KeyValue,
  PutResult,
  RangeResult,
  ResponseOp,
  TxnResult,
} from "../../store/types.ts";
import {
  bigFieldSize,
  bytesFieldSize,
  delimitedSize,
  numberFieldSize,
  type ProtoWriter,
  writer,
} from "../wire/proto-writer.ts";
import { type HeaderEncoder, innerHeaderSize, writeInnerHeader } from "./header.ts";

/** Size of a mvccpb.KeyValue without its tag and length. */
export function keyValueSize(kv: KeyValue): number {
  return (
    bytesFieldSize(kv.key.length) +
    numberFieldSize(kv.createRevision) +
    numberFieldSize(kv.modRevision) +
    numberFieldSize(kv.version) +
    bytesFieldSize(kv.value.length) +
    bigFieldSize(kv.lease)
  );
}

/** Writes a mvccpb.KeyValue as a delimited field. */
export function writeKeyValue(to: ProtoWriter, tag: number, kv: KeyValue): void {
  to.open(tag, keyValueSize(kv));
  to.byteStringField(0x0a, kv.key);
  to.numberField(0x10, kv.createRevision);
  to.numberField(0x18, kv.modRevision);
  to.numberField(0x20, kv.version);
  to.bytesField(0x2a, kv.value);
  to.bigField(0x30, kv.lease);
}

function keyValuesSize(kvs: readonly KeyValue[]): number {
  let size = 0;
  for (let i = 0; i < kvs.length; i++) size += delimitedSize(keyValueSize(kvs[i]!));
  return size;
}

function writeKeyValues(to: ProtoWriter, tag: number, kvs: readonly KeyValue[]): void {
  for (let i = 0; i < kvs.length; i++) writeKeyValue(to, tag, kvs[i]!);
}

// The body of each response is everything behind its header.

function rangeBodySize(result: RangeResult): number {
  return keyValuesSize(result.kvs) + (result.more ? 2 : 0) + numberFieldSize(result.count);
}

function writeRangeBody(to: ProtoWriter, result: RangeResult): void {
  writeKeyValues(to, 0x12, result.kvs);
  to.boolField(0x18, result.more);
  to.numberField(0x20, result.count);
}

function putBodySize(result: PutResult): number {
  return result.prevKv === undefined ? 0 : delimitedSize(keyValueSize(result.prevKv));
}

function writePutBody(to: ProtoWriter, result: PutResult): void {
  if (result.prevKv !== undefined) writeKeyValue(to, 0x12, result.prevKv);
}

function deleteRangeBodySize(result: DeleteRangeResult): number {
  return numberFieldSize(result.deleted) + keyValuesSize(result.prevKvs);
}

function writeDeleteRangeBody(to: ProtoWriter, result: DeleteRangeResult): void {
  to.numberField(0x10, result.deleted);
  writeKeyValues(to, 0x1a, result.prevKvs);
}

function txnBodySize(result: TxnResult): number {
  let size = result.succeeded ? 2 : 0;
  for (const response of result.responses) size += delimitedSize(delimitedSize(responseOpSize(response)));
  return size;
}

function writeTxnBody(to: ProtoWriter, result: TxnResult): void {
  to.boolField(0x10, result.succeeded);
  for (const response of result.responses) {
    const size = responseOpSize(response);
    to.open(0x1a, delimitedSize(size));
    writeResponseOp(to, response, size);
  }
}

/** Size of the response inside a ResponseOp, with its inner header. */
function responseOpSize(response: ResponseOp): number {
  switch (response.type) {
    case "range":
      return innerHeaderSize(response.range.revision) + rangeBodySize(response.range);
    case "put":
      return innerHeaderSize(response.put.revision) + putBodySize(response.put);
    case "deleteRange":
      return innerHeaderSize(response.deleteRange.revision) + deleteRangeBodySize(response.deleteRange);
    case "txn":
      return innerHeaderSize(response.txn.revision) + txnBodySize(response.txn);
    default:
      return unreachable(response);
  }
}

function writeResponseOp(to: ProtoWriter, response: ResponseOp, size: number): void {
  switch (response.type) {
    case "range":
      to.open(0x0a, size);
      writeInnerHeader(to, response.range.revision);
      writeRangeBody(to, response.range);
      return;
    case "put":
      to.open(0x12, size);
      writeInnerHeader(to, response.put.revision);
      writePutBody(to, response.put);
      return;
    case "deleteRange":
      to.open(0x1a, size);
      writeInnerHeader(to, response.deleteRange.revision);
      writeDeleteRangeBody(to, response.deleteRange);
      return;
    case "txn":
      to.open(0x22, size);
      writeInnerHeader(to, response.txn.revision);
      writeTxnBody(to, response.txn);
      return;
    default:
      unreachable(response);
  }
}

/** Frame of a RangeResponse. `term` is the header's raft_term, here and below. */
export function encodeRangeResponse(header: HeaderEncoder, term: number, result: RangeResult): Buffer {
  writer.beginFrame(header.size(result.revision, term) + rangeBodySize(result));
  header.write(writer, result.revision, term);
  writeRangeBody(writer, result);
  return writer.finish();
}

/** Frame of a PutResponse. */
export function encodePutResponse(header: HeaderEncoder, term: number, result: PutResult): Buffer {
  writer.beginFrame(header.size(result.revision, term) + putBodySize(result));
  header.write(writer, result.revision, term);
  writePutBody(writer, result);
  return writer.finish();
}

/** Frame of a DeleteRangeResponse. */
export function encodeDeleteRangeResponse(
  header: HeaderEncoder,
  term: number,
  result: DeleteRangeResult,
): Buffer {
  writer.beginFrame(header.size(result.revision, term) + deleteRangeBodySize(result));
  header.write(writer, result.revision, term);
  writeDeleteRangeBody(writer, result);
  return writer.finish();
}

/** Frame of a TxnResponse. */
export function encodeTxnResponse(header: HeaderEncoder, term: number, result: TxnResult): Buffer {
  writer.beginFrame(header.size(result.revision, term) + txnBodySize(result));
  header.write(writer, result.revision, term);
  writeTxnBody(writer, result);
  return writer.finish();
}

/** Frame of a response that is nothing but its header (compaction, lease revoke). */
export function encodeHeaderResponse(header: HeaderEncoder, term: number, revision: number): Buffer {
  writer.beginFrame(header.size(revision, term));
  header.write(writer, revision, term);
  return writer.finish();
}
