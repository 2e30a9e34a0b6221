/**
 * The `kmmr` command line.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { demoCommand } from "./demo.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { initCommand } from "./init.ts";
import { getCommand, putCommand } from "./kv.ts";
import { nodeCommand } from "./node.ts";
import { outputOption, withExamples } from "./output-option.ts";
import { statusCommand } from "./status.ts";

/** Version of this package. */
export function packageVersion(): string {
  const manifest = readFileSync(join(import.meta.dirname, "..", "..", "package.json"), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

function versionCommand(): Command {
  const command = new Command("version")
    .description("print the version")
    .addOption(outputOption())
    .action((options: { readonly output: string }) => {
      const version = packageVersion();
      console.log(options.output === "json" ? JSON.stringify({ version, node: process.version }) : version);
    });
  return withExamples(command, ["kmmr version", "kmmr version --output json"]);
}

/** The program with all its commands. */
export function createProgram(): Command {
  const program = new Command("kmmr")
    .description("Byzantine-fault-tolerant, etcd-v3-compatible store for Kubernetes control planes")
    .version(packageVersion())
    .enablePositionalOptions();
  program.addCommand(demoCommand());
  program.addCommand(initCommand());
  program.addCommand(nodeCommand());
  program.addCommand(statusCommand());
  program.addCommand(putCommand());
  program.addCommand(getCommand());
  program.addCommand(versionCommand());
  return withExamples(program, [
    "kmmr demo                                    # four masters on this machine",
    "kmmr init --masters cp1,cp2,cp3,cp4 --out cluster",
    "kmmr node --config cluster/cp1/kmmr.yaml",
    "kmmr status",
  ]);
}

/** Makes wrong use end with its own exit code in every command. */
function withExitOverride(command: Command, path = command.name()): Command {
  command.exitOverride().showHelpAfterError(`(${path} --help shows what is possible)`);
  for (const child of command.commands) withExitOverride(child, `${path} ${child.name()}`);
  return command;
}

/** Runs the command line and sets the exit code of the process. */
export async function run(argv: readonly string[]): Promise<void> {
  endWithWrapper();
  try {
    await withExitOverride(createProgram()).parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    } else {
      process.exitCode = error instanceof CommandError ? error.exitCode : ExitCode.failure;
      const text = error instanceof Error ? error.message : String(error);
      // Indented lines belong to the one before.
      for (const line of text.split("\n"))
        process.stderr.write(`${/^\s/.test(line) ? "" : "kmmr: "}${line}\n`);
    }
    // A member or a demo that failed half-way may have left timers or sockets.
    process.exit();
  }
}

/** When an older Node started this process (bin/kmmr.js) and is killed, this one ends like at SIGTERM. */
function endWithWrapper(): void {
  if (process.env.KMMR_WRAPPED !== "1" || process.channel === undefined) return;
  delete process.env.KMMR_WRAPPED;
  process.on("disconnect", () => process.kill(process.pid, "SIGTERM"));
  process.channel.unref();
}
