/**
 * What all commands share: `--output table|json`, and help texts with examples and exit codes.
 */
import { type Command, InvalidArgumentError, Option } from "commander";

export type OutputFormat = "table" | "json";

/** The option that every command has. */
export function outputOption(): Option {
  return new Option("-o, --output <format>", "how to print").choices(["table", "json"]).default("table");
}

/** Adds examples and exit codes under the help of a command. */
export function withExamples(
  command: Command,
  examples: readonly string[],
  exitCodes: readonly string[] = ["0  done", "1  failed", "2  wrong use"],
): Command {
  const lines = (title: string, texts: readonly string[]) =>
    `\n${title}:\n${texts.map((text) => `  ${text}`).join("\n")}\n`;
  return command.addHelpText("after", lines("Examples", examples) + lines("Exit codes", exitCodes));
}

/** Reads a whole number between the bounds, for an option's value. */
export function integerOption(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`a whole number from ${minimum} to ${maximum} is needed`);
  };
}
