/**
 * Everything that a member reads before it starts: genesis, identity and link keys, checked against each
 * other. All problems become ConfigErrors, one line each.
 */
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { equalBytes } from "../base/bytes.ts";
import type { Membership } from "../consensus/membership.ts";
import { certificateFingerprint } from "../transport/identity.ts";
import type { LinkCredentials } from "../transport/tls.ts";
import { readClientTls } from "./client-tls.ts";
import { type Config, ConfigError } from "./config.ts";
import { KeyError, NodeHasher, NodeSigner } from "./crypto.ts";
import { FolderError, fileProblem, makeFolder } from "./folder.ts";
import { type Genesis, GenesisError, parseGenesis, toMembership } from "./genesis.ts";
import { pairProblems } from "./key-pair.ts";
import { nearestName } from "./nearest-name.ts";

/** What those files say. */
export interface MemberFiles {
  readonly genesis: Genesis;
  readonly membership: Membership;
  /** Index of this member. */
  readonly self: number;
  readonly signer: NodeSigner;
  readonly linkCredentials: LinkCredentials;
}

/** Reads and checks all files that the config names, and what is said of its data directory; throws ConfigError. */
export function checkFiles(config: Config): MemberFiles {
  const files = readMemberFiles(config, new NodeHasher());
  readClientTls(config.client);
  checkDataDir(config.dataDir);
  return files;
}

/** Throws ConfigError when the data directory, or the nearest folder above it that is there, is of no use. */
function checkDataDir(folder: string): void {
  let nearest = folder;
  try {
    while (statSync(nearest, { throwIfNoEntry: false }) === undefined) nearest = dirname(nearest);
    if (!statSync(nearest).isDirectory())
      throw new ConfigError([`dataDir: ${nearest}: is a file, not a folder`]);
    accessSync(nearest, constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError([`dataDir: ${nearest}: ${fileProblem(error)}`]);
  }
}

/** Makes the data directory where it is missing; throws ConfigError. */
export function makeDataDir(config: Config): void {
  try {
    makeFolder(config.dataDir);
  } catch (error) {
    if (!(error instanceof FolderError)) throw error;
    throw new ConfigError([`dataDir: ${error.message}`]);
  }
}

function readText(key: string, fileName: string): string {
  try {
    return readFileSync(fileName, "utf8");
  } catch (error) {
    throw new ConfigError([`${key}: ${fileName}: ${fileProblem(error)}`]);
  }
}

/** Reads and checks all files that the config names; throws ConfigError. */
export function readMemberFiles(config: Config, hasher: NodeHasher): MemberFiles {
  const { genesis, membership } = readGenesis(config.genesisFile, hasher);
  const names = genesis.members.map((member) => member.name);
  const self = names.indexOf(config.name);
  if (self < 0) {
    const near = nearestName(config.name, names);
    const hint = near === undefined ? `it names ${names.join(", ")}` : `did you mean "${near}"?`;
    throw new ConfigError([`name: the genesis knows no member "${config.name}"; ${hint}`]);
  }
  const member = genesis.members[self]!;
  const signer = readSigner(config.identityKeyFile);
  if (!equalBytes(signer.publicKey, member.publicKey)) {
    throw new ConfigError([
      `identityKeyFile: ${config.identityKeyFile}: this is not the key that the genesis names for ${config.name}`,
    ]);
  }
  return { genesis, membership, self, signer, linkCredentials: readLinkCredentials(config, member) };
}

function readGenesis(fileName: string, hasher: NodeHasher): { genesis: Genesis; membership: Membership } {
  const text = readText("genesisFile", fileName);
  try {
    const genesis = parseGenesis(text);
    return { genesis, membership: toMembership(genesis, hasher) };
  } catch (error) {
    if (!(error instanceof GenesisError)) throw error;
    throw new ConfigError(error.problems.map((problem) => `${fileName}: ${problem}`));
  }
}

function readSigner(fileName: string): NodeSigner {
  try {
    return new NodeSigner(readText("identityKeyFile", fileName));
  } catch (error) {
    if (!(error instanceof KeyError)) throw error;
    throw new ConfigError([`identityKeyFile: ${fileName}: ${error.message}`]);
  }
}

function readLinkCredentials(
  config: Config,
  member: { readonly name: string; readonly tlsKeyFingerprint: string },
): LinkCredentials {
  const { certFile, keyFile } = config.peer;
  const cert = readText("peer.certFile", certFile);
  const key = readText("peer.keyFile", keyFile);
  const pair = pairProblems(cert, key);
  if (pair.cert !== undefined) throw new ConfigError([`peer.certFile: ${certFile}: ${pair.cert}`]);
  // The certificate first: of another master's, the key that fits it is not the mistake.
  const fingerprint = certificateFingerprint(cert);
  if (fingerprint !== member.tlsKeyFingerprint) {
    throw new ConfigError([
      `peer.certFile: ${certFile}: its key is not the one that the genesis names for ${member.name}`,
    ]);
  }
  if (pair.key !== undefined) throw new ConfigError([`peer.keyFile: ${keyFile}: ${pair.key}`]);
  return { cert, key };
}
