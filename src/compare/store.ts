/**
 * Starts the stores that are compared: a real etcd of one or several members, or a KmMR demo cluster.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { etcdBinaries, etcdMissingHint } from "../bench/etcd-binaries.ts";
import { MemberClient, type StoreAddress } from "./client.ts";

/** A store that runs until it is stopped. */
export interface RunningStore extends StoreAddress {
  readonly name: string;
  /** Folder of logs, and of data where the store is not told otherwise. */
  readonly directory: string;
  /** Kills a member, by its number in `endpoints`, as a host that dies does. */
  kill(member: number): void;
  /** Ends every process and removes the folder, unless it is to be kept. */
  stop(keepDirectory?: boolean): Promise<void>;
}

/** A store that does not come up; the message says where its log is. */
export class StoreStartError extends Error {
  override name = "StoreStartError";
}

export interface StoreOptions {
  readonly members: number;
  /** Only for KmMR: client certificates on the client port. */
  readonly clientTls: boolean;
  /** Whether etcd waits for its disk; a comparison of answers need not. */
  readonly sync: boolean;
}

const startTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;

/** "door" is KmMR's door over a store in memory, one process without agreement: to compare these two alone. */
export type StoreKind = "etcd" | "kmmr" | "door";

/** Starts the store of that kind. @throws StoreStartError */
export function startStore(kind: StoreKind, options: StoreOptions): Promise<RunningStore> {
  switch (kind) {
    case "etcd":
      return startEtcd(options);
    case "kmmr":
      return startKmmr(options);
    case "door":
      return startDoor();
  }
}

/** Free ports of the loopback interface; others may take them before they are used, which is rare. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(0, "127.0.0.1", resolve);
      });
      return server;
    }),
  );
  return Promise.all(
    servers.map(async (server) => {
      const address = server.address();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      if (address === null || typeof address === "string") throw new StoreStartError("no free port");
      return address.port;
    }),
  );
}

async function startEtcd(options: StoreOptions): Promise<RunningStore> {
  const { etcd } = etcdBinaries();
  if (etcd === undefined) throw new StoreStartError(etcdMissingHint);
  const directory = mkdtempSync(join(tmpdir(), "kmmr-compare-etcd-"));
  const ports = await freePorts(options.members * 2);
  const members = Array.from({ length: options.members }, (_, i) => ({
    name: `m${i + 1}`,
    clientUrl: `http://127.0.0.1:${ports[i * 2]}`,
    peerUrl: `http://127.0.0.1:${ports[i * 2 + 1]}`,
  }));
  const cluster = members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(",");
  const children = members.map(({ name, clientUrl, peerUrl }) =>
    spawnLogged(join(directory, `${name}.log`), etcd, [
      ...["--name", name, "--data-dir", join(directory, name), "--log-level", "warn"],
      ...["--listen-client-urls", clientUrl, "--advertise-client-urls", clientUrl],
      ...["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
      ...["--initial-cluster", cluster, "--watch-progress-notify-interval", "300ms"],
      ...(options.sync ? [] : ["--unsafe-no-fsync"]),
    ]),
  );
  const store: RunningStore = {
    name: `etcd (${options.members})`,
    kill: (member) => children[member]?.kill("SIGKILL"),
    endpoints: members.map(({ clientUrl }) => clientUrl),
    tls: undefined,
    directory,
    stop: (keepDirectory = false) => stopAll(children, directory, keepDirectory),
  };
  await waitUntilServing(store);
  return store;
}

async function startDoor(): Promise<RunningStore> {
  const directory = mkdtempSync(join(tmpdir(), "kmmr-compare-door-"));
  const [port] = await freePorts(1);
  const program = fileURLToPath(new URL("../gateway/testing/try-gateway.ts", import.meta.url));
  const child = spawnLogged(join(directory, "door.log"), process.execPath, [program, String(port)]);
  const store: RunningStore = {
    name: "door",
    kill: () => child.kill("SIGKILL"),
    endpoints: [`http://127.0.0.1:${port}`],
    tls: undefined,
    directory,
    stop: (keepDirectory = false) => stopAll([child], directory, keepDirectory),
  };
  await waitUntilServing(store);
  return store;
}

/** The line of JSON that `kmmr demo --output json` prints once every master serves. */
export interface DemoDescription {
  readonly endpoints: readonly string[];
  readonly cacert: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly masters: readonly { readonly name: string; readonly pid: number; readonly clientUrl: string }[];
}

async function startKmmr(options: StoreOptions): Promise<RunningStore> {
  const directory = mkdtempSync(join(tmpdir(), "kmmr-compare-kmmr-"));
  const log = join(directory, "kmmr.log");
  const logFile = openSync(log, "a");
  const main = fileURLToPath(new URL("../cli/main.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    [
      ...[main, "demo", "--masters", String(options.members), "--ephemeral"],
      ...["--client-tls", options.clientTls ? "on" : "off", "--output", "json"],
    ],
    { stdio: ["pipe", "pipe", logFile] },
  );
  closeSync(logFile);
  endWithUs(child);
  const lines = createInterface({ input: child.stdout! });
  const line = await new Promise<string>((resolve, reject) => {
    const fail = (what: string): void => reject(new StoreStartError(`kmmr demo ${what}: see ${log}`));
    const timer = setTimeout(() => fail(`did not serve in ${startTimeoutMs / 1000} s`), startTimeoutMs);
    lines.once("line", (text) => {
      clearTimeout(timer);
      resolve(text);
    });
    child.once("exit", (code) => fail(`ended with code ${code}`));
  });
  const demo = JSON.parse(line) as DemoDescription;
  const { cacert, cert, key } = demo;
  const store: RunningStore = {
    name: `kmmr (${options.members})`,
    kill: (member) => process.kill(demo.masters[member]!.pid, "SIGKILL"),
    endpoints: demo.endpoints,
    tls: cacert !== null && cert !== null && key !== null ? { cacert, cert, key } : undefined,
    directory,
    stop: (keepDirectory = false) => stopAll([child], directory, keepDirectory),
  };
  await waitUntilServing(store);
  return store;
}

/** Starts a program with all its output in a file. */
export function spawnLogged(
  logFile: string,
  program: string,
  parameters: readonly string[],
  environment: NodeJS.ProcessEnv = process.env,
): ChildProcess {
  const file = openSync(logFile, "a");
  const child = spawn(program, parameters, { stdio: ["ignore", file, file], env: environment });
  closeSync(file);
  // Without a listener a program that is missing would end this process; the caller sees it not serve.
  child.once("error", () => {});
  endWithUs(child);
  return child;
}

const started = new Set<ChildProcess>();

/** A child that is still there when this process ends is ended with it. */
function endWithUs(child: ChildProcess): void {
  if (started.size === 0) {
    process.once("exit", () => {
      for (const other of started) other.kill("SIGKILL");
    });
  }
  started.add(child);
  child.once("exit", () => started.delete(child));
}

/** Ends a process in its own way, or by force when it takes too long. */
export async function stopProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
    child.once("exit", () => {
      clearTimeout(timer);
      resolve();
    });
    child.kill("SIGTERM");
  });
}

async function stopAll(children: readonly ChildProcess[], directory: string, keep: boolean): Promise<void> {
  await Promise.all(children.map(stopProcess));
  if (!keep) rmSync(directory, { recursive: true, force: true });
}

async function waitUntilServing(store: RunningStore): Promise<void> {
  const deadline = Date.now() + startTimeoutMs;
  for (const endpoint of store.endpoints) {
    const client = new MemberClient(endpoint, store);
    let last = "";
    for (;;) {
      const answer = await client.call("range", { key: "\0", count_only: true });
      if (answer.ok) break;
      last = `${answer.code} ${answer.text}`;
      if (Date.now() > deadline) {
        await store.stop(true);
        throw new StoreStartError(
          `${store.name} does not serve (${last}): see the logs in ${store.directory}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    client.close();
  }
}
