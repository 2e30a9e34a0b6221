/**
 * `kmmr node`: runs one master of the cluster until it is told to end.
 */
import { rmSync } from "node:fs";
import { resolve } from "node:path";
import { Command, Option } from "commander";
import { ConfigError, configKeys, loadConfig } from "../node/config.ts";
import { createLogger, type Logger } from "../node/logger.ts";
import type { Member } from "../node/member.ts";
import { compileSooner } from "../node/tiering.ts";
import { LogDamagedError } from "../storage/log-errors.ts";
import type { MasterReport } from "./demo-process.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { type OutputFormat, outputOption, withExamples } from "./output-option.ts";
import { onNpmEnded } from "./parent-watch.ts";

/** A member that does not end by itself within this time is ended. */
const STOP_TIMEOUT_MS = 5_000;
const REPORT_INTERVAL_MS = 100;

interface NodeOptions {
  readonly config: string;
  readonly check?: boolean;
  readonly output: OutputFormat;
  /** Started by the supervisor of a demo, which is told of changes and without which nothing goes on. */
  readonly supervised?: boolean;
  readonly removeWhenOrphaned?: string;
}

/** Runs a part of the start; what an operator can correct gets its own text and exit code. */
async function starting<T>(part: () => Promise<T>): Promise<T> {
  try {
    return await part();
  } catch (error) {
    if (error instanceof ConfigError) throw new CommandError(error.message, ExitCode.usage);
    if (error instanceof LogDamagedError) throw new CommandError(error.message, ExitCode.severe);
    throw error;
  }
}

/** Ends the process once the member has stopped, or has had its time to. */
function endWith(member: Member, logger: Logger, exitCode: ExitCode, afterwards: () => void): void {
  const end = () => {
    afterwards();
    process.exit(exitCode);
  };
  setTimeout(() => {
    logger.warn("stopping takes too long", { timeoutMs: STOP_TIMEOUT_MS });
    end();
  }, STOP_TIMEOUT_MS);
  member.stop().then(end, (error: unknown) => {
    logger.error("stopping failed", { error: String(error) });
    end();
  });
}

/** Reports to the supervisor whatever changed since the last report. */
function reportChanges(member: Member): void {
  let last = "";
  const send = () => {
    const report: MasterReport = member.report();
    const text = JSON.stringify(report);
    if (text === last || !process.connected) return;
    last = text;
    process.send?.(report);
  };
  setInterval(send, REPORT_INTERVAL_MS).unref();
  send();
}

/** Checks the config and the files it names, without starting anything. */
async function checkConfig(options: NodeOptions): Promise<void> {
  const { checkFiles } = await import("../node/member-files.ts");
  const config = await starting(async () => loadConfig(options.config));
  await starting(async () => checkFiles(config));
  console.log(options.output === "json" ? JSON.stringify(config) : `${options.config}: no problem found`);
}

async function runNode(options: NodeOptions): Promise<void> {
  if (options.check === true) return checkConfig(options);
  compileSooner();
  const config = await starting(async () => loadConfig(options.config));
  const logger = createLogger(config.log.level);
  let member: Member | undefined;
  let ending = false;
  const end = (exitCode: ExitCode, why: string, afterwards = () => {}) => {
    if (ending) return;
    ending = true;
    logger.info("stopping", { why });
    if (member === undefined) {
      afterwards();
      process.exit(exitCode);
    }
    endWith(member, logger, exitCode, afterwards);
  };
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => {
      logger.error("this process cannot go on", {
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
      process.exit(ExitCode.failure);
    });
  }
  process.on("SIGTERM", () => end(ExitCode.ok, "SIGTERM"));
  process.on("SIGINT", () => end(ExitCode.ok, "SIGINT"));
  if (options.supervised !== true) onNpmEnded(() => end(ExitCode.ok, "npm ended"));
  if (options.supervised === true) {
    const folder = options.removeWhenOrphaned;
    const endOrphaned = () =>
      end(ExitCode.ok, "the demo has ended", () => {
        if (folder !== undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      });
    process.on("disconnect", endOrphaned);
    if (!process.connected) return endOrphaned();
  }
  // Loaded here only: the other commands do without all that a master is made of.
  const { Member } = await import("../node/member.ts");
  const opened = await starting(() => Member.open(config, resolve(options.config), logger));
  member = opened;
  opened.onFatal((error) => {
    logger.error("this master cannot go on", { error: error instanceof Error ? error.stack : String(error) });
    process.exit(ExitCode.failure);
  });
  await starting(() => opened.start());
  if (options.supervised === true) reportChanges(opened);
  else if (options.output === "json") console.log(JSON.stringify(opened.addresses()));
}

/** All keys, those of one object on one line. */
function keyLines(): string {
  const groups = Map.groupBy(configKeys(), (key) => (key.includes(".") ? key.split(".")[0] : ""));
  return [...groups.values()].map((keys) => `  ${keys.join(", ")}`).join("\n");
}

/** The `node` command. */
export function nodeCommand(): Command {
  const command = new Command("node")
    .description("run one master of a cluster, as its config file says, until SIGTERM or SIGINT")
    .requiredOption("-c, --config <file>", "config file of this master (kmmr init writes it)")
    .option("--check", "only check the config file and the files it names")
    .addOption(outputOption())
    .addOption(new Option("--supervised").hideHelp())
    .addOption(new Option("--remove-when-orphaned <folder>").hideHelp())
    .action(runNode)
    .addHelpText(
      "after",
      () => `\nKeys of the config file (docs/configuration.md explains them):\n${keyLines()}`,
    );
  return withExamples(
    command,
    [
      "kmmr node --config /etc/kmmr/kmmr.yaml",
      "kmmr node --config /etc/kmmr/kmmr.yaml --check",
      "kmmr node --config /etc/kmmr/kmmr.yaml --output json   # the addresses in use, as one line",
    ],
    [
      "0  ended as told",
      "1  failed",
      "2  the config has problems: one line each on standard error",
      "3  the log is damaged where nothing may be lost: the text says what to do",
    ],
  );
}
