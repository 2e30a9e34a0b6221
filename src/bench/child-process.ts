/**
 * Processes and folders that end with the bench, however it ends: on a signal, on an error, at the end. Where the
 * system has `setpriv`, the kernel ends them even when the bench itself is killed with -9.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const children = new Set<ChildProcess>();
/** Processes that others started for us; the owner is asked to end them first. */
const foreignPids = new Set<number>();
const folders = new Set<string>();
let installed = false;
const folderPrefix = "kmmr-yardstick-";

/** Starts a program that does not outlive this process. */
export function spawnBound(
  program: string,
  parameters: readonly string[],
  options: { readonly stdio: StdioOptions; readonly env?: NodeJS.ProcessEnv; readonly cwd?: string },
): ChildProcess {
  installCleanup();
  const guard = guardProgram();
  const child =
    guard === undefined
      ? spawn(program, parameters, options)
      : spawn(guard, ["--pdeathsig", "KILL", program, ...parameters], options);
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** Registers processes to be killed at the end should they still be there. */
export function bindPids(pids: readonly number[]): void {
  installCleanup();
  for (const pid of pids) foreignPids.add(pid);
}

/** Forgets processes that were seen to end: their ids may be given to others. */
export function releasePids(pids: readonly number[]): void {
  for (const pid of pids) foreignPids.delete(pid);
}

/**
 * A folder for data and logs, removed at the end. It carries the process id, so that a later run can remove what one
 * left that was killed with -9.
 */
export function temporaryFolder(): string {
  installCleanup();
  for (const name of readdirSync(tmpdir())) {
    const owner = new RegExp(`^${folderPrefix}([0-9]+)-`).exec(name)?.[1];
    if (owner !== undefined && !isAlive(Number(owner)))
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  const folder = mkdtempSync(join(tmpdir(), `${folderPrefix}${process.pid}-`));
  folders.add(folder);
  return folder;
}

/** Asks for an end with SIGTERM and insists with SIGKILL. */
export async function stopChild(child: ChildProcess, patienceMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await ended;
  clearTimeout(timer);
}

/** Whether a process with this id exists and is no zombie's empty shell to us. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

let guardPath: string | null | undefined;

/** setpriv of util-linux, which replaces itself by the program and so keeps its process id. */
function guardProgram(): string | undefined {
  if (guardPath === undefined) {
    const paths = (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, "setpriv"));
    guardPath = process.platform === "linux" ? (paths.find(isExecutable) ?? null) : null;
  }
  return guardPath ?? undefined;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function installCleanup(): void {
  if (installed) return;
  installed = true;
  process.on("exit", cleanUp);
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)
    process.on(signal, () => process.exit(code));
}

/** Synchronous: nothing else runs while a process exits. */
function cleanUp(): void {
  for (const child of children) child.kill("SIGKILL");
  for (const pid of foreignPids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended already.
    }
  }
  for (const folder of folders)
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}
