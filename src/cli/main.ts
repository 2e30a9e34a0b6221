/**
 * Start of the command: turns on the cache of compiled code before anything else is loaded.
 */
import { existsSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..", "..");
const cache = existsSync(join(root, "src"))
  ? join(root, ".cache", "compile")
  : join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "kmmr", "compile");
enableCompileCache(cache);

const { run } = await import("./program.ts");
await run(process.argv);
