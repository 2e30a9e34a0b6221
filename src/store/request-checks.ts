/**
 * What can be said of a request without the state: etcd's static checks, in its order. The door runs them
 * before an operation is ordered, every replica runs them again when it executes one.
 */
import {
  CompareResult,
  CompareTarget,
  type DeleteRangeRequest,
  type Operation,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  SortOrder,
  SortTarget,
  StoreErrorCode,
  type TxnRequest,
} from "./types.ts";

/** etcd's --max-txn-ops: compares, or operations of one branch, nested ones added level by level. */
export const TXN_OPS_MAX = 128;

export function checkRange(request: RangeRequest): StoreErrorCode | undefined {
  if (request.key === "") return StoreErrorCode.emptyKey;
  const known = request.sortOrder in SORT_ORDERS && request.sortTarget in SORT_TARGETS;
  return known ? undefined : StoreErrorCode.invalidSortOption;
}

export function checkPut(request: PutRequest): StoreErrorCode | undefined {
  if (request.key === "") return StoreErrorCode.emptyKey;
  if (request.ignoreValue && request.value.length > 0) return StoreErrorCode.valueProvided;
  if (request.ignoreLease && request.lease !== 0n) return StoreErrorCode.leaseProvided;
  return undefined;
}

export function checkDeleteRange(request: DeleteRangeRequest): StoreErrorCode | undefined {
  return request.key === "" ? StoreErrorCode.emptyKey : undefined;
}

/** Checks a transaction: sizes, then each operation, then duplicate keys. */
export function checkTxn(request: TxnRequest): StoreErrorCode | undefined {
  const error = checkTxnOps(request, TXN_OPS_MAX);
  if (error !== undefined) return error;
  const duplicate = hasDuplicateKeys(request.success) || hasDuplicateKeys(request.failure);
  return duplicate ? StoreErrorCode.duplicateKey : undefined;
}

/** The static checks of any operation. */
export function checkOperation(operation: Operation): StoreErrorCode | undefined {
  if (operation.type === "put") return checkPut(operation.put);
  if (operation.type === "deleteRange") return checkDeleteRange(operation.deleteRange);
  if (operation.type === "txn") return checkTxn(operation.txn);
  return undefined;
}

const SORT_ORDERS: Record<number, true> = Object.fromEntries(
  Object.values(SortOrder).map((value) => [value, true]),
);
const SORT_TARGETS: Record<number, true> = Object.fromEntries(
  Object.values(SortTarget).map((value) => [value, true]),
);
/** Whether both enumerations of a compare are known ones (bytes from outside may hold any number). */
export function isKnownCompare(result: number, target: number): boolean {
  return result <= CompareResult.notEqual && target <= CompareTarget.lease;
}

function checkTxnOps(request: TxnRequest, opsMax: number): StoreErrorCode | undefined {
  const { compare, success, failure } = request;
  const count = Math.max(compare.length, success.length, failure.length);
  if (count > opsMax) return StoreErrorCode.tooManyOps;
  for (const { key } of compare) if (key === "") return StoreErrorCode.emptyKey;
  for (const branch of [success, failure]) {
    for (const op of branch) {
      const error = checkRequestOp(op, opsMax - count);
      if (error !== undefined) return error;
    }
  }
  return undefined;
}

function checkRequestOp(op: RequestOp, opsMax: number): StoreErrorCode | undefined {
  switch (op.type) {
    case "range":
      return checkRange(op.range);
    case "put":
      return checkPut(op.put);
    case "deleteRange":
      return checkDeleteRange(op.deleteRange);
    case "txn":
      return checkTxnOps(op.txn, opsMax);
    default:
      return StoreErrorCode.keyNotFound;
  }
}

function hasDuplicateKeys(ops: readonly RequestOp[]): boolean {
  // One operation, as most branches have, can not touch a key twice unless it is a transaction.
  if (ops.length === 0 || (ops.length === 1 && ops[0]!.type !== "txn")) return false;
  return touchedKeys(ops) === undefined;
}

interface TouchedKeys {
  readonly puts: Set<string>;
  readonly deletes: DeleteRangeRequest[];
}

/**
 * The keys that a branch puts and deletes, nested branches included, or undefined when one key is put twice
 * or both put and deleted. The order of the checks is etcd's, with what it leaves through: a put in a nested
 * transaction is held against the deletes of its own level and of the nested transactions before it, not of
 * those behind; and a delete range that ends in "\0" (all keys from there on) is taken for an empty one. Both
 * keep our answers equal to etcd's; execution is well defined for them.
 */
function touchedKeys(ops: readonly RequestOp[]): TouchedKeys | undefined {
  const puts = new Set<string>();
  const deletes: DeleteRangeRequest[] = [];
  const isDeleted = (key: string) => deletes.some((range) => isInDeleteRange(range, key));
  for (const op of ops) if (op.type === "deleteRange") deletes.push(op.deleteRange);
  for (const op of ops) {
    if (op.type !== "txn") continue;
    const success = touchedKeys(op.txn.success);
    if (success === undefined) return undefined;
    const failure = touchedKeys(op.txn.failure);
    if (failure === undefined) return undefined;
    for (const key of success.puts) if (puts.has(key) || isDeleted(key)) return undefined;
    // The branches of one transaction exclude each other: both may put the same key.
    for (const key of failure.puts) if (puts.has(key) || isDeleted(key)) return undefined;
    for (const key of success.puts) puts.add(key);
    for (const key of failure.puts) puts.add(key);
    deletes.push(...success.deletes, ...failure.deletes);
  }
  for (const op of ops) {
    if (op.type !== "put") continue;
    const { key } = op.put;
    if (puts.has(key) || isDeleted(key)) return undefined;
    puts.add(key);
  }
  return { puts, deletes };
}

function isInDeleteRange(range: DeleteRangeRequest, key: string): boolean {
  return range.rangeEnd === "" ? key === range.key : range.key <= key && key < range.rangeEnd;
}
