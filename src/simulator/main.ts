/**
 * The simulator's command: `npm run simulate -- --seeds 1000`. Exits with 1 when a seed violates a rule, 2 for
 * bad arguments.
 */
import { writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { MUTANTS } from "./mutants.ts";
import { type OptionLimits, optionsOfSeed } from "./options.ts";
import { runTasks } from "./pool.ts";
import { Simulation } from "./simulation.ts";
import type { TaskResult } from "./work.ts";

const USAGE = `usage: npm run simulate -- [options]
  --seeds N            how many seeds to run (100)
  --start N            the first one (drawn from the clock)
  --seed S             this one only; with --trace every event of it
  --byzantine on|off   Byzantine members in every seed or in none (in every second one)
  --mutation NAME      plant one bug of the core
  --mutants            plant each bug in turn and report the seed that finds it (of 150 at most)
  --count              with --mutants: run all seeds and report how many find it
  --doublecheck        run each seed twice and compare the runs
  --keep-going         go on after a failing seed
  --workers N          threads (one for each core)
  --output json        one line of JSON for each seed and one at the end`;

const STANDARD_OUTPUT = 1;
const FAILURES_SHOWN_MAX = 200;
/** Seeds for each mutant. */
const MUTANT_SEEDS = 150;

interface Arguments {
  readonly seeds: number;
  readonly start: number;
  readonly single: boolean;
  readonly trace: boolean;
  readonly limits: OptionLimits;
  readonly mutants: boolean;
  readonly count: boolean;
  readonly twice: boolean;
  readonly keepGoing: boolean;
  readonly workers: number;
  readonly json: boolean;
}

class UsageError extends Error {}

function wholeNumber(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`--${name} wants a whole number, not "${text}"`);
  return Number(text);
}

function readArguments(argv: readonly string[]): Arguments {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seeds: { type: "string" },
      start: { type: "string" },
      seed: { type: "string" },
      byzantine: { type: "string" },
      mutation: { type: "string" },
      workers: { type: "string" },
      output: { type: "string" },
      trace: { type: "boolean" },
      mutants: { type: "boolean" },
      count: { type: "boolean" },
      doublecheck: { type: "boolean" },
      "keep-going": { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) throw new UsageError("");
  const { byzantine = "mixed", mutation = "", output = "text" } = values;
  if (byzantine !== "on" && byzantine !== "off" && byzantine !== "mixed") {
    throw new UsageError(`--byzantine is on or off, not "${byzantine}"`);
  }
  if (mutation !== "" && !MUTANTS.some(({ name }) => name === mutation)) {
    throw new UsageError(
      `no mutant is named "${mutation}"; there are ${MUTANTS.map(({ name }) => name).join(", ")}`,
    );
  }
  if (output !== "text" && output !== "json")
    throw new UsageError(`--output is json or text, not "${output}"`);
  const seed = wholeNumber(values.seed, "seed");
  const defaultSeeds = values.mutants === true ? MUTANT_SEEDS : 100;
  return {
    seeds: seed === undefined ? (wholeNumber(values.seeds, "seeds") ?? defaultSeeds) : 1,
    start: seed ?? wholeNumber(values.start, "start") ?? Math.floor(Date.now() / 1000) * 1000,
    single: seed !== undefined,
    trace: values.trace ?? false,
    limits: { byzantine, mutation },
    mutants: values.mutants ?? false,
    count: values.count ?? false,
    twice: values.doublecheck ?? false,
    keepGoing: values["keep-going"] ?? false,
    workers: Math.max(1, wholeNumber(values.workers, "workers") ?? availableParallelism()),
    json: output === "json",
  };
}

function replayCommand(seed: number, limits: OptionLimits): string {
  const byzantine = limits.byzantine === "mixed" ? "" : ` --byzantine ${limits.byzantine}`;
  const mutation = limits.mutation === "" ? "" : ` --mutation ${limits.mutation}`;
  return `npm run simulate -- --seed ${seed}${byzantine}${mutation} --trace`;
}

/** The command that runs all the seeds of these arguments again. */
function repeatCommand(args: Arguments): string {
  const { start, seeds, limits, single, trace, mutants, count, twice, keepGoing } = args;
  const options = [
    ...(single ? ["--seed", start] : ["--start", start, "--seeds", seeds]),
    ...(limits.byzantine === "mixed" ? [] : ["--byzantine", limits.byzantine]),
    ...(limits.mutation === "" ? [] : ["--mutation", limits.mutation]),
    ...(trace ? ["--trace"] : []),
    ...(mutants ? ["--mutants"] : []),
    ...(count ? ["--count"] : []),
    ...(twice ? ["--doublecheck"] : []),
    ...(keepGoing ? ["--keep-going"] : []),
  ];
  return `npm run simulate -- ${options.join(" ")}`;
}

function print(text: string): void {
  // At once: a run does not yield, and what a stream would hold back of its trace can be gigabytes.
  let bytes = Buffer.from(`${text}\n`);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(STANDARD_OUTPUT, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      // A full pipe: whoever reads it needs a moment.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  }
}

function printFailure(result: TaskResult): void {
  const { seed, limits } = result.task;
  print(`seed ${seed} FAILED`);
  for (const { checker, message } of result.violations) print(`  ${checker}: ${message}`);
  print(`  options: ${JSON.stringify(optionsOfSeed(seed, limits))}`);
  print(`  replay:  ${replayCommand(seed, limits)}`);
}

/** Runs one seed with its trace on standard output. */
function runTraced(seed: number, limits: OptionLimits): number {
  const options = optionsOfSeed(seed, limits);
  print(JSON.stringify(options, undefined, 1));
  const verdict = new Simulation(options, { line: print }).run();
  print(JSON.stringify(verdict.counts));
  for (const { checker, message } of verdict.violations) print(`${checker}: ${message}`);
  return verdict.violations.length > 0 ? 1 : 0;
}

interface Totals {
  seeds: number;
  byzantineSeeds: number;
  failed: number;
  decided: number;
  answered: number;
  virtualMs: number;
  transfers: number;
  /** How often each behaviour of Byzantine members did something, in all seeds together. */
  readonly acted: Record<string, number>;
}

async function runSeeds(args: Arguments): Promise<number> {
  const startedMs = performance.now();
  const totals: Totals = {
    seeds: 0,
    byzantineSeeds: 0,
    failed: 0,
    decided: 0,
    answered: 0,
    virtualMs: 0,
    transfers: 0,
    acted: {},
  };
  const perMinute = () => Math.round((totals.seeds / (performance.now() - startedMs)) * 60_000);
  let next = args.start;
  let shownMs = startedMs;
  const done = (result: TaskResult): boolean => {
    totals.seeds++;
    if (result.byzantineMembers > 0) totals.byzantineSeeds++;
    totals.decided += result.counts?.decided ?? 0;
    totals.answered += result.counts?.answered ?? 0;
    totals.virtualMs += result.counts?.virtualMs ?? 0;
    totals.transfers += result.counts?.transfers ?? 0;
    for (const [name, times] of Object.entries(result.counts?.acted ?? {})) {
      totals.acted[name] = (totals.acted[name] ?? 0) + times;
    }
    if (args.json) print(JSON.stringify({ seed: result.task.seed, ...result, task: undefined }));
    if (result.violations.length > 0) {
      totals.failed++;
      if (!args.json && totals.failed <= FAILURES_SHOWN_MAX) printFailure(result);
      return args.keepGoing;
    }
    if (!args.json && performance.now() - shownMs > 10_000) {
      shownMs = performance.now();
      print(`${totals.seeds} of ${args.seeds} seeds, ${totals.failed} failed, ${perMinute()} seeds a minute`);
    }
    return true;
  };
  const take = () =>
    next < args.start + args.seeds ? { seed: next++, limits: args.limits, twice: args.twice } : undefined;
  await runTasks(Math.min(args.workers, args.seeds), take, done);
  const summary = {
    ...totals,
    seedsPerMinute: perMinute(),
    elapsedSeconds: Math.round((performance.now() - startedMs) / 1000),
  };
  if (args.json) print(JSON.stringify(summary));
  else {
    print(
      `${totals.seeds} seeds (${totals.byzantineSeeds} with f Byzantine members), ${totals.failed} failed; ` +
        `${totals.decided} instances decided, ${totals.answered} requests answered, ${totals.transfers} states transferred, ` +
        `${Math.round(totals.virtualMs / 60_000)} virtual minutes in ${summary.elapsedSeconds} s, ` +
        `${summary.seedsPerMinute} seeds a minute`,
    );
  }
  return totals.failed > 0 ? 1 : 0;
}

async function runMutants(args: Arguments): Promise<number> {
  let missed = 0;
  const { mutation } = args.limits;
  for (const mutant of MUTANTS.filter(({ name }) => mutation === "" || name === mutation)) {
    const limits: OptionLimits = { byzantine: args.limits.byzantine, mutation: mutant.name };
    const checkers = new Map<string, number>();
    let next = args.start;
    let run = 0;
    let found = 0;
    let first: number | undefined;
    await runTasks(
      args.workers,
      () => (next < args.start + args.seeds ? { seed: next++, limits, twice: false } : undefined),
      (result) => {
        run++;
        const violation = result.violations[0];
        if (violation !== undefined) {
          found++;
          first = Math.min(first ?? result.task.seed, result.task.seed);
          checkers.set(violation.checker, (checkers.get(violation.checker) ?? 0) + 1);
        }
        return found === 0 || args.count;
      },
    );
    if (found === 0) missed++;
    const by = Object.fromEntries(checkers);
    if (args.json) print(JSON.stringify({ mutant: mutant.name, found, seeds: run, first, checkers: by }));
    else {
      const verdict = found > 0 ? `found in ${found} of ${run} seeds` : `NOT FOUND in ${run} seeds`;
      print(
        `${mutant.name.padEnd(28)} ${verdict.padEnd(28)} ${JSON.stringify(by)} ${first === undefined ? "" : `first ${first}`}`,
      );
    }
  }
  return missed > 0 ? 1 : 0;
}

async function main(): Promise<number> {
  let args: Arguments;
  try {
    args = readArguments(process.argv.slice(2));
  } catch (error) {
    const text = (error as Error).message;
    process.stderr.write(text === "" ? `${USAGE}\n` : `${text}\n${USAGE}\n`);
    return 2;
  }
  // Before anything can go wrong: the clock may have drawn it. Standard output is kept for lines of JSON.
  const first = `seed ${args.start}: ${repeatCommand(args)}`;
  if (args.json) process.stderr.write(`${first}\n`);
  else print(first);
  if (args.mutants) return runMutants(args);
  if (args.single && args.trace) return runTraced(args.start, args.limits);
  return runSeeds(args);
}

process.exitCode = await main();
