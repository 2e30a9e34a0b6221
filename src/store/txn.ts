/**
 * Transactions, puts and deletes, as etcd executes them: all compares (those of nested transactions too) are
 * evaluated up front against the state before, then every chosen operation is checked against that state, and
 * only then anything is changed. A refused transaction has no effect at all, on any replica.
 */
import { compareBytes } from "../base/bytes.ts";
import type { KeyEntry } from "./key-index.ts";
import type { Keyspace } from "./keyspace.ts";
import { liveEntries, readRange, scanEnd } from "./range.ts";
import {
  type Compare,
  CompareResult,
  CompareTarget,
  type DeleteRangeRequest,
  type DeleteRangeResult,
  type PutRequest,
  type PutResult,
  type RangeRequest,
  type RequestOp,
  type ResponseOp,
  StoreErrorCode,
  type TxnRequest,
  type TxnResult,
} from "./types.ts";

const NO_VALUE = new Uint8Array(0);

/** A transaction with its branches chosen. */
interface ChosenTxn {
  readonly succeeded: boolean;
  readonly ops: readonly RequestOp[];
  /** For each op that is a transaction, in order. */
  readonly nested: readonly ChosenTxn[];
}

/** Whether all operations of all branches are ranges (a nested transaction counts as a write). */
export function isReadOnlyTxn(txn: TxnRequest): boolean {
  const isRange = (op: RequestOp) => op.type === "range";
  return txn.success.every(isRange) && txn.failure.every(isRange);
}

/** Whether some branch puts something, so that the quota applies. */
export function hasPut(txn: TxnRequest): boolean {
  const puts = (op: RequestOp): boolean => op.type === "put" || (op.type === "txn" && hasPut(op.txn));
  return txn.success.some(puts) || txn.failure.some(puts);
}

/** Evaluates and checks a transaction without changing anything: the error, or what runs. */
export function prepareTxn(space: Keyspace, txn: TxnRequest): ChosenTxn | StoreErrorCode {
  const chosen = choose(space, txn);
  return checkChosen(space, chosen, []) ?? chosen;
}

function choose(space: Keyspace, txn: TxnRequest): ChosenTxn {
  let succeeded = true;
  for (const compare of txn.compare) {
    if (!holds(space, compare)) {
      succeeded = false;
      break;
    }
  }
  const ops = succeeded ? txn.success : txn.failure;
  const nested: ChosenTxn[] = [];
  for (const op of ops) if (op.type === "txn") nested.push(choose(space, op.txn));
  return { succeeded, ops, nested };
}

function holds(space: Keyspace, compare: Compare): boolean {
  if (compare.rangeEnd === "") return holdsFor(space, compare, space.live(compare.key));
  let holdsForAll = true;
  let found = false;
  space.index.scan(compare.key, scanEnd(compare.rangeEnd), (entry) => {
    if (entry.tombstone) return true;
    found = true;
    holdsForAll = holdsFor(space, compare, entry);
    return holdsForAll;
  });
  return found ? holdsForAll : holdsFor(space, compare, undefined);
}

/** A key that does not exist has zeros, and no value at all: no comparison with its value holds. */
function holdsFor(space: Keyspace, compare: Compare, entry: KeyEntry | undefined): boolean {
  if (compare.target === CompareTarget.value && entry === undefined) return false;
  const order = orderOf(space, compare, entry);
  switch (compare.result) {
    case CompareResult.equal:
      return order === 0;
    case CompareResult.notEqual:
      return order !== 0;
    case CompareResult.greater:
      return order > 0;
    case CompareResult.less:
      return order < 0;
  }
}

function orderOf(space: Keyspace, compare: Compare, entry: KeyEntry | undefined): number {
  switch (compare.target) {
    case CompareTarget.version:
      return (entry?.version ?? 0) - compare.number;
    case CompareTarget.create:
      return (entry?.createRevision ?? 0) - compare.number;
    case CompareTarget.mod:
      return (entry?.modRevision ?? 0) - compare.number;
    case CompareTarget.value:
      return entry === undefined ? 0 : compareBytes(space.value(entry), compare.value);
    case CompareTarget.lease: {
      const lease = entry?.lease ?? 0n;
      return lease < compare.lease ? -1 : lease > compare.lease ? 1 : 0;
    }
  }
}

/** Checks the chosen operations against the state before; `deletes` are those that run earlier. */
function checkChosen(
  space: Keyspace,
  chosen: ChosenTxn,
  deletes: DeleteRangeRequest[],
): StoreErrorCode | undefined {
  let nestedIndex = 0;
  for (const op of chosen.ops) {
    let error: StoreErrorCode | undefined;
    if (op.type === "range") error = checkRangeRevision(space, op.range);
    else if (op.type === "put") error = checkPutState(space, op.put, deletes);
    else if (op.type === "deleteRange") deletes.push(op.deleteRange);
    else error = checkChosen(space, chosen.nested[nestedIndex++]!, deletes);
    if (error !== undefined) return error;
  }
  return undefined;
}

function checkRangeRevision(space: Keyspace, range: RangeRequest): StoreErrorCode | undefined {
  const { revision } = range;
  if (revision === 0) return undefined;
  if (revision > space.revision) return StoreErrorCode.futureRevision;
  return revision < space.compactRevision ? StoreErrorCode.compacted : undefined;
}

/** Checks of a put that need the state: what it keeps must exist, and so must its lease. */
export function checkPutState(
  space: Keyspace,
  put: PutRequest,
  deletesBefore: readonly DeleteRangeRequest[] = [],
): StoreErrorCode | undefined {
  if (put.ignoreValue || put.ignoreLease) {
    if (space.live(put.key) === undefined) return StoreErrorCode.keyNotFound;
    // etcd lets such a transaction through and then dies of it; we refuse it.
    if (deletesBefore.some((range) => covers(range, put.key))) return StoreErrorCode.keyNotFound;
  }
  if (put.lease !== 0n && space.leases.get(put.lease) === undefined) return StoreErrorCode.leaseNotFound;
  return undefined;
}

function covers(range: DeleteRangeRequest, key: string): boolean {
  if (range.rangeEnd === "") return range.key === key;
  return range.key <= key && (range.rangeEnd === "\0" || key < range.rangeEnd);
}

/** Puts a key inside a group of changes; `checkPutState` found nothing against it. */
export function applyPut(space: Keyspace, put: PutRequest, wantResult: boolean): PutResult {
  const { key } = put;
  const before = put.ignoreValue || put.ignoreLease || put.prevKv ? space.live(key) : undefined;
  const prevKv = put.prevKv && wantResult && before !== undefined ? space.keyValue(before) : undefined;
  const value = put.ignoreValue ? (before === undefined ? NO_VALUE : space.value(before)) : put.value;
  const lease = put.ignoreLease ? (before?.lease ?? 0n) : put.lease;
  space.put(key, value, lease);
  return { revision: space.visibleRevision, prevKv };
}

/** Deletes a range inside a group of changes. */
export function applyDeleteRange(
  space: Keyspace,
  request: DeleteRangeRequest,
  wantResult: boolean,
): DeleteRangeResult {
  const entries = liveEntries(space, request.key, request.rangeEnd);
  const prevKvs =
    request.prevKv && wantResult && entries.length > 0 ? entries.map((entry) => space.keyValue(entry)) : [];
  for (const entry of entries) space.delete(entry);
  return { revision: space.visibleRevision, deleted: entries.length, prevKvs };
}

/** Runs what `prepareTxn` chose, inside a group of changes. */
export function applyTxn(space: Keyspace, chosen: ChosenTxn, wantResult: boolean): TxnResult {
  const responses = applyOps(space, chosen, wantResult);
  return { revision: space.visibleRevision, succeeded: chosen.succeeded, responses };
}

function applyOps(space: Keyspace, chosen: ChosenTxn, wantResult: boolean): ResponseOp[] {
  const responses: ResponseOp[] = [];
  let nestedIndex = 0;
  for (const op of chosen.ops) {
    switch (op.type) {
      case "range":
        if (wantResult) responses.push({ type: "range", range: readRange(space, op.range) });
        break;
      case "put":
        responses.push({ type: "put", put: applyPut(space, op.put, wantResult) });
        break;
      case "deleteRange":
        responses.push({
          type: "deleteRange",
          deleteRange: applyDeleteRange(space, op.deleteRange, wantResult),
        });
        break;
      case "txn": {
        const nested = chosen.nested[nestedIndex++]!;
        const nestedResponses = applyOps(space, nested, wantResult);
        // etcd leaves the header of a nested result empty.
        const txn = { revision: 0, succeeded: nested.succeeded, responses: nestedResponses };
        responses.push({ type: "txn", txn });
        break;
      }
    }
  }
  return responses;
}
