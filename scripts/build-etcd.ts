/**
 * Builds etcd and etcdctl 3.6, and etcdctl 3.4 for compatibility runs, from their Go modules into .cache/etcd/.
 * Needs Go; what is there and newer than its module file is left alone. Takes about two minutes on two cores.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { etcdBinaries, etcdCacheFolder } from "../src/bench/etcd-binaries.ts";

export { etcdBinaries, etcdCacheFolder };

interface Program {
  readonly name: string;
  /** Folder of the Go module, with its go.mod. */
  readonly moduleFolder: string;
  /** The main package inside it. */
  readonly package: string;
}

const moduleFolder = fileURLToPath(new URL("./etcd-module/", import.meta.url));
const programs: readonly Program[] = [
  { name: "etcd", moduleFolder, package: "./etcd" },
  { name: "etcdctl", moduleFolder, package: "./etcdctl" },
  { name: "etcdctl-3.4", moduleFolder: join(moduleFolder, "version-3.4"), package: "." },
];

/** Builds what is missing. Returns the paths of all programs; throws an Error with the compiler's last lines. */
export async function buildEtcd(log: (line: string) => void): Promise<readonly string[]> {
  const missing = programs.filter((program) => !isCurrent(program));
  if (missing.length > 0 && spawnSync("go", ["version"], { stdio: "ignore" }).status !== 0)
    throw new Error(
      "Go is not installed (no `go` on PATH): install Go, or set ETCD_BIN and ETCDCTL_BIN to programs",
    );
  mkdirSync(etcdCacheFolder, { recursive: true });
  for (const program of programs) {
    if (!missing.includes(program)) log(`${program.name}: already there`);
    else await buildProgram(program, log);
  }
  return programs.map(pathOf);
}

function pathOf(program: Program): string {
  return join(etcdCacheFolder, program.name);
}

function isCurrent(program: Program): boolean {
  const built = statSync(pathOf(program), { throwIfNoEntry: false });
  const source = statSync(join(program.moduleFolder, "go.mod"));
  return built !== undefined && built.mtimeMs >= source.mtimeMs;
}

/** Builds beside the target and renames, so that a build that was broken off leaves no half program. */
async function buildProgram(program: Program, log: (line: string) => void): Promise<void> {
  const startedMs = Date.now();
  log(`${program.name}: building (the first time takes a minute or more) ...`);
  const unfinished = `${pathOf(program)}.unfinished`;
  const parameters = ["build", "-trimpath", "-ldflags=-s -w", "-o", unfinished, program.package];
  const child = spawn("go", parameters, {
    cwd: program.moduleFolder,
    env: { ...process.env, CGO_ENABLED: "0" },
    stdio: ["ignore", "inherit", "pipe"],
  });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-4000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Error(`go build of ${program.name} failed:\n${errors}`);
  renameSync(unfinished, pathOf(program));
  log(`${program.name}: built in ${((Date.now() - startedMs) / 1000).toFixed(0)} s`);
}

async function main(): Promise<number> {
  if (process.argv.slice(2).some((argument) => argument === "--help" || argument === "-h")) {
    console.log(
      "node scripts/build-etcd.ts\n\nBuilds etcd, etcdctl (3.6) and etcdctl-3.4 into .cache/etcd/. Needs Go.",
    );
    return 0;
  }
  try {
    for (const path of await buildEtcd((line) => console.error(line)))
      console.log(relative(process.cwd(), path));
    return 0;
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    return 1;
  }
}

if (import.meta.main) process.exitCode = await main();
