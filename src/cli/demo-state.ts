/**
 * What a demo keeps on disk: `demo.json`, what it was made with, and `running.json`, how to reach it while it
 * runs. Other terminals find a running demo by the second.
 */
import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { CommandError, ExitCode } from "./exit-code.ts";

const DEMO_FILE = "demo.json";
const RUNNING_FILE = "running.json";
/** Folders of ephemeral demos start so, in the system's folder for temporary files. */
export const EPHEMERAL_PREFIX = "kmmr-demo-";

const demoSchema = z.object({
  /** Raised when the layout changes so that an older one cannot be used. */
  layout: z.literal(1),
  masters: z.array(z.object({ name: z.string(), clientPort: z.int(), peerPort: z.int() })),
});

/** What a demo was made with; ports are those of its last start. */
export type DemoFile = z.infer<typeof demoSchema>;

const runningSchema = z.object({
  pid: z.int(),
  /** Socket on which the supervisor takes commands. */
  controlSocket: z.string(),
  endpoints: z.array(z.string()),
  cacert: z.string().nullable(),
  cert: z.string().nullable(),
  key: z.string().nullable(),
});

/** A running demo. */
export type RunningDemo = z.infer<typeof runningSchema> & { readonly folder: string };

/** Where a demo lies when nothing else is said. */
export function defaultDemoFolder(): string {
  return join(process.env.XDG_DATA_HOME || join(homedir(), ".local", "share"), "kmmr", "demo");
}

function readJson<T>(fileName: string, schema: z.ZodType<T>): T | undefined {
  try {
    return schema.parse(JSON.parse(readFileSync(fileName, "utf8")));
  } catch {
    return undefined;
  }
}

function writeJson(fileName: string, content: unknown): void {
  // Readers in other terminals see the old file or the new one, never half of one.
  writeFileSync(`${fileName}.new`, `${JSON.stringify(content, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(`${fileName}.new`, fileName);
}

/** The demo in the folder, or undefined when none was made there. */
export function readDemo(folder: string): DemoFile | undefined {
  return readJson(join(folder, DEMO_FILE), demoSchema);
}

export function writeDemo(folder: string, demo: DemoFile): void {
  writeJson(join(folder, DEMO_FILE), demo);
}

export function runningFileName(folder: string): string {
  return join(folder, RUNNING_FILE);
}

export function writeRunning(folder: string, running: Omit<RunningDemo, "folder">): void {
  writeJson(runningFileName(folder), running);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** The demo that runs on the folder, or undefined. */
export function readRunning(folder: string): RunningDemo | undefined {
  const running = readJson(runningFileName(folder), runningSchema);
  return running !== undefined && isAlive(running.pid) ? { ...running, folder } : undefined;
}

/** Running demos that were started with --ephemeral. */
function runningEphemeralDemos(): RunningDemo[] {
  return readdirSync(tmpdir())
    .filter((name) => name.startsWith(EPHEMERAL_PREFIX))
    .map((name) => readRunning(join(tmpdir(), name)))
    .filter((running) => running !== undefined);
}

/** The running demo that a command in another terminal means; undefined when none runs. */
export function findRunningDemo(folder: string | undefined): RunningDemo | undefined {
  if (folder !== undefined) return readRunning(folder);
  const running = readRunning(defaultDemoFolder());
  if (running !== undefined) return running;
  const ephemeral = runningEphemeralDemos();
  if (ephemeral.length > 1) {
    const folders = ephemeral.map((demo) => `  --data-dir ${demo.folder}`).join("\n");
    throw new CommandError(`${ephemeral.length} demos are running; say which:\n${folders}`, ExitCode.usage);
  }
  return ephemeral[0];
}
