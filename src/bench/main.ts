/**
 * `npm run bench`: KmMR beside etcd under the same load.
 */
import { mkdirSync, statfsSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { temporaryFolder } from "./child-process.ts";
import { startEtcd } from "./etcd-target.ts";
import { startKmmr } from "./kmmr-target.ts";
import { type Measurement, type MemberUsage, measure, memoryOf } from "./measurement.ts";
import { BenchExit, type BenchOptions, helpText, parseOptions, UsageError } from "./options.ts";
import { renderPage } from "./page.ts";
import { formatMs, formatRate, formatReport, type Machine, type Report } from "./report.ts";
import { Session } from "./session.ts";
import { summarize } from "./summary.ts";
import type { Target } from "./target.ts";

const resultsFolder = fileURLToPath(new URL("../../bench-results/", import.meta.url));
/** What memory is measured after: garbage of the loading is then collected in both. */
const settleMs = 2000;
/** The type numbers of file systems that have no disk under them: tmpfs and ramfs. */
const memoryFileSystems: readonly number[] = [0x01021994, 0x858458f6];

function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(): Promise<number> {
  let options: BenchOptions;
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    progress(`${error.message}\nnpm run bench -- --help shows what there is`);
    return BenchExit.usage;
  }
  if (options.help) {
    process.stdout.write(helpText);
    return BenchExit.ok;
  }
  const report = await run(options);
  const { jsonPath, pagePath } = writeResults(report);
  process.stdout.write(
    options.output === "json" ? `${JSON.stringify(report)}\n` : `${formatReport(report)}\n`,
  );
  progress(`results: ${relative(process.cwd(), jsonPath)}, ${relative(process.cwd(), pagePath)}`);
  return report.workloads.some((entry) => entry.reached === false) ? BenchExit.goalMissed : BenchExit.ok;
}

async function run(options: BenchOptions): Promise<Report> {
  const startedAtMs = Date.now();
  const folder = temporaryFolder();
  const targets: Target[] = [];
  const sessions: Session[] = [];
  try {
    for (const name of options.clusters) {
      progress(`starting ${options.members} members of ${name === "kmmr" ? "KmMR" : name}`);
      const start = name === "etcd" ? startEtcd : startKmmr;
      const { members, clientTls } = options;
      const target = await start({ members, clientTls, folder: join(folder, name) });
      targets.push(target);
      sessions.push(await Session.open(target, options));
    }
    const memoryWithKeys = await preload(sessions, options.keys);
    const measurements = await measureAll(sessions, options);
    return {
      startedAt: new Date(startedAtMs).toISOString(),
      durationS: Math.round((Date.now() - startedAtMs) / 1000),
      command: ["npm run bench --", ...process.argv.slice(2)].join(" "),
      machine: machine(folder),
      members: options.members,
      clientTls: options.clientTls,
      keys: options.keys,
      valueBytes: options.valueBytes,
      connectionsPerMember: options.connectionsPerMember,
      seed: options.seed,
      clusters: targets.map(({ name, description }) => ({ name, description })),
      workloads: summarize(measurements),
      memoryWithKeys,
      measurements,
    };
  } finally {
    for (const session of sessions) session.close();
    for (const target of targets) await target.stop();
  }
}

async function preload(
  sessions: readonly Session[],
  keys: number,
): Promise<Partial<Record<"etcd" | "kmmr", readonly MemberUsage[]>>> {
  const memory: Partial<Record<"etcd" | "kmmr", readonly MemberUsage[]>> = {};
  for (const session of sessions) {
    const { name } = session.target;
    const startedMs = performance.now();
    await session.preload((done) => {
      if (done % 50_000 === 0) progress(`${name}: ${done} of ${keys} keys loaded`);
    });
    const verified = await session.verify();
    const perSecond = formatRate((keys * 1000) / (performance.now() - startedMs));
    progress(`${name}: ${keys} keys loaded at ${perSecond} a second, ${verified} read back`);
  }
  await sleep(settleMs);
  for (const session of sessions) memory[session.target.name] = memoryOf(session);
  return memory;
}

/** Round by round; which cluster goes first alternates, so that drift of the machine hits both. */
async function measureAll(sessions: readonly Session[], options: BenchOptions): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (const workload of options.workloads) {
    for (let round = 1; round <= options.rounds; round++) {
      const order = round % 2 === 1 ? sessions : [...sessions].reverse();
      for (const session of order) {
        const measurement = await measure(session, workload, round, options);
        measurements.push(measurement);
        const { operationsPerSecond, latency, failed, lagP99Ms } = measurement;
        progress(
          `${workload.name} round ${round}/${options.rounds} ${session.target.name}: ` +
            `${formatRate(operationsPerSecond)}/s, mean ${formatMs(latency.meanMs)} ms, p99 ${formatMs(latency.p99Ms)} ms` +
            (lagP99Ms > 0 ? `, generator late p99 ${formatMs(lagP99Ms)} ms` : "") +
            (failed > 0 ? `, ${failed} failed: ${Object.keys(measurement.failures).join("; ")}` : ""),
        );
      }
    }
  }
  return measurements;
}

function machine(folder: string): Machine {
  const processors = cpus();
  return {
    processors: processors.length,
    processorModel: processors[0]?.model.trim() ?? "unknown",
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.versions.node,
    dataInMemory: memoryFileSystems.includes(statfsSync(folder).type),
  };
}

function writeResults(report: Report): { jsonPath: string; pagePath: string } {
  mkdirSync(resultsFolder, { recursive: true });
  const base = join(resultsFolder, report.startedAt.replace(/[:.]/g, "-"));
  const jsonPath = `${base}.json`;
  const pagePath = `${base}.html`;
  writeFileSync(jsonPath, `${JSON.stringify(report, undefined, 1)}\n`);
  writeFileSync(pagePath, renderPage(report));
  return { jsonPath, pagePath };
}

try {
  process.exitCode = await main();
} catch (error) {
  progress(`bench failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = BenchExit.failure;
}
// A connection or timer that is left must not keep a finished bench alive.
process.exit();
