/** Checks the answer to a transaction against the model. */
import {
  type Compare,
  CompareResult,
  CompareTarget,
  type KeyValue,
  type RequestOp,
  type ResponseOp,
  type TxnRequest,
  type TxnResult,
} from "../../store/types.ts";
import { type StoreModel, sameKeyValue } from "./model.ts";

/** The revision in the header of a transaction's answer. */
export function txnRevision(result: TxnResult): number {
  return result.revision;
}

/** Whether the answer says that something changed. */
export function mutates(result: TxnResult): boolean {
  return result.responses.some(
    (response) =>
      response.type === "put" ||
      (response.type === "deleteRange" && response.deleteRange.deleted > 0) ||
      (response.type === "txn" && mutates(response.txn)),
  );
}

/** What is wrong with the answer, or undefined. Knows transactions without nested ones. */
export function checkTxn(txn: TxnRequest, result: TxnResult, model: StoreModel): string | undefined {
  const before = mutates(result) ? result.revision - 1 : result.revision;
  const succeeded = txn.compare.every((compare) => holds(compare, model, before));
  if (succeeded !== result.succeeded) {
    return `answered ${result.succeeded ? "success" : "failure"} at revision ${result.revision}, the model says otherwise`;
  }
  const requests = succeeded ? txn.success : txn.failure;
  if (requests.length !== result.responses.length) return "wrong number of responses";
  for (const [index, request] of requests.entries()) {
    const wrong = checkResponse(request, result.responses[index]!, model, before, result.revision);
    if (wrong !== undefined) return `response ${index}: ${wrong}`;
  }
  return undefined;
}

function checkResponse(
  request: RequestOp,
  response: ResponseOp,
  model: StoreModel,
  before: number,
  revision: number,
): string | undefined {
  if (request.type !== response.type) return `answered as ${response.type}`;
  if (request.type === "put") {
    const now = model.at(request.put.key, revision);
    if (now === undefined || now.modRevision !== revision) return `revision ${revision} is not this put`;
    if (
      now.value.length !== request.put.value.length ||
      now.value.some((b, i) => b !== request.put.value[i])
    ) {
      return `revision ${revision} has another value`;
    }
  }
  if (request.type === "deleteRange" && response.type === "deleteRange") {
    const there = model.range(request.deleteRange.key, request.deleteRange.rangeEnd, before).length;
    if (there !== response.deleteRange.deleted)
      return `says ${response.deleteRange.deleted} deleted of ${there}`;
  }
  if (request.type === "range" && response.type === "range") {
    // Ranges of the workload do not overlap what the same transaction writes, so they see the state before.
    const expected = model.range(request.range.key, request.range.rangeEnd, before);
    const same =
      expected.length === response.range.kvs.length &&
      expected.every((kv, index) => sameKeyValue(kv, response.range.kvs[index]));
    if (!same) return `range of ${request.range.key} is not the state at revision ${before}`;
  }
  return undefined;
}

function holds(compare: Compare, model: StoreModel, revision: number): boolean {
  const kv = model.at(compare.key, revision);
  // etcd compares the value of a key that is not there as never equal; the rest of it counts as 0.
  if (compare.target === CompareTarget.value) {
    if (kv === undefined) return false;
    return ordered(compare.result, compareValues(kv.value, compare.value));
  }
  return ordered(compare.result, numberOf(kv, compare) - operandOf(compare));
}

function numberOf(kv: KeyValue | undefined, compare: Compare): number {
  if (kv === undefined) return 0;
  if (compare.target === CompareTarget.version) return kv.version;
  if (compare.target === CompareTarget.create) return kv.createRevision;
  if (compare.target === CompareTarget.mod) return kv.modRevision;
  return Number(kv.lease);
}

function operandOf(compare: Compare): number {
  return compare.target === CompareTarget.lease ? Number(compare.lease) : compare.number;
}

function ordered(result: CompareResult, difference: number): boolean {
  if (result === CompareResult.equal) return difference === 0;
  if (result === CompareResult.greater) return difference > 0;
  if (result === CompareResult.less) return difference < 0;
  return difference !== 0;
}

function compareValues(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}
