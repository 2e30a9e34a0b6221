/**
 * Checks client histories against etcd's promise of strict serialisability. Every answer names a revision,
 * so the order is given and nothing has to be searched: each answer must be what the model says at its
 * revision, no two operations may own one revision, and an operation that began after another one had
 * returned must not come before it in that order. Linear in the number of records (times the log of it).
 */
import type { Operation, OperationResult, RangeRequest, RangeResult } from "../../store/types.ts";
import type { ClientRecord, Report } from "../history.ts";
import { type StoreModel, sameKeyValue } from "./model.ts";
import { checkTxn, mutates, txnRevision } from "./txn-result.ts";

export function checkLinearizability(
  records: readonly ClientRecord[],
  model: StoreModel,
  report: Report,
): void {
  const owners = new Map<number, ClientRecord>();
  for (const record of records) {
    if (!record.trusted || record.outcome === undefined) continue;
    const wrong = checkAnswer(record, model);
    if (wrong !== undefined) {
      report({ checker: "linearizability", message: `${describeRecord(record)}: ${wrong}` });
    }
    const revision = ownedRevision(record);
    if (revision === undefined) continue;
    const owner = owners.get(revision);
    if (owner !== undefined) {
      const message = `revision ${revision} is answered to both ${describeRecord(owner)} and ${describeRecord(record)}`;
      report({ checker: "linearizability", message });
    }
    owners.set(revision, record);
  }
  checkRealTime(records, report);
}

interface Moment {
  readonly atMs: number;
  readonly returns: boolean;
  readonly record: ClientRecord;
  readonly revision: number;
}

/** What began after something returned must see it. */
function checkRealTime(records: readonly ClientRecord[], report: Report): void {
  const moments: Moment[] = [];
  for (const record of records) {
    if (!record.trusted) continue;
    const revision = answeredRevision(record);
    if (revision === undefined) continue;
    moments.push({ atMs: record.invokedMs, returns: false, record, revision });
    moments.push({ atMs: record.returnedMs, returns: true, record, revision });
  }
  // What begins at the very moment at which another returns is concurrent with it: beginnings come first.
  moments.sort((a, b) => a.atMs - b.atMs || Number(a.returns) - Number(b.returns));
  let floor = 0;
  let floorRecord: ClientRecord | undefined;
  for (const { returns, record, revision } of moments) {
    if (returns) {
      if (revision > floor) {
        floor = revision;
        floorRecord = record;
      }
      continue;
    }
    const local = record.request.type === "read" && !record.request.fenced;
    const own = ownedRevision(record) !== undefined;
    if (!local && (revision < floor || (own && revision === floor))) {
      report({
        checker: "linearizability",
        message: `${describeRecord(record)} got revision ${revision} although ${floor} was known before to ${describeRecord(floorRecord!)}`,
      });
    }
  }
}

/** The revision that an answer's header names. */
export function answeredRevision(record: ClientRecord): number | undefined {
  const { outcome, request } = record;
  if (outcome?.type === "read") return outcome.result.revision;
  if (outcome?.type !== "written" || request.type !== "write") return undefined;
  return resultRevision(outcome.result);
}

function resultRevision(result: OperationResult): number | undefined {
  switch (result.type) {
    case "put":
      return result.put.revision;
    case "deleteRange":
      return result.deleteRange.revision;
    case "txn":
      return txnRevision(result.txn);
    case "compact":
    case "leaseGrant":
    case "leaseRevoke":
    case "leaseKeepAlive":
    case "noop":
      return result.revision;
    case "error":
      return undefined;
  }
}

/** The revision that this operation made, when its answer says that it made one. */
export function ownedRevision(record: ClientRecord): number | undefined {
  const { outcome } = record;
  if (outcome?.type !== "written") return undefined;
  const { result } = outcome;
  if (result.type === "put") return result.put.revision;
  if (result.type === "deleteRange")
    return result.deleteRange.deleted > 0 ? result.deleteRange.revision : undefined;
  if (result.type === "txn") return mutates(result.txn) ? result.txn.revision : undefined;
  return undefined;
}

/** What is wrong with an answer, or undefined. */
function checkAnswer(record: ClientRecord, model: StoreModel): string | undefined {
  const { outcome, request } = record;
  if (outcome?.type === "read" && request.type === "read") {
    return checkRange(request.range, outcome.result, model);
  }
  if (outcome?.type !== "written" || request.type !== "write") return undefined;
  const revision = resultRevision(outcome.result);
  if (revision === undefined) return undefined;
  if (revision > model.lastRevision) {
    return `answered with revision ${revision}, but no correct member went beyond ${model.lastRevision}`;
  }
  if (!model.knows(revision)) return undefined;
  return checkWrite(request.operation, outcome.result, model);
}

function checkWrite(operation: Operation, result: OperationResult, model: StoreModel): string | undefined {
  if (operation.type !== result.type) return `answered as ${result.type}`;
  if (operation.type === "put" && result.type === "put") {
    const { put } = operation;
    const { revision, prevKv } = result.put;
    const now = model.at(put.key, revision);
    if (now === undefined || now.modRevision !== revision || !sameBytes(now.value, put.value)) {
      return `revision ${revision} is not this put`;
    }
    const before = put.prevKv ? model.at(put.key, revision - 1) : undefined;
    if (!sameKeyValue(prevKv, before)) return "wrong prevKv";
  }
  if (operation.type === "deleteRange" && result.type === "deleteRange") {
    const { key, rangeEnd } = operation.deleteRange;
    const { revision, deleted } = result.deleteRange;
    const before = model.range(key, rangeEnd, deleted > 0 ? revision - 1 : revision);
    if (before.length !== deleted) return `says ${deleted} deleted, ${before.length} were there`;
    if (deleted > 0 && model.range(key, rangeEnd, revision).length > 0) return "keys are still there";
  }
  if (operation.type === "txn" && result.type === "txn") return checkTxn(operation.txn, result.txn, model);
  return undefined;
}

/** What is wrong with the answer to a range, or undefined. */
export function checkRange(range: RangeRequest, result: RangeResult, model: StoreModel): string | undefined {
  if (result.revision > model.lastRevision) {
    return `read at revision ${result.revision}, but no correct member went beyond ${model.lastRevision}`;
  }
  const revision = range.revision > 0 ? range.revision : result.revision;
  if (!model.knows(revision)) return undefined;
  const expected = model.range(range.key, range.rangeEnd, revision);
  if (result.count !== expected.length)
    return `count ${result.count} instead of ${expected.length} at ${revision}`;
  const shown = range.limit > 0 ? expected.slice(0, range.limit) : expected;
  if (result.kvs.length !== shown.length) return `${result.kvs.length} keys instead of ${shown.length}`;
  const wrong = shown.findIndex((kv, index) => !sameKeyValue(kv, result.kvs[index]));
  if (wrong >= 0) return `key ${shown[wrong]!.key} is not what it was at revision ${revision}`;
  return undefined;
}

/** One request in a line, for a violation's text. */
export function describeRecord(record: ClientRecord): string {
  const { request } = record;
  const what = request.type === "read" ? `read ${request.range.key}` : describeOperation(request.operation);
  const until = Number.isFinite(record.returnedMs) ? record.returnedMs.toFixed(1) : "?";
  return `client ${record.client} at member ${record.member} [${record.invokedMs.toFixed(1)}..${until} ms] ${what}`;
}

function describeOperation(operation: Operation): string {
  switch (operation.type) {
    case "put":
      return `put ${operation.put.key}`;
    case "deleteRange":
      return `delete ${operation.deleteRange.key}`;
    case "txn":
      return `txn ${operation.txn.compare.map((c) => c.key).join()}`;
    case "compact":
      return `compact ${operation.revision}`;
    case "leaseGrant":
    case "leaseRevoke":
    case "leaseKeepAlive":
      return `${operation.type} ${operation.id}`;
    case "noop":
      return "noop";
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
