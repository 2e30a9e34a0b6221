/**
 * Files beside the segments that say what an empty or cut log means. They go, durably, when the first record
 * after them has become durable, and before anybody is told so.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeDirectory, syncDirectory } from "./log-segment.ts";

const FRESH = "fresh";
const UNCERTAIN = "uncertain";

/** Marks a directory (made when missing) as that of a new member of a new cluster, durably. */
export function markFresh(directory: string): void {
  makeDirectory(directory);
  write(directory, FRESH, "A new member of a new cluster: there is no log here yet, and none is missing.\n");
}

/** The marks in one directory. */
export class LogMarks {
  readonly #directory: string;
  #present: boolean;

  constructor(directory: string) {
    this.#directory = directory;
    this.#present = this.isFresh || this.isUncertain;
  }

  get isFresh(): boolean {
    return existsSync(join(this.#directory, FRESH));
  }

  get isUncertain(): boolean {
    return existsSync(join(this.#directory, UNCERTAIN));
  }

  /** Remembers, beyond a crash, that the end of the log was cut and may have been promised. */
  setUncertain(): void {
    write(this.#directory, UNCERTAIN, "The last records of this log were damaged and have been cut.\n");
    this.#present = true;
  }

  /** Removes all marks; costs nothing when there are none. Throws the file system's errors. */
  remove(): void {
    if (!this.#present) return;
    for (const mark of [FRESH, UNCERTAIN]) rmSync(join(this.#directory, mark), { force: true });
    syncDirectory(this.#directory);
    this.#present = false;
  }
}

function write(directory: string, name: string, text: string): void {
  writeFileSync(join(directory, name), text, { mode: 0o600, flush: true });
  syncDirectory(directory);
}
