/**
 * Opening the write-ahead log of a member: what was promised is in it or known to be lost, never silently
 * forgotten. See log-format.ts for the bytes, log-recovery.ts for what the end of a log means, log-writer.ts
 * for how records become durable.
 */
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { assert } from "../base/assert.ts";
import type { LogRecovery } from "../replica/contract.ts";
import { LogForeignError } from "./log-errors.ts";
import { LOG_ID_SIZE_BYTES, MAX_OWNER_SIZE_BYTES, SECTOR_SIZE_BYTES } from "./log-format.ts";
import { LogMarks, markFresh } from "./log-marks.ts";
import { type RecoveredLog, type RecoveredSegment, readRecords, recoverLog } from "./log-recovery.ts";
import {
  createSegment,
  makeDirectory,
  newSegmentHeader,
  removeUnfinished,
  writeAgain,
  zeroTail,
} from "./log-segment.ts";
import { Log, type LogOptions, SEGMENT_SIZE_BYTES } from "./log-writer.ts";

export { LogDamagedError, LogError, LogForeignError, LogLimitError, LogWriteError } from "./log-errors.ts";
export { Log, type LogOptions, type LogStats } from "./log-writer.ts";
export { markFresh };

/** An open log and what was found in it. */
export interface OpenedLog {
  readonly log: Log;
  readonly recovery: LogRecovery;
  /** What was cut from the end when it was opened, in words, for the process's own log. */
  readonly finding: string | undefined;
}

/**
 * Opens the log in `directory` (made when missing). Reads and checks all of it first.
 *
 * The states `fresh`, `uncertain` and `lost` come back at every start until a first record has been synced
 * after them; from then on the log speaks for itself, so that record must say what the replica has to
 * remember of it.
 *
 * `recovery.records` reads the files again as it is iterated: do that before the first `truncateBefore`.
 *
 * Throws LogDamagedError, LogForeignError, or the file system's own errors. One process at a time: the
 * caller holds the lock of the data directory.
 */
export function openLog(directory: string, options: LogOptions): OpenedLog {
  const segmentSizeBytes = options.segmentSizeBytes ?? SEGMENT_SIZE_BYTES;
  assert(segmentSizeBytes % SECTOR_SIZE_BYTES === 0, "segments end with a sector");
  assert(segmentSizeBytes >= 8 * SECTOR_SIZE_BYTES, "a segment has room for batches");
  if (options.owner.length > MAX_OWNER_SIZE_BYTES) {
    throw new LogForeignError(`the owner of a log is named in at most ${MAX_OWNER_SIZE_BYTES} bytes`);
  }
  makeDirectory(directory);
  const recovered = recoverLog(directory, options.owner);
  const marks = new LogMarks(directory);
  removeUnfinished(directory);
  cutTail(recovered, marks);
  confirmLast(recovered);
  for (const { path } of recovered.leftovers) rmSync(path, { force: true });
  const segments = recovered.segments.length > 0 ? recovered.segments : [firstSegment(directory, options)];
  const recovery: LogRecovery = {
    records: { [Symbol.iterator]: () => readRecords(recovered.segments) },
    nextSequence: recovered.nextSequence,
    state: stateOf(marks, recovered),
  };
  const log = new Log({ ...recovered, directory, marks, segments }, options);
  return { log, recovery, finding: recovered.cut?.finding };
}

function firstSegment(directory: string, options: LogOptions): RecoveredSegment {
  const logId = new Uint8Array(randomBytes(LOG_ID_SIZE_BYTES));
  const header = newSegmentHeader(1, options.segmentSizeBytes ?? SEGMENT_SIZE_BYTES, logId, options.owner);
  const file = createSegment(directory, header);
  return { ...file, header, firstSequence: undefined, endOffset: SECTOR_SIZE_BYTES };
}

/**
 * Writes the last batch again: where the disk refused it, which ended the process before, the system may show it
 * all the same, and would never write it by itself. All earlier ones were durable before the next was written.
 */
function confirmLast({ segments, activeIndex, lastOffset }: RecoveredLog): void {
  const active = segments[activeIndex];
  if (active !== undefined) writeAgain(active.path, lastOffset, active.endOffset);
}

/** Overwrites the remains behind the last whole batch; doubt about them outlives a crash in between. */
function cutTail(recovered: RecoveredLog, marks: LogMarks): void {
  if (!recovered.cut) return;
  if (recovered.cut.kind === "uncertain") marks.setUncertain();
  const active = recovered.segments[recovered.activeIndex]!;
  zeroTail(active.path, active.endOffset, active.header.sizeBytes);
}

function stateOf(marks: LogMarks, recovered: RecoveredLog): LogRecovery["state"] {
  if (marks.isUncertain) return "uncertain";
  if (recovered.nextSequence > 1) return "clean";
  return marks.isFresh ? "fresh" : "lost";
}
