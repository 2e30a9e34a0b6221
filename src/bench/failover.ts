/**
 * `npm run bench:failover`: how long acknowledgements stop when the leader is killed with -9 under load, and whether
 * what was acknowledged is there afterwards, once and in order. Then the same with all members killed at once.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { formatTable } from "../cli/table.ts";
import { temporaryFolder } from "./child-process.ts";
import { call, connectTo, methodHeaders } from "./connect.ts";
import { CounterWriters } from "./counter-writers.ts";
import { startEtcd } from "./etcd-target.ts";
import { startKmmr } from "./kmmr-target.ts";
import { BenchExit, choice, integerOption, UsageError } from "./options.ts";
import { formatRate } from "./report.ts";
import { median } from "./summary.ts";
import type { Target } from "./target.ts";
import { type MemberStatus, readStatus } from "./wire.ts";

/** Half of the runs must pause for no longer. */
const pauseGoalMs = 1500;
const steadyMs = 1500;
/** How long after a kill the longest pause is looked for. */
const watchedMs = 6000;
const recoveryTimeoutMs = 60_000;
const statusTimeoutMs = 2000;

const helpText = `npm run bench:failover -- [options]

Under closed-loop writers on a cluster of its own: kill -9 of the leader, again and again, and then of all members.
Prints how long acknowledgements stopped, and reads back that nothing acknowledged was lost or done twice.

  --masters N           members, 4 to 10 (4)
  --runs N              kills of the leader (10)
  --all-runs N          kills of all members (3)
  --writers N           writers (64)
  --cluster kmmr|etcd   what to test (kmmr)
  --output table|json   what to print (table)
  --help                this text

Examples:
  npm run bench:failover
  npm run bench:failover -- --runs 2 --all-runs 1 --output json
  npm run bench:failover -- --cluster etcd

Exit codes: 0 nothing lost and the goal reached (median pause at most ${pauseGoalMs} ms); 1 failed, or a write lost or
done twice; 2 wrong use; 3 nothing lost, goal missed.
`;

interface FailoverOptions {
  readonly members: number;
  readonly runs: number;
  readonly allRuns: number;
  readonly writers: number;
  readonly cluster: "kmmr" | "etcd";
  readonly output: "table" | "json";
  readonly help: boolean;
}

/** One kill and what followed. */
interface FailoverRun {
  readonly kind: "leader" | "all";
  readonly killed: readonly string[];
  /** Acknowledgements a second before the kill. */
  readonly ratePerSecond: number;
  readonly pauseMs: number;
  /** From the kill until the members that came back knew all that was acknowledged. */
  readonly recoveredMs: number;
}

function parseOptions(parameters: readonly string[]): FailoverOptions {
  try {
    const { values } = parseArgs({
      args: [...parameters],
      strict: true,
      options: {
        masters: { type: "string", default: "4" },
        runs: { type: "string", default: "10" },
        "all-runs": { type: "string", default: "3" },
        writers: { type: "string", default: "64" },
        cluster: { type: "string", default: "kmmr" },
        output: { type: "string", default: "table" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    return {
      members: integerOption("--masters", values.masters, 4, 10),
      runs: integerOption("--runs", values.runs, 0, 1000),
      allRuns: integerOption("--all-runs", values["all-runs"], 0, 1000),
      writers: integerOption("--writers", values.writers, 1, 4096),
      cluster: choice("--cluster", values.cluster, ["kmmr", "etcd"] as const),
      output: choice("--output", values.output, ["table", "json"] as const),
      help: values.help,
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Each member's view, undefined for one that does not answer. */
async function statuses(target: Target): Promise<(MemberStatus | undefined)[]> {
  return Promise.all(
    target.members.map(async (member) => {
      try {
        const connection = await connectTo(member.clientUrl, target.tls);
        try {
          return readStatus(await call(connection, methodHeaders.status, new Uint8Array(0), statusTimeoutMs));
        } finally {
          connection.close();
        }
      } catch {
        return undefined;
      }
    }),
  );
}

/** Waits until all members answer, name the same leader, and have reached the revision. */
async function untilWhole(target: Target, revision: number): Promise<{ leader: string; revision: number }> {
  const deadlineMs = performance.now() + recoveryTimeoutMs;
  let seen = "";
  while (performance.now() < deadlineMs) {
    const all = await statuses(target);
    const leaders = new Set(all.map((status) => status?.leaderId ?? 0n));
    const [leaderId] = leaders;
    const index = all.findIndex((status) => status?.memberId === leaderId);
    const revisions = all.map((status) => status?.revision ?? -1);
    if (leaders.size === 1 && index >= 0 && Math.min(...revisions) >= revision)
      return { leader: target.members[index]!.name, revision: Math.max(...revisions) };
    const views = all.map((status) =>
      status === undefined ? "down" : `${status.revision}/${status.leaderId}`,
    );
    seen = views.join(", ");
    await sleep(100);
  }
  throw new Error(
    `the cluster is not whole after ${recoveryTimeoutMs / 1000} s; revision/leader by member: ${seen}`,
  );
}

async function killAndRestart(
  target: Target,
  writers: CounterWriters,
  kind: "leader" | "all",
): Promise<FailoverRun> {
  const { leader } = await untilWhole(target, 0);
  const steadyFromMs = performance.now();
  await sleep(steadyMs);
  const killed = kind === "leader" ? [leader] : target.members.map((member) => member.name);
  const killedMs = performance.now();
  const ratePerSecond = (writers.log.countBetween(steadyFromMs, killedMs) * 1000) / (killedMs - steadyFromMs);
  for (const name of killed) target.kill(name);
  // A single leader stays away while the pause is looked for; a whole cluster cannot answer before it is back.
  if (kind === "leader") await sleep(watchedMs);
  const restartedMs = performance.now();
  await Promise.all(killed.map((name) => target.restart(name)));
  if (!(await writers.untilAcknowledged(restartedMs, recoveryTimeoutMs)))
    throw new Error(
      `no write was acknowledged within ${recoveryTimeoutMs / 1000} s of the restart of ${killed.join(", ")}`,
    );
  const { revision } = await untilWhole(target, 0);
  await untilWhole(target, revision);
  const recoveredMs = performance.now() - (kind === "leader" ? restartedMs : killedMs);
  const untilMs = kind === "leader" ? killedMs + watchedMs : performance.now();
  return { kind, killed, ratePerSecond, pauseMs: writers.log.longestPauseMs(killedMs, untilMs), recoveredMs };
}

async function run(options: FailoverOptions): Promise<number> {
  const folder = temporaryFolder();
  progress(`starting ${options.members} members of ${options.cluster}`);
  const start = options.cluster === "etcd" ? startEtcd : startKmmr;
  const target = await start({
    members: options.members,
    clientTls: false,
    folder: join(folder, options.cluster),
  });
  try {
    const writers = new CounterWriters(target, options.writers);
    const runs: FailoverRun[] = [];
    for (let index = 0; index < options.runs + options.allRuns; index++) {
      const done = await killAndRestart(target, writers, index < options.runs ? "leader" : "all");
      runs.push(done);
      progress(
        `kill -9 of ${done.killed.join(", ")} at ${formatRate(done.ratePerSecond)} writes/s: ` +
          `pause ${done.pauseMs.toFixed(0)} ms, whole again after ${done.recoveredMs.toFixed(0)} ms`,
      );
    }
    const verdict = await writers.finish();
    return report(options, runs, verdict.acknowledged, verdict.faults, writers.errors);
  } finally {
    await target.stop();
  }
}

function report(
  options: FailoverOptions,
  runs: readonly FailoverRun[],
  acknowledged: number,
  faults: readonly string[],
  errors: ReadonlyMap<string, number>,
): number {
  const pauses = runs.filter((one) => one.kind === "leader").map((one) => one.pauseMs);
  const pauseP50Ms = pauses.length === 0 ? undefined : median(pauses);
  const result = {
    at: new Date().toISOString(),
    ...options,
    pauseGoalMs,
    pauseP50Ms,
    pauseMaxMs: pauses.length === 0 ? undefined : Math.max(...pauses),
    acknowledged,
    faults,
    errors: Object.fromEntries(errors),
    kills: runs,
  };
  const folder = fileURLToPath(new URL("../../bench-results/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `failover-${result.at.replace(/[:.]/g, "-")}.json`);
  writeFileSync(path, `${JSON.stringify(result, undefined, 1)}\n`);
  if (options.output === "json") console.log(JSON.stringify(result));
  else console.log(formatResult(runs, pauseP50Ms, acknowledged, faults, errors));
  progress(`results: ${relative(process.cwd(), path)}`);
  if (faults.length > 0) return BenchExit.failure;
  return pauseP50Ms !== undefined && pauseP50Ms > pauseGoalMs ? BenchExit.goalMissed : BenchExit.ok;
}

function formatResult(
  runs: readonly FailoverRun[],
  pauseP50Ms: number | undefined,
  acknowledged: number,
  faults: readonly string[],
  errors: ReadonlyMap<string, number>,
): string {
  const header = ["killed", "writes/s before", "pause ms", "whole again ms"];
  const rows = runs.map((one) => [
    one.kind === "all" ? "all" : `leader ${one.killed.join()}`,
    formatRate(one.ratePerSecond),
    one.pauseMs.toFixed(0),
    one.recoveredMs.toFixed(0),
  ]);
  const lines = [formatTable(header, rows, header.slice(1))];
  if (pauseP50Ms !== undefined) {
    const verdict = pauseP50Ms <= pauseGoalMs ? "reached" : "MISSED";
    lines.push(
      `Pause after the loss of the leader: median ${pauseP50Ms.toFixed(0)} ms, goal ${pauseGoalMs} ms: ${verdict}`,
    );
  }
  for (const [text, count] of errors) lines.push(`Writers met ${count} x ${text}`);
  const outcome = faults.length === 0 ? "none lost, none done twice" : `${faults.length} FAULTS`;
  lines.push(`${acknowledged.toLocaleString("en-US")} acknowledged writes read back: ${outcome}`);
  lines.push(...faults.slice(0, 20));
  return lines.join("\n");
}

async function main(): Promise<number> {
  try {
    const options = parseOptions(process.argv.slice(2));
    if (!options.help) return await run(options);
    process.stdout.write(helpText);
    return BenchExit.ok;
  } catch (error) {
    progress(
      `${error instanceof UsageError ? "" : "failed: "}${error instanceof Error ? error.message : String(error)}`,
    );
    return error instanceof UsageError ? BenchExit.usage : BenchExit.failure;
  }
}

const exitCode = await main();
process.exit(exitCode);
