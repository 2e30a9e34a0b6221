/**
 * Reading a log that a stop or a crash left behind, and deciding what its end means. Nothing is written here.
 *
 * A batch that cannot be read is
 * - proof of damage when anything valid was written after it, for that happens only once it was durable:
 *   LogDamagedError, nothing is cut;
 * - torn, when sectors of it were never written: nobody was told that it is durable, it is cut ("clean");
 * - uncertain otherwise: all its sectors were written, so the write may have been acknowledged before it
 *   was damaged; it is cut, and the caller is told.
 */
import { equalBytes } from "../base/bytes.ts";
import type { LogRecord } from "../replica/contract.ts";
import { LogDamagedError, LogForeignError } from "./log-errors.ts";
import {
  BATCH_HEADER_SIZE_BYTES,
  type BatchHeader,
  batchChain,
  batchSizeBytes,
  CHAIN_START,
  countZeroSectors,
  isZeroSector,
  LOG_FORMAT_VERSION,
  parseBatchHeader,
  parseSegmentHeader,
  recordsFit,
  recordsOf,
  SECTOR_SIZE_BYTES,
  type SegmentHeader,
} from "./log-format.ts";
import { listSegments, readSegment, type SegmentFile } from "./log-segment.ts";

/** How the readable part of a segment ends. */
type Ending =
  /** Zeros to the end of the segment. */
  | { readonly kind: "end" }
  | { readonly kind: "torn" | "uncertain"; readonly finding: string }
  | { readonly kind: "damaged"; readonly finding: string };

/** What a segment holds. */
interface SegmentScan {
  /** Where the last batch starts; where the first one would, when there is none. */
  readonly lastOffset: number;
  readonly endOffset: number;
  readonly batches: number;
  /** Sequence of the first batch, undefined when there is none. */
  readonly firstSequence: number | undefined;
  readonly nextSequence: number;
  readonly chain: number;
  readonly keptFrom: number;
  /** Whether anything but zeros follows the header. */
  readonly written: boolean;
  readonly ending: Ending;
}

/** A segment and the range of records in it. */
export interface RecoveredSegment extends SegmentFile {
  readonly header: SegmentHeader;
  readonly firstSequence: number | undefined;
  readonly endOffset: number;
}

/** The readable log. */
export interface RecoveredLog {
  /** Contiguous; the last ones may be prepared but not used yet. Empty when there is no log. */
  readonly segments: readonly RecoveredSegment[];
  /** Position in `segments` of the one that is written to. */
  readonly activeIndex: number;
  readonly nextSequence: number;
  readonly chain: number;
  readonly keptFrom: number;
  /** Where the last batch starts in the active segment: the only one that no later one proves to be on the disk. */
  readonly lastOffset: number;
  /** Segments that truncation left behind; they hold nothing that is needed. */
  readonly leftovers: readonly SegmentFile[];
  /** Set when remains after the end of the active segment must be overwritten before it is used again. */
  readonly cut: { readonly kind: "torn" | "uncertain"; readonly finding: string } | undefined;
}

/** Position in the log that the next batch must continue; undefined for the first batch that is there. */
interface Position {
  readonly nextSequence: number;
  readonly chain: number;
}

/** Reads and checks all of a log; throws LogDamagedError or LogForeignError. */
export function recoverLog(directory: string, owner: Uint8Array): RecoveredLog {
  const listed = listSegments(directory);
  const files = lastContiguous(listed);
  const segments: RecoveredSegment[] = [];
  let position: Position | undefined;
  let keptFrom = 1;
  let activeIndex = 0;
  let open: { scan: SegmentScan; file: SegmentFile } | undefined;
  let logId: Uint8Array | undefined;
  for (const file of files) {
    const bytes = readSegment(file.path);
    const next = position?.nextSequence ?? 1;
    const header = checkSegmentHeader(file, bytes, owner, logId, next);
    logId = header.logId;
    const scan = scanSegment(bytes, header, position);
    if (scan.ending.kind === "damaged") {
      throw new LogDamagedError(file.path, scan.endOffset, scan.nextSequence, scan.ending.finding);
    }
    // A segment is written to only when the one before is durable to its end.
    if (scan.written && open && open.scan.ending.kind !== "end") {
      const { ending, endOffset, nextSequence } = open.scan;
      throw new LogDamagedError(open.file.path, endOffset, nextSequence, ending.finding);
    }
    if (scan.written || !open) {
      open = { scan, file };
      activeIndex = segments.length;
      if (scan.batches > 0) position = { nextSequence: scan.nextSequence, chain: scan.chain };
      keptFrom = Math.max(keptFrom, scan.keptFrom);
    }
    segments.push({ ...file, header, firstSequence: scan.firstSequence, endOffset: scan.endOffset });
  }
  checkStart(segments, keptFrom);
  const ending = open?.scan.ending;
  const cut = ending?.kind === "torn" || ending?.kind === "uncertain" ? ending : undefined;
  return {
    segments,
    activeIndex,
    nextSequence: position?.nextSequence ?? 1,
    chain: position?.chain ?? CHAIN_START,
    keptFrom,
    lastOffset: open?.scan.lastOffset ?? SECTOR_SIZE_BYTES,
    leftovers: listed.slice(0, listed.length - files.length),
    cut,
  };
}

/** The records of a recovered log, one segment in memory at a time. */
export function* readRecords(segments: readonly RecoveredSegment[]): Generator<LogRecord> {
  for (const segment of segments) {
    if (segment.firstSequence === undefined) continue;
    const bytes = readSegment(segment.path);
    for (let at = SECTOR_SIZE_BYTES; at < segment.endOffset; ) {
      const header = parseBatchHeader(bytes, at, segment.header.nonce);
      if (!header || batchChain(bytes, at, header.payloadSizeBytes) !== header.chain) {
        throw new LogDamagedError(
          segment.path,
          at,
          segment.firstSequence,
          "a batch changed since it was checked",
        );
      }
      let sequence = header.firstSequence;
      for (const record of recordsOf(bytes, at, header)) yield { sequence: sequence++, record };
      at += batchSizeBytes(header.payloadSizeBytes);
    }
  }
}

/** Files before a gap in the numbers are leftovers of a truncation, if `checkStart` agrees. */
function lastContiguous(files: readonly SegmentFile[]): readonly SegmentFile[] {
  let start = files.length - 1;
  while (start > 0 && files[start - 1]!.number === files[start]!.number - 1) start--;
  return files.slice(Math.max(start, 0));
}

/** The first record that is there must be one that was allowed to be first. */
function checkStart(segments: readonly RecoveredSegment[], keptFrom: number): void {
  const first = segments[0];
  if (!first) return;
  const isUsed = segments.some((segment) => segment.firstSequence !== undefined);
  const missing =
    first.firstSequence === undefined
      ? (isUsed || first.number !== 1) && "the records before this segment's end are missing"
      : first.firstSequence > keptFrom && `records ${keptFrom} to ${first.firstSequence - 1} are missing`;
  if (missing) throw new LogDamagedError(first.path, 0, keptFrom, missing);
}

function checkSegmentHeader(
  file: SegmentFile,
  bytes: Buffer,
  owner: Uint8Array,
  logId: Uint8Array | undefined,
  nextSequence: number,
): SegmentHeader {
  const header = parseSegmentHeader(bytes);
  // The header was durable before the segment got its name: whatever is wrong with it is damage.
  if (!header) throw new LogDamagedError(file.path, 0, nextSequence, "the segment's header cannot be read");
  if ("version" in header) {
    throw new LogForeignError(
      `log ${file.path} has format version ${header.version}, this program writes ${LOG_FORMAT_VERSION}: ` +
        "start the release that wrote it",
    );
  }
  if (!equalBytes(header.owner, owner)) {
    throw new LogForeignError(
      `log ${file.path} belongs to another member or cluster: check the data directory and the genesis`,
    );
  }
  if (header.number !== file.number || (logId && !equalBytes(logId, header.logId))) {
    throw new LogDamagedError(
      file.path,
      0,
      nextSequence,
      "the segment is not the one its name and log call for",
    );
  }
  return header;
}

function scanSegment(bytes: Buffer, segment: SegmentHeader, from: Position | undefined): SegmentScan {
  let at = SECTOR_SIZE_BYTES;
  let lastOffset = at;
  let position = from;
  let firstSequence: number | undefined;
  let batches = 0;
  let keptFrom = 1;
  let ending: Ending | undefined;
  while (ending === undefined) {
    const header = parseBatchHeader(bytes, at, segment.nonce);
    const finding = header ? faultOf(bytes, at, header, position) : missingBatch(bytes, at);
    if (finding !== undefined || !header) {
      ending = endingAt(bytes, at, segment, header, finding, position);
      break;
    }
    firstSequence ??= header.firstSequence;
    keptFrom = Math.max(keptFrom, header.keptFrom);
    position = { nextSequence: header.firstSequence + header.recordCount, chain: header.chain };
    batches++;
    lastOffset = at;
    at += batchSizeBytes(header.payloadSizeBytes);
  }
  return {
    lastOffset,
    endOffset: at,
    batches,
    firstSequence,
    nextSequence: position?.nextSequence ?? 1,
    chain: position?.chain ?? CHAIN_START,
    keptFrom,
    written: batches > 0 || ending.kind !== "end",
    ending,
  };
}

/** What is wrong with a batch whose header is valid, or undefined. */
function faultOf(
  bytes: Buffer,
  at: number,
  header: BatchHeader,
  from: Position | undefined,
): string | undefined {
  if (at + batchSizeBytes(header.payloadSizeBytes) > bytes.length) return "the file ends within a batch";
  if (batchChain(bytes, at, header.payloadSizeBytes) !== header.chain) return "a batch's checksum is wrong";
  if (!recordsFit(bytes, at, header)) return "a batch's records do not fill it";
  if (!from) return undefined;
  if (header.firstSequence !== from.nextSequence) {
    return `a batch starts with record ${header.firstSequence} where ${from.nextSequence} is due`;
  }
  return header.previousChain === from.chain ? undefined : "a batch does not continue the one before";
}

/** What is wrong where no valid header is: nothing when only zeros follow. */
function missingBatch(bytes: Buffer, at: number): string | undefined {
  for (let sector = at; sector < bytes.length; sector += SECTOR_SIZE_BYTES) {
    if (!isZeroSector(bytes, sector)) {
      return sector === at ? "a batch's header cannot be read" : "a batch's header was never written";
    }
  }
  return undefined;
}

function endingAt(
  bytes: Buffer,
  at: number,
  segment: SegmentHeader,
  header: BatchHeader | undefined,
  finding: string | undefined,
  from: Position | undefined,
): Ending {
  // The file had its full size, durably, before it was used: a shorter one has lost bytes, maybe records.
  const short = bytes.length < segment.sizeBytes;
  if (finding === undefined) {
    return short ? { kind: "uncertain", finding: "the file has lost its end" } : { kind: "end" };
  }
  const extent = header ? batchSizeBytes(header.payloadSizeBytes) : SECTOR_SIZE_BYTES;
  const isLater = from !== undefined && header !== undefined && header.firstSequence > from.nextSequence;
  if (isLater || laterBatch(bytes, at + SECTOR_SIZE_BYTES, segment.nonce))
    return { kind: "damaged", finding };
  if (short) return { kind: "uncertain", finding };
  const zeroSectors = countZeroSectors(bytes, at, at + extent);
  return { kind: zeroSectors > (header?.zeroSectors ?? 0) ? "torn" : "uncertain", finding };
}

/** Whether a valid batch header stands on any later sector. */
function laterBatch(bytes: Buffer, from: number, nonce: Uint8Array): boolean {
  for (let at = from; at + BATCH_HEADER_SIZE_BYTES <= bytes.length; at += SECTOR_SIZE_BYTES) {
    if (parseBatchHeader(bytes, at, nonce)) return true;
  }
  return false;
}
