/**
 * Range reads, with etcd's order of work: range, then revision filters, then sorting, then the limit.
 */
import { compareBytes } from "../base/bytes.ts";
import { existedAt, type KeyEntry } from "./key-index.ts";
import type { Keyspace } from "./keyspace.ts";
import {
  type KeyValue,
  type RangeRequest,
  type RangeResult,
  SortOrder,
  SortTarget,
  StoreError,
  StoreErrorCode,
} from "./types.ts";

/** End of a range for a scan: "\0" means all keys from the start on. */
export function scanEnd(rangeEnd: string): string | undefined {
  return rangeEnd === "\0" ? undefined : rangeEnd;
}

/** Entries of keys that exist now in the range, in order. */
export function liveEntries(space: Keyspace, key: string, rangeEnd: string): KeyEntry[] {
  if (rangeEnd === "") {
    const entry = space.live(key);
    return entry === undefined ? [] : [entry];
  }
  const entries: KeyEntry[] = [];
  space.index.scan(key, scanEnd(rangeEnd), (entry) => {
    if (!entry.tombstone) entries.push(entry);
    return true;
  });
  return entries;
}

/** Reads a range. Throws StoreError when the revision is compacted or in the future. */
export function readRange(space: Keyspace, request: RangeRequest): RangeResult {
  const current = space.visibleRevision;
  const { revision: asked } = request;
  if (asked > current) throw new StoreError(StoreErrorCode.futureRevision);
  if (asked > 0 && asked < space.compactRevision) throw new StoreError(StoreErrorCode.compacted);
  const read = asked > 0 && asked < current ? readHistoric : readCurrent;
  return read(space, request, current);
}

/** How many results to fetch at most: one more than the limit, so that `more` is known. */
function fetchLimit(request: RangeRequest): number {
  const { sortOrder, sortTarget } = request;
  const inKeyOrder =
    sortOrder === SortOrder.none || (sortTarget === SortTarget.key && sortOrder === SortOrder.ascend);
  return request.limit > 0 && inKeyOrder && !hasFilters(request)
    ? request.limit + 1
    : Number.POSITIVE_INFINITY;
}

function hasFilters(request: RangeRequest): boolean {
  return (
    request.minModRevision !== 0 ||
    request.maxModRevision !== 0 ||
    request.minCreateRevision !== 0 ||
    request.maxCreateRevision !== 0
  );
}

function readCurrent(space: Keyspace, request: RangeRequest, revision: number): RangeResult {
  const { key, rangeEnd, countOnly, keysOnly } = request;
  // Values are needed for sorting by them even when only keys are asked for.
  const withValue = !keysOnly || request.sortTarget === SortTarget.value;
  if (rangeEnd === "") {
    const entry = space.live(key);
    if (entry === undefined) return { revision, kvs: [], more: false, count: 0 };
    if (countOnly) return { revision, kvs: [], more: false, count: 1 };
    const kv = withValue ? space.keyValue(entry) : space.keyValueWithoutValue(entry);
    return finish(request, [kv], 1, revision);
  }
  const end = scanEnd(rangeEnd);
  const count = space.index.countLive(key, end);
  if (countOnly || count === 0) return { revision, kvs: [], more: false, count };
  const limit = fetchLimit(request);
  const kvs: KeyValue[] = [];
  space.index.scan(key, end, (entry) => {
    if (!entry.tombstone) kvs.push(withValue ? space.keyValue(entry) : space.keyValueWithoutValue(entry));
    return kvs.length < limit;
  });
  return finish(request, kvs, count, revision);
}

function readHistoric(space: Keyspace, request: RangeRequest, revision: number): RangeResult {
  const { key, rangeEnd, countOnly } = request;
  const limit = countOnly ? 0 : fetchLimit(request);
  const kvs: KeyValue[] = [];
  let count = 0;
  const visit = (entry: KeyEntry): boolean => {
    if (kvs.length < limit) {
      const kv = space.keyValueAt(entry, request.revision);
      if (kv !== undefined) kvs.push(kv);
      if (kv !== undefined) count++;
    } else if (existedAt(entry, request.revision)) {
      count++;
    }
    return true;
  };
  if (rangeEnd === "") {
    const entry = space.index.get(key);
    if (entry !== undefined) visit(entry);
  } else {
    space.index.scan(key, scanEnd(rangeEnd), visit);
  }
  if (countOnly) return { revision, kvs: [], more: false, count };
  return finish(request, kvs, count, revision);
}

/** Filters, sorts and cuts what was fetched. */
function finish(request: RangeRequest, fetched: KeyValue[], count: number, revision: number): RangeResult {
  let kvs = hasFilters(request) ? fetched.filter((kv) => passes(request, kv)) : fetched;
  sort(request, kvs);
  const more = request.limit > 0 && kvs.length > request.limit;
  if (more) kvs = kvs.slice(0, request.limit);
  if (request.keysOnly) kvs = kvs.map((kv) => (kv.value.length === 0 ? kv : { ...kv, value: NO_VALUE }));
  return { revision, kvs, more, count };
}

const NO_VALUE = new Uint8Array(0);

function passes(request: RangeRequest, kv: KeyValue): boolean {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  if (maxModRevision !== 0 && kv.modRevision > maxModRevision) return false;
  if (minModRevision !== 0 && kv.modRevision < minModRevision) return false;
  if (maxCreateRevision !== 0 && kv.createRevision > maxCreateRevision) return false;
  return minCreateRevision === 0 || kv.createRevision >= minCreateRevision;
}

function sort(request: RangeRequest, kvs: KeyValue[]): void {
  const { sortTarget, sortOrder } = request;
  if (sortTarget === SortTarget.key) {
    if (sortOrder === SortOrder.descend) kvs.reverse();
    return;
  }
  // A target other than the key without an order is taken as ascending.
  const compare = COMPARE_BY[sortTarget];
  kvs.sort(sortOrder === SortOrder.descend ? (a, b) => compare(b, a) : compare);
}

const COMPARE_BY: Record<SortTarget, (a: KeyValue, b: KeyValue) => number> = {
  [SortTarget.key]: () => 0,
  [SortTarget.version]: (a, b) => a.version - b.version,
  [SortTarget.create]: (a, b) => a.createRevision - b.createRevision,
  [SortTarget.mod]: (a, b) => a.modRevision - b.modRevision,
  [SortTarget.value]: (a, b) => compareBytes(a.value, b.value),
};
