/**
 * `kmmr demo`: a whole cluster on this machine, each master a process of its own, and the commands that kill
 * and start single masters of it from another terminal.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Command, Option } from "commander";
import { MIN_MEMBERS } from "../consensus/membership.ts";
import { FolderError, makeFolder } from "../node/folder.ts";
import { LockedError, lockFolder, type ProcessLock } from "../node/process-lock.ts";
import { askDemo, type ControlRequest } from "./demo-control.ts";
import { type DemoLayout, prepareDemo } from "./demo-layout.ts";
import { defaultDemoFolder, EPHEMERAL_PREFIX, findRunningDemo } from "./demo-state.ts";
import { DemoSupervisor } from "./demo-supervisor.ts";
import { demoBanner } from "./demo-table.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { integerOption, type OutputFormat, outputOption, withExamples } from "./output-option.ts";
import { onNpmEnded } from "./parent-watch.ts";

/** More masters than this do not fit one machine in a useful way. */
const DEMO_MASTERS_MAX = 10;

interface DemoOptions {
  readonly masters?: number;
  readonly dataDir?: string;
  readonly ephemeral?: boolean;
  readonly clientTls: "on" | "off";
  readonly clientPortBase?: number;
  readonly peerPortBase?: number;
  readonly readMode: "fenced" | "ordered";
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly output: OutputFormat;
}

interface LockedFolder {
  readonly folder: string;
  readonly lock: ProcessLock;
}

function makeDemoFolder(folder: string): void {
  try {
    makeFolder(folder);
  } catch (error) {
    if (!(error instanceof FolderError)) throw error;
    throw new CommandError(`${error.message}; name another folder with --data-dir`, ExitCode.usage);
  }
}

/** The folder of the demo, made and locked: two demos on one folder would be one cluster twice. */
async function takeFolder(options: DemoOptions): Promise<LockedFolder> {
  const ephemeral = options.ephemeral === true;
  let folder: string;
  if (options.dataDir === undefined && ephemeral) {
    folder = mkdtempSync(join(tmpdir(), EPHEMERAL_PREFIX));
  } else {
    folder = resolve(options.dataDir ?? defaultDemoFolder());
    makeDemoFolder(folder);
    if (ephemeral && readdirSync(folder).length > 0) {
      throw new CommandError(
        `${folder} is not empty, and --ephemeral would remove it: name another`,
        ExitCode.usage,
      );
    }
  }
  try {
    return { folder, lock: await lockFolder(folder, "a demo") };
  } catch (error) {
    if (!(error instanceof LockedError)) throw error;
    throw new CommandError(`${error.message}; end it first, or name another folder with --data-dir`);
  }
}

const INPUT_CLOSED = "standard input is closed";

/** Resolves with why the demo is to end. */
function endOfDemo(options: DemoOptions): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
    onNpmEnded(() => resolve("npm ended"));
    if (options.output === "json") {
      // A program started this demo: when it goes away, in whatever way, its end of the pipe closes.
      process.stdin.on("end", () => resolve(INPUT_CLOSED));
      process.stdin.on("error", () => resolve(INPUT_CLOSED));
      process.stdin.resume();
    }
  });
}

/** Who read the first lines may be gone (`| head`), and the demo goes on: what is said then is dropped. */
function ignoreClosedOutput(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
}

function announcer(options: DemoOptions): (text: string) => void {
  const stream = options.output === "json" ? process.stderr : process.stdout;
  return (text) => stream.write(`${new Date().toTimeString().slice(0, 8)}  ${text}\n`);
}

/** How this command was called, for texts that people paste. */
function ownCommand(): string {
  return process.env.npm_lifecycle_event === undefined && process.env.npm_command === undefined
    ? "kmmr"
    : "npx kmmr";
}

function printReady(
  options: DemoOptions,
  layout: DemoLayout,
  supervisor: DemoSupervisor,
  startupMs: number,
): void {
  const { masters, cacert, cert, key } = layout;
  if (options.output === "json") {
    const line = {
      endpoints: masters.map((master) => master.clientUrl),
      cacert,
      cert,
      key,
      masters: masters.map(({ name, clientUrl, peerUrl, dataDir }) => ({
        name,
        pid: supervisor.pid(name),
        clientUrl,
        peerUrl,
        dataDir,
      })),
    };
    process.stdout.write(`${JSON.stringify(line)}\n`);
    return;
  }
  const leader = supervisor.leader();
  const shown = masters.map((master) => ({
    ...master,
    role: master.name === leader ? "leader" : "follower",
  }));
  process.stdout.write(
    demoBanner({ ...layout, masters: shown, ephemeral: options.ephemeral === true, startupMs }),
  );
}

async function runDemo(options: DemoOptions): Promise<void> {
  const startedMs = performance.now();
  ignoreClosedOutput();
  const ended = endOfDemo(options);
  const { folder, lock } = await takeFolder(options);
  const ephemeral = options.ephemeral === true;
  let supervisor: DemoSupervisor | undefined;
  let failure: unknown;
  try {
    const layout = await prepareDemo({ ...options, folder, command: ownCommand() });
    if (options.output === "table") process.stdout.write(`Starting ${layout.masters.length} masters ...\n`);
    supervisor = new DemoSupervisor({ layout, ephemeral, announce: announcer(options) });
    const starting = supervisor.start();
    // Told to end while it starts: `stop` makes `starting` fail, which is then of no interest.
    starting.catch(() => {});
    const early = await Promise.race([starting, ended]);
    if (early === undefined) {
      printReady(options, layout, supervisor, performance.now() - startedMs);
      await ended;
    } else if (early === INPUT_CLOSED) {
      process.stderr.write(`kmmr: ${INPUT_CLOSED}: nothing to run for (--output json ends with it)\n`);
    }
    if (options.output === "table") process.stdout.write("\nEnding all masters ...\n");
  } catch (error) {
    failure = error;
  }
  await supervisor?.stop();
  if (ephemeral) rmSync(folder, { recursive: true, force: true });
  await lock.release();
  if (failure !== undefined) throw failure;
  process.exit(ExitCode.ok);
}

interface ControlOptions {
  readonly dataDir?: string;
  readonly output: OutputFormat;
}

async function control(request: ControlRequest, options: ControlOptions): Promise<void> {
  const folder = options.dataDir === undefined ? undefined : resolve(options.dataDir);
  const running = findRunningDemo(folder);
  if (running === undefined) {
    const where = folder === undefined ? "" : ` on ${folder}`;
    throw new CommandError(`no demo is running${where}: start one with "kmmr demo", or name its --data-dir`);
  }
  const answer = await askDemo(running.controlSocket, request);
  if (options.output === "json") console.log(JSON.stringify({ master: request.master, ...answer }));
  else if (answer.ok) console.log(answer.text);
  if (!answer.ok) throw new CommandError(answer.text);
}

function controlCommand(name: ControlRequest["command"], description: string, example: string): Command {
  const command = new Command(name)
    .description(description)
    .argument("<master>", "name of the master, as the demo's table shows it")
    .option("--data-dir <folder>", "folder of the running demo (default: the one that runs)")
    .addOption(outputOption())
    .action((master: string, options: ControlOptions) => control({ command: name, master }, options));
  return withExamples(command, [example], ["0  done", "1  not possible: the text says why", "2  wrong use"]);
}

/** The `demo` command and its own commands. */
export function demoCommand(): Command {
  const port = integerOption(1, 65_000);
  const command = new Command("demo")
    .description(
      "run a whole cluster on this machine: several masters, mutual TLS between them, data on disk",
    )
    .enablePositionalOptions()
    .option(
      "-n, --masters <n>",
      `number of masters, ${MIN_MEMBERS} to ${DEMO_MASTERS_MAX} (default: ${MIN_MEMBERS}, or as before)`,
      integerOption(MIN_MEMBERS, DEMO_MASTERS_MAX),
    )
    .option("--data-dir <folder>", `where all its files lie (default: ${defaultDemoFolder()})`)
    .option("--ephemeral", "keep nothing: remove all files at the end")
    .addOption(
      new Option("--client-tls <on|off>", "TLS with certificates between clients and masters")
        .choices(["on", "off"])
        .default("on"),
    )
    .option(
      "--client-port-base <port>",
      "client port of the first master, the others follow (default: free ones)",
      port,
    )
    .option(
      "--peer-port-base <port>",
      "peer port of the first master, the others follow (default: free ones)",
      port,
    )
    .addOption(
      new Option("--read-mode <mode>", "how linearizable reads are served")
        .choices(["fenced", "ordered"])
        .default("fenced"),
    )
    .addOption(
      new Option("--log-level <level>", "what the masters log")
        .choices(["debug", "info", "warn", "error"])
        .default("info"),
    )
    .addOption(outputOption())
    .action(runDemo);
  command.addCommand(controlCommand("kill", "kill -9 one master of the running demo", "kmmr demo kill m1"));
  command.addCommand(controlCommand("start", "start a killed master again", "kmmr demo start m1"));
  return withExamples(
    command,
    [
      "kmmr demo                                  # four masters, data kept for the next time",
      "kmmr demo --masters 7                      # two of seven may fail or lie",
      "kmmr demo --ephemeral --output json        # for programs: one line of JSON, ends with its standard input",
      "kmmr demo kill m1                          # from another terminal",
    ],
    ["0  ended as told", "1  could not start: the text says why", "2  wrong use"],
  );
}
