/**
 * The folder of a demo: made at its first start, used again at every later one.
 */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { basename, dirname, join } from "node:path";
import { MIN_MEMBERS, quorumSize } from "../consensus/membership.ts";
import {
  ADMIN_FOLDER,
  CONFIG_FILE,
  clientUrlOf,
  configText,
  type Deployment,
  type PlannedMaster,
  withAddresses,
  writeDeployment,
} from "../node/deployment.ts";
import { fileProblem, folderProblem } from "../node/folder.ts";
import { formatGenesis, type Genesis, GenesisError, parseGenesis } from "../node/genesis.ts";
import { type DemoFile, defaultDemoFolder, readDemo, writeDemo } from "./demo-state.ts";
import { shellWord } from "./demo-table.ts";
import { CommandError, ExitCode } from "./exit-code.ts";

const HOST = "127.0.0.1";
const DATA_FOLDER = "data";
const GENESIS_FILE = "genesis.json";

/** A master of the demo and where its things are. */
export interface DemoMaster {
  readonly name: string;
  readonly clientUrl: string;
  readonly peerUrl: string;
  readonly configFile: string;
  readonly dataDir: string;
  readonly logFile: string;
}

export interface DemoLayout {
  readonly folder: string;
  /** How this command is called, for texts. */
  readonly command: string;
  /** What its other commands need to find this demo: ` --data-dir FOLDER`, or nothing for the default one. */
  readonly commandTarget: string;
  readonly masters: readonly DemoMaster[];
  readonly quorum: number;
  /** Whether there was a demo in this folder before. */
  readonly continued: boolean;
  /** Files for clients; null with client TLS off. */
  readonly cacert: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

export interface PrepareOptions {
  readonly folder: string;
  readonly command: string;
  readonly masters?: number;
  readonly clientTls: "on" | "off";
  readonly clientPortBase?: number;
  readonly peerPortBase?: number;
  readonly readMode: "fenced" | "ordered";
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

/** Listens on a port to see that it is free; 0 takes any. */
function tryPort(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, HOST, () => resolve(server));
  });
}

interface Ports {
  readonly clientPort: number;
  readonly peerPort: number;
}

/** Ports for all masters: those that were asked for, else those of the last time, else any that are free. */
async function choosePorts(
  options: PrepareOptions,
  count: number,
  before: readonly Ports[],
): Promise<Ports[]> {
  const { clientPortBase, peerPortBase } = options;
  if (
    clientPortBase !== undefined &&
    peerPortBase !== undefined &&
    Math.abs(clientPortBase - peerPortBase) < count
  ) {
    throw new CommandError(
      `--client-port-base and --peer-port-base are less than ${count} apart: ${count} masters need ${count} ports each`,
      ExitCode.usage,
    );
  }
  const open: Server[] = [];
  const take = async (
    option: string,
    base: number | undefined,
    index: number,
    last: number | undefined,
  ): Promise<number> => {
    const asked = base && base + index;
    // The sockets stay open until all ports are chosen, so that no port is chosen twice.
    const server =
      (await tryPort(asked ?? last ?? 0)) ?? (asked === undefined ? await tryPort(0) : undefined);
    const address = server?.address();
    if (server === undefined || typeof address !== "object" || address === null) {
      const what = asked === undefined ? "no port is free" : `port ${asked} is taken`;
      throw new CommandError(`${what}: end what listens there, or choose others with ${option}`);
    }
    open.push(server);
    return address.port;
  };
  const chosen: Ports[] = [];
  try {
    for (let i = 0; i < count; i++) {
      chosen.push({
        clientPort: await take("--client-port-base", clientPortBase, i, before[i]?.clientPort),
        peerPort: await take("--peer-port-base", peerPortBase, i, before[i]?.peerPort),
      });
    }
  } finally {
    await Promise.all(open.map((server) => new Promise((resolve) => server.close(resolve))));
  }
  return chosen;
}

/** The demo that is in the folder; an error when something else is. */
function existingDemo(options: PrepareOptions): DemoFile | undefined {
  const demo = readDemo(options.folder);
  if (demo === undefined) {
    if (readdirSync(options.folder).length === 0) return undefined;
    throw new CommandError(
      `${options.folder} holds other files than a demo's: name an empty or new folder with --data-dir`,
      ExitCode.usage,
    );
  }
  const n = demo.masters.length;
  if (options.masters !== undefined && options.masters !== n) {
    throw new CommandError(
      `the demo in ${options.folder} has ${n} masters, not ${options.masters}: ` +
        "remove that folder, or name another with --data-dir",
      ExitCode.usage,
    );
  }
  return demo;
}

/** Writes a new cluster, whole or not at all. */
async function makeCluster(folder: string, deployment: Deployment, demo: DemoFile): Promise<void> {
  let building: string;
  try {
    building = mkdtempSync(join(dirname(folder), `.${basename(folder)}-new-`));
  } catch (error) {
    // Whole or not at all means: made beside it, then renamed.
    throw new CommandError(
      `${dirname(folder)}: ${folderProblem(error)}; name a folder elsewhere with --data-dir`,
      ExitCode.usage,
    );
  }
  try {
    await writeDeployment(building, deployment);
    writeDemo(building, demo);
    // Onto the empty folder that is there: the lock on it is by name and stays.
    renameSync(building, folder);
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
}

/** Gives the masters of an existing cluster their present addresses and settings. */
function updateCluster(folder: string, deployment: Deployment, demo: DemoFile): void {
  const files = deployment.masters.map((master) => {
    const fileName = join(folder, master.name, GENESIS_FILE);
    return { master, fileName, genesis: withAddresses(readGenesis(folder, fileName), deployment) };
  });
  // Written only when all could be read.
  for (const { master, fileName, genesis } of files) {
    writeFileSync(fileName, formatGenesis(genesis));
    writeFileSync(join(folder, master.name, CONFIG_FILE), configText(master, deployment));
  }
  writeDemo(folder, demo);
}

function readGenesis(folder: string, fileName: string): Genesis {
  try {
    return parseGenesis(readFileSync(fileName, "utf8"));
  } catch (error) {
    const why = error instanceof GenesisError ? error.problems[0] : fileProblem(error);
    throw new CommandError(
      `the demo in ${folder} is damaged: ${fileName}: ${why}; remove that folder, or name another with --data-dir`,
    );
  }
}

/** Makes the folder ready for a start of all masters. The caller holds its lock. */
export async function prepareDemo(options: PrepareOptions): Promise<DemoLayout> {
  const { folder } = options;
  const before = existingDemo(options);
  const count = before?.masters.length ?? options.masters ?? MIN_MEMBERS;
  const ports = await choosePorts(options, count, before?.masters ?? []);
  const masters = ports.map(
    (chosen, index): PlannedMaster => ({
      ...chosen,
      name: `m${index + 1}`,
      host: HOST,
      listenHost: HOST,
      dataDir: DATA_FOLDER,
    }),
  );
  const clientTls = options.clientTls === "on";
  const deployment: Deployment = {
    masters,
    clientTls,
    readMode: options.readMode,
    logLevel: options.logLevel,
  };
  const demo: DemoFile = {
    layout: 1,
    masters: masters.map(({ name, clientPort, peerPort }) => ({ name, clientPort, peerPort })),
  };
  if (before === undefined) await makeCluster(folder, deployment, demo);
  else updateCluster(folder, deployment, demo);
  const admin = (name: string) => (clientTls ? join(folder, ADMIN_FOLDER, name) : null);
  return {
    folder,
    command: options.command,
    commandTarget: folder === defaultDemoFolder() ? "" : ` --data-dir ${shellWord(folder)}`,
    masters: masters.map((master) => ({
      name: master.name,
      clientUrl: clientUrlOf(master, clientTls),
      peerUrl: `https://${HOST}:${master.peerPort}`,
      configFile: join(folder, master.name, CONFIG_FILE),
      dataDir: join(folder, master.name, DATA_FOLDER),
      logFile: join(folder, master.name, "kmmr.log"),
    })),
    quorum: quorumSize(count),
    continued: before !== undefined && existsSync(join(folder, masters[0]!.name, DATA_FOLDER)),
    cacert: admin("ca.crt"),
    cert: admin("client.crt"),
    key: admin("client.key"),
  };
}
