/**
 * The incarnation of this process: a number that grows with every start, so that the others can tell what an
 * earlier life of this master sent from what this one sends.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import { syncDirectory } from "../storage/log-segment.ts";

const FILE_NAME = "incarnation";

/** There is no incarnation with which this process could go on. */
export class IncarnationError extends Error {
  override name = "IncarnationError";
}

/**
 * Takes the next incarnation and makes it durable before returning it. It is at least the time of day in
 * milliseconds, so that it grows even where the data directory was lost; see `outlived` for where that is not enough.
 */
export function nextIncarnation(dataDir: string, wallMs: number): number {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const next = Math.max(storedIncarnation(dataDir) + 1, wallMs);
  storeIncarnation(dataDir, next);
  return next;
}

/**
 * An earlier life had a higher incarnation than this one: its clock was ahead, and the data directory was lost.
 * Makes the next start begin above it, and gives the reason why there must be one.
 */
export function outlived(dataDir: string, incarnation: number): IncarnationError {
  storeIncarnation(dataDir, incarnation);
  return new IncarnationError(
    `an earlier life of this master had incarnation ${incarnation}, above its own, so that nobody would take ` +
      "its writes (a clock that was ahead, and a lost data directory?): the next start goes on above it",
  );
}

function storeIncarnation(dataDir: string, incarnation: number): void {
  const fileName = join(dataDir, FILE_NAME);
  const temporary = `${fileName}.new`;
  const file = openSync(temporary, "w", 0o600);
  try {
    writeSync(file, `${incarnation}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, fileName);
  syncDirectory(dataDir);
}

function storedIncarnation(dataDir: string): number {
  let text: string;
  try {
    text = readFileSync(join(dataDir, FILE_NAME), "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return 0;
    throw error;
  }
  const stored = Number(text.trim());
  if (/^\d+\n$/.test(text) && Number.isSafeInteger(stored)) return stored;
  throw new IncarnationError(
    `${join(dataDir, FILE_NAME)} is damaged; write into it one number above all before, ` +
      "for example the output of: date +%s000",
  );
}
