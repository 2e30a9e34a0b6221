/**
 * The command line of the bench.
 */
import { parseArgs } from "node:util";
import { valueBytesMin } from "./keyspace.ts";
import { defaultWorkloads, parseWorkload, type Workload } from "./workload.ts";

/** Exit codes of both bench commands. */
export const BenchExit = {
  ok: 0,
  /** A cluster did not start, a request never ended, or what is stored is not what was acknowledged. */
  failure: 1,
  usage: 2,
  /** All was measured, and a goal was missed. */
  goalMissed: 3,
} as const;

/** Wrong use; the message says what is right. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** What to measure. */
export interface BenchOptions {
  readonly members: number;
  readonly durationMs: number;
  readonly warmupMs: number;
  readonly rounds: number;
  readonly workloads: readonly Workload[];
  readonly clusters: readonly ("etcd" | "kmmr")[];
  readonly keys: number;
  readonly valueBytes: number;
  readonly connectionsPerMember: number;
  readonly clientTls: boolean;
  readonly seed: number;
  readonly output: "table" | "json";
  readonly help: boolean;
}

export const helpText = `npm run bench -- [options]

Measures KmMR beside an etcd cluster of as many members, with TLS between the members of both, on this machine.
Rounds alternate between the clusters. Writes bench-results/<time>.json and .html.

  --masters N         members of each cluster, 4 to 10 (4)
  --duration S        seconds that each workload is measured in each round (5)
  --warmup S          seconds of the same load before that (4): KmMR's code is compiled while it runs, and a
                      store that runs for weeks is to be measured
  --rounds N          rounds (3)
  --workloads LIST    KIND-N, N requests in flight, or KIND@R, R requests a second, separated by commas;
                      KIND: put, get, serializable-get, mix, watch
                      (${defaultWorkloads.join(",")})
  --only etcd|kmmr    one cluster alone
  --keys N            keys loaded first, whole namespaces of 500 (100000)
  --value-size B      bytes per value (256)
  --connections N     connections to each member (4)
  --client-tls on|off TLS on the client port of both (off)
  --seed N            for keys and mix (1)
  --output table|json what to print (table)
  --help              this text

etcd is taken from ETCD_BIN, from .cache/etcd (node scripts/build-etcd.ts, needs Go) or from PATH.
Data lies below TMPDIR: let that be on the disk you care about.

Examples:
  npm run bench
  npm run bench -- --rounds 1 --duration 3 --workloads put-1,put-64,mix-64
  npm run bench -- --only etcd --workloads get-64,get-512
  npm run bench -- --workloads put@2000 --output json

Exit codes: 0 measured and every goal reached; 1 failed, or stored data is not what was acknowledged; 2 wrong use;
3 measured, a goal missed.
`;

const optionTypes = {
  masters: { type: "string", default: "4" },
  duration: { type: "string", default: "5" },
  warmup: { type: "string", default: "4" },
  rounds: { type: "string", default: "3" },
  workloads: { type: "string", default: defaultWorkloads.join(",") },
  only: { type: "string" },
  keys: { type: "string", default: "100000" },
  "value-size": { type: "string", default: "256" },
  connections: { type: "string", default: "4" },
  "client-tls": { type: "string", default: "off" },
  seed: { type: "string", default: "1" },
  output: { type: "string", default: "table" },
  help: { type: "boolean", short: "h", default: false },
} as const;

/** Throws UsageError. */
export function parseOptions(parameters: readonly string[]): BenchOptions {
  let values: ReturnType<typeof parseRaw>;
  let workloads: Workload[];
  try {
    values = parseRaw(parameters);
    workloads = values.workloads.split(",").map(parseWorkload);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  const keys = integerOption("--keys", values.keys, 500, 10_000_000);
  if (keys % 500 !== 0) throw new UsageError("--keys: give a multiple of 500, the objects of a namespace");
  const only =
    values.only === undefined ? undefined : choice("--only", values.only, ["etcd", "kmmr"] as const);
  return {
    members: integerOption("--masters", values.masters, 4, 10),
    durationMs: secondsOption("--duration", values.duration, 0.1, 3600) * 1000,
    warmupMs: secondsOption("--warmup", values.warmup, 0, 600) * 1000,
    rounds: integerOption("--rounds", values.rounds, 1, 1000),
    workloads,
    clusters: only === undefined ? ["etcd", "kmmr"] : [only],
    keys,
    valueBytes: integerOption("--value-size", values["value-size"], valueBytesMin, 30_000),
    connectionsPerMember: integerOption("--connections", values.connections, 1, 100),
    clientTls: choice("--client-tls", values["client-tls"], ["on", "off"] as const) === "on",
    seed: integerOption("--seed", values.seed, 0, 2 ** 32 - 1),
    output: choice("--output", values.output, ["table", "json"] as const),
    help: values.help,
  };
}

function parseRaw(parameters: readonly string[]) {
  return parseArgs({ args: [...parameters], options: optionTypes, strict: true }).values;
}

/** Throws UsageError. */
export function integerOption(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || value < low || value > high)
    throw new UsageError(`${name}: "${text}" is not a whole number from ${low} to ${high}`);
  return value;
}

function secondsOption(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (!/^[0-9]+(\.[0-9]+)?$/.test(text) || value < low || value > high)
    throw new UsageError(`${name}: "${text}" is not a number of seconds from ${low} to ${high}`);
  return value;
}

/** Throws UsageError. */
export function choice<T extends string>(name: string, text: string, choices: readonly T[]): T {
  const chosen = choices.find((candidate) => candidate === text);
  if (chosen === undefined) throw new UsageError(`${name}: "${text}" is not one of ${choices.join(", ")}`);
  return chosen;
}
