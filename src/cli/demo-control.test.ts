import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { askDemo, ControlServer } from "./demo-control.ts";
import { readRunning, writeRunning } from "./demo-state.ts";

test("commands reach the supervisor, its errors come back, nothing is left behind", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-control-test-"));
  context.after(() => rmSync(folder, { recursive: true }));
  // One folder whose socket fits into the system's address, and one whose does not.
  for (const name of ["short", "long".repeat(30)]) {
    const inner = join(folder, name);
    mkdirSync(inner);
    const server = await ControlServer.listen(inner, async ({ command, master }) => {
      if (master === "m9") throw new Error("no such master");
      return { ok: true, text: `${command} ${master}`, pid: 7 };
    });
    assert.deepEqual(await askDemo(server.path, { command: "kill", master: "m1" }), {
      ok: true,
      text: "kill m1",
      pid: 7,
    });
    assert.deepEqual(await askDemo(server.path, { command: "start", master: "m9" }), {
      ok: false,
      text: "no such master",
      pid: null,
    });
    server.close();
    assert(!existsSync(server.path));
    await assert.rejects(askDemo(server.path, { command: "kill", master: "m1" }), /cannot be reached/);
  }
});

test("a state file of a process that is gone is no running demo", (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-running-test-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const demo = { controlSocket: "s", endpoints: [], cacert: null, cert: null, key: null };
  writeRunning(folder, { ...demo, pid: process.pid });
  assert.equal(readRunning(folder)?.pid, process.pid);
  // Above the largest process id that Linux gives.
  writeRunning(folder, { ...demo, pid: 2 ** 22 + 1 });
  assert.equal(readRunning(folder), undefined);
});
