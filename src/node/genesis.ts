/**
 * The genesis document: which cluster this is, its first members with their keys and addresses, and the key
 * of the operator who may change them. The same on every master, written once by `kmmr init`, never changed.
 */
import { randomBytes } from "node:crypto";
import { parse } from "yaml";
import { z } from "zod";
import { fromHex, toHex } from "../base/bytes.ts";
import type { Hasher } from "../base/crypto.ts";
import { Membership, MembershipError } from "../consensus/membership.ts";

/** A genesis that cannot be used: `problems` holds one line for each thing to correct. */
export class GenesisError extends Error {
  override name = "GenesisError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** A member as the genesis knows it. */
export interface GenesisMember {
  readonly name: string;
  /** etcd's member id, 1 to 2^63-1. */
  readonly id: bigint;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly peerHost: string;
  readonly peerPort: number;
  /** SHA-256 over the SubjectPublicKeyInfo of its link key, 64 hexadecimal digits. */
  readonly tlsKeyFingerprint: string;
  /** Where etcd clients reach it. */
  readonly clientUrls: readonly string[];
}

/** The checked document. */
export interface Genesis {
  /** 1 to 2^63-1. */
  readonly clusterId: bigint;
  /** A member's position in this list is its index. */
  readonly members: readonly GenesisMember[];
  /** Ed25519, 32 bytes: signs changes of the membership. */
  readonly operatorPublicKey: Uint8Array;
  /**
   * Size of the data above which only deletes are taken; the store's default when left out. Agreed on here,
   * because members with different ones would answer differently.
   */
  readonly quotaBytes?: number;
}

const FORMAT = "kmmr-genesis/1";
const KEY_SIZE_BYTES = 32;

const id = z
  .string("must be 16 hexadecimal digits in quotes")
  .regex(/^[0-9a-f]{16}$/, "must be 16 lower-case hexadecimal digits")
  .transform((text) => BigInt(`0x${text}`))
  .refine((value) => value > 0n && value < 2n ** 63n, "must be from 1 to 2^63-1");

const key = z.string("must be 64 hexadecimal digits in quotes").transform((text, context) => {
  const bytes = fromHex(text);
  if (bytes?.length === KEY_SIZE_BYTES) return bytes;
  context.addIssue({ code: "custom", message: "must be an Ed25519 public key: 64 hexadecimal digits" });
  return z.NEVER;
});

const clientUrl = z.string().refine((text) => URL.canParse(text) && /^https?:\/\/[^/]+:\d+$/.test(text), {
  error: (issue) => `"${issue.input}" is not an endpoint: write http://HOST:PORT or https://HOST:PORT`,
});

const schema = z.strictObject({
  format: z.literal(FORMAT, { error: `must be "${FORMAT}"; this program reads no other` }),
  clusterId: id,
  operatorPublicKey: key,
  quotaBytes: z
    .int()
    .min(1024 * 1024, "must be at least 1 MiB")
    .optional(),
  members: z.array(
    z.strictObject({
      name: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "must be 1 to 63 letters, digits, '.', '-', '_'"),
      id,
      publicKey: key,
      peerHost: z.string().min(1, "must be a host name or an address"),
      peerPort: z
        .int("must be a port number")
        .min(1, "must be a port number")
        .max(65535, "must be a port number"),
      tlsKeyFingerprint: z
        .string("must be 64 hexadecimal digits in quotes")
        .regex(/^[0-9a-f]{64}$/, "must be 64 lower-case hexadecimal digits"),
      clientUrls: z.array(clientUrl),
    }),
  ),
});

/** Reads a genesis from JSON or YAML; throws GenesisError. */
export function parseGenesis(text: string): Genesis {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    throw new GenesisError([`not YAML or JSON: ${String((error as Error).message).split("\n")[0]}`]);
  }
  const result = schema.safeParse(document, { reportInput: true });
  if (!result.success) throw new GenesisError(result.error.issues.map(problemOf));
  const { clusterId, operatorPublicKey, quotaBytes, members } = result.data;
  const problems = duplicates(members);
  if (problems.length > 0) throw new GenesisError(problems);
  return { clusterId, operatorPublicKey, members, ...(quotaBytes === undefined ? {} : { quotaBytes }) };
}

/** Writes a genesis as JSON. `parseGenesis` gives the same back. */
export function formatGenesis(genesis: Genesis): string {
  const members = genesis.members.map((member) => ({
    name: member.name,
    id: formatId(member.id),
    publicKey: toHex(member.publicKey),
    peerHost: member.peerHost,
    peerPort: member.peerPort,
    tlsKeyFingerprint: member.tlsKeyFingerprint,
    clientUrls: member.clientUrls,
  }));
  const document = {
    format: FORMAT,
    clusterId: formatId(genesis.clusterId),
    operatorPublicKey: toHex(genesis.operatorPublicKey),
    quotaBytes: genesis.quotaBytes,
    members,
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** The first view of the cluster; throws GenesisError when no cluster can run with these members. */
export function toMembership(genesis: Genesis, hasher: Hasher): Membership {
  try {
    const members = genesis.members.map(({ name, id, publicKey }) => ({ name, id, publicKey }));
    return new Membership(genesis.clusterId, 1, members, hasher);
  } catch (error) {
    if (error instanceof MembershipError) throw new GenesisError([`members: ${error.message}`]);
    throw error;
  }
}

/** A random id for a cluster or a member, 1 to 2^63-1. */
export function randomId(): bigint {
  const value = randomBytes(8).readBigUInt64BE() >> 1n;
  return value === 0n ? 1n : value;
}

function formatId(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}

function problemText(issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys") return `unknown key ${issue.keys.join(", ")}`;
  if (issue.path.length === 0 && issue.code === "invalid_type") {
    return "this is no genesis: it must hold the keys that kmmr init writes";
  }
  if (issue.input === undefined) return "is missing";
  return issue.message.replace(/^Invalid input: /, "");
}

function problemOf(issue: z.core.$ZodIssue): string {
  const place = issue.path.map(String).join(".");
  const text = problemText(issue);
  return place === "" ? text : `${place}: ${text}`;
}

/** Membership checks names, ids and keys of agreement; links need distinct keys and addresses of their own. */
function duplicates(members: readonly GenesisMember[]): string[] {
  const problems: string[] = [];
  const facts = {
    tlsKeyFingerprint: (member: GenesisMember) => member.tlsKeyFingerprint,
    "peer address": (member: GenesisMember) => `${member.peerHost}:${member.peerPort}`,
  };
  for (const [what, factOf] of Object.entries(facts)) {
    const seen = new Map<string, string>();
    for (const member of members) {
      const value = factOf(member);
      const other = seen.get(value);
      if (other !== undefined) problems.push(`members: ${other} and ${member.name} have the same ${what}`);
      seen.set(value, member.name);
    }
  }
  return problems;
}
