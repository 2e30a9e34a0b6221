/**
 * Certificates of the client port, read again when their files change, so that they can be renewed while the
 * process runs.
 */
import { readFileSync, statSync } from "node:fs";
import type { GatewayTls } from "../gateway/listener.ts";
import { type Config, ConfigError } from "./config.ts";
import { fileProblem } from "./folder.ts";
import { authorityProblem, pairProblems } from "./key-pair.ts";
import type { Logger } from "./logger.ts";

const CHECK_INTERVAL_MS = 30_000;

/** Reads and checks what the config names; undefined when clients speak plain HTTP. Throws ConfigError. */
export function readClientTls(client: Config["client"]): GatewayTls | undefined {
  const { certFile, keyFile, caFile } = client;
  if (certFile === undefined || keyFile === undefined) return undefined;
  const problems: string[] = [];
  const read = (key: string, fileName: string): Buffer => {
    try {
      return readFileSync(fileName);
    } catch (error) {
      problems.push(`client.${key}: ${fileName}: ${fileProblem(error)}`);
      return Buffer.alloc(0);
    }
  };
  const cert = read("certFile", certFile);
  const key = read("keyFile", keyFile);
  const ca = caFile === undefined ? undefined : read("caFile", caFile);
  if (problems.length > 0) throw new ConfigError(problems);
  const pair = pairProblems(cert, key);
  if (pair.cert !== undefined) problems.push(`client.certFile: ${certFile}: ${pair.cert}`);
  if (pair.key !== undefined) problems.push(`client.keyFile: ${keyFile}: ${pair.key}`);
  const authority = ca && authorityProblem(ca);
  if (authority !== undefined) problems.push(`client.caFile: ${caFile}: ${authority}`);
  if (problems.length > 0) throw new ConfigError(problems);
  return { cert, key, ...(ca && { ca }), requireClientCert: client.requireClientCert ?? true };
}

/** Looks now and then whether the files changed, and hands on what they hold then. */
export class ClientTlsWatch {
  readonly #client: Config["client"];
  readonly #renew: (settings: GatewayTls) => void;
  readonly #logger: Logger;
  #state: string;
  readonly #timer: NodeJS.Timeout;

  constructor(client: Config["client"], renew: (settings: GatewayTls) => void, logger: Logger) {
    this.#client = client;
    this.#renew = renew;
    this.#logger = logger;
    this.#state = this.#fileState();
    this.#timer = setInterval(() => this.check(), CHECK_INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Times and sizes of all files; a renewal changes them. */
  #fileState(): string {
    const { certFile, keyFile, caFile } = this.#client;
    return [certFile, keyFile, caFile]
      .map((fileName) => {
        const state = fileName === undefined ? undefined : statSync(fileName, { throwIfNoEntry: false });
        return `${state?.mtimeMs} ${state?.size} ${state?.ino}`;
      })
      .join();
  }

  check(): void {
    const state = this.#fileState();
    if (state === this.#state) return;
    try {
      const settings = readClientTls(this.#client);
      if (settings === undefined) return;
      this.#renew(settings);
      this.#state = state;
      this.#logger.info("client certificates read again");
    } catch (error) {
      // Maybe only one of the files is written yet: the old ones stay in use, the next check tries again.
      this.#logger.warn("changed client certificates cannot be used", {
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }
}
