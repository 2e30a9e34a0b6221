/**
 * First contact with Kubernetes: an unmodified control plane of one kube-apiserver per master runs on a store, and
 * kubectl does what people do, always reading through another master than the one that wrote.
 * Run: `npm run conformance -- --store kmmr` (needs Go the first time, to build Kubernetes).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { KubernetesBuildError, kubernetesBinaries, kubernetesVersion } from "../scripts/build-kubernetes.ts";
import { startStore } from "../src/compare/store.ts";
import { ControlPlane } from "./control-plane.ts";
import { Scenario, type Step, steps } from "./steps.ts";

interface Options {
  readonly store: "etcd" | "kmmr";
  readonly masters: number;
  readonly clientTls: "on" | "off";
  readonly keep: boolean;
}

const command = new Command("conformance")
  .description(
    `Runs Kubernetes ${kubernetesVersion()} on a store. Needs Go the first time, to build Kubernetes.`,
  )
  .option("--store <etcd|kmmr>", "the store below the kube-apiservers", parseStore, "kmmr")
  .option("--masters <n>", "members of the store, each with its own kube-apiserver", Number, 4)
  .option("--client-tls <on|off>", "client certificates between the kube-apiservers and KmMR", "on")
  .option("--keep", "keep the folder with all logs also when nothing failed", false);

function parseStore(text: string): "etcd" | "kmmr" {
  if (text !== "etcd" && text !== "kmmr") throw new InvalidArgumentError("write etcd or kmmr");
  return text;
}

interface StepOutcome {
  readonly name: string;
  readonly seconds: number;
  /** Undefined when it went well. */
  readonly failure: string | undefined;
}

async function runStep(step: Step, scenario: Scenario): Promise<StepOutcome> {
  const startedMs = performance.now();
  const outcome = (failure: string | undefined): StepOutcome => ({
    name: step.name,
    seconds: (performance.now() - startedMs) / 1000,
    failure,
  });
  try {
    await step.run(scenario);
    return outcome(undefined);
  } catch (error) {
    return outcome(error instanceof Error ? error.message : String(error));
  }
}

function printOutcome({ name, seconds, failure }: StepOutcome): void {
  const result = failure === undefined ? "ok    " : "FAILED";
  console.log(
    `${result} ${seconds.toFixed(1).padStart(6)} s  ${name}${failure === undefined ? "" : `\n    ${failure}`}`,
  );
}

async function main(): Promise<number> {
  const options = command.parse(process.argv).opts<Options>();
  const binaries = kubernetesBinaries();
  const directory = mkdtempSync(join(tmpdir(), "kmmr-conformance-"));
  console.log(
    `Kubernetes ${kubernetesVersion()} on ${options.store}, ${options.masters} masters; logs in ${directory}`,
  );
  const startedMs = performance.now();
  const store = await startStore(options.store, {
    members: options.masters,
    clientTls: options.clientTls === "on",
    sync: true,
  });
  console.log(
    `ok     ${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  the store serves`,
  );
  const plane = new ControlPlane(binaries, store, directory);
  let failed = 0;
  const stop = async (): Promise<void> => {
    await plane.stop();
    const keep = options.keep || failed > 0;
    await store.stop(keep);
    if (keep) console.log(`logs are kept in ${directory} and ${store.directory}`);
    else rmSync(directory, { recursive: true, force: true });
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void stop().finally(() => process.exit(130)));
  }
  try {
    const scenario = new Scenario(plane);
    for (const step of steps) {
      const outcome = await runStep(step, scenario);
      printOutcome(outcome);
      if (outcome.failure === undefined) continue;
      failed += 1;
      // Without a running control plane nothing else can work.
      if (step.needed) break;
    }
  } finally {
    await stop();
  }
  console.log(failed === 0 ? `${steps.length} steps passed` : `${failed} steps FAILED`);
  return failed === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof KubernetesBuildError ? error.message : error);
  process.exitCode = 1;
}
