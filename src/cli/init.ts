/**
 * `kmmr init`: keys, certificates and config files for the masters of a real cluster.
 */
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { isIP } from "node:net";
import { basename, dirname, join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { faultsTolerated } from "../consensus/membership.ts";
import { formatEndpoint, parseAddress } from "../node/address.ts";
import {
  ADMIN_FOLDER,
  clientUrlOf,
  type Deployment,
  type PlannedMaster,
  writeDeployment,
} from "../node/deployment.ts";
import { FolderError, folderProblem, makeFolder } from "../node/folder.ts";
import { type Genesis, GenesisError } from "../node/genesis.ts";
import { shellWord } from "./demo-table.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { integerOption, type OutputFormat, outputOption, withExamples } from "./output-option.ts";

interface NamedHost {
  readonly name: string;
  readonly host: string;
}

interface InitOptions {
  readonly masters: readonly NamedHost[];
  readonly out: string;
  readonly dataDir: string;
  readonly listen?: "0.0.0.0" | "::";
  readonly clientPort: number;
  readonly peerPort: number;
  readonly clientTls: "on" | "off";
  readonly quotaMib?: number;
  readonly output: OutputFormat;
}

/** Where the steps that are printed put a master's files on its host. */
const HOST_FOLDER = "/etc/kmmr";
/** Folders beside those of the masters. */
const RESERVED_NAMES: readonly string[] = [ADMIN_FOLDER, "ca", "operator"];

/** Whether this is an address of one host, or a name that can be looked up; not what only looks like one. */
function isHost(text: string): boolean {
  // Numbers at the end are an address or nothing, and `%eth0` has a meaning on one machine only.
  if (isIP(text) !== 0) return !text.includes("%") && text !== "0.0.0.0" && text !== "::";
  return (
    text.length <= 253 &&
    !/^\d+$/.test(text.slice(text.lastIndexOf(".") + 1)) &&
    text.split(".").every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label))
  );
}

/** Reads `HOST` or `NAME=HOST`. */
function parseMaster(entry: string): NamedHost {
  const [first = "", second, ...more] = entry.split("=");
  const written = second ?? first;
  const host = written.replace(/^\[(.*)\]$/, "$1");
  if (more.length > 0) throw new InvalidArgumentError(`"${entry}" is no master: write HOST or NAME=HOST`);
  if (parseAddress(written) !== undefined) {
    throw new InvalidArgumentError(
      `"${written}" has a port: ports are given with --client-port and --peer-port, the same for all masters`,
    );
  }
  if (!isHost(host)) throw new InvalidArgumentError(`"${written}" is no host name or address`);
  const name = second === undefined ? host : first;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) {
    throw new InvalidArgumentError(
      `"${name}" cannot be a master's name (1 to 63 letters, digits, '.', '-', '_'): write NAME=HOST`,
    );
  }
  if (RESERVED_NAMES.includes(name)) {
    throw new InvalidArgumentError(`"${name}" is the name of another folder that is made: write NAME=HOST`);
  }
  return { name, host };
}

/** Host names that mean the same are the same text: case, and the many ways to write an IPv6 address. */
function canonicalHost(host: string): string {
  return host.includes(":") ? new URL(`http://[${host}]`).hostname : host.toLowerCase();
}

/** Reads `cp1,cp2` or `cp1=10.0.0.1,cp2=10.0.0.2`. */
function parseMasters(text: string): NamedHost[] {
  const masters = text.split(",").map((entry) => parseMaster(entry.trim()));
  const byHost = new Map<string, string>();
  const names = new Set<string>();
  for (const { name, host } of masters) {
    const other = byHost.get(canonicalHost(host));
    if (names.has(name)) throw new InvalidArgumentError(`two masters have the name "${name}"`);
    if (other !== undefined) {
      throw new InvalidArgumentError(
        `${other} and ${name} are on the same host ${host}: each needs one of its own (for a trial: kmmr demo)`,
      );
    }
    names.add(name);
    byHost.set(canonicalHost(host), name);
  }
  return masters;
}

function deploymentOf(options: InitOptions): Deployment {
  if (options.clientPort === options.peerPort) {
    throw new CommandError(
      `--client-port and --peer-port are both ${options.peerPort}: each needs a port of its own`,
      ExitCode.usage,
    );
  }
  const masters = options.masters.map(
    ({ name, host }): PlannedMaster => ({
      name,
      host,
      peerPort: options.peerPort,
      clientPort: options.clientPort,
      // All addresses of the kind that the others are given. Of a name nobody knows the kind here.
      listenHost: options.listen ?? (host.includes(":") ? "::" : "0.0.0.0"),
      dataDir: options.dataDir,
    }),
  );
  const quotaBytes = options.quotaMib === undefined ? undefined : options.quotaMib * 2 ** 20;
  return { masters, clientTls: options.clientTls === "on", quotaBytes };
}

/** A folder for the new cluster beside where it will be; throws CommandError when it cannot be. */
function buildingFolder(out: string): string {
  try {
    if (existsSync(out) && readdirSync(out).length > 0) {
      throw new CommandError(
        `${out} is not empty: a cluster's keys are never overwritten; name another folder with --out`,
        ExitCode.usage,
      );
    }
    makeFolder(dirname(out));
    return mkdtempSync(join(dirname(out), `.${basename(out)}-new-`));
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const why = error instanceof FolderError ? error.message : `${out}: ${folderProblem(error)}`;
    throw new CommandError(`${why}; name another folder with --out`, ExitCode.usage);
  }
}

/** Writes the cluster under another name first: what stands under the asked one is whole. */
async function writeWhole(out: string, deployment: Deployment): Promise<Genesis> {
  const building = buildingFolder(out);
  try {
    const genesis = await writeDeployment(building, deployment);
    renameSync(building, out);
    return genesis;
  } catch (error) {
    if (!(error instanceof GenesisError)) throw error;
    throw new CommandError(error.problems.join("\n"), ExitCode.usage);
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
}

function nextSteps(out: string, deployment: Deployment): string {
  const { masters, clientTls } = deployment;
  const n = masters.length;
  const f = faultsTolerated(n);
  const useful = 3 * f + 1;
  const surplus = n > useful ? ` So would ${useful}; for one more, ${useful + 3} are needed.` : "";
  const first = masters[0]!;
  const file = (name: string) => shellWord(join(out, ADMIN_FOLDER, name));
  const flags = clientTls
    ? ` --cacert ${file("ca.crt")} --cert ${file("client.crt")} --key ${file("client.key")}`
    : "";
  // Its files, not the folder: that would come to lie in one that is there already.
  const copies = masters
    .map(({ name, host }) => {
      const target = host.includes(":") ? `'[${host}]:${HOST_FOLDER}/'` : `${host}:${HOST_FOLDER}/`;
      return (
        `     ssh ${host} mkdir -p -m 700 ${HOST_FOLDER}\n` +
        `     scp -p ${shellWord(join(out, name))}/* ${target}\n`
      );
    })
    .join("");
  const apiserver = clientTls
    ? `--etcd-servers=https://127.0.0.1:PORT --etcd-cafile=${HOST_FOLDER}/ca.crt \\\n` +
      `       --etcd-certfile=${HOST_FOLDER}/apiserver-client.crt --etcd-keyfile=${HOST_FOLDER}/apiserver-client.key`
    : "--etcd-servers=http://127.0.0.1:PORT";
  return `Keys, certificates and config files of ${n} masters are in ${out}.
${n} masters go on while ${f} of them crash${f === 1 ? "es, lies or is" : ", lie or are"} taken over.${surplus}

What to do next:
  1. Copy each master's folder to its host, and to no other (it holds private keys):
${copies}  2. On each host, start it (and have systemd or a static pod start it):
     kmmr node --config ${HOST_FOLDER}/kmmr.yaml
  3. Look at the cluster:
     kmmr status --endpoints ${clientUrlOf(first, clientTls)}${flags}
  4. Point each host's kube-apiserver at its own master:
     ${apiserver.replace("PORT", String(first.clientPort))}
  5. Keep ${join(out, "ca")} and ${join(out, "operator")} offline: who has them can make client
     certificates, and change the membership. Remove the copies of the masters' folders here.
`;
}

async function init(options: InitOptions): Promise<void> {
  const out = resolve(options.out);
  const deployment = deploymentOf(options);
  const genesis = await writeWhole(out, deployment);
  if (options.output === "table") {
    process.stdout.write(nextSteps(out, deployment));
    return;
  }
  const masters = deployment.masters.map((master) => ({
    name: master.name,
    folder: join(out, master.name),
    clientUrl: clientUrlOf(master, deployment.clientTls),
    peerUrl: formatEndpoint({ host: master.host, port: master.peerPort, tls: true }),
  }));
  const clusterId = genesis.clusterId.toString(16).padStart(16, "0");
  console.log(JSON.stringify({ out, clusterId, tolerates: faultsTolerated(masters.length), masters }));
}

/** The `init` command. */
export function initCommand(): Command {
  const command = new Command("init")
    .description("make keys, certificates and one config file per master for a new cluster")
    .requiredOption(
      "-m, --masters <hosts>",
      "hosts of the masters with commas between: HOST or NAME=HOST",
      parseMasters,
    )
    .requiredOption("--out <folder>", "new folder for everything that is made")
    .option("--data-dir <folder>", "where each master keeps its data, on its host", "/var/lib/kmmr")
    .option("--client-port <port>", "port for etcd clients", integerOption(1, 65_535), 2379)
    .option("--peer-port <port>", "port for the other masters", integerOption(1, 65_535), 2380)
    .addOption(
      new Option(
        "--listen <address>",
        "where each master listens: all of IPv4, or with :: all of IPv6 and IPv4 (default: :: for hosts given " +
          "by an IPv6 address, else 0.0.0.0)",
      ).choices(["0.0.0.0", "::"]),
    )
    .addOption(
      new Option("--client-tls <on|off>", "TLS with certificates for clients")
        .choices(["on", "off"])
        .default("on"),
    )
    .option(
      "--quota-mib <mib>",
      "size of the data above which only deletes are taken (default: 2048)",
      integerOption(1, 2 ** 20),
    )
    .addOption(outputOption())
    .action(init);
  return withExamples(
    command,
    [
      "kmmr init --masters cp1,cp2,cp3,cp4 --out cluster",
      "kmmr init --masters a=10.0.0.1,b=10.0.0.2,c=10.0.0.3,d=10.0.0.4 --out cluster",
    ],
    [
      "0  everything is written",
      "1  could not be written",
      "2  wrong use: too few masters, a host that is none, a folder that cannot be used",
    ],
  );
}
