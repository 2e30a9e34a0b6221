/**
 * The KmMR cluster that is measured: `kmmr demo` without state, which tells in one line of JSON where its masters
 * are, and ends when its standard input closes.
 */
import { mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { bindPids, isAlive, releasePids, spawnBound, stopChild } from "./child-process.ts";
import { type Target, type TargetMember, type TargetOptions, TargetStartError } from "./target.ts";

/** The line of `kmmr demo --output json`. */
const demoSchema = z.object({
  endpoints: z.array(z.string()),
  cacert: z.string().nullable(),
  cert: z.string().nullable(),
  key: z.string().nullable(),
  masters: z.array(
    z.object({
      name: z.string(),
      pid: z.int(),
      clientUrl: z.string(),
      peerUrl: z.string(),
      dataDir: z.string(),
    }),
  ),
});
type Demo = z.infer<typeof demoSchema>;

const commandPath = fileURLToPath(new URL("../cli/main.ts", import.meta.url));
const startTimeoutMs = 150_000;
const stopPatienceMs = 10_000;
const logTailCharacters = 3000;

/** Starts the demo and waits until every master serves. Throws TargetStartError. */
export async function startKmmr(options: TargetOptions): Promise<Target> {
  mkdirSync(options.folder, { recursive: true });
  const logPath = join(options.folder, "demo.log");
  // An ephemeral demo lies in the folder for temporary files: this one puts it on the disk that is measured.
  const environment = { ...process.env, TMPDIR: options.folder };
  const parameters = [
    commandPath,
    "demo",
    `--masters=${options.members}`,
    "--ephemeral",
    `--client-tls=${options.clientTls ? "on" : "off"}`,
    "--output=json",
  ];
  const child = spawnBound(process.execPath, parameters, {
    stdio: ["pipe", "pipe", openSync(logPath, "w")],
    env: environment,
  });
  const fail = (reason: string): never => {
    const log = readFileSync(logPath, "utf8").slice(-logTailCharacters);
    throw new TargetStartError(`kmmr demo does not serve: ${reason}\n${log}`);
  };
  let demo: Demo;
  try {
    const line = await firstLine(child.stdout!, startTimeoutMs);
    demo = demoSchema.parse(JSON.parse(line));
  } catch (error) {
    await stopChild(child, stopPatienceMs);
    return fail(error instanceof Error ? error.message : String(error));
  }
  const members: TargetMember[] = demo.masters.map(({ name, pid, clientUrl, dataDir }) => {
    return { name, pid, clientUrl, dataDir };
  });
  bindPids(demo.masters.map((master) => master.pid));
  const tls =
    demo.cacert === null || demo.cert === null || demo.key === null
      ? undefined
      : { cacert: demo.cacert, cert: demo.cert, key: demo.key };
  const kill = (name: string): void => {
    const member = members.find((candidate) => candidate.name === name)!;
    if (member.pid === undefined) return;
    process.kill(member.pid, "SIGKILL");
    releasePids([member.pid]);
    member.pid = undefined;
  };
  const restart = async (name: string): Promise<void> => {
    const pid = await startMaster(name, environment);
    bindPids([pid]);
    members.find((candidate) => candidate.name === name)!.pid = pid;
  };
  const stop = async (): Promise<void> => {
    child.stdin!.end();
    await stopChild(child, stopPatienceMs);
    const pids = members.flatMap((member) => member.pid ?? []);
    const left = pids.filter(isAlive);
    for (const pid of left) process.kill(pid, "SIGKILL");
    releasePids(pids);
    rmSync(options.folder, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`kmmr demo left ${left.length} masters running; they were killed`);
  };
  return { name: "kmmr", description: "KmMR", members, tls, kill, restart, stop };
}

const startAnswerSchema = z.object({ ok: z.boolean(), text: z.string(), pid: z.int().nullable() });

/** `kmmr demo start <name>`: returns the new process id. */
async function startMaster(name: string, environment: NodeJS.ProcessEnv): Promise<number> {
  const child = spawnBound(process.execPath, [commandPath, "demo", "start", name, "--output=json"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: environment,
  });
  const answer = startAnswerSchema.parse(JSON.parse(await firstLine(child.stdout!, startTimeoutMs)));
  if (answer.pid === null) throw new TargetStartError(`kmmr demo start ${name}: ${answer.text}`);
  return answer.pid;
}

function firstLine(output: Readable, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const timer = setTimeout(
      () => reject(new Error(`no line of JSON within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    output.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const end = text.indexOf("\n");
      if (end < 0) return;
      clearTimeout(timer);
      resolve(text.slice(0, end));
      // What it prints later is not for us, but must not fill the pipe.
      output.removeAllListeners("data").resume();
    });
    output.once("end", () => {
      clearTimeout(timer);
      reject(new Error("it ended"));
    });
  });
}
