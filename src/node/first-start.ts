/**
 * The mark of a first start. A new member of a new cluster has no log; neither has one that lost its disk,
 * and that one must not vote as if it had promised nothing. So whoever makes a cluster puts a mark beside
 * each config file, and the first start uses it up.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { markFresh } from "../storage/log-marks.ts";
import { syncDirectory } from "../storage/log-segment.ts";
import { ConfigError } from "./config.ts";
import { fileProblem } from "./folder.ts";

const MARK_FILE = "first-start";

/** Puts the mark into the folder of a config file. */
export function writeFirstStartMark(folder: string): void {
  writeFileSync(
    join(folder, MARK_FILE),
    "This master of a new cluster has not been started yet. Its first start removes this file.\n" +
      "Never put it back: a master that lost its disk must not vote as if it had promised nothing.\n",
    { mode: 0o600 },
  );
}

/** Turns the mark beside the config file, where there is one, into that of the log; durable when it returns. */
export function useFirstStartMark(configFolder: string, logFolder: string): void {
  const mark = join(configFolder, MARK_FILE);
  if (!existsSync(mark)) return;
  markFresh(logFolder);
  try {
    rmSync(mark);
  } catch (error) {
    throw new ConfigError([
      `${mark}: cannot be removed (${fileProblem(error)}): remove it, then start again`,
    ]);
  }
  syncDirectory(dirname(mark));
}
