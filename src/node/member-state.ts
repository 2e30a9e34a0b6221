/**
 * Opens the executed state of a member. A state that is damaged, or that the disk failed to take, is set aside:
 * the member starts with an empty one and its whole log, so with all that it has promised, and takes the state
 * from the others as if its log were too old.
 */
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LmdbEngine } from "../storage/lmdb-engine.ts";
import { syncDirectory } from "../storage/log-segment.ts";
import { EngineCorruptError } from "../store/engine.ts";
import { checkStaged, installStaged } from "../store/staging.ts";
import { errorCode } from "./folder.ts";
import type { Logger } from "./logger.ts";

const STATE_FOLDER = "state";
/** Where the last state that was damaged stays for whoever wants to look at it. */
const DAMAGED_FOLDER = "state-damaged";
/** While this file is there, what the state's file shows may not be on the disk. */
const SUSPECT_FILE = "state-suspect";
/** The disk was full: nothing that was there before is lost by that. */
const HARMLESS_CODES: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);

export interface StateOptions {
  readonly dataDir: string;
  /** The state could not be written, or is damaged: the process must stop. */
  readonly onError: (error: unknown) => void;
  readonly logger: Logger;
}

/** An open state, and what was made on it. */
export interface OpenedState<T> {
  readonly engine: LmdbEngine;
  readonly made: T;
}

/**
 * Opens the state, finishes an installation that a stop interrupted, and makes `make` on it, which reads all of it.
 * When damage is found, does so again with an empty state. Rejects with what else goes wrong.
 */
export async function openState<T>(
  options: StateOptions,
  make: (engine: LmdbEngine) => T,
): Promise<OpenedState<T>> {
  const { dataDir, logger } = options;
  if (existsSync(join(dataDir, SUSPECT_FILE))) {
    setAside(dataDir);
    logger.warn("the disk failed to take the state: it is set aside, and taken from the others", {
      setAside: join(dataDir, DAMAGED_FOLDER),
    });
  }
  try {
    return await openOnce(options, make);
  } catch (error) {
    if (!(error instanceof EngineCorruptError)) throw error;
    setAside(dataDir);
    logger.error("the state is damaged: it is set aside, and taken from the others", {
      error: error.message,
      setAside: join(dataDir, DAMAGED_FOLDER),
    });
  }
  return openOnce(options, make);
}

async function openOnce<T>(
  { dataDir, onError }: StateOptions,
  make: (engine: LmdbEngine) => T,
): Promise<OpenedState<T>> {
  const path = join(dataDir, STATE_FOLDER);
  let failure: unknown;
  const engine = new LmdbEngine({
    path,
    onError: (error) => {
      failure = error;
      if (makesSuspect(error)) markSuspect(dataDir);
      onError(error);
    },
  });
  try {
    for (const _ of installStaged(engine)) await engine.flushed();
    checkStaged(engine);
    const made = make(engine);
    // A kept checkpoint that is damaged is as if there were none, for the store; but the engine has failed.
    if (failure !== undefined) throw failure;
    return { engine, made };
  } catch (error) {
    await engine.close();
    throw error;
  }
}

/**
 * Whether a failure leaves it open what is on the disk: after a failed sync the system shows, also to the next
 * process, pages that never came there, and the next sync says that all is well.
 */
export function makesSuspect(error: unknown): boolean {
  // The next start finds by itself what is damaged, if it still is.
  if (error instanceof EngineCorruptError) return false;
  return !HARMLESS_CODES.has(errorCode(error));
}

/** Has the next start set the state aside. */
export function markSuspect(dataDir: string): void {
  const why = "The disk failed to take the state: the next start drops it.\n";
  writeFileSync(join(dataDir, SUSPECT_FILE), why, { mode: 0o600, flush: true });
  syncDirectory(dataDir);
}

/** The state, of which only one is kept like this, makes room for an empty one, durably. */
function setAside(dataDir: string): void {
  const state = join(dataDir, STATE_FOLDER);
  const damaged = join(dataDir, DAMAGED_FOLDER);
  if (existsSync(state)) {
    rmSync(damaged, { recursive: true, force: true });
    renameSync(state, damaged);
    syncDirectory(dataDir);
  }
  rmSync(join(dataDir, SUSPECT_FILE), { force: true });
  syncDirectory(dataDir);
}
