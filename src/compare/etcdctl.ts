/**
 * Runs one session of etcdctl, of the 3.4 and of the 3.6 line, on a real etcd and on KmMR, and compares what it
 * prints, line by line, and its exit codes. Ids, sizes, versions, addresses and times are taken out before.
 * Run: `npm run compare:etcdctl`.
 */
import { spawn } from "node:child_process";
import { Command } from "commander";
import { etcdBinaries, etcdMissingHint } from "../bench/etcd-binaries.ts";
import { OutputNormalizer, type ProgramOutput } from "./etcdctl-output.ts";
import { type SessionStep, session } from "./etcdctl-session.ts";
import { type RunningStore, startStore } from "./store.ts";

interface Options {
  readonly right: "etcd" | "kmmr";
  readonly masters: number;
  readonly clientTls: "on" | "off";
  readonly verbose: boolean;
}

const command = new Command("compare:etcdctl")
  .description("Compares what etcdctl prints on KmMR with what it prints on a real etcd of as many members.")
  .option("--right <etcd|kmmr>", "the store under test", "kmmr")
  .option("--masters <n>", "members of both stores", Number, 4)
  .option("--client-tls <on|off>", "client certificates between etcdctl and KmMR", "on")
  .option("--verbose", "print what was compared", false);

/** What a command left behind, normalized. */
interface Outcome {
  readonly lines: readonly string[];
}

const quietMs = 1000;
const commandTimeoutMs = 20_000;

class Terminal {
  readonly #program: string;
  readonly #store: RunningStore;
  readonly #normalizer: OutputNormalizer;

  constructor(program: string, store: RunningStore) {
    this.#program = program;
    this.#store = store;
    this.#normalizer = new OutputNormalizer(store.endpoints);
  }

  async run(step: SessionStep): Promise<Outcome> {
    const tls = this.#store.tls;
    const parameters = [
      `--endpoints=${this.#store.endpoints.join(",")}`,
      ...(tls === undefined ? [] : [`--cacert=${tls.cacert}`, `--cert=${tls.cert}`, `--key=${tls.key}`]),
      ...step.parameters.map((text) => this.#normalizer.fillIn(text)),
    ];
    const output = await runProgram(this.#program, parameters, step);
    const lines = this.#normalizer.normalize(output, step.unordered === true);
    return { lines };
  }
}

function runProgram(
  program: string,
  parameters: readonly string[],
  step: SessionStep,
): Promise<ProgramOutput> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      stdio: ["pipe", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    let ended = false;
    const end = (): void => {
      ended = true;
      child.kill("SIGKILL");
    };
    // A command that should end by itself and does not is ended too, and differs by that.
    let timer = setTimeout(end, commandTimeoutMs);
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString("latin1");
      if (step.untilLines === undefined) return;
      clearTimeout(timer);
      // A little longer than the last line, to see lines too many.
      const enough = stdout.split("\n").length > step.untilLines;
      timer = setTimeout(end, enough ? quietMs / 5 : quietMs);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString("latin1");
    });
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(timer);
      resolve({ stdout, stderr, exitCode: ended ? undefined : (code ?? -1) });
    });
    // A program may end before it has read its input.
    child.stdin.on("error", () => {});
    if (step.untilLines !== undefined && step.input !== undefined) child.stdin.write(step.input);
    else child.stdin.end(step.input ?? "");
  });
}

function printDifference(name: string, left: readonly string[], right: readonly string[]): void {
  console.log(`\nDIFFERENCE: ${name}`);
  const height = Math.max(left.length, right.length);
  for (let i = 0; i < height; i++) {
    if (left[i] === right[i]) console.log(`    ${left[i]}`);
    else {
      if (left[i] !== undefined) console.log(`  < ${left[i]}`);
      if (right[i] !== undefined) console.log(`  > ${right[i]}`);
    }
  }
}

/** @returns the number of commands that differ */
async function compareSession(
  version: "3.4" | "3.6",
  program: string,
  stores: readonly [RunningStore, RunningStore],
  verbose: boolean,
): Promise<number> {
  const terminals = stores.map((store) => new Terminal(program, store));
  let different = 0;
  let compared = 0;
  for (const step of session) {
    if (step.only !== undefined && step.only !== version) continue;
    const [left, right] = (await Promise.all(terminals.map((terminal) => terminal.run(step)))) as [
      Outcome,
      Outcome,
    ];
    compared += 1;
    const name = `etcdctl ${version} ${step.parameters.join(" ")}`;
    if (left.lines.join("\n") !== right.lines.join("\n")) {
      different += 1;
      printDifference(name, left.lines, right.lines);
    } else if (verbose) {
      console.log(`\nsame: ${name}\n${left.lines.map((line) => `    ${line}`).join("\n")}`);
    }
  }
  console.log(`etcdctl ${version}: ${compared - different} of ${compared} commands print the same`);
  return different;
}

async function main(): Promise<number> {
  const options = command.parse(process.argv).opts<Options>();
  const { etcdctl, etcdctlOld } = etcdBinaries();
  if (etcdctl === undefined || etcdctlOld === undefined) {
    console.error(etcdMissingHint);
    return 1;
  }
  const storeOptions = { members: options.masters, clientTls: options.clientTls === "on", sync: false };
  const stores = (await Promise.all([
    startStore("etcd", storeOptions),
    startStore(options.right, storeOptions),
  ])) as [RunningStore, RunningStore];
  const stop = async (): Promise<void> => {
    await Promise.all(stores.map((store) => store.stop()));
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void stop().finally(() => process.exit(130)));
  }
  try {
    let different = 0;
    different += await compareSession("3.4", etcdctlOld, stores, options.verbose);
    different += await compareSession("3.6", etcdctl, stores, options.verbose);
    console.log(different === 0 ? "no difference" : `${different} commands differ`);
    return different === 0 ? 0 : 1;
  } finally {
    await stop();
  }
}

process.exitCode = await main();
