/**
 * Writes what the masters of a new cluster need before their first start: a folder for each with its config,
 * keys and certificates and the genesis, and folders for the authority, the operator and the administrator.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { certificateFingerprint } from "../transport/identity.ts";
import { type Address, formatAddress, formatEndpoint } from "./address.ts";
import type { ConfigFile } from "./config.ts";
import { NodeHasher } from "./crypto.ts";
import { writeFirstStartMark } from "./first-start.ts";
import { formatGenesis, type Genesis, randomId, toMembership } from "./genesis.ts";

/** Name of the config file in a master's folder. */
export const CONFIG_FILE = "kmmr.yaml";
/** Folder with what etcdctl needs. */
export const ADMIN_FOLDER = "admin";

/** A master as it shall be. */
export interface PlannedMaster {
  readonly name: string;
  /** Where the other masters and the clients reach it. */
  readonly host: string;
  readonly peerPort: number;
  readonly clientPort: number;
  /** Address on its own machine that it listens on. */
  readonly listenHost: string;
  /** As it stands in its config: absolute, or relative to its folder. */
  readonly dataDir: string;
}

export interface Deployment {
  readonly masters: readonly PlannedMaster[];
  readonly clientTls: boolean;
  readonly readMode?: "fenced" | "ordered";
  readonly logLevel?: "debug" | "info" | "warn" | "error";
  readonly quotaBytes?: number | undefined;
}

/** Where clients reach a master. */
export function clientUrlOf(master: PlannedMaster, clientTls: boolean): string {
  return formatEndpoint({ host: master.host, port: master.clientPort, tls: clientTls });
}

/** Text of a master's config file. All files it names lie beside it. */
export function configText(master: PlannedMaster, deployment: Deployment): string {
  const listen = (port: number): Address => ({ host: master.listenHost, port });
  const tls = deployment.clientTls;
  const config: ConfigFile = {
    name: master.name,
    dataDir: master.dataDir,
    genesisFile: "genesis.json",
    identityKeyFile: "identity.key",
    client: {
      listen: formatEndpoint({ ...listen(master.clientPort), tls }),
      ...(tls
        ? { certFile: "server.crt", keyFile: "server.key", caFile: "ca.crt", requireClientCert: true }
        : {}),
    },
    peer: { listen: formatAddress(listen(master.peerPort)), certFile: "peer.crt", keyFile: "peer.key" },
    ...(deployment.readMode === undefined ? {} : { readMode: deployment.readMode }),
    ...(deployment.logLevel === undefined ? {} : { log: { level: deployment.logLevel } }),
  };
  return `# Master ${master.name}. All keys: kmmr node --help, and docs/configuration.md.\n${stringify(config)}`;
}

/** The same genesis with the addresses that the masters have now. */
export function withAddresses(genesis: Genesis, deployment: Deployment): Genesis {
  return {
    ...genesis,
    members: genesis.members.map((member, index) => {
      const master = deployment.masters[index]!;
      const clientUrls = [clientUrlOf(master, deployment.clientTls)];
      return { ...member, peerHost: master.host, peerPort: master.peerPort, clientUrls };
    }),
  };
}

/**
 * Writes a new cluster into an empty folder. Throws GenesisError, before anything is written, when no cluster
 * can run with these masters.
 */
export async function writeDeployment(folder: string, deployment: Deployment): Promise<Genesis> {
  // Making certificates takes long to load, and a running master never needs it.
  const pki = await import("./pki.ts");
  const keys = await Promise.all(
    deployment.masters.map(async ({ name }) => ({
      identity: pki.createIdentityKey(),
      peer: await pki.createPeerCertificate(name),
    })),
  );
  const operator = pki.createIdentityKey();
  const genesis: Genesis = {
    clusterId: randomId(),
    operatorPublicKey: operator.publicKey,
    ...(deployment.quotaBytes === undefined ? {} : { quotaBytes: deployment.quotaBytes }),
    members: deployment.masters.map((master, index) => ({
      name: master.name,
      id: randomId(),
      publicKey: keys[index]!.identity.publicKey,
      peerHost: master.host,
      peerPort: master.peerPort,
      tlsKeyFingerprint: certificateFingerprint(keys[index]!.peer.cert),
      clientUrls: [clientUrlOf(master, deployment.clientTls)],
    })),
  };
  toMembership(genesis, new NodeHasher());
  const newFolder = (name: string) => {
    mkdirSync(join(folder, name), { recursive: true, mode: 0o700 });
    return join(folder, name);
  };
  const authority = await pki.createAuthority("kmmr clients");
  const put = (into: string, name: string, text: string) =>
    writeFileSync(join(into, name), text, { flag: "wx" });
  const putPair = (into: string, name: string, pair: { readonly key: string; readonly cert: string }) => {
    pki.writePrivateFile(join(into, `${name}.key`), pair.key);
    put(into, `${name}.crt`, pair.cert);
  };
  for (const [index, master] of deployment.masters.entries()) {
    const into = newFolder(master.name);
    const { identity, peer } = keys[index]!;
    put(into, CONFIG_FILE, configText(master, deployment));
    put(into, "genesis.json", formatGenesis(genesis));
    pki.writePrivateFile(join(into, "identity.key"), identity.key);
    putPair(into, "peer", peer);
    // Made in any case, so that TLS for clients can be switched on later.
    put(into, "ca.crt", authority.cert);
    const hosts = [master.host, master.name];
    putPair(into, "server", await pki.issueServerCertificate(authority, { commonName: master.name, hosts }));
    const client = { commonName: `kube-apiserver-${master.name}` };
    putPair(into, "apiserver-client", await pki.issueClientCertificate(authority, client));
    writeFirstStartMark(into);
  }
  putPair(newFolder("ca"), "ca", authority);
  pki.writePrivateFile(join(newFolder("operator"), "operator.key"), operator.key);
  const admin = newFolder(ADMIN_FOLDER);
  put(admin, "ca.crt", authority.cert);
  putPair(admin, "client", await pki.issueClientCertificate(authority, { commonName: "admin" }));
  return genesis;
}
