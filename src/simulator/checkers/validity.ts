/**
 * Checks that whatever was executed had been asked for: each change of a key comes from an operation that a
 * client had submitted by then, or from a lease. Byzantine members may submit what they like, under their own
 * mark (see `byzantineMark`), and nobody else's.
 */
import { toByteString } from "../../base/bytes.ts";
import type { WatchEvent } from "../../store/types.ts";
import type { ClientRecord, Report } from "../history.ts";
import type { Change } from "./changes.ts";
import { refusalOf } from "./refusals.ts";

/** First characters of every value that a Byzantine member puts by itself. */
export function byzantineMark(member: number): string {
  return `z${member}.`;
}

/** The part of a value that names the operation: up to the "|" that its padding follows. */
export function valueTag(value: Uint8Array): string {
  const text = toByteString(value, 0, Math.min(value.length, 40));
  const end = text.indexOf("|");
  return end < 0 ? text : text.slice(0, end);
}

/** The tags of all values that an operation may put, with their keys. */
export function putsOf(record: ClientRecord): { readonly tag: string; readonly key: string }[] {
  const { request } = record;
  if (request.type !== "write") return [];
  const { operation } = request;
  if (operation.type === "put") return [{ tag: valueTag(operation.put.value), key: operation.put.key }];
  if (operation.type !== "txn") return [];
  return [...operation.txn.success, ...operation.txn.failure].flatMap((op) =>
    op.type === "put" ? [{ tag: valueTag(op.put.value), key: op.put.key }] : [],
  );
}

export function checkValidity(
  changes: readonly Change[],
  records: readonly ClientRecord[],
  byzantine: ReadonlySet<number>,
  report: Report,
): void {
  const sources = new Map<string, { record: ClientRecord; key: string }>();
  for (const record of records) {
    for (const { tag, key } of putsOf(record)) sources.set(`${tag}\0${key}`, { record, key });
  }
  const marks = [...byzantine].map(byzantineMark);
  for (const change of changes) {
    for (const event of change.events) {
      const wrong = event.type === "put" ? checkPut(event, change, sources, marks) : undefined;
      if (wrong === undefined) continue;
      report({ checker: "validity", message: `revision ${change.revision}, key ${event.kv.key}: ${wrong}` });
    }
  }
}

function checkPut(
  event: WatchEvent,
  change: Change,
  sources: ReadonlyMap<string, { record: ClientRecord; key: string }>,
  marks: readonly string[],
): string | undefined {
  const tag = valueTag(event.kv.value);
  if (marks.some((mark) => tag.startsWith(mark))) return undefined;
  const source = sources.get(`${tag}\0${event.kv.key}`);
  if (source === undefined) return `value ${tag} was put by no client`;
  const { record } = source;
  if (record.outcome?.type === "notTaken") return `value ${tag} belongs to an operation that was refused`;
  const refusal = refusalOf(record);
  if (refusal !== undefined) return `value ${tag} belongs to an operation that was answered "${refusal}"`;
  if (record.invokedMs > change.seenMs) return `value ${tag} was executed before it was asked for`;
  const isPut = record.request.type === "write" && record.request.operation.type === "put";
  if (isPut && record.request.type === "write" && record.request.operation.type === "put") {
    const { value, lease } = record.request.operation.put;
    if (value.length !== event.kv.value.length || value.some((byte, i) => byte !== event.kv.value[i])) {
      return `value ${tag} was changed on its way`;
    }
    if (lease !== event.kv.lease) return `lease ${event.kv.lease} instead of ${lease}`;
  }
  return undefined;
}
