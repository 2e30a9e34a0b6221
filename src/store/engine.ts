/**
 * What the store needs of the medium it lies on: three ordered tables of bytes with atomic units. Memory
 * (tests, simulation) and LMDB (storage/) implement it and pass one shared case suite.
 */
export const Table = { record: 0, lease: 1, meta: 2 } as const;
export type Table = (typeof Table)[keyof typeof Table];

export interface EngineEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Data at rest that does not match its checksum: never served, the caller must stop or repair. */
export class EngineCorruptError extends Error {
  override name = "EngineCorruptError";
}

export interface Engine {
  /** The value as written last (also when not committed yet), or undefined. Callers do not modify it. */
  get(table: Table, key: Uint8Array): Uint8Array | undefined;
  /** Entries with from <= key < to in ascending byte order, at most `limit`, all read before it returns. */
  range(table: Table, from: Uint8Array, to: Uint8Array, limit: number): EngineEntry[];
  /** Both arrays belong to the engine from here on: the caller must not change them. */
  put(table: Table, key: Uint8Array, value: Uint8Array): void;
  delete(table: Table, key: Uint8Array): void;
  /**
   * Ends an atomic unit: after a crash either all changes since the commit before are there or none, and a
   * later unit never without an earlier one. Durable only some time later (`flush`).
   */
  commit(): void;
  /** Whether more waits for the disk than should: whoever can go on later does, or memory fills. */
  readonly isBehind: boolean;
  /** Removes everything, for a state that arrives by transfer. Atomic with what is put before `commit`. */
  clear(): void;
  /** Bytes on disk, and bytes of it in use. */
  sizeBytes(): { readonly total: number; readonly inUse: number };
}
