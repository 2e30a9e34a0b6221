import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { IncarnationError, nextIncarnation } from "./incarnation.ts";
import { Pending } from "./pending.ts";
import { LockedError, lockFolder } from "./process-lock.ts";

test("pending: each request is answered once, in time or as timed out", () => {
  const answers: string[] = [];
  const pending = new Pending<string>({ timeoutMs: 100, limit: 3 });
  const first = pending.add((answer) => answers.push(`1 ${answer}`), 0);
  const second = pending.add((answer) => answers.push(`2 ${answer}`), 50);
  pending.add((answer) => answers.push(`3 ${answer}`), 60);
  assert(pending.full);
  assert(pending.answer(second, "result"));
  assert(!pending.full);
  assert.equal(pending.expire(99, "timeout"), 0);
  assert.equal(pending.expire(100, "timeout"), 1);
  assert(!pending.answer(first, "late"));
  pending.end("stopped");
  assert.deepEqual(answers, ["2 result", "1 timeout", "3 stopped"]);
  assert.equal(pending.size, 0);
});

test("pending: a callback may add the next request", () => {
  const pending = new Pending<string>({ timeoutMs: 10, limit: 10 });
  let answered = 0;
  const again = () => {
    answered++;
    if (answered < 5) pending.add(again, 1000);
  };
  pending.add(again, 0);
  assert.equal(pending.expire(500, "timeout"), 1);
  assert.equal(pending.size, 1);
});

test("incarnations grow with every start, also when the clock goes back", (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-incarnation-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const dataDir = join(folder, "data");
  assert.equal(nextIncarnation(dataDir, 1000), 1000);
  assert.equal(nextIncarnation(dataDir, 1000), 1001);
  assert.equal(nextIncarnation(dataDir, 5), 1002);
  assert.equal(nextIncarnation(dataDir, 9000), 9000);
  assert.equal(readFileSync(join(dataDir, "incarnation"), "utf8"), "9000\n");
  writeFileSync(join(dataDir, "incarnation"), "90");
  assert.throws(() => nextIncarnation(dataDir, 10_000), IncarnationError);
});

test("a folder is locked for one holder at a time", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-lock-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const lock = await lockFolder(folder, "m1");
  await assert.rejects(lockFolder(folder, "m1"), LockedError);
  await lock.release();
  const again = await lockFolder(folder, "m1");
  const waiting = lockFolder(folder, "m1", 5_000);
  setTimeout(() => again.release(), 100);
  await (await waiting).release();
});
