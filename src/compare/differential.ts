/**
 * The differential test: the same random operations go to a real etcd and to KmMR, and every response field, error
 * and watch event is compared. Run: `npm run compare -- --operations 100000 --seed 1`.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { Prng } from "../base/prng.ts";
import { Generator } from "./generator.ts";
import { formatOperation, type Operation, parseOperations } from "./operation.ts";
import { plants } from "./plant.ts";
import { type Difference, Runner } from "./runner.ts";
import { shrink } from "./shrink.ts";
import { Side } from "./side.ts";
import { type RunningStore, type StoreKind, startStore } from "./store.ts";

interface Options {
  readonly operations: number;
  readonly seed: number;
  readonly left: StoreName;
  readonly right: StoreName;
  readonly clientTls: "on" | "off";
  readonly differences: number;
  readonly shrinkTries: number;
  readonly replay: string | undefined;
  readonly selfTest: boolean;
  readonly coverage: boolean;
  readonly keep: boolean;
}

interface StoreName {
  readonly kind: StoreKind;
  readonly members: number;
}

function parseStore(text: string): StoreName {
  const [kind, members = kind === "kmmr" ? "4" : "1"] = text.split(":");
  if ((kind !== "etcd" && kind !== "kmmr" && kind !== "door") || !/^[1-9]\d?$/.test(members)) {
    throw new InvalidArgumentError(
      "write etcd, kmmr, door, or one of them with a number of members, such as etcd:3",
    );
  }
  return { kind, members: Number(members) };
}

function parseNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("write a whole number");
  return Number(text);
}

const command = new Command("compare")
  .description("Compares every answer and event of KmMR with those of a real etcd, under random operations.")
  .option("--operations <n>", "how many operations", parseNumber, 100_000)
  .option("--seed <n>", "what the operations are drawn from", parseNumber, 1)
  .option("--left <store>", "the model", parseStore, parseStore("etcd"))
  .option("--right <store>", "the one under test", parseStore, parseStore("kmmr"))
  .option("--client-tls <on|off>", "client certificates between this test and KmMR", "off")
  .option("--differences <n>", "go on until so many differences were found", parseNumber, 1)
  .option(
    "--shrink-tries <n>",
    "runs that shrinking a difference may take; 0 for no shrinking",
    parseNumber,
    120,
  )
  .option("--replay <file>", "operations to run instead, one per line, as printed for a difference")
  .option("--self-test", "plant mistakes in what an etcd answers and show that each is found", false)
  .option("--coverage", "print what the run reached, in counts", false)
  .option("--keep", "keep the folders with the stores' logs and data", false);

/** What a run over two stores needs to go on after a difference. */
interface Session {
  readonly left: Side;
  readonly right: Side;
  readonly options: Options;
}

async function runOperations(
  session: Session,
  next: () => Operation | undefined,
  fresh: boolean,
): Promise<{
  readonly difference: Difference | undefined;
  readonly runner: Runner;
}> {
  const { left, right } = session;
  const runner = new Runner(left, right);
  if (fresh) await runner.begin();
  else await Promise.all([left.reset(), right.reset()]);
  const difference = await runner.run(next);
  runner.close();
  return { difference, runner };
}

function fromList(list: readonly Operation[]): () => Operation | undefined {
  let at = 0;
  return () => list[at++];
}

function printDifference(difference: Difference, options: Options): void {
  console.log(`\nDIFFERENCE at operation ${difference.index} (seed ${options.seed})`);
  console.log(`  where  ${difference.path}`);
  console.log(`  left   ${difference.left}`);
  console.log(`  right  ${difference.right}`);
  if (difference.operation !== undefined)
    console.log(`  operation      ${formatOperation(difference.operation)}`);
  if (difference.requests[0] !== "") console.log(`  request        ${difference.requests[0]}`);
  if (difference.answers[0] !== "") {
    console.log(`  left answered  ${difference.answers[0]}\n  right answered ${difference.answers[1]}`);
  }
}

async function shrinkDifference(
  session: Session,
  done: readonly Operation[],
  signature: string,
): Promise<void> {
  const { options } = session;
  if (options.shrinkTries === 0) return;
  const shows = async (list: readonly Operation[]): Promise<boolean> => {
    const { difference } = await runOperations(session, fromList(list), false);
    return difference !== undefined && signatureOf(difference) === signature;
  };
  const shortest = await shrink(done, shows, options.shrinkTries);
  if (shortest === undefined) {
    console.log("  it does not show again on emptied stores; replay the whole run with the command above");
    return;
  }
  const file = join(tmpdir(), `kmmr-compare-${options.seed}-${done.length}.jsonl`);
  writeFileSync(file, `${shortest.map(formatOperation).join("\n")}\n`);
  console.log(`  shrunk to ${shortest.length} operations:`);
  for (const operation of shortest.slice(-20)) console.log(`    ${formatOperation(operation)}`);
  console.log(`  replay: npm run compare -- --replay ${file}`);
}

/** Differences of one cause look alike but for numbers; errors are told apart by what both sides said. */
function signatureOf(difference: Difference): string {
  const errors = difference.answers.map((answer) => /^\{"error":.*/.exec(answer)?.[0] ?? "");
  return [difference.path, ...errors].join(" ").replaceAll(/\d+/g, "N");
}

async function compareStores(session: Session): Promise<number> {
  const { options } = session;
  const replayed =
    options.replay === undefined ? undefined : parseOperations(readFileSync(options.replay, "utf8"));
  const generator = new Generator(new Prng(options.seed));
  const total = replayed?.length ?? options.operations;
  console.log(
    `seed ${options.seed}, ${total} operations: ${session.left.name} against ${session.right.name}`,
  );
  const startedMs = performance.now();
  const seen = new Set<string>();
  let drawn = 0;
  let found = 0;
  let done: Operation[] = [];
  const next = (): Operation | undefined => {
    if (drawn >= total) return undefined;
    const operation = replayed === undefined ? generator.next() : replayed[drawn]!;
    drawn += 1;
    done.push(operation);
    if (drawn % 10_000 === 0) printRate(drawn, startedMs);
    return operation;
  };
  for (let fresh = true; drawn < total; fresh = false) {
    done = [];
    const { difference, runner } = await runOperations(session, next, fresh);
    if (options.coverage) console.log(runner.coverage.table());
    if (difference === undefined) continue;
    const signature = signatureOf(difference);
    if (seen.has(signature)) continue;
    seen.add(signature);
    found += 1;
    printDifference(difference, options);
    await shrinkDifference(session, done, signature);
    if (found >= options.differences) break;
  }
  printRate(drawn, startedMs);
  console.log(found === 0 ? `no difference in ${drawn} operations` : `${found} kinds of difference`);
  return found === 0 ? 0 : 1;
}

function printRate(operations: number, startedMs: number): void {
  const seconds = (performance.now() - startedMs) / 1000;
  console.log(
    `${operations} operations in ${seconds.toFixed(1)} s, ${Math.round(operations / seconds)} per second`,
  );
}

/** Runs with each planted mistake until it is found; fails when one is not. */
async function selfTest(
  leftStore: RunningStore,
  rightStore: RunningStore,
  options: Options,
): Promise<number> {
  let missed = 0;
  for (const [name, make] of Object.entries(plants)) {
    const session = {
      left: new Side("left", leftStore, undefined),
      right: new Side("right", rightStore, make()),
      options,
    };
    await Promise.all(
      [new Side("left", leftStore, undefined), new Side("right", rightStore, undefined)].map(emptyStore),
    );
    const generator = new Generator(new Prng(options.seed));
    let drawn = 0;
    const runner = new Runner(session.left, session.right);
    await runner.begin();
    const difference = await runner.run(() => (drawn++ < options.operations ? generator.next() : undefined));
    runner.close();
    session.left.close();
    session.right.close();
    if (difference === undefined) missed += 1;
    const outcome =
      difference === undefined ? `MISSED in ${options.operations}` : `found at operation ${difference.index}`;
    console.log(`${name.padEnd(34)} ${outcome.padEnd(28)} ${difference?.path ?? ""}`);
  }
  console.log(
    `${Object.keys(plants).length - missed} of ${Object.keys(plants).length} planted mistakes found`,
  );
  return missed === 0 ? 0 : 1;
}

async function emptyStore(side: Side): Promise<void> {
  await side.reset();
  side.close();
}

async function main(): Promise<number> {
  const options = command.parse(process.argv).opts<Options>();
  const storeOptions = { clientTls: options.clientTls === "on", sync: false };
  const rightName = options.selfTest ? options.left : options.right;
  const stores = await Promise.all(
    [options.left, rightName].map(({ kind, members }) => startStore(kind, { members, ...storeOptions })),
  );
  if (options.keep) console.log(`logs: ${stores.map(({ directory }) => directory).join(" ")}`);
  const [leftStore, rightStore] = stores as [RunningStore, RunningStore];
  const stop = async (): Promise<void> => {
    await Promise.all(stores.map((store) => store.stop(options.keep)));
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void stop().finally(() => process.exit(130)));
  }
  try {
    if (options.selfTest) return await selfTest(leftStore, rightStore, options);
    const left = new Side(leftStore.name, leftStore, undefined);
    const right = new Side(rightStore.name, rightStore, undefined);
    const code = await compareStores({ left, right, options });
    left.close();
    right.close();
    return code;
  } finally {
    await stop();
  }
}

process.exitCode = await main();
