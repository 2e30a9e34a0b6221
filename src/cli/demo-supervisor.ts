/**
 * Runs the masters of a demo: starts them as processes, tells when all serve, kills and starts single ones on
 * command, and ends all.
 */
import { rmSync } from "node:fs";
import { type ControlAnswer, type ControlRequest, ControlServer } from "./demo-control.ts";
import type { DemoLayout } from "./demo-layout.ts";
import { DemoProcess, type MasterReport } from "./demo-process.ts";
import { runningFileName, writeRunning } from "./demo-state.ts";
import { CommandError } from "./exit-code.ts";

/** Longer than any start takes; a demo that does not serve by then will not. */
const START_TIMEOUT_MS = 120_000;
const LOG_LINES_SHOWN = 5;

export interface SupervisorOptions {
  readonly layout: DemoLayout;
  readonly ephemeral: boolean;
  /** Told, in one line each, of what happens while the demo runs. */
  readonly announce: (text: string) => void;
}

interface Master {
  readonly process: DemoProcess;
  /** Whether it is meant to run: false after `demo kill`. */
  wanted: boolean;
  wasRunning: boolean;
}

/** The supervisor of one demo. */
export class DemoSupervisor {
  readonly #layout: DemoLayout;
  readonly #announce: (text: string) => void;
  readonly #ephemeral: boolean;
  readonly #masters: readonly Master[];
  #control: ControlServer | undefined;
  #allServed = false;
  #stopping = false;
  #leader: string | null = null;
  readonly #waiters = new Set<() => void>();

  constructor(options: SupervisorOptions) {
    this.#layout = options.layout;
    this.#announce = options.announce;
    this.#ephemeral = options.ephemeral;
    this.#masters = options.layout.masters.map((master) => ({
      process: new DemoProcess({
        name: master.name,
        configFile: master.configFile,
        logFile: master.logFile,
        removeWhenOrphaned: options.ephemeral ? options.layout.folder : undefined,
        onChange: () => this.#onChange(),
      }),
      wanted: true,
      wasRunning: false,
    }));
  }

  /** Starts all masters and returns once each of them serves and knows the leader. */
  async start(): Promise<void> {
    this.#control = await ControlServer.listen(this.#layout.folder, (request) => this.#handle(request));
    for (const master of this.#masters) this.#startMaster(master);
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    while (!this.#masters.every((master) => isServing(master.process.report))) {
      if (this.#stopping) throw new CommandError("stopped before all masters served");
      const ended = this.#masters.find((master) => !master.process.running);
      if (ended !== undefined) throw this.#startFailure(ended.process, `ended (${ended.process.ending})`);
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) {
        const late = this.#masters.find((master) => !isServing(master.process.report))!;
        throw this.#startFailure(late.process, `does not serve after ${START_TIMEOUT_MS / 1000} s`);
      }
      await this.#nextChange(leftMs);
    }
    this.#allServed = true;
    this.#leader = this.leader();
    this.#writeRunning(this.#control.path);
  }

  #startFailure(process: DemoProcess, what: string): CommandError {
    const lines = process.lastLogLines(LOG_LINES_SHOWN).map((line) => `  ${line}`);
    return new CommandError([`master ${process.name} ${what}; the end of its log:`, ...lines].join("\n"));
  }

  #nextChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waiters.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      this.#waiters.add(wake);
    });
  }

  #wakeAll(): void {
    for (const wake of [...this.#waiters]) wake();
  }

  #writeRunning(controlSocket: string): void {
    const { folder, masters, cacert, cert, key } = this.#layout;
    const endpoints = masters.map((master) => master.clientUrl);
    writeRunning(folder, { pid: process.pid, controlSocket, endpoints, cacert, cert, key });
  }

  #startMaster(master: Master): void {
    master.wanted = true;
    master.process.start();
    master.wasRunning = true;
  }

  /** The leader that most masters name, null when none does. */
  leader(): string | null {
    const votes = new Map<string, number>();
    for (const { process } of this.#masters) {
      const name = process.report.leader;
      if (name !== null) votes.set(name, (votes.get(name) ?? 0) + 1);
    }
    const [first] = [...votes].sort((a, b) => b[1] - a[1]);
    return first !== undefined && 2 * first[1] > this.#masters.length ? first[0] : null;
  }

  pid(name: string): number | null {
    return this.#masters.find((master) => master.process.name === name)?.process.pid ?? null;
  }

  #onChange(): void {
    this.#wakeAll();
    if (!this.#allServed || this.#stopping) return;
    for (const master of this.#masters) {
      if (master.process.running || !master.wasRunning) continue;
      master.wasRunning = false;
      const { name, ending } = master.process;
      const how = master.wanted ? `ended (${ending})` : "was killed";
      this.#announce(`${name} ${how}; ${this.#command(`demo start ${name}`)} brings it back`);
      master.wanted = false;
    }
    const leader = this.leader();
    if (leader !== null && leader !== this.#leader) {
      this.#leader = leader;
      const regency = Math.max(...this.#masters.map((master) => master.process.report.regency));
      this.#announce(`${leader} leads now (regency ${regency})`);
    }
  }

  #command(args: string): string {
    return `${this.#layout.command} ${args}${this.#layout.commandTarget}`;
  }

  async #handle(request: ControlRequest): Promise<ControlAnswer> {
    const master = this.#masters.find((candidate) => candidate.process.name === request.master);
    if (master === undefined) {
      const names = this.#masters.map((candidate) => candidate.process.name).join(", ");
      return {
        ok: false,
        text: `there is no master "${request.master}"; the masters are ${names}`,
        pid: null,
      };
    }
    if (this.#stopping) return { ok: false, text: "the demo is ending", pid: null };
    return request.command === "kill" ? this.#kill(master) : this.#revive(master);
  }

  async #kill(master: Master): Promise<ControlAnswer> {
    const { process } = master;
    const pid = process.pid;
    if (pid === null) return { ok: false, text: `${process.name} does not run`, pid };
    master.wanted = false;
    await process.kill();
    return { ok: true, text: `${process.name} killed (kill -9 of process ${pid})`, pid: null };
  }

  async #revive(master: Master): Promise<ControlAnswer> {
    const { process } = master;
    if (process.running) return { ok: false, text: `${process.name} runs already`, pid: process.pid };
    const startedMs = performance.now();
    this.#startMaster(master);
    while (process.running && !isServing(process.report)) {
      const leftMs = startedMs + START_TIMEOUT_MS - performance.now();
      // With too many others gone it cannot serve yet; it is up nevertheless.
      if (leftMs <= 0 || this.#runningCount() < this.#layout.quorum) break;
      await this.#nextChange(Math.min(leftMs, 250));
    }
    const { pid, ending } = process;
    if (pid === null) {
      const reason = process.lastLogLines(1).map((line) => `\n  ${line}`);
      return { ok: false, text: `${process.name} ended again (${ending})${reason.join("")}`, pid };
    }
    const serves = isServing(process.report);
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    const text = serves ? `serves after ${seconds} s` : "runs, and serves once enough others do";
    return { ok: true, text: `${process.name} ${text} (process ${pid})`, pid };
  }

  #runningCount(): number {
    return this.#masters.filter((master) => master.process.running).length;
  }

  /** Ends all masters and removes what a running demo leaves; of an ephemeral one, everything. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wakeAll();
    await Promise.all(this.#masters.map((master) => master.process.stop()));
    this.#control?.close();
    rmSync(runningFileName(this.#layout.folder), { force: true });
    if (this.#ephemeral) rmSync(this.#layout.folder, { recursive: true, force: true });
  }
}

function isServing(report: MasterReport): boolean {
  return report.serving && report.leader !== null;
}
