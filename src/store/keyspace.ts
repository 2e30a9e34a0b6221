/**
 * Keys, their versions and the records behind them: the part of the store that reads and writes single keys.
 * Changes come in groups (`beginChanges` to `endChanges`), each of which makes at most one new revision.
 */
import { assert } from "../base/assert.ts";
import type { ChangeDigest } from "./change-digest.ts";
import { type Engine, EngineCorruptError, Table } from "./engine.ts";
import { type KeyEntry, KeyIndex, positionAt } from "./key-index.ts";
import type { LeaseBook } from "./lease-book.ts";
import { RecentRecords } from "./recent-records.ts";
import {
  anotherRecord,
  decodeRecord,
  keyValueOfRecord,
  type PreviousSource,
  RecordEncoder,
  type RecordFields,
  recordKey,
  recordSizeBytes,
  StoredRecord,
  valueOfRecord,
} from "./record.ts";
import { SizeBook } from "./size-book.ts";
import type { KeyValue } from "./types.ts";

const NO_VALUE = new Uint8Array(0);
/** Records read at once when the index is built. */
const LOAD_COUNT = 1024;
/** A step of building it ends behind so many record bytes, or records. */
const LOAD_STEP_SIZE_BYTES = 4 * 1024 * 1024;
const LOAD_STEP_COUNT = 16 * LOAD_COUNT;
export const LAST_RECORD_KEY: Uint8Array = new Uint8Array(13).fill(255);

export class Keyspace implements PreviousSource {
  readonly index = new KeyIndex();
  readonly recent: RecentRecords;
  readonly sizes = new SizeBook();
  readonly leases: LeaseBook;
  readonly #digest: ChangeDigest;
  readonly #engine: Engine;
  readonly #encoder = new RecordEncoder();
  #revision = 1;
  #compactRevision = -1;
  #changes: StoredRecord[] = [];
  #changing = false;

  constructor(engine: Engine, leases: LeaseBook, recentSizeBytes: number, digest: ChangeDigest) {
    this.#engine = engine;
    this.#digest = digest;
    this.leases = leases;
    this.recent = new RecentRecords(recentSizeBytes);
  }

  /** The revision of the last finished group of changes. */
  get revision(): number {
    return this.#revision;
  }

  get compactRevision(): number {
    return this.#compactRevision;
  }

  /** What a read inside the current group of changes sees. */
  get visibleRevision(): number {
    return this.#changes.length > 0 ? this.#revision + 1 : this.#revision;
  }

  beginChanges(): void {
    assert(!this.#changing, "groups of changes do not nest");
    this.#changing = true;
  }

  /** Ends the group; true when it made a new revision. */
  endChanges(): boolean {
    assert(this.#changing, "a group of changes was begun");
    this.#changing = false;
    if (this.#changes.length === 0) return false;
    this.#revision++;
    this.recent.append(this.#revision, this.#changes);
    this.#changes = [];
    return true;
  }

  /** The entry of a key that exists now, else undefined. */
  live(key: string): KeyEntry | undefined {
    const entry = this.index.get(key);
    return entry === undefined || entry.tombstone ? undefined : entry;
  }

  put(key: string, value: Uint8Array, lease: bigint): void {
    assert(this.#changing, "changes belong to a group");
    const modRevision = this.#revision + 1;
    const sub = this.#changes.length;
    const sizeBytes = recordSizeBytes(key, value);
    const before = this.index.get(key);
    if (before === undefined || before.tombstone) {
      const fields = putFields(key, modRevision, sub, modRevision, 1, lease, 0, 0);
      this.#append(fields, value);
      if (before === undefined) this.index.add(entryOf(fields, sizeBytes));
      else this.#renew(before, fields, sizeBytes);
    } else {
      const { createRevision, version, sub: prevSub } = before;
      const prevRevision = before.modRevision;
      const fields = putFields(
        key,
        modRevision,
        sub,
        createRevision,
        version + 1,
        lease,
        prevRevision,
        prevSub,
      );
      this.#append(fields, value);
      if (before.lease !== 0n && before.lease !== lease) this.leases.detach(before.lease, key);
      this.sizes.removeLive(before.sizeBytes);
      this.sizes.addHistory(modRevision, before.sizeBytes);
      this.#renew(before, fields, sizeBytes);
    }
    if (lease !== 0n) this.leases.attach(lease, key);
    this.sizes.addLive(sizeBytes);
  }

  /** Deletes a key that exists. */
  delete(entry: KeyEntry): void {
    assert(this.#changing, "changes belong to a group");
    assert(!entry.tombstone, "only keys that exist are deleted");
    const { key } = entry;
    const modRevision = this.#revision + 1;
    const fields: RecordFields = {
      put: false,
      key,
      modRevision,
      sub: this.#changes.length,
      createRevision: 0,
      version: 0,
      lease: 0n,
      prevRevision: entry.modRevision,
      prevSub: entry.sub,
    };
    this.#append(fields, NO_VALUE);
    if (entry.lease !== 0n) this.leases.detach(entry.lease, key);
    const sizeBytes = recordSizeBytes(key, NO_VALUE);
    this.sizes.removeLive(entry.sizeBytes);
    this.sizes.addHistory(modRevision, entry.sizeBytes + sizeBytes);
    this.#renew(entry, fields, sizeBytes);
  }

  #append(fields: RecordFields, value: Uint8Array): void {
    const bytes = this.#encoder.encode(fields, value);
    this.#engine.put(Table.record, recordKey(fields.modRevision, fields.sub), bytes);
    this.#changes.push(new StoredRecord(fields, bytes, this));
    this.#digest.addRecord(bytes);
  }

  /** Makes the record the newest version of the entry. */
  #renew(entry: KeyEntry, fields: RecordFields, sizeBytes: number): void {
    this.index.supersede(entry);
    entry.createRevision = fields.createRevision;
    entry.modRevision = fields.modRevision;
    entry.sub = fields.sub;
    entry.version = fields.version;
    entry.lease = fields.lease;
    entry.sizeBytes = sizeBytes;
    this.index.setTombstone(entry, !fields.put);
  }

  /** A record of the group of changes in progress, or a recent one. */
  #inMemory(revision: number, sub: number): StoredRecord | undefined {
    return revision > this.#revision ? this.#changes[sub]! : this.recent.get(revision, sub);
  }

  /** Bytes of a record that is not in memory; its absence or damage is an EngineCorruptError. */
  #engineBytes(revision: number, sub: number): Uint8Array {
    const bytes = this.#engine.get(Table.record, recordKey(revision, sub));
    if (bytes === undefined) {
      throw new EngineCorruptError(`the record of revision ${revision}.${sub} is missing; repair from peers`);
    }
    return bytes;
  }

  /** The newest value of a key that exists. A view, not a copy. */
  value(entry: KeyEntry): Uint8Array {
    const { key, modRevision, sub } = entry;
    const bytes = this.#inMemory(modRevision, sub)?.bytes ?? this.#engineBytes(modRevision, sub);
    return valueOfRecord(bytes, key);
  }

  keyValue(entry: KeyEntry): KeyValue {
    return keyValueOf(entry, this.value(entry));
  }

  /** Like `keyValue` with an empty value and without reading the record. */
  keyValueWithoutValue(entry: KeyEntry): KeyValue {
    return keyValueOf(entry, NO_VALUE);
  }

  /** The key as of a revision that is not compacted, or undefined when it did not exist then. */
  keyValueAt(entry: KeyEntry, revision: number): KeyValue | undefined {
    if (entry.modRevision <= revision) return entry.tombstone ? undefined : this.keyValue(entry);
    const position = positionAt(entry, revision);
    if (position === undefined) return undefined;
    return this.record(position.revision, position.sub).kv;
  }

  /** The record at a position that the index or a newer record names. */
  record(revision: number, sub: number): StoredRecord {
    const held = this.#inMemory(revision, sub);
    if (held !== undefined) return held;
    const record = decodeRecord(this.#engineBytes(revision, sub), this);
    if (record.modRevision !== revision || record.sub !== sub) throw anotherRecord(revision, sub);
    return record;
  }

  /**
   * The version before a change, as etcd's watchers get it: what a read one revision earlier would find, so
   * nothing once that revision is compacted.
   */
  previousOf(record: StoredRecord): KeyValue | undefined {
    if (record.prevRevision === 0 || record.modRevision - 1 < this.#compactRevision) return undefined;
    // A key can change twice in one revision (see request-checks.ts); watchers get what was before both.
    let before = record;
    while (before.prevRevision === record.modRevision)
      before = this.record(before.prevRevision, before.prevSub);
    const { prevRevision, prevSub } = before;
    if (prevRevision === 0) return undefined;
    const held = this.#inMemory(prevRevision, prevSub);
    if (held !== undefined) return held.kv;
    return keyValueOfRecord(this.#engineBytes(prevRevision, prevSub), record.key, prevRevision, prevSub);
  }

  /** Compacts logically: older revisions can not be read any more. The caller checked the revision. */
  compact(revision: number): void {
    assert(revision > this.#compactRevision && revision <= this.#revision, "compaction goes forward");
    this.#compactRevision = revision;
    this.sizes.compact(revision);
  }

  /** Builds the index from the records in the engine, some at each step; leases must be there already. */
  *load(revision: number, compactRevision: number): Generator<void, void> {
    this.index.clear();
    this.recent.clear();
    this.#changes = [];
    this.#digest.clear();
    this.#revision = revision;
    this.#compactRevision = compactRevision;
    this.sizes.reset(compactRevision);
    let from = recordKey(0, 0);
    let count = 0;
    let sizeBytes = 0;
    for (;;) {
      const entries = this.#engine.range(Table.record, from, LAST_RECORD_KEY, LOAD_COUNT);
      for (const { key, value } of entries) {
        this.#loadRecord(key, decodeRecord(value, this));
        sizeBytes += value.length;
      }
      count += entries.length;
      if (entries.length < LOAD_COUNT) break;
      const last = entries[entries.length - 1]!.key;
      from = new Uint8Array(last.length + 1);
      from.set(last);
      if (sizeBytes < LOAD_STEP_SIZE_BYTES && count < LOAD_STEP_COUNT) continue;
      count = 0;
      sizeBytes = 0;
      yield;
    }
    this.index.scan("", undefined, (entry) => {
      if (!entry.tombstone && entry.lease !== 0n) this.leases.attach(entry.lease, entry.key);
      return true;
    });
  }

  #loadRecord(key: Uint8Array, record: StoredRecord): void {
    const expected = recordKey(record.modRevision, record.sub);
    const misplaced = key.length !== expected.length || key.some((byte, i) => byte !== expected[i]);
    if (misplaced || record.modRevision > this.#revision) {
      throw new EngineCorruptError(
        `a record of revision ${record.modRevision} is misplaced; repair from peers`,
      );
    }
    const put = record.type === "put";
    const sizeBytes = record.bytes.length;
    const entry = this.index.get(record.key);
    if (entry !== undefined && !entry.tombstone) {
      this.sizes.removeLive(entry.sizeBytes);
      this.sizes.addHistory(record.modRevision, entry.sizeBytes);
    }
    if (put) this.sizes.addLive(sizeBytes);
    else this.sizes.addHistory(record.modRevision, sizeBytes);
    const fields: RecordFields = {
      put,
      key: record.key,
      modRevision: record.modRevision,
      sub: record.sub,
      createRevision: record.createRevision,
      version: record.version,
      lease: record.lease,
      prevRevision: record.prevRevision,
      prevSub: record.prevSub,
    };
    if (entry === undefined) this.index.add(entryOf(fields, sizeBytes));
    else this.#renew(entry, fields, sizeBytes);
  }
}

function putFields(
  key: string,
  modRevision: number,
  sub: number,
  createRevision: number,
  version: number,
  lease: bigint,
  prevRevision: number,
  prevSub: number,
): RecordFields {
  return { put: true, key, modRevision, sub, createRevision, version, lease, prevRevision, prevSub };
}

function keyValueOf(entry: KeyEntry, value: Uint8Array): KeyValue {
  const { key, createRevision, modRevision, version, lease } = entry;
  return { key, createRevision, modRevision, version, value, lease };
}

function entryOf(fields: RecordFields, sizeBytes: number): KeyEntry {
  return {
    key: fields.key,
    createRevision: fields.createRevision,
    modRevision: fields.modRevision,
    sub: fields.sub,
    version: fields.version,
    lease: fields.lease,
    tombstone: !fields.put,
    sizeBytes,
    history: undefined,
  };
}
