/**
 * What `npm test` runs: the type checks, the formatter and the linter (a few seconds together), then every
 * *.test.ts under src and scripts with Node's own test runner. With arguments (`npm test -- src/store`, files,
 * folders or options of `node --test`) it runs only those tests, and no checks.
 *
 * All parts run even if one fails; the exit code is 1 if any did.
 */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { delimiter, join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const TEST_FOLDERS = ["src", "scripts"];
/** A test that takes longer hangs. The whole run is meant to take less than five minutes. */
const TEST_TIMEOUT_MS = 120_000;

const CHECKS: readonly (readonly string[])[] = [
  ["tsc", "-p", "tsconfig.json", "--noEmit"],
  ["tsc", "-p", "tsconfig.pure.json", "--noEmit"],
  ["tsc", "-p", "scripts/tsconfig.json"],
  ["tsc", "-p", "conformance/tsconfig.json"],
  ["biome", "check", "."],
];

/** The test files that the arguments name: folders stand for all in them. */
function testFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const full = resolve(root, path);
    if (!existsSync(full)) throw new Error(`no such file or folder: ${path}`);
    if (statSync(full).isFile()) return [full];
    const inside = readdirSync(full, { recursive: true, encoding: "utf8" });
    const found = inside.filter((name) => name.endsWith(".test.ts") && !name.includes("node_modules"));
    return found.sort().map((name) => join(full, name));
  });
}

function run(command: string, commandArguments: readonly string[]): SpawnSyncReturns<Buffer> {
  const path = [join(root, "node_modules", ".bin"), process.env.PATH].join(delimiter);
  return spawnSync(command, commandArguments, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, PATH: path },
  });
}

const given = process.argv.slice(2);
const options = given.filter((argument) => argument.startsWith("-"));
const paths = given.filter((argument) => !argument.startsWith("-"));
const startMs = performance.now();
const failed: string[] = [];

if (given.length === 0) {
  for (const [command, ...rest] of CHECKS) {
    if (run(command!, rest).status !== 0) failed.push([command, ...rest].join(" "));
  }
}

const files = testFiles(paths.length > 0 ? paths : TEST_FOLDERS);
if (files.length === 0) throw new Error(`no *.test.ts under ${paths.join(", ")}`);
const concurrency = Math.max(2, availableParallelism());
const runner = ["--test", `--test-concurrency=${concurrency}`, `--test-timeout=${TEST_TIMEOUT_MS}`];
if (run(process.execPath, [...runner, ...options, ...files]).status !== 0) failed.push("tests");

const seconds = Math.round((performance.now() - startMs) / 1000);
console.log(
  failed.length === 0
    ? `all passed: ${files.length} test files in ${seconds} s`
    : `FAILED after ${seconds} s: ${failed.join("; ")}`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
