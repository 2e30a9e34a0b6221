import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { readRunning } from "./demo-state.ts";

const KMMR = join(import.meta.dirname, "../../bin/kmmr.js");

interface DemoLine {
  readonly endpoints: readonly string[];
  readonly cacert: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly masters: readonly {
    readonly name: string;
    readonly pid: number;
    readonly clientUrl: string;
    readonly peerUrl: string;
    readonly dataDir: string;
  }[];
}

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command to its end. */
function run(...args: string[]): Promise<Ran> {
  const env = { ...process.env, ETCDCTL_ENDPOINTS: undefined };
  return new Promise((resolve) => {
    execFile(process.execPath, [KMMR, ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** Starts a demo and waits for its line. */
async function startDemo(...args: string[]): Promise<{ child: ChildProcess; line: DemoLine }> {
  const child = spawn(process.execPath, [KMMR, "demo", "--output", "json", ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout! });
  const line = await new Promise<string>((resolve, reject) => {
    lines.once("line", resolve);
    child.once("exit", (code) => reject(new Error(`the demo ended with exit code ${code}`)));
  });
  return { child, line: JSON.parse(line) as DemoLine };
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once("exit", (code) => resolve(code)));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Waits until no process of the demo is left and its folder is gone. */
async function assertGone(line: DemoLine): Promise<void> {
  const folder = dirname(dirname(line.masters[0]!.dataDir));
  const deadlineMs = performance.now() + 10_000;
  while (line.masters.some((master) => isAlive(master.pid)) || existsSync(folder)) {
    assert(performance.now() < deadlineMs, "processes or files are left after 10 s");
    await delay(50);
  }
}

function flags(line: DemoLine): string[] {
  const tls = line.cacert === null ? [] : ["--cacert", line.cacert, "--cert", line.cert!, "--key", line.key!];
  return ["--endpoints", line.endpoints.join(","), "--timeout", "8000", ...tls];
}

test("an ephemeral demo with TLS: one line, reads and writes, kill and start, SIGTERM leaves nothing", async () => {
  const { child, line } = await startDemo("--ephemeral");
  assert.equal(line.masters.length, 4);
  assert.deepEqual(
    line.endpoints,
    line.masters.map((master) => master.clientUrl),
  );
  assert(line.endpoints.every((url) => url.startsWith("https://127.0.0.1:")));
  const folder = dirname(dirname(line.masters[0]!.dataDir));
  const put = await run("put", "a", "1", ...flags(line));
  assert.equal(put.stdout, "OK (revision 2)\n", put.stderr);

  const leader = (
    JSON.parse((await run("status", ...flags(line), "-o", "json")).stdout) as {
      members: { name: string; leader: boolean }[];
    }
  ).members.find((member) => member.leader)!.name;
  const killed = await run("demo", "kill", leader, "--data-dir", folder);
  assert.equal(killed.code, 0, killed.stderr);
  const again = await run("demo", "kill", leader, "--data-dir", folder);
  assert.match(again.stderr, /does not run/);
  assert.equal(again.code, 1);
  const second = await run("put", "a", "2", ...flags(line));
  assert.equal(second.stdout, "OK (revision 3)\n", second.stderr);
  assert.equal((await run("status", ...flags(line))).code, 1);

  const started = await run("demo", "start", leader, "--data-dir", folder, "--output", "json");
  assert.equal(started.code, 0, started.stderr);
  assert.match(started.stdout, /serves after/);
  const get = await run("get", "a", "--output", "json", ...flags(line));
  assert.deepEqual(JSON.parse(get.stdout), [{ key: "a", value: "2", modRevision: 3, version: 2 }]);
  const unknown = await run("demo", "kill", "m9", "--data-dir", folder);
  assert.match(unknown.stderr, /there is no master "m9"; the masters are m1, m2, m3, m4/);

  child.kill("SIGTERM");
  assert.equal(await ended(child), 0);
  await assertGone(line);
});

test("data is kept, a second demo on the same folder is refused, closing standard input ends it", async (context) => {
  const parent = mkdtempSync(join(tmpdir(), "kmmr-demo-test-"));
  context.after(() => rmSync(parent, { recursive: true }));
  const folder = join(parent, "demo");
  const first = await startDemo("--data-dir", folder, "--client-tls", "off");
  assert.equal((await run("put", "kept", "yes", ...flags(first.line))).code, 0);
  const refused = await run("demo", "--data-dir", folder, "--output", "json");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /a demo is running already on .*; end it first, or name another folder/);
  first.child.stdin!.end();
  assert.equal(await ended(first.child), 0);
  assert.deepEqual(
    readdirSync(folder).toSorted(),
    ["admin", "ca", "demo.json", "m1", "m2", "m3", "m4", "operator"],
    "no socket and no state file of a running demo is left",
  );

  const wrong = await run("demo", "--data-dir", folder, "--masters", "7");
  assert.match(wrong.stderr, /has 4 masters, not 7/);
  assert.equal(wrong.code, 2);
  const genesis = join(folder, "m2", "genesis.json");
  renameSync(genesis, `${genesis}.away`);
  const damaged = await run("demo", "--data-dir", folder);
  assert.match(damaged.stderr, /is damaged: .*m2\/genesis.json: no such file; remove that folder, or name/);
  renameSync(`${genesis}.away`, genesis);
  const second = await startDemo("--data-dir", folder, "--client-tls", "off");
  assert.deepEqual(second.line.endpoints, first.line.endpoints);
  const get = await run("get", "kept", ...flags(second.line));
  assert.equal(get.stdout, "kept\nyes\n", get.stderr);
  second.child.stdin!.end();
  await ended(second.child);
});

test("an ephemeral demo that is killed -9 leaves no process and no file", async () => {
  const { child, line } = await startDemo("--ephemeral", "--client-tls", "off");
  child.kill("SIGKILL");
  await assertGone(line);
});

test("a master with a damaged record sets its state aside and takes it from the others", async (context) => {
  const parent = mkdtempSync(join(tmpdir(), "kmmr-demo-test-"));
  context.after(() => rmSync(parent, { recursive: true }));
  const folder = join(parent, "demo");
  const { child, line } = await startDemo("--data-dir", folder, "--client-tls", "off");
  const [master] = line.masters;
  const marker = "a value that is easy to find";
  for (const [key, value] of [
    ["a", marker],
    ["b", "1"],
  ] as const) {
    assert.equal((await run("put", key, value, ...flags(line))).code, 0);
  }
  const file = join(master!.dataDir, "state", "data.mdb");
  const deadlineMs = performance.now() + 10_000;
  while (!readFileSync(file).includes(marker)) {
    assert(performance.now() < deadlineMs, "the state reaches the disk");
    await delay(100);
  }
  assert.equal((await run("demo", "kill", master!.name, "--data-dir", folder)).code, 0);
  const bytes = readFileSync(file);
  for (let at = bytes.indexOf(marker); at >= 0; at = bytes.indexOf(marker, at + 1)) bytes[at]! ^= 1;
  writeFileSync(file, bytes);
  assert.equal((await run("put", "c", "2", ...flags(line))).code, 0);
  const started = await run("demo", "start", master!.name, "--data-dir", folder);
  assert.equal(started.code, 0, started.stderr);
  assert.ok(existsSync(join(master!.dataDir, "state-damaged", "data.mdb")));
  const own = flags({ ...line, endpoints: [master!.clientUrl] });
  const get = await run("get", "a", ...own);
  assert.equal(get.stdout, `a\n${marker}\n`, get.stderr);
  assert.equal((await run("put", "d", "3", ...own)).code, 0);
  child.stdin!.end();
  await ended(child);
});

test("a closed standard output drops what is said, and the end of npm's shell ends the demo", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-demo-test-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  // As npm starts a command: through a shell, which dies at SIGTERM without a word to its child.
  const demo = `"${process.execPath}" "${KMMR}" demo --ephemeral --client-tls off --data-dir "${folder}"; true`;
  const shell = spawn("sh", ["-c", demo], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, npm_command: "exec" },
  });
  const lines = createInterface({ input: shell.stdout });
  const shown: string[] = [];
  for await (const line of lines) {
    shown.push(line);
    if (line.startsWith("Ctrl-C")) break;
  }
  const banner = shown.join("\n");
  for (const command of ["status", "put greeting hello", "demo kill m1", "demo start m1"]) {
    assert(banner.includes(`npx kmmr ${command} --data-dir ${folder}`), `${command} in:\n${banner}`);
  }
  shell.stdout.destroy();
  const supervisor = readRunning(folder)!.pid;
  context.after(() => isAlive(supervisor) && process.kill(supervisor, "SIGKILL"));
  const killed = await run("demo", "kill", "m2", "--data-dir", folder);
  assert.equal(killed.code, 0, killed.stderr);
  const started = await run("demo", "start", "m2", "--data-dir", folder);
  assert.equal(started.code, 0, `the announcement had nobody to read it: ${started.stderr}`);
  shell.kill("SIGTERM");
  const deadlineMs = performance.now() + 10_000;
  while (isAlive(supervisor) || existsSync(folder)) {
    assert(performance.now() < deadlineMs, "the demo goes on 10 s after the end of its shell");
    await delay(50);
  }
});

test("wrong use ends with exit code 2 and says what is possible", async () => {
  const cases: [args: readonly string[], text: RegExp][] = [
    [["demo", "--masters", "3"], /a whole number from 4 to 10/],
    [["demo", "--client-tls", "perhaps"], /Allowed choices are on, off[\s\S]*\(kmmr demo --help shows/],
    [["demo", "kill"], /missing required argument 'master'[\s\S]*\(kmmr demo kill --help shows/],
    [
      ["demo", "--ephemeral", "--client-port-base", "7000", "--peer-port-base", "7003"],
      /--client-port-base and --peer-port-base are less than 4 apart/,
    ],
    [["demo", "--data-dir", import.meta.filename], /is a file, .*; name another folder with --data-dir/],
    [
      ["init", "--masters", "a,b,c", "--out", join(tmpdir(), "kmmr-never")],
      /3 members tolerate no Byzantine one/,
    ],
    [["nonsense"], /unknown command[\s\S]*\(kmmr --help shows/],
    [["node", "--config", "/nowhere.yaml"], /no such file/],
  ];
  if (process.platform === "linux") {
    cases.push([
      ["demo", "--data-dir", "/proc/kmmr/x"],
      /^kmmr: \/proc\/kmmr: no folder can be made there; name/,
    ]);
  }
  for (const [args, text] of cases) {
    const { code, stderr } = await run(...args);
    assert.equal(code, 2, `${args.join(" ")}: ${stderr}`);
    assert.match(stderr, text);
  }
});

test("a demo for a program that has closed standard input says why it does not run", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-demo-test-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const args = [KMMR, "demo", "--output", "json", "--data-dir", folder];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  const stderr = await text(child.stderr);
  assert.equal(child.exitCode ?? (await ended(child)), 0);
  assert.match(stderr, /^kmmr: standard input is closed: nothing to run for/);
});

test("the help of node lists the keys of its config", async () => {
  const { stdout } = await run("node", "--help");
  assert.match(stdout, /\n {2}client\.listen, client\.certFile, .*client\.requireClientCert\n/);
});
