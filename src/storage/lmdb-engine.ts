/**
 * The embedded engine: three LMDB databases in one environment.
 *
 * Writes are behind: changes are visible at once from memory, and whole units go to LMDB in one transaction
 * every second or 4 MiB, on LMDB's writer thread. A process that is killed loses only units that were not
 * written yet, a machine that loses power those that were not flushed; both in order, never half a unit. The
 * replica's log covers what is lost, so it is cut only behind `flushed`.
 *
 * Each value carries a CRC-32 over its key and itself, checked whenever it is read.
 */
import { crc32 } from "node:zlib";
import { type Database, open, type RootDatabase } from "lmdb";
import { readU32, toByteString } from "../base/bytes.ts";
import { Slab } from "../base/slab.ts";
import { type Engine, EngineCorruptError, type EngineEntry, type Table } from "../store/engine.ts";
import { OrderedMap } from "../store/ordered-map.ts";
import { causeOf, named } from "./lmdb-errors.ts";
import { makeDirectory, syncDirectory } from "./log-segment.ts";

const TABLE_NAMES = ["record", "lease", "meta"] as const;
const CRC_SIZE_BYTES = 4;
const WRITE_INTERVAL_MS = 1000;
const WRITE_SIZE_BYTES = 4 * 1024 * 1024;
/** Above this much in memory, each turn that commits waits a little for LMDB's writer thread to catch up. */
const THROTTLE_SIZE_BYTES = 32 * 1024 * 1024;
const THROTTLE_MS = 10;
/** What a row costs beside its bytes, roughly, more in time than in memory: 4 MiB are then some 10 ms. */
const ROW_OVERHEAD_BYTES = 512;

/** Rows that are taken from memory at first beside those wanted, for deletions among them. */
const FIRST_ROWS_EXTRA = 16;

export interface LmdbEngineOptions {
  /** Directory of the environment; made when missing. */
  readonly path: string;
  readonly writeIntervalMs?: number;
  readonly writeSizeBytes?: number;
  /**
   * Called once when LMDB could not write (disk full, I/O error), or when what it holds is damaged
   * (EngineCorruptError, also thrown to whoever read): the process must stop.
   */
  readonly onError?: (error: unknown) => void;
}

interface Row {
  readonly key: Uint8Array;
  /** Undefined when deleted. */
  readonly value: Uint8Array | undefined;
}

/** Rows of a range in memory, and where they end if that is not where the range ends. */
interface BufferedRows {
  readonly rows: readonly { readonly name: string; readonly row: Row }[];
  readonly until: Uint8Array | undefined;
  readonly cleared: boolean;
}

/** Units that go to LMDB together. */
class Generation {
  readonly tables: readonly OrderedMap<Row>[] = TABLE_NAMES.map(() => new OrderedMap<Row>());
  /** Everything older is gone. */
  cleared = false;
  sizeBytes = 0;

  set(table: Table, row: Row): void {
    this.tables[table]!.set(toByteString(row.key), row);
    this.sizeBytes += row.key.length + (row.value?.length ?? 0) + ROW_OVERHEAD_BYTES;
  }

  clear(): void {
    for (const table of this.tables) table.clear();
    this.cleared = true;
  }

  get isEmpty(): boolean {
    return !this.cleared && this.tables.every((table) => table.size === 0);
  }
}

export class LmdbEngine implements Engine {
  readonly #root: RootDatabase<Buffer, Uint8Array>;
  readonly #databases: readonly Database<Buffer, Uint8Array>[];
  readonly #writeIntervalMs: number;
  readonly #writeSizeBytes: number;
  readonly #onError: (error: unknown) => void;
  #open = new Generation();
  /** Handed to LMDB and not yet known to be committed; oldest first. */
  #writing: Generation[] = [];
  #uncommitted = false;
  /** A write was asked for while a unit was open: it starts when the unit ends. */
  #writeDue = false;
  #commitWaiters: (() => void)[] = [];
  /** This turn has waited for the disk. */
  #throttled = false;
  #timer: NodeJS.Timeout | undefined;
  #lastWrite: Promise<unknown> = Promise.resolve();
  readonly #read = new Slab();
  #failure: { readonly error: unknown } | undefined;
  #closed = false;

  /** Opens or makes the environment. Throws when the directory can not be used, EngineCorruptError when it is damaged. */
  constructor(options: LmdbEngineOptions) {
    this.#writeIntervalMs = options.writeIntervalMs ?? WRITE_INTERVAL_MS;
    this.#writeSizeBytes = options.writeSizeBytes ?? WRITE_SIZE_BYTES;
    this.#onError = options.onError ?? (() => {});
    makeDirectory(options.path);
    const encodings = { encoding: "binary", keyEncoding: "binary" } as const;
    let root: RootDatabase<Buffer, Uint8Array> | undefined;
    try {
      root = open<Buffer, Uint8Array>({ path: options.path, maxDbs: TABLE_NAMES.length, ...encodings });
      root.readerCheck();
      this.#root = root;
      this.#databases = TABLE_NAMES.map((name) => root!.openDB<Buffer, Uint8Array>({ name, ...encodings }));
    } catch (error) {
      void root?.close();
      throw named(error);
    }
    syncDirectory(options.path);
  }

  get(table: Table, key: Uint8Array): Uint8Array | undefined {
    try {
      return this.#get(table, key);
    } catch (error) {
      throw this.#found(error);
    }
  }

  #get(table: Table, key: Uint8Array): Uint8Array | undefined {
    const name = toByteString(key);
    const row = this.#open.tables[table]!.get(name);
    if (row !== undefined) return row.value;
    if (this.#open.cleared) return undefined;
    for (let i = this.#writing.length - 1; i >= 0; i--) {
      const generation = this.#writing[i]!;
      const older = generation.tables[table]!.get(name);
      if (older !== undefined) return older.value;
      if (generation.cleared) return undefined;
    }
    const stored = this.#databases[table]!.getBinaryFast(key);
    if (stored === undefined) return undefined;
    // LMDB reads into a buffer of its own that the next read overwrites; its length is that of this value.
    const copy = this.#read.allocate(stored.length);
    copy.set(stored.subarray(0, stored.length));
    return checked(table, key, copy);
  }

  range(table: Table, from: Uint8Array, to: Uint8Array, limit: number): EngineEntry[] {
    const entries: EngineEntry[] = [];
    const end = toByteString(to);
    let start = from;
    let rowsMax = limit + FIRST_ROWS_EXTRA;
    while (entries.length < limit) {
      const buffered = this.#buffered(table, toByteString(start), end, rowsMax);
      try {
        this.#merge(table, start, buffered.until ?? to, buffered, limit, entries);
      } catch (error) {
        throw this.#found(error);
      }
      if (buffered.until === undefined) break;
      start = buffered.until;
      rowsMax *= 2;
    }
    return entries;
  }

  /** Appends what lies in [from, to), of which memory holds the rows given. */
  #merge(
    table: Table,
    from: Uint8Array,
    to: Uint8Array,
    { rows, cleared }: BufferedRows,
    limit: number,
    entries: EngineEntry[],
  ): void {
    let at = 0;
    const takeBuffered = (row: Row) => {
      if (row.value !== undefined) entries.push({ key: row.key, value: row.value });
    };
    if (!cleared) {
      // Drained here and now: a range that stays open holds a snapshot and lets the file grow.
      for (const { key, value } of this.#databases[table]!.getRange({ start: from, end: to })) {
        const name = toByteString(key);
        while (at < rows.length && rows[at]!.name < name && entries.length < limit)
          takeBuffered(rows[at++]!.row);
        if (entries.length >= limit) break;
        if (rows[at]?.name === name) takeBuffered(rows[at++]!.row);
        else entries.push({ key, value: checked(table, key, value) });
        if (entries.length >= limit) break;
      }
    }
    while (at < rows.length && entries.length < limit) takeBuffered(rows[at++]!.row);
  }

  /**
   * What memory holds of a range, the newest of each key, in order: all of it, or where a generation has more
   * than `rowsMax` rows, all up to `until`. Reading one entry must not cost as much as memory holds.
   */
  #buffered(table: Table, from: string, to: string, rowsMax: number): BufferedRows {
    const newest = new Map<string, Row>();
    let end = to;
    let until: Uint8Array | undefined;
    let cleared = false;
    for (const generation of [this.#open, ...this.#writing.toReversed()]) {
      let count = 0;
      generation.tables[table]!.scan(from, end, (row, name) => {
        if (count++ < rowsMax) {
          if (!newest.has(name)) newest.set(name, row);
          return true;
        }
        end = name;
        until = row.key;
        return false;
      });
      cleared = generation.cleared;
      if (cleared) break;
    }
    const rows: { name: string; row: Row }[] = [];
    for (const [name, row] of newest) if (name < end) rows.push({ name, row });
    rows.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    return { rows, until, cleared };
  }

  put(table: Table, key: Uint8Array, value: Uint8Array): void {
    this.#uncommitted = true;
    this.#open.set(table, { key, value });
  }

  delete(table: Table, key: Uint8Array): void {
    this.#uncommitted = true;
    this.#open.set(table, { key, value: undefined });
  }

  clear(): void {
    this.#uncommitted = true;
    this.#open.clear();
  }

  commit(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
    this.#uncommitted = false;
    if (this.#writeDue || this.#open.sizeBytes >= this.#writeSizeBytes) this.#write();
    else if (this.#timer === undefined && !this.#open.isEmpty) {
      this.#timer = setTimeout(() => this.#write(), this.#writeIntervalMs);
    }
    if (this.isBehind) this.#throttle();
    for (const waiter of this.#commitWaiters.splice(0)) waiter();
  }

  /**
   * Slows the turns down to the disk's pace. Memory is released between turns only: a second wait in one turn would
   * gain nothing, and a turn that writes very much has to ask `isBehind` and go on in another one.
   */
  #throttle(): void {
    if (this.#throttled) return;
    this.#throttled = true;
    setImmediate(() => {
      this.#throttled = false;
    });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, THROTTLE_MS);
  }

  get isBehind(): boolean {
    return this.bufferedSizeBytes > THROTTLE_SIZE_BYTES;
  }

  /** Bytes that are only in memory so far. */
  get bufferedSizeBytes(): number {
    let total = this.#open.sizeBytes;
    for (const generation of this.#writing) total += generation.sizeBytes;
    return total;
  }

  /** Hands what is committed to LMDB, in one transaction. */
  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#uncommitted) {
      this.#writeDue = true;
      return;
    }
    this.#writeDue = false;
    const generation = this.#open;
    if (generation.isEmpty) return;
    this.#open = new Generation();
    this.#writing.push(generation);
    const written = this.#root.batch(() => this.#enqueue(generation));
    this.#lastWrite = written.then(
      () => {
        // LMDB commits in order, so the oldest one is the one that is done.
        this.#root.resetReadTxn();
        this.#writing.shift();
      },
      async (error: unknown) => this.#fail(await causeOf(error)),
    );
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#onError(error);
  }

  /** Damage ends the process whoever meets it: what is damaged now is whole again behind the next start. */
  #found(error: unknown): unknown {
    const found = named(error);
    if (found instanceof EngineCorruptError) this.#fail(found);
    return found;
  }

  #enqueue(generation: Generation): void {
    if (generation.cleared) for (const database of this.#databases) void database.clearAsync();
    let sizeBytes = 0;
    const add = (row: Row) => {
      if (row.value !== undefined) sizeBytes += row.key.length + row.value.length + CRC_SIZE_BYTES;
      return true;
    };
    for (const table of generation.tables) table.scan("", undefined, add);
    // One buffer for all values, each behind its key: the checksum of both is then one call.
    const buffer = new Uint8Array(sizeBytes);
    let at = 0;
    generation.tables.forEach((rows, table) => {
      const database = this.#databases[table]!;
      rows.scan("", undefined, ({ key, value }) => {
        if (value === undefined) {
          void database.remove(key);
          return true;
        }
        buffer.set(key, at);
        const start = at + key.length;
        const end = start + value.length;
        buffer.set(value, start);
        const sum = crc32(buffer.subarray(at, end));
        buffer[end] = sum >>> 24;
        buffer[end + 1] = sum >>> 16;
        buffer[end + 2] = sum >>> 8;
        buffer[end + 3] = sum;
        at = end + CRC_SIZE_BYTES;
        void database.put(key, buffer.subarray(start, at) as Buffer);
        return true;
      });
    });
  }

  /**
   * Resolves when everything committed before the call is on disk for good. Rejects when LMDB could not write.
   */
  async flushed(): Promise<void> {
    if (this.#uncommitted) await new Promise<void>((resolve) => this.#commitWaiters.push(resolve));
    this.#write();
    await this.#lastWrite;
    if (this.#failure !== undefined) throw this.#failure.error;
    await this.#root.flushed;
  }

  sizeBytes(): { readonly total: number; readonly inUse: number } {
    const root = this.#root.getStats() as PageStats;
    let pages = 0;
    for (const database of this.#databases) {
      const stats = database.getStats() as PageStats;
      pages += stats.treeBranchPageCount + stats.treeLeafPageCount + stats.overflowPages;
    }
    return { total: (root.lastPageNumber + 1) * root.pageSize, inUse: pages * root.pageSize };
  }

  /** Writes what is committed, drops a unit that is not, and closes the environment. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    if (!this.#uncommitted && this.#failure === undefined) await this.flushed();
    await this.#lastWrite;
    await this.#root.close();
  }
}

/** What of LMDB's statistics is used here. */
interface PageStats {
  readonly pageSize: number;
  readonly lastPageNumber: number;
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
}

/** The value without its checksum, once that fits. */
function checked(table: Table, key: Uint8Array, stored: Uint8Array): Uint8Array {
  const end = stored.length - CRC_SIZE_BYTES;
  if (end >= 0) {
    const value = new Uint8Array(stored.buffer, stored.byteOffset, end);
    if (crc32(value, crc32(key)) === readU32(stored, end)) return value;
  }
  const name = TABLE_NAMES[table];
  throw new EngineCorruptError(
    `a value in table ${name} does not fit its checksum (key ${Buffer.from(key).toString("hex")}): ` +
      "the disk or a file under the data directory was damaged; the next start takes the state from the other masters",
  );
}
