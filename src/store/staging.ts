/**
 * Where a state that arrives by transfer waits in the engine until it is complete, and the step that puts it
 * in place of the old one.
 *
 * Verified chunks are kept as rows of the meta table. One small unit then switches over: from there on the
 * staged chunks are the state. They are moved into place in bounded units, each of which can be done again
 * after a crash; whoever opens the store does that first of all. Whoever moves them lets the engine write between
 * the units, for what it has not written it holds in memory.
 */
import { DecodeError, Reader, Writer } from "../base/codec.ts";
import { type Engine, EngineCorruptError, type EngineEntry, Table } from "./engine.ts";
import { recordKey } from "./record.ts";
import {
  CHUNK_REVISIONS,
  LEASE_SIZE_BYTES,
  type LeaseRow,
  recordsOfChunk,
  writeLease,
} from "./state-tree.ts";

const STAGE_PREFIX = "store/stage/";
const SWITCH_KEY: Uint8Array = metaKey("store/install");
const STAGE_FIRST: Uint8Array = stageKey(0);
const STAGE_END: Uint8Array = new Writer(64).raw(stageKey(Number.MAX_SAFE_INTEGER)).u8(0).finish();
/** Record bytes moved in one unit, about. */
const UNIT_SIZE_BYTES = 4 * 1024 * 1024;

/** Key of a named value. */
export function metaKey(name: string): Uint8Array {
  return new Writer(name.length + 4).byteString(name).finish();
}

/** Key of one of many values under a name; they lie in the order of their numbers. */
export function numberedMetaKey(name: string, number: number): Uint8Array {
  const prefix = metaKey(name).subarray(4);
  return new Writer(32)
    .u32(prefix.length + 8)
    .raw(prefix)
    .u53(number)
    .finish();
}

function stageKey(chunk: number): Uint8Array {
  return numberedMetaKey(STAGE_PREFIX, chunk);
}

function chunkOfKey(key: Uint8Array): number {
  return new Reader(key, STAGE_FIRST.length - 8).u53();
}

/** Keeps the bytes of a chunk; empty bytes mean that the chunk is to be without records. */
export function stageChunk(engine: Engine, chunk: number, bytes: Uint8Array): void {
  engine.put(Table.meta, stageKey(chunk), bytes);
}

export function stagedChunk(engine: Engine, chunk: number): Uint8Array | undefined {
  return engine.get(Table.meta, stageKey(chunk));
}

/**
 * The staged chunks, one at a time, so that each may be deleted at once. Always on from the last one: an engine
 * that keeps deletions in memory would go over all of them every time.
 */
function* stagedRows(engine: Engine): Generator<{ readonly chunk: number; readonly row: EngineEntry }> {
  let from = STAGE_FIRST;
  for (;;) {
    const [row] = engine.range(Table.meta, from, STAGE_END, 1);
    if (row === undefined) return;
    const chunk = chunkOfKey(row.key);
    yield { chunk, row };
    from = stageKey(chunk + 1);
  }
}

/** Reads all that is staged, for the error where some of it is damaged: a transfer would meet it again and again. */
export function checkStaged(engine: Engine): void {
  for (const _ of stagedRows(engine));
}

/** Drops staged chunks that are not wanted (left over from a transfer of another state). */
export function dropStaged(engine: Engine, isWanted: (chunk: number) => boolean): void {
  for (const { chunk, row } of stagedRows(engine)) {
    if (!isWanted(chunk)) engine.delete(Table.meta, row.key);
  }
}

/**
 * Writes, into the open unit, that the staged chunks and these leases are the state from now on. Once the
 * caller has committed, `installStaged` must run to its end before anything else is read.
 */
export function switchOver(engine: Engine, leases: readonly LeaseRow[]): void {
  const writer = new Writer(64 + leases.length * 25);
  writer.list(leases, (row, to) => writeLease(row, to.i64(row.id)));
  engine.put(Table.meta, SWITCH_KEY, writer.finish());
}

/** Moves staged chunks into place when a switch was made, a unit at each step; does nothing else. */
export function* installStaged(engine: Engine): Generator<void, void> {
  const switched = engine.get(Table.meta, SWITCH_KEY);
  if (switched === undefined) return;
  let sizeBytes = 0;
  for (const { chunk, row } of stagedRows(engine)) {
    moveChunk(engine, chunk, row.value);
    engine.delete(Table.meta, row.key);
    sizeBytes += row.value.length;
    if (sizeBytes < UNIT_SIZE_BYTES) continue;
    engine.commit();
    sizeBytes = 0;
    yield;
  }
  replaceLeases(engine, switched);
  engine.delete(Table.meta, SWITCH_KEY);
  engine.commit();
}

function moveChunk(engine: Engine, chunk: number, bytes: Uint8Array): void {
  const from = recordKey(chunk * CHUNK_REVISIONS, 0);
  const to = recordKey((chunk + 1) * CHUNK_REVISIONS, 0);
  for (const { key } of engine.range(Table.record, from, to, Number.POSITIVE_INFINITY)) {
    engine.delete(Table.record, key);
  }
  for (const record of recordsOfChunk(bytes)) {
    // A record tells its own place: revision and sub are its bytes 1 to 12.
    engine.put(Table.record, record.slice(1, 13), record);
  }
}

function replaceLeases(engine: Engine, switched: Uint8Array): void {
  const everything = [new Uint8Array(0), new Uint8Array(9).fill(255), Number.POSITIVE_INFINITY] as const;
  for (const { key } of engine.range(Table.lease, ...everything)) engine.delete(Table.lease, key);
  try {
    const reader = new Reader(switched);
    reader.list(reader.remaining, (from) => {
      engine.put(Table.lease, from.raw(8).slice(), from.raw(LEASE_SIZE_BYTES).slice());
    });
    reader.end();
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw new EngineCorruptError(`a transferred state is damaged (${error.message}); repair from peers`);
  }
}
