/**
 * The index of keys in memory: what is current of each key, where its older versions lie, and which keys a
 * range holds. Values are not in it.
 */
import { OrderedMap } from "./ordered-map.ts";

/** One key, with its newest version; a deleted key stays as a tombstone until compaction passes it. */
export interface KeyEntry {
  readonly key: string;
  createRevision: number;
  modRevision: number;
  /** Index of the change within its revision; with modRevision it names the record. */
  sub: number;
  version: number;
  lease: bigint;
  tombstone: boolean;
  /** Size of the newest record. */
  sizeBytes: number;
  /** Older versions, oldest first, two numbers each: revision, then 2 * sub + (1 for a tombstone). */
  history: number[] | undefined;
}

/** Names one record: main revision and index of the change in it. */
export interface RecordPosition {
  readonly revision: number;
  readonly sub: number;
}

export class KeyIndex {
  readonly #entries = new Map<string, KeyEntry>();
  readonly #ordered = new OrderedMap<KeyEntry>((entry) => (entry.tombstone ? 0 : 1));
  #liveCount = 0;

  /** Keys that exist now. */
  get liveCount(): number {
    return this.#liveCount;
  }

  get(key: string): KeyEntry | undefined {
    return this.#entries.get(key);
  }

  /** Adds an entry for a key that has none. */
  add(entry: KeyEntry): void {
    this.#entries.set(entry.key, entry);
    this.#ordered.set(entry.key, entry);
    if (!entry.tombstone) this.#liveCount++;
  }

  /** Makes the newest version of the entry an older one; the caller then fills in the new one. */
  supersede(entry: KeyEntry): void {
    const place = entry.sub * 2 + (entry.tombstone ? 1 : 0);
    if (entry.history === undefined) entry.history = [entry.modRevision, place];
    else entry.history.push(entry.modRevision, place);
  }

  setTombstone(entry: KeyEntry, tombstone: boolean): void {
    if (entry.tombstone === tombstone) return;
    entry.tombstone = tombstone;
    const difference = tombstone ? -1 : 1;
    this.#liveCount += difference;
    this.#ordered.reweigh(entry.key, difference);
  }

  /** Forgets the key with all its versions. */
  remove(entry: KeyEntry): void {
    this.#entries.delete(entry.key);
    this.#ordered.delete(entry.key);
    if (!entry.tombstone) this.#liveCount--;
  }

  clear(): void {
    this.#entries.clear();
    this.#ordered.clear();
    this.#liveCount = 0;
  }

  /** Visits entries (tombstones too) with from <= key < to in order until `visit` returns false. */
  scan(from: string, to: string | undefined, visit: (entry: KeyEntry) => boolean): void {
    this.#ordered.scan(from, to, visit);
  }

  /** Number of keys that exist now with from <= key < to. */
  countLive(from: string, to: string | undefined): number {
    return this.#ordered.weightBetween(from, to);
  }
}

/** The record that holds the key's value as of `revision`, or undefined when the key did not exist then. */
export function positionAt(entry: KeyEntry, revision: number): RecordPosition | undefined {
  if (entry.modRevision <= revision) {
    return entry.tombstone ? undefined : { revision: entry.modRevision, sub: entry.sub };
  }
  const history = entry.history;
  if (history === undefined) return undefined;
  const index = lastVersionAt(history, revision);
  if (index < 0) return undefined;
  const place = history[index + 1]!;
  return place % 2 === 1 ? undefined : { revision: history[index]!, sub: (place - (place % 2)) / 2 };
}

/** Whether the key existed at `revision`. */
export function existedAt(entry: KeyEntry, revision: number): boolean {
  if (entry.modRevision <= revision) return !entry.tombstone;
  const { history } = entry;
  if (history === undefined) return false;
  const index = lastVersionAt(history, revision);
  return index >= 0 && history[index + 1]! % 2 === 0;
}

/** Index in `history` of the newest version whose revision is not above the given one, or -1. */
export function lastVersionAt(history: readonly number[], revision: number): number {
  let low = 0;
  let high = history.length / 2;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (history[middle * 2]! <= revision) low = middle + 1;
    else high = middle;
  }
  return low * 2 - 2;
}
