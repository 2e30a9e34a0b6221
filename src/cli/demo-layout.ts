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
import { formatGenesis, parseGenesis } from "../node/genesis.ts";
import { type DemoFile, defaultDemoFolder, readDemo, writeDemo } from "./demo-state.ts";
import { shellWord } from "./demo-table.ts";
import { CommandError, ExitCode } from "./exit-code.ts";

const HOST = "127.0.0.1";
const DATA_FOLDER = "data";

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
  const open: Server[] = [];
  const take = async (asked: number | undefined, last: number | undefined): Promise<number> => {
    // The sockets stay open until all ports are chosen, so that no port is chosen twice.
    const server =
      (await tryPort(asked ?? last ?? 0)) ?? (asked === undefined ? await tryPort(0) : undefined);
    const address = server?.address();
    if (server === undefined || typeof address !== "object" || address === null) {
      throw new CommandError(`port ${asked ?? 0} is taken: end what listens there, or choose others`);
    }
    open.push(server);
    return address.port;
  };
  const chosen: Ports[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const { clientPortBase, peerPortBase } = options;
      chosen.push({
        clientPort: await take(clientPortBase && clientPortBase + i, before[i]?.clientPort),
        peerPort: await take(peerPortBase && peerPortBase + i, before[i]?.peerPort),
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
  const building = mkdtempSync(join(dirname(folder), `.${basename(folder)}-new-`));
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
  for (const master of deployment.masters) {
    const genesisFile = join(folder, master.name, "genesis.json");
    const genesis = withAddresses(parseGenesis(readFileSync(genesisFile, "utf8")), deployment);
    writeFileSync(genesisFile, formatGenesis(genesis));
    writeFileSync(join(folder, master.name, CONFIG_FILE), configText(master, deployment));
  }
  writeDemo(folder, demo);
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
