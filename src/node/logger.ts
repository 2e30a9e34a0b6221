/**
 * Logs: one JSON line each on standard error (level, ts, component, msg and fields), or short readable lines
 * where a person looks on through a terminal.
 */
import pino from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** What the process logs with; `fields` are values that JSON can hold. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger of a part of the process; `name` stands in `component`. */
  component(name: string): Logger;
}

export type LogFields = Readonly<Record<string, unknown>>;

/** Where lines go; `write` gets whole lines, each with its line end. */
export interface LogSink {
  write(line: string): void;
}

const COLOURS: Readonly<Record<string, string>> = {
  debug: "\x1b[2m",
  info: "",
  warn: "\x1b[33m",
  error: "\x1b[31m",
};

/** `12:30:59.123 warn  links: text key=value`, from one JSON line. */
export function readableLine(line: string, colour: boolean): string {
  const { level, ts, component, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const rest = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join("");
  const text = `${String(ts).slice(11, 23)} ${String(level).padEnd(5)} ${String(component)}: ${String(msg)}${rest}`;
  const code = colour ? COLOURS[String(level)] : "";
  return code ? `${code}${text}\x1b[0m\n` : `${text}\n`;
}

/** The sink of a process: JSON lines, or readable ones when standard error is a terminal. */
export function standardErrorSink(): LogSink {
  // Synchronous writes: the last lines before a crash are the ones that matter.
  const output = pino.destination({ fd: 2, sync: true });
  if (process.stderr.isTTY !== true) return output;
  const colour = process.env.NO_COLOR === undefined;
  return { write: (line) => output.write(readableLine(line, colour)) };
}

class PinoLogger implements Logger {
  readonly #root: pino.Logger;
  readonly #pino: pino.Logger;

  constructor(root: pino.Logger, component: string) {
    this.#root = root;
    this.#pino = root.child({ component });
  }

  debug(message: string, fields?: LogFields): void {
    this.#pino.debug(fields ?? {}, message);
  }

  info(message: string, fields?: LogFields): void {
    this.#pino.info(fields ?? {}, message);
  }

  warn(message: string, fields?: LogFields): void {
    this.#pino.warn(fields ?? {}, message);
  }

  error(message: string, fields?: LogFields): void {
    this.#pino.error(fields ?? {}, message);
  }

  component(name: string): Logger {
    return new PinoLogger(this.#root, name);
  }
}

/** The root logger of a process. */
export function createLogger(level: LogLevel, sink: LogSink = standardErrorSink()): Logger {
  const base = pino(
    {
      level,
      base: null,
      messageKey: "msg",
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"ts":"${new Date().toISOString()}"`,
    },
    sink,
  );
  return new PinoLogger(base, "node");
}
