/**
 * Measures what clients see of crashes: writers in a closed loop on a demo cluster, kill -9 of the leader (or,
 * with --all, of all masters at once) and a restart, and then a check that every acknowledged write is there,
 * once.
 *
 *   node scripts/failover.ts --runs 10 --writers 64
 *   node scripts/failover.ts --runs 3 --all
 *
 * Each writer puts to a key of its own, so the key's version counts its writes: it must be at least the number
 * of acknowledged ones, and at most that plus the ones whose outcome is unknown.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { askDemo } from "../src/cli/demo-control.ts";
import { readRunning } from "../src/cli/demo-state.ts";
import { EtcdClient, readStatus } from "../src/cli/etcd-client.ts";
import { bytesField, readRange } from "../src/cli/kv-messages.ts";

interface Demo {
  readonly child: ChildProcess;
  readonly folder: string;
  readonly masters: readonly { readonly name: string; readonly pid: number; readonly clientUrl: string }[];
}

const CALL_TIMEOUT_MS = 10_000;

async function startDemo(): Promise<Demo> {
  const kmmr = join(import.meta.dirname, "../bin/kmmr.js");
  const args = [kmmr, "demo", "--ephemeral", "--client-tls", "off", "--output", "json"];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "ignore"] });
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout! }).once("line", resolve);
    child.once("exit", (code) => reject(new Error(`the demo ended with exit code ${code}`)));
  });
  const { masters } = JSON.parse(line) as { masters: (Demo["masters"][number] & { dataDir: string })[] };
  return { child, masters, folder: dirname(dirname(masters[0]!.dataDir)) };
}

/** One client that writes to its key again and again, and moves on to another master when one fails. */
class Writer {
  readonly key: string;
  acknowledged = 0;
  unknown = 0;
  readonly #urls: readonly string[];
  readonly #onAcknowledged: () => void;
  #target: number;

  constructor(index: number, urls: readonly string[], onAcknowledged: () => void) {
    this.key = `failover/${index}`;
    this.#urls = urls;
    this.#target = index % urls.length;
    this.#onAcknowledged = onAcknowledged;
  }

  async run(running: () => boolean): Promise<void> {
    let client = this.#connect();
    while (running()) {
      const value = Buffer.from(String(this.acknowledged + this.unknown + 1));
      const put = Buffer.concat([bytesField(1, Buffer.from(this.key)), bytesField(2, value)]);
      try {
        await client.call("/etcdserverpb.KV/Put", put);
        this.acknowledged++;
        this.#onAcknowledged();
      } catch {
        this.unknown++;
        client.close();
        this.#target = (this.#target + 1) % this.#urls.length;
        await delay(20);
        client = this.#connect();
      }
    }
    client.close();
  }

  #connect(): EtcdClient {
    return new EtcdClient(this.#urls[this.#target]!, {}, CALL_TIMEOUT_MS);
  }
}

async function leaderOf(demo: Demo): Promise<string> {
  for (const { name, clientUrl } of demo.masters) {
    const client = new EtcdClient(clientUrl, {}, CALL_TIMEOUT_MS);
    try {
      const status = readStatus(await client.call("/etcdserverpb.Maintenance/Status"));
      if (status.leaderId === status.memberId) return name;
    } finally {
      client.close();
    }
  }
  throw new Error("no master leads");
}

/** Faults found when every key is read back, from every master. */
async function faults(demo: Demo, writers: readonly Writer[]): Promise<string[]> {
  const found: string[] = [];
  for (const { name, clientUrl } of demo.masters) {
    const client = new EtcdClient(clientUrl, {}, CALL_TIMEOUT_MS);
    for (const { key, acknowledged, unknown } of writers) {
      const range = await client.call("/etcdserverpb.KV/Range", bytesField(1, Buffer.from(key)));
      const version = readRange(range)[0]?.version ?? 0;
      if (version >= acknowledged && version <= acknowledged + unknown) continue;
      found.push(`${name}: ${key} has ${version} writes: ${acknowledged} acknowledged, ${unknown} unknown`);
    }
    client.close();
  }
  return found;
}

interface Outcome {
  /** Longest time without an acknowledgement around the crash. */
  readonly pauseMs: number;
  readonly writes: number;
  readonly unknown: number;
  readonly faults: readonly string[];
}

async function measure(writerCount: number, all: boolean): Promise<Outcome> {
  const demo = await startDemo();
  const control = readRunning(demo.folder)!.controlSocket;
  let running = true;
  let lastMs = performance.now();
  let pauseMs = 0;
  let measuring = false;
  const urls = demo.masters.map((master) => master.clientUrl);
  const acknowledged = () => {
    const now = performance.now();
    if (measuring) pauseMs = Math.max(pauseMs, now - lastMs);
    lastMs = now;
  };
  const writers = Array.from({ length: writerCount }, (_, i) => new Writer(i, urls, acknowledged));
  const writing = Promise.all(writers.map((writer) => writer.run(() => running)));
  await delay(2_000);
  const victims = all ? demo.masters.map((master) => master.name) : [await leaderOf(demo)];
  measuring = true;
  await Promise.all(victims.map((master) => askDemo(control, { command: "kill", master })));
  if (!all) await delay(4_000);
  const answers = await Promise.all(victims.map((master) => askDemo(control, { command: "start", master })));
  const failed = answers.find((answer) => !answer.ok);
  if (failed !== undefined) throw new Error(failed.text);
  await delay(all ? 6_000 : 2_000);
  running = false;
  await writing;
  const outcome = {
    pauseMs,
    writes: writers.reduce((sum, writer) => sum + writer.acknowledged, 0),
    unknown: writers.reduce((sum, writer) => sum + writer.unknown, 0),
    faults: await faults(demo, writers),
  };
  demo.child.stdin!.end();
  await new Promise((resolve) => demo.child.once("exit", resolve));
  return outcome;
}

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    writers: { type: "string", default: "64" },
    all: { type: "boolean", default: false },
  },
});
const pauses: number[] = [];
let faultCount = 0;
for (let run = 1; run <= Number(values.runs); run++) {
  const outcome = await measure(Number(values.writers), values.all);
  pauses.push(outcome.pauseMs);
  faultCount += outcome.faults.length;
  const { writes, unknown } = outcome;
  console.log(
    `run ${run}: no acknowledgement for ${Math.round(outcome.pauseMs)} ms; ` +
      `${writes} writes acknowledged, ${unknown} unknown, ${outcome.faults.length} lost or doubled`,
  );
  for (const fault of outcome.faults.slice(0, 5)) console.log(`  ${fault}`);
}
pauses.sort((a, b) => a - b);
const median = pauses[Math.floor((pauses.length - 1) / 2)]!;
console.log(`p50 ${Math.round(median)} ms, longest ${Math.round(pauses.at(-1)!)} ms, ${faultCount} faults`);
process.exitCode = faultCount === 0 ? 0 : 1;
