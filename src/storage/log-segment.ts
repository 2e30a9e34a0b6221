/** Segment files: their names, how they are made, listed and read. Whoever calls decides what they mean. */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fsync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  open,
  openSync,
  readdirSync,
  readSync,
  rename,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { assert } from "../base/assert.ts";
import {
  encodeSegmentHeader,
  NONCE_SIZE_BYTES,
  SECTOR_SIZE_BYTES,
  type SegmentHeader,
} from "./log-format.ts";

const SEGMENT_NAME = /^(\d{10})\.log$/;
const UNFINISHED_SUFFIX = ".preparing";
/** Zeros are written in steps of this size, so that a sync of the log in use never waits long behind one. */
export const PREPARE_STEP_BYTES = 128 * 1024;

/** A segment file on disk. */
export interface SegmentFile {
  readonly number: number;
  readonly path: string;
}

/** Path of the segment with that number. */
export function segmentPath(directory: string, number: number): string {
  return join(directory, `${String(number).padStart(10, "0")}.log`);
}

/** The segments in a directory, in order. */
export function listSegments(directory: string): SegmentFile[] {
  const segments: SegmentFile[] = [];
  for (const name of readdirSync(directory)) {
    const match = SEGMENT_NAME.exec(name);
    if (match) segments.push({ number: Number(match[1]), path: join(directory, name) });
  }
  return segments.sort((a, b) => a.number - b.number);
}

/** Removes segments whose preparation a crash interrupted: they were never used. */
export function removeUnfinished(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (name.endsWith(UNFINISHED_SUFFIX)) rmSync(join(directory, name), { force: true });
  }
}

/** The whole file. */
export function readSegment(path: string): Buffer {
  const bytes = Buffer.allocUnsafe(statSync(path).size);
  const fd = openSync(path, "r");
  try {
    let at = 0;
    while (at < bytes.length) {
      const count = readSync(fd, bytes, at, bytes.length - at, at);
      if (count === 0) return bytes.subarray(0, at);
      at += count;
    }
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** A descriptor whose every write is durable when it returns: one system call where write and sync are two. */
export function openForDurableWrites(path: string): number {
  return openSync(path, constants.O_RDWR | constants.O_DSYNC);
}

/** Writes the bytes from `from` to `to`, as they are read, to the disk. */
export function writeAgain(path: string, from: number, to: number): void {
  const fd = openForDurableWrites(path);
  try {
    const bytes = Buffer.allocUnsafe(to - from);
    for (let at = 0; at < bytes.length; ) {
      const count = readSync(fd, bytes, at, bytes.length - at, from + at);
      assert(count > 0, "the file has what was read from it before");
      at += count;
    }
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, from + at);
  } finally {
    closeSync(fd);
  }
}

/** Overwrites what lies after a cut with zeros, durably, so that no remains can ever be taken for a batch. */
export function zeroTail(path: string, from: number, sizeBytes: number): void {
  const fd = openSync(path, "r+");
  try {
    // A file that lost its end grows back to its full size first.
    ftruncateSync(fd, sizeBytes);
    writeZeros(fd, from, sizeBytes);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Makes a directory and its parents, readable by the owner only, each of them durably an entry of its parent. */
export function makeDirectory(directory: string, sync: (directory: string) => void = syncDirectory): void {
  const path = resolve(directory);
  if (isDirectory(path)) return;
  const parent = dirname(path);
  // Not mkdir's own recursion: it never ends where a file system makes no directories at all (/proc).
  makeDirectory(parent, sync);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another process may have made it meanwhile.
    if (!isDirectory(path)) throw error;
  }
  sync(parent);
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Makes the entries of a directory (files made, renamed, removed) durable. */
export function syncDirectory(directory: string): void {
  const fd = openSync(directory, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A new segment's header, with a nonce of its own. */
export function newSegmentHeader(
  number: number,
  sizeBytes: number,
  logId: Uint8Array,
  owner: Uint8Array,
): SegmentHeader {
  return { number, sizeBytes, logId, owner, nonce: new Uint8Array(randomBytes(NONCE_SIZE_BYTES)) };
}

/**
 * A segment in the making: `step` writes the next piece of zeros, until it says that the segment is there
 * under its name, durably. Written to a name of its own first, so that a segment is whole or not there.
 */
export class SegmentDraft {
  readonly header: SegmentHeader;
  readonly #directory: string;
  readonly #path: string;
  readonly #finalPath: string;
  #fd: number | undefined;
  #at = 0;

  constructor(directory: string, header: SegmentHeader) {
    this.header = header;
    this.#directory = directory;
    this.#finalPath = segmentPath(directory, header.number);
    this.#path = this.#finalPath + UNFINISHED_SUFFIX;
  }

  /** Where the next piece of zeros goes, or undefined when all are written. */
  next(): { fd: number; offset: number; sizeBytes: number } | undefined {
    if (this.#fd === undefined) {
      this.#fd = openSync(this.#path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
      writeSync(this.#fd, encodeSegmentHeader(this.header), 0, SECTOR_SIZE_BYTES, 0);
      this.#at = SECTOR_SIZE_BYTES;
    }
    const offset = this.#at;
    const sizeBytes = Math.min(PREPARE_STEP_BYTES, this.header.sizeBytes - offset);
    if (sizeBytes <= 0) return undefined;
    this.#at += sizeBytes;
    return { fd: this.#fd, offset, sizeBytes };
  }

  /** After the last piece was written and synced: gives the file its name. */
  finish(): SegmentFile {
    this.abandon();
    renameSync(this.#path, this.#finalPath);
    syncDirectory(this.#directory);
    return { number: this.header.number, path: this.#finalPath };
  }

  /** As `finish`, in the thread pool: the journal of a busy disk takes its time. */
  finishLater(done: (error: NodeJS.ErrnoException | null, file?: SegmentFile) => void): void {
    this.abandon();
    rename(this.#path, this.#finalPath, (renameError) => {
      if (renameError) return done(renameError);
      open(this.#directory, "r", (openError, fd) => {
        if (openError) return done(openError);
        fsync(fd, (error) => {
          closeSync(fd);
          if (error) done(error);
          else done(null, { number: this.header.number, path: this.#finalPath });
        });
      });
    });
  }

  /** Closes the file without giving it its name; the next start removes it. */
  abandon(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Also removes the file, to free its space. */
  remove(): void {
    this.abandon();
    rmSync(this.#path, { force: true });
  }
}

/** Makes a segment at once (when a log is opened that has none). */
export function createSegment(directory: string, header: SegmentHeader): SegmentFile {
  const draft = new SegmentDraft(directory, header);
  let fd = -1;
  for (let piece = draft.next(); piece; piece = draft.next()) {
    fd = piece.fd;
    writeZeros(fd, piece.offset, piece.offset + piece.sizeBytes);
  }
  fsyncSync(fd);
  return draft.finish();
}

/** Zeros to write from. */
export const ZEROS = Buffer.alloc(PREPARE_STEP_BYTES);

function writeZeros(fd: number, from: number, to: number): void {
  for (let at = from; at < to; ) at += writeSync(fd, ZEROS, 0, Math.min(ZEROS.length, to - at), at);
}
