/**
 * Checks that no operation of a correct member's client is executed twice: values are unique, so a second
 * revision with the same one is a second execution. Deletions carry no value; each revision that deletes keys
 * must find an operation of its own that explains it, which is a matching of two small sets.
 */
import type { ClientRecord, Report } from "../history.ts";
import type { Change } from "./changes.ts";
import { ownedRevision } from "./linearizability.ts";
import { putsOf, valueTag } from "./validity.ts";

/** Keys below this prefix are attached to leases; clients delete them by no other way. */
export const LEASED_PREFIX = "l/";

export function checkExactlyOnce(
  changes: readonly Change[],
  records: readonly ClientRecord[],
  report: Report,
): void {
  checkPutsOnce(changes, records, report);
  checkDeletionsOnce(changes, records, report);
}

function checkPutsOnce(changes: readonly Change[], records: readonly ClientRecord[], report: Report): void {
  const repeatable = new Set<string>();
  for (const record of records) {
    if (!record.trusted) for (const { tag } of putsOf(record)) repeatable.add(tag);
  }
  const executedAt = new Map<string, number>();
  for (const change of changes) {
    for (const event of change.events) {
      if (event.type !== "put") continue;
      const tag = valueTag(event.kv.value);
      const first = executedAt.get(tag);
      if (first !== undefined && first !== change.revision && !tag.startsWith("z") && !repeatable.has(tag)) {
        const message = `the operation that puts ${tag} was executed at revisions ${first} and ${change.revision}`;
        report({ checker: "exactly-once", message });
      }
      executedAt.set(tag, change.revision);
    }
  }
}

interface Deletion {
  readonly change: Change;
  readonly candidates: ClientRecord[];
}

function checkDeletionsOnce(
  changes: readonly Change[],
  records: readonly ClientRecord[],
  report: Report,
): void {
  const answered = new Map<number, ClientRecord>();
  const open: ClientRecord[] = [];
  for (const record of records) {
    if (!isDelete(record)) continue;
    const revision = ownedRevision(record);
    if (revision !== undefined && record.trusted) answered.set(revision, record);
    else if (record.outcome === undefined || !record.trusted) open.push(record);
  }
  const deletions: Deletion[] = [];
  for (const change of changes) {
    if (change.events.some((event) => event.type === "put" || event.kv.key.startsWith(LEASED_PREFIX)))
      continue;
    if (answered.has(change.revision)) continue;
    const candidates = open.filter((record) => explains(record, change));
    deletions.push({ change, candidates });
  }
  for (const { change } of match(deletions)) {
    report({
      checker: "exactly-once",
      message:
        `revision ${change.revision} deletes ${change.events.map((event) => event.kv.key).join(", ")} ` +
        "but no operation is left that can have done it",
    });
  }
}

function isDelete(record: ClientRecord): boolean {
  return record.request.type === "write" && record.request.operation.type === "deleteRange";
}

function explains(record: ClientRecord, change: Change): boolean {
  if (record.invokedMs > change.seenMs) return false;
  if (record.request.type !== "write" || record.request.operation.type !== "deleteRange") return false;
  const { key, rangeEnd } = record.request.operation.deleteRange;
  return change.events.every(({ kv }) =>
    rangeEnd === "" ? kv.key === key : kv.key >= key && (rangeEnd === "\0" || kv.key < rangeEnd),
  );
}

/** Gives each deletion an operation of its own by augmenting paths; returns those that get none. */
function match(deletions: readonly Deletion[]): Deletion[] {
  const takenBy = new Map<ClientRecord, Deletion>();
  const place = (deletion: Deletion, tried: Set<ClientRecord>): boolean => {
    for (const candidate of deletion.candidates) {
      if (tried.has(candidate)) continue;
      tried.add(candidate);
      const holder = takenBy.get(candidate);
      if (holder === undefined || place(holder, tried)) {
        takenBy.set(candidate, deletion);
        return true;
      }
    }
    return false;
  };
  return deletions.filter((deletion) => !place(deletion, new Set()));
}
