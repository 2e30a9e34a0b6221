/**
 * `kmmr init`: keys, certificates and config files for the masters of a real cluster.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { faultsTolerated } from "../consensus/membership.ts";
import { formatEndpoint } from "../node/address.ts";
import {
  ADMIN_FOLDER,
  clientUrlOf,
  type Deployment,
  type PlannedMaster,
  writeDeployment,
} from "../node/deployment.ts";
import { type Genesis, GenesisError } from "../node/genesis.ts";
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
  readonly clientPort: number;
  readonly peerPort: number;
  readonly clientTls: "on" | "off";
  readonly quotaMib?: number;
  readonly output: OutputFormat;
}

/** Reads `cp1,cp2` or `cp1=10.0.0.1,cp2=10.0.0.2`. */
function parseMasters(text: string): NamedHost[] {
  return text.split(",").map((entry) => {
    const [name = "", host = name] = entry.trim().split("=");
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) {
      throw new InvalidArgumentError(`"${entry.trim()}" is no master: write HOST or NAME=HOST`);
    }
    if (!/^[A-Za-z0-9._:-]+$/.test(host))
      throw new InvalidArgumentError(`"${host}" is no host name or address`);
    return { name, host };
  });
}

function deploymentOf(options: InitOptions): Deployment {
  const masters = options.masters.map(
    ({ name, host }): PlannedMaster => ({
      name,
      host,
      peerPort: options.peerPort,
      clientPort: options.clientPort,
      listenHost: "0.0.0.0",
      dataDir: options.dataDir,
    }),
  );
  const quotaBytes = options.quotaMib === undefined ? undefined : options.quotaMib * 2 ** 20;
  return { masters, clientTls: options.clientTls === "on", quotaBytes };
}

/** Writes the cluster under another name first: what stands under the asked one is whole. */
async function writeWhole(out: string, deployment: Deployment): Promise<Genesis> {
  if (existsSync(out) && readdirSync(out).length > 0) {
    throw new CommandError(
      `${out} is not empty: a cluster's keys are never overwritten; name another folder with --out`,
      ExitCode.usage,
    );
  }
  mkdirSync(dirname(out), { recursive: true });
  const building = mkdtempSync(join(dirname(out), `.${basename(out)}-new-`));
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
  const admin = join(out, ADMIN_FOLDER);
  const flags = clientTls
    ? ` --cacert ${join(admin, "ca.crt")} --cert ${join(admin, "client.crt")} --key ${join(admin, "client.key")}`
    : "";
  const copies = masters
    .map(({ name, host }) => `     scp -rp ${join(out, name)} ${host}:/etc/kmmr\n`)
    .join("");
  const apiserver = clientTls
    ? "--etcd-servers=https://127.0.0.1:PORT --etcd-cafile=/etc/kmmr/ca.crt \\\n" +
      "       --etcd-certfile=/etc/kmmr/apiserver-client.crt --etcd-keyfile=/etc/kmmr/apiserver-client.key"
    : "--etcd-servers=http://127.0.0.1:PORT";
  return `Keys, certificates and config files of ${n} masters are in ${out}.
${n} masters go on while ${f} of them crash${f === 1 ? "es, lies or is" : ", lie or are"} taken over.${surplus}

What to do next:
  1. Copy each master's folder to its host, and to no other (it holds private keys):
${copies}  2. On each host, start it (and have systemd or a static pod start it):
     kmmr node --config /etc/kmmr/kmmr.yaml
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
      "2  wrong use: too few masters, a folder that is not empty",
    ],
  );
}
