/**
 * An engine in memory, for tests, the simulator and clusters that keep nothing. Pure, like the store above it.
 *
 * A `crashable` one remembers what was flushed: `crash` gives the engine that a machine finds again after it
 * lost everything since.
 */
import { toByteString } from "../base/bytes.ts";
import type { Engine, EngineEntry, Table } from "../store/engine.ts";
import { OrderedMap } from "../store/ordered-map.ts";

interface Row {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

type Tables = readonly OrderedMap<Row>[];

type Change =
  | { readonly type: "put"; readonly table: Table; readonly name: string; readonly row: Row }
  | { readonly type: "delete"; readonly table: Table; readonly name: string }
  | { readonly type: "clear" };

const TABLE_COUNT = 3;

export class MemoryEngine implements Engine {
  readonly #tables: Tables = newTables();
  readonly #crashable: boolean;
  /** What is durable; only kept when crashable. */
  readonly #flushed: Tables = newTables();
  /** Committed units that are not durable yet, oldest first, and the unit that is still open. */
  #pending: Change[][] = [];
  #open: Change[] = [];
  #sizeBytes = 0;

  constructor(options: { readonly crashable?: boolean } = {}) {
    this.#crashable = options.crashable ?? false;
  }

  get(table: Table, key: Uint8Array): Uint8Array | undefined {
    return this.#tables[table]!.get(toByteString(key))?.value;
  }

  range(table: Table, from: Uint8Array, to: Uint8Array, limit: number): EngineEntry[] {
    const entries: EngineEntry[] = [];
    if (limit <= 0) return entries;
    this.#tables[table]!.scan(toByteString(from), toByteString(to), (row) => {
      entries.push(row);
      return entries.length < limit;
    });
    return entries;
  }

  put(table: Table, key: Uint8Array, value: Uint8Array): void {
    const name = toByteString(key);
    const row = { key, value };
    this.#sizeBytes += key.length + value.length - this.#sizeOf(table, name);
    this.#tables[table]!.set(name, row);
    if (this.#crashable) this.#open.push({ type: "put", table, name, row });
  }

  delete(table: Table, key: Uint8Array): void {
    const name = toByteString(key);
    this.#sizeBytes -= this.#sizeOf(table, name);
    this.#tables[table]!.delete(name);
    if (this.#crashable) this.#open.push({ type: "delete", table, name });
  }

  #sizeOf(table: Table, name: string): number {
    const row = this.#tables[table]!.get(name);
    return row === undefined ? 0 : row.key.length + row.value.length;
  }

  commit(): void {
    if (!this.#crashable || this.#open.length === 0) return;
    this.#pending.push(this.#open);
    this.#open = [];
  }

  /** Nothing waits for a disk here. */
  get isBehind(): boolean {
    return false;
  }

  clear(): void {
    for (const table of this.#tables) table.clear();
    this.#sizeBytes = 0;
    if (this.#crashable) this.#open.push({ type: "clear" });
  }

  sizeBytes(): { readonly total: number; readonly inUse: number } {
    return { total: this.#sizeBytes, inUse: this.#sizeBytes };
  }

  /** Committed units that a crash would lose. */
  get unflushedUnits(): number {
    return this.#pending.length;
  }

  /** Makes the oldest `units` committed units durable (all, when not given). */
  flush(units = this.#pending.length): void {
    for (const unit of this.#pending.splice(0, units)) {
      for (const change of unit) apply(this.#flushed, change);
    }
  }

  /** The engine as it is found after a crash: only what was flushed. This one must not be used any more. */
  crash(): MemoryEngine {
    const next = new MemoryEngine({ crashable: this.#crashable });
    for (let table = 0; table < TABLE_COUNT; table++) {
      this.#flushed[table]!.scan("", undefined, (row, name) => {
        next.#tables[table]!.set(name, row);
        next.#flushed[table]!.set(name, row);
        next.#sizeBytes += row.key.length + row.value.length;
        return true;
      });
    }
    return next;
  }
}

function newTables(): Tables {
  return Array.from({ length: TABLE_COUNT }, () => new OrderedMap<Row>());
}

function apply(tables: Tables, change: Change): void {
  if (change.type === "clear") for (const table of tables) table.clear();
  else if (change.type === "put") tables[change.table]!.set(change.name, change.row);
  else tables[change.table]!.delete(change.name);
}
