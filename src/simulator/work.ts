/** What a worker is told to do and what it answers. One seed at a time. */
import type { Violation } from "./history.ts";
import { type OptionLimits, optionsOfSeed } from "./options.ts";
import { Simulation } from "./simulation.ts";
import type { RunCounts } from "./verdict.ts";

export interface Task {
  readonly seed: number;
  readonly limits: OptionLimits;
  /** Run it twice and compare. */
  readonly twice: boolean;
}

export interface TaskResult {
  readonly task: Task;
  readonly violations: readonly Violation[];
  readonly counts: RunCounts | undefined;
  readonly byzantineMembers: number;
  readonly elapsedMs: number;
}

/** Runs one seed. Whatever is thrown is a violation too: the simulator or a member is broken. */
export function runTask(task: Task): TaskResult {
  const startedMs = performance.now();
  const options = optionsOfSeed(task.seed, task.limits);
  const byzantineMembers = options.faulty.filter(({ kind }) => kind === "byzantine").length;
  const done = (violations: readonly Violation[], counts: RunCounts | undefined): TaskResult => ({
    task,
    violations,
    counts,
    byzantineMembers,
    elapsedMs: performance.now() - startedMs,
  });
  try {
    const verdict = new Simulation(options).run();
    const violations = [...verdict.violations];
    if (task.twice) {
      const second = new Simulation(options).run();
      if (second.fingerprint !== verdict.fingerprint) {
        const message = `fingerprints ${verdict.fingerprint} and ${second.fingerprint}`;
        violations.push({ checker: "determinism", message });
      }
    }
    return done(violations, verdict.counts);
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return done([{ checker: "simulator", message }], undefined);
  }
}
