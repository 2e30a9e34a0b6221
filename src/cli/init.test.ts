import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CommanderError } from "commander";
import { loadConfig } from "../node/config.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { initCommand } from "./init.ts";

const KMMR = join(import.meta.dirname, "../../bin/kmmr.js");

/** What `kmmr init` refuses its arguments with; undefined when it takes them. */
async function refusal(...args: string[]): Promise<string | undefined> {
  const command = initCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  try {
    await command.parseAsync(args, { from: "user" });
    return undefined;
  } catch (error) {
    if (error instanceof CommandError) assert.equal(error.exitCode, ExitCode.usage);
    else assert(error instanceof CommanderError && error.exitCode !== 0, String(error));
    return error.message.replace(/^.*' is invalid\. /, "");
  }
}

test("clusters that cannot work are refused with one clear line", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-init-test-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const out = join(folder, "cluster");
  for (const [masters, text] of [
    ["a=h,b=h,c=i,d=j", /^a and b are on the same host h: each needs one of its own/],
    ["a=fd00::1,b=fd00:0::1,c=i,d=j", /^a and b are on the same host/],
    ["a,a=b,c,d", /^two masters have the name "a"$/],
    ["a=1=2,b,c,d", /^"a=1=2" is no master: write HOST or NAME=HOST$/],
    ["a=h1:2380,b,c,d", /^"h1:2380" has a port: ports are given with --client-port and --peer-port/],
    ["h1:2380,b,c,d", /^"h1:2380" has a port/],
    ["a=[fd00::1]:2380,b,c,d", /^"\[fd00::1\]:2380" has a port/],
    ["a=1:2:3,b,c,d", /^"1:2:3" is no host name or address$/],
    ["a=10.0.0.300,b,c,d", /^"10.0.0.300" is no host name or address$/],
    ["a=0.0.0.0,b,c,d", /^"0.0.0.0" is no host name or address$/],
    ["a=-x,b,c,d", /^"-x" is no host name or address$/],
    ["fd00::1,b,c,d", /^"fd00::1" cannot be a master's name .*: write NAME=HOST$/],
    ["admin,b,c,d", /^"admin" is the name of another folder that is made: write NAME=HOST$/],
  ] as const) {
    assert.match((await refusal("--masters", masters, "--out", out)) ?? "taken", text, masters);
  }
  const four = ["--masters", "a,b,c,d"];
  assert.match(
    (await refusal(...four, "--out", out, "--client-port", "2380")) ?? "taken",
    /^--client-port and --peer-port are both 2380/,
  );
  const file = join(folder, "file");
  writeFileSync(file, "");
  assert.match(
    (await refusal(...four, "--out", file)) ?? "taken",
    /file: is a file, .*; name another folder with --out$/,
  );
  if (process.platform === "linux") {
    assert.match(
      (await refusal(...four, "--out", "/proc/x")) ?? "taken",
      /^\/proc\/x: no folder can be made there; name/,
    );
  }
});

test("hosts with IPv6 addresses listen on IPv6, and the steps can be pasted", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-init-test-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const out = join(folder, "a cluster");
  const masters = "a=[fd00::1],b=fd00::2,c=10.0.0.3,d=cp4.example";
  const text = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [KMMR, "init", "-m", masters, "--out", out], (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    );
  });
  const listens = (name: string) => {
    const { client, peer } = loadConfig(join(out, name, "kmmr.yaml"));
    return [client.listen, peer.listen];
  };
  assert.deepEqual(listens("a"), ["https://[::]:2379", "[::]:2380"]);
  assert.deepEqual(listens("c"), ["https://0.0.0.0:2379", "0.0.0.0:2380"]);
  assert.deepEqual(listens("d"), ["https://0.0.0.0:2379", "0.0.0.0:2380"]);
  assert.match(readFileSync(join(out, "a", "genesis.json"), "utf8"), /"peerHost": "fd00::1"/);
  assert(
    text.includes(`ssh fd00::1 mkdir -p -m 700 /etc/kmmr\n     scp -p '${out}/a'/* '[fd00::1]:/etc/kmmr/'\n`),
  );
  assert(text.includes(`scp -p '${out}/c'/* 10.0.0.3:/etc/kmmr/\n`));
  assert(text.includes("kmmr status --endpoints https://[fd00::1]:2379 --cacert"));
});
