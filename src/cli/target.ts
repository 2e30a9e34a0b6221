/**
 * Which cluster a command talks to: flags first, then etcdctl's environment, then a running demo, then etcd's
 * own address.
 */
import { resolve } from "node:path";
import type { Command } from "commander";
import { parseEndpoint } from "../node/address.ts";
import { findRunningDemo } from "./demo-state.ts";
import { readTlsFiles, type TlsFiles, type TlsMaterial } from "./etcd-client.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { integerOption } from "./output-option.ts";

/** Options of every command that talks to a cluster. */
export interface TargetOptions extends TlsFiles {
  readonly endpoints?: string;
  readonly dataDir?: string;
  readonly timeout: number;
}

export interface Target {
  readonly endpoints: readonly string[];
  readonly tls: TlsMaterial;
  readonly timeoutMs: number;
}

/** Adds those options. */
export function withTargetOptions(command: Command): Command {
  return command
    .option(
      "-e, --endpoints <urls>",
      "client endpoints, with commas between (default: ETCDCTL_ENDPOINTS, or the running demo)",
    )
    .option("--data-dir <folder>", "folder of a running demo, in place of --endpoints")
    .option("--cacert <file>", "certificate authority of the servers (default: ETCDCTL_CACERT)")
    .option("--cert <file>", "client certificate (default: ETCDCTL_CERT)")
    .option("--key <file>", "private key of the client certificate (default: ETCDCTL_KEY)")
    .option("--timeout <ms>", "how long to wait for each master", integerOption(1, 600_000), 3_000);
}

/** The endpoints, with a scheme each and the files read. */
export function targetOf(options: TargetOptions): Target {
  const env = process.env;
  const timeoutMs = options.timeout;
  const folder = options.dataDir === undefined ? undefined : resolve(options.dataDir);
  const endpoints = folder === undefined ? (options.endpoints ?? env.ETCDCTL_ENDPOINTS) : undefined;
  const demo = endpoints === undefined ? findRunningDemo(folder) : undefined;
  if (folder !== undefined && demo === undefined) throw new CommandError(`no demo is running on ${folder}`);
  if (demo !== undefined) {
    const { cacert, cert, key } = demo;
    const files = { cacert: cacert ?? undefined, cert: cert ?? undefined, key: key ?? undefined };
    return { endpoints: demo.endpoints, tls: readTlsFiles(files), timeoutMs };
  }
  const tls = readTlsFiles({
    cacert: options.cacert ?? env.ETCDCTL_CACERT,
    cert: options.cert ?? env.ETCDCTL_CERT,
    key: options.key ?? env.ETCDCTL_KEY,
  });
  const list = (endpoints ?? "http://127.0.0.1:2379").split(",");
  return { endpoints: list.map((text) => checkedEndpoint(text.trim())), tls, timeoutMs };
}

function checkedEndpoint(text: string): string {
  const url = text.includes("://") ? text : `http://${text}`;
  if (parseEndpoint(url) === undefined) {
    throw new CommandError(`"${text}" is not an endpoint: write https://HOST:PORT`, ExitCode.usage);
  }
  return url.replace(/\/$/, "");
}
