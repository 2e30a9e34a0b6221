/**
 * The config file of one master: YAML, checked in full before anything starts. Every problem is reported, one
 * line each, with the line of the file it stands on.
 */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { type Address, parseAddress, parseEndpoint } from "./address.ts";
import { fileProblem } from "./folder.ts";
import { nearestName } from "./nearest-name.ts";

/** A config that cannot be used: `problems` holds one line for each thing to correct. */
export class ConfigError extends Error {
  override name = "ConfigError";
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

const endpoint = z.string().refine((text) => parseEndpoint(text) !== undefined, {
  error: (issue) => `"${issue.input}" is not an address: write http://HOST:PORT or https://HOST:PORT`,
});

const address = z.string().refine((text) => parseAddress(text) !== undefined, {
  error: (issue) => `"${issue.input}" is not an address: write HOST:PORT, for example 0.0.0.0:2380`,
});

const file = z.string().min(1, "must name a file");

const clientSchema = z.strictObject({
  /** Where etcd clients connect. */
  listen: endpoint,
  certFile: file.optional(),
  keyFile: file.optional(),
  /** Certificate authority of the clients. */
  caFile: file.optional(),
  /** Whether a client must show a certificate of that authority. On by default with https. */
  requireClientCert: z.boolean().optional(),
});

const peerSchema = z.strictObject({
  /** Where the other masters connect. */
  listen: address,
  certFile: file,
  keyFile: file,
});

const limitsSchema = z.strictObject({
  /** How long a request may wait for agreement: etcd's 5 s and two election time-outs. */
  requestTimeoutMs: z.int().min(100).max(600_000).default(7_000),
  /** Requests that wait for agreement at one time; one more is answered "too many requests". */
  maxPendingRequests: z.int().min(1).max(1_000_000).default(16_384),
});

const logSchema = z.strictObject({
  level: z.enum(["debug", "info", "warn", "error"]).default("info"),
});

const metricsSchema = z.strictObject({
  /** A further listener without TLS for /metrics, /health, /livez and /readyz only (etcd's 2381). */
  listen: z
    .string()
    .refine((text) => parseEndpoint(text)?.tls === false, {
      error: (issue) => `"${issue.input}" is not a plain address: write http://HOST:PORT`,
    })
    .optional(),
});

const configSchema = z.strictObject({
  /** This master's name, one of those in the genesis. */
  name: z.string().min(1).max(63),
  /** Where log and database lie. Made when missing. */
  dataDir: file,
  /** The genesis document: the cluster's id and its first members. The same bytes on every master. */
  genesisFile: file,
  /** Private key with which this master signs what it says to the others. */
  identityKeyFile: file,
  client: clientSchema,
  peer: peerSchema,
  /** `fenced`: linearizable reads ask a quorum; `ordered`: they go through agreement like writes. */
  readMode: z.enum(["fenced", "ordered"]).default("fenced"),
  limits: limitsSchema.prefault({}),
  log: logSchema.prefault({}),
  metrics: metricsSchema.prefault({}),
});

/** What a config file may say, before defaults. Used to write config files. */
export type ConfigFile = z.input<typeof configSchema>;

/** A checked config: all file names absolute, all defaults filled in. */
export type Config = z.output<typeof configSchema>;

type Path = readonly PropertyKey[];

function joined(path: Path): string {
  return path.map(String).join(".");
}

/** Every key that a config file may have, as `client.listen`. */
export function configKeys(): string[] {
  const known = knownKeys();
  return (known.get("") ?? []).flatMap((key) => known.get(key)?.map((inner) => `${key}.${inner}`) ?? [key]);
}

/** Every key that the schema knows, by the path of the object that holds it. */
function knownKeys(): Map<string, readonly string[]> {
  const known = new Map<string, readonly string[]>([["", Object.keys(configSchema.shape)]]);
  const parts = {
    client: clientSchema,
    peer: peerSchema,
    limits: limitsSchema,
    log: logSchema,
    metrics: metricsSchema,
  };
  for (const [name, schema] of Object.entries(parts)) known.set(name, Object.keys(schema.shape));
  return known;
}

/** What to write instead of an unknown key: one of the same object first, then one of any other. */
function suggestion(parent: Path, key: string): string {
  const known = knownKeys();
  const siblings = known.get(joined(parent)) ?? [];
  const near = nearestName(key, siblings);
  if (near !== undefined) return `did you mean "${near}"?`;
  for (const [path, keys] of known) {
    const elsewhere = nearestName(key, keys);
    if (elsewhere !== undefined) return `did you mean "${path === "" ? elsewhere : `${path}.${elsewhere}`}"?`;
  }
  return `known here: ${siblings.join(", ")}`;
}

interface Problem {
  readonly path: Path;
  readonly text: string;
}

function problemsOf(issue: z.core.$ZodIssue): Problem[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      path: [...issue.path, key],
      text: `unknown key; ${suggestion(issue.path, key)}`,
    }));
  }
  if (issue.code === "invalid_type" && issue.input === undefined) {
    return [{ path: issue.path, text: "is missing" }];
  }
  return [{ path: issue.path, text: issue.message.replace(/^Invalid (input|option): /, "") }];
}

/** Whether a process that listens on the one cannot listen on the other. */
function overlap(a: Address, b: Address): boolean {
  if (a.port !== b.port) return false;
  // "::" takes the addresses of IPv4 too.
  const takesAll = ({ host }: Address, other: Address) =>
    host === "::" || (host === "0.0.0.0" && !other.host.includes(":"));
  return a.host.toLowerCase() === b.host.toLowerCase() || takesAll(a, b) || takesAll(b, a);
}

/** Listeners of one process that would take each other's address. */
function listenProblems(config: Config): Problem[] {
  const listeners: [name: string, address: Address][] = [
    ["client", parseEndpoint(config.client.listen)!],
    ["peer", parseAddress(config.peer.listen)!],
  ];
  if (config.metrics.listen !== undefined) listeners.push(["metrics", parseEndpoint(config.metrics.listen)!]);
  return listeners.flatMap(([name, address], index) =>
    listeners
      .slice(0, index)
      .filter(([, other]) => overlap(address, other))
      .map(([other]) => ({
        path: [name, "listen"],
        text: `is taken by ${other}.listen: each needs a port of its own`,
      })),
  );
}

/** What must hold between keys. */
function crossProblems(config: Config): Problem[] {
  const problems = listenProblems(config);
  const client = config.client;
  if (parseEndpoint(client.listen)!.tls) {
    for (const key of ["certFile", "keyFile"] as const) {
      if (client[key] === undefined)
        problems.push({ path: ["client", key], text: "is missing: https needs it" });
    }
    if (client.requireClientCert !== false && client.caFile === undefined) {
      problems.push({
        path: ["client", "caFile"],
        text: "is missing: clients must show certificates of it (or set client.requireClientCert: false)",
      });
    }
  } else {
    for (const key of ["certFile", "keyFile", "caFile"] as const) {
      if (client[key] !== undefined) {
        problems.push({
          path: ["client", key],
          text: "has no meaning with http: write client.listen: https://...",
        });
      }
    }
    if (client.requireClientCert === true) {
      problems.push({ path: ["client", "requireClientCert"], text: "needs client.listen: https://..." });
    }
  }
  return problems;
}

/** All files that the config names, absolute from the folder of the config file. */
function withAbsolutePaths(config: Config, folder: string): Config {
  const absolute = (name: string) => resolve(folder, name);
  const client = { ...config.client };
  for (const key of ["certFile", "keyFile", "caFile"] as const) {
    const name = client[key];
    if (name !== undefined) client[key] = absolute(name);
  }
  return {
    ...config,
    dataDir: absolute(config.dataDir),
    genesisFile: absolute(config.genesisFile),
    identityKeyFile: absolute(config.identityKeyFile),
    client,
    peer: {
      ...config.peer,
      certFile: absolute(config.peer.certFile),
      keyFile: absolute(config.peer.keyFile),
    },
  };
}

/** Checks the text of a config file that lies at `fileName`; throws ConfigError with every problem. */
export function parseConfig(text: string, fileName: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map(
        (error) => `${fileName}:${error.linePos?.[0].line ?? 1}: ${error.message.split("\n")[0]}`,
      ),
    );
  }
  const report = (problems: readonly Problem[]): never => {
    throw new ConfigError(
      problems
        .map((problem) => ({ ...problem, line: lineOf(document, lines, problem.path) }))
        .sort((a, b) => a.line - b.line)
        .map(({ path, text, line }) => {
          const name = joined(path);
          return `${fileName}:${line}: ${name === "" ? "" : `${name}: `}${text}`;
        }),
    );
  };
  const content: unknown = document.toJS();
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    return report([
      { path: [], text: `must hold keys and values: ${Object.keys(configSchema.shape).join(", ")}` },
    ]);
  }
  const checked = configSchema.safeParse(content, { reportInput: true });
  if (!checked.success) return report(checked.error.issues.flatMap(problemsOf));
  const problems = crossProblems(checked.data);
  if (problems.length > 0) return report(problems);
  return withAbsolutePaths(checked.data, dirname(resolve(fileName)));
}

/** Line on which the value at the path stands, or the nearest object around it. */
function lineOf(document: ReturnType<typeof parseDocument>, lines: LineCounter, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true);
    if (typeof node === "object" && node !== null && "range" in node && Array.isArray(node.range)) {
      return lines.linePos(Number(node.range[0])).line;
    }
  }
  return 1;
}

/** Reads and checks a config file; throws ConfigError also when it cannot be read. */
export function loadConfig(fileName: string): Config {
  let text: string;
  try {
    text = readFileSync(fileName, "utf8");
  } catch (error) {
    throw new ConfigError([`${fileName}: ${fileProblem(error)}`]);
  }
  return parseConfig(text, fileName);
}
