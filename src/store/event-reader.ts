/**
 * Reads changes in revision order, for watchers: from memory when they are recent, else from the engine.
 */
import { type Engine, EngineCorruptError, Table } from "./engine.ts";
import type { Keyspace } from "./keyspace.ts";
import { decodeRecord, recordKey, type StoredRecord } from "./record.ts";

/**
 * The changes of the revisions from `from` to `to` (both included, both readable), whole revisions only: it
 * stops behind the first revision with which there are `countMax` of them or more.
 */
export function readEvents(
  space: Keyspace,
  engine: Engine,
  from: number,
  to: number,
  countMax: number,
): StoredRecord[] {
  const events: StoredRecord[] = [];
  const firstRecent = space.recent.firstRevision;
  let revision = from;
  if (from < firstRecent) {
    readStored(space, engine, from, Math.min(to, firstRecent - 1), countMax, events);
    if (events.length >= countMax) return events;
    revision = firstRecent;
  }
  for (; revision <= to && events.length < countMax; revision++) {
    const records = space.recent.recordsOf(revision);
    if (records === undefined) throw new EngineCorruptError(`revision ${revision} is missing in memory`);
    for (const record of records) events.push(record);
  }
  return events;
}

function readStored(
  space: Keyspace,
  engine: Engine,
  from: number,
  to: number,
  countMax: number,
  events: StoredRecord[],
): void {
  const end = recordKey(to + 1, 0);
  let start = recordKey(from, 0);
  for (;;) {
    const wanted = Math.max(countMax - events.length, 1);
    // One more than wanted shows whether the last revision goes on.
    const entries = engine.range(Table.record, start, end, wanted + 1);
    for (const { value } of entries) {
      const record = decodeRecord(value, space);
      const before = events[events.length - 1];
      if (events.length >= countMax && before!.modRevision !== record.modRevision) return;
      events.push(record);
    }
    if (entries.length <= wanted) return;
    const last = events[events.length - 1]!;
    start = recordKey(last.modRevision, last.sub + 1);
  }
}
