/**
 * One master of a demo as a process of its own: started, watched and ended by the supervisor.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { z } from "zod";

/** A master that does not end by itself within this time is killed. */
const STOP_TIMEOUT_MS = 3_000;

/** What a supervised master says of itself, at each change. */
export const masterReportSchema = z.object({
  serving: z.boolean(),
  /** Name of the leader, null while none is known. */
  leader: z.string().nullable(),
  regency: z.int(),
});
export type MasterReport = z.infer<typeof masterReportSchema>;

const SILENT: MasterReport = { serving: false, leader: null, regency: 0 };

export interface DemoProcessOptions {
  readonly name: string;
  readonly configFile: string;
  readonly logFile: string;
  /** Removed by the master itself when its supervisor is gone; undefined to keep everything. */
  readonly removeWhenOrphaned: string | undefined;
  /** Called at each report and at the end of the process. */
  readonly onChange: () => void;
}

/**
 * The young generation at its full size from the start, three times 16 MiB: what a request leaves behind mostly
 * dies before the collector looks at it, and each look stops the member for milliseconds. With 8 MiB that may
 * grow puts of one client take 7 % longer; with 32 MiB they win nothing, for 50 MiB more memory.
 */
const MEMBER_NODE_FLAGS: readonly string[] = ["--min-semi-space-size=16", "--max-semi-space-size=16"];

/** Starts a master's process and knows what became of it. */
export class DemoProcess {
  readonly name: string;
  readonly #options: DemoProcessOptions;
  #child: ChildProcess | undefined;
  #report: MasterReport = SILENT;
  #ended: Promise<void> = Promise.resolve();
  #ending = "";

  constructor(options: DemoProcessOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  get report(): MasterReport {
    return this.#report;
  }

  /** How the last process ended: `exit code 2`, `signal SIGKILL`. Empty before. */
  get ending(): string {
    return this.#ending;
  }

  start(): void {
    const log = openSync(this.#options.logFile, "a", 0o600);
    const main = join(import.meta.dirname, `main${extname(import.meta.filename)}`);
    const orphaned = this.#options.removeWhenOrphaned;
    const args = [...MEMBER_NODE_FLAGS, main, "node", "--config", this.#options.configFile, "--supervised"];
    if (orphaned !== undefined) args.push("--remove-when-orphaned", orphaned);
    try {
      // A process group of its own: Ctrl-C in the terminal is for the supervisor, which ends all in order.
      const child = spawn(process.execPath, args, { stdio: ["ignore", log, log, "ipc"], detached: true });
      this.#child = child;
      child.on("message", (message) => {
        const checked = masterReportSchema.safeParse(message);
        if (!checked.success || this.#child !== child) return;
        this.#report = checked.data;
        this.#options.onChange();
      });
      this.#ended = new Promise((resolve) => {
        const end = (ending: string) => {
          if (this.#child !== child) return;
          this.#child = undefined;
          this.#report = SILENT;
          this.#ending = ending;
          resolve();
          this.#options.onChange();
        };
        child.on("error", (error) => end(error.message));
        child.on("exit", (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`));
      });
    } finally {
      closeSync(log);
    }
  }

  /** Ends the process at once, as a power cut would. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#ended;
  }

  /** Asks the process to end and waits until it has. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  /** The last lines of its log, for people. */
  lastLogLines(count: number): string[] {
    try {
      return readFileSync(this.#options.logFile, "utf8").trimEnd().split("\n").slice(-count);
    } catch {
      return [];
    }
  }
}
