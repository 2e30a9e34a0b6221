import assert from "node:assert/strict";
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { LmdbEngine } from "../storage/lmdb-engine.ts";
import { EngineCorruptError } from "../store/engine.ts";
import { stageChunk } from "../store/staging.ts";
import { Store } from "../store/store.ts";
import { op, rangeOf } from "../store/test-kit.ts";
import { NodeHasher } from "./crypto.ts";
import type { Logger } from "./logger.ts";
import { makesSuspect, markSuspect, openState } from "./member-state.ts";

const base = mkdtempSync(join(tmpdir(), "kmmr-member-state-"));
after(() => rmSync(base, { recursive: true, force: true }));
const MARKER = "a value that is easy to find";

describe("the state of a member", () => {
  let lines: string[] = [];
  const line = (message: string) => void lines.push(message);
  const logger: Logger = { debug: line, info: line, warn: line, error: line, component: () => logger };
  const failures: unknown[] = [];

  function open(dataDir: string) {
    lines = [];
    const options = { dataDir, logger, onError: (error: unknown) => failures.push(error) };
    return openState(options, (engine) => new Store({ engine, hasher: new NodeHasher() }));
  }

  /** A data directory with a state in which keys have values, and whatever else is put into the engine. */
  async function written(name: string, put: (engine: LmdbEngine) => void = () => {}): Promise<string> {
    const dataDir = join(base, name);
    const { engine, made: store } = await open(dataDir);
    store.beginBatch(1);
    for (let i = 0; i < 20; i++) store.execute(op.put(`key${i}`, i === 10 ? MARKER : "value"));
    store.endBatch();
    put(engine);
    engine.commit();
    await engine.close();
    return dataDir;
  }

  function damage(dataDir: string, at: (file: Buffer) => number, bytes: Uint8Array | string): void {
    const path = join(dataDir, "state", "data.mdb");
    const offset = at(readFileSync(path));
    assert.ok(offset >= 0);
    const file = openSync(path, "r+");
    if (typeof bytes === "string") writeSync(file, bytes, offset);
    else writeSync(file, bytes, 0, bytes.length, offset);
  }

  async function assertSetAside(dataDir: string, said: RegExp): Promise<void> {
    const { engine, made: store } = await open(dataDir);
    assert.match(lines.join("\n"), said);
    assert.equal(store.revision, 1);
    store.beginBatch(2);
    store.execute(op.put("new", "1"));
    store.endBatch();
    await engine.close();
    assert.deepEqual(readdirSync(dataDir).sort(), ["state", "state-damaged"]);
    const again = await open(dataDir);
    assert.deepEqual(lines, []);
    assert.equal(again.made.revision, 2);
    await again.engine.close();
  }

  test("a damaged record: the state is set aside, an earlier one goes", async () => {
    const dataDir = await written("record");
    const flip = () => damage(dataDir, (file) => file.indexOf(MARKER), "A");
    flip();
    await assertSetAside(dataDir, /^the state is damaged/);
    assert.ok(readFileSync(join(dataDir, "state-damaged", "data.mdb")).includes("A value that is easy"));
    await written("record");
    flip();
    await assertSetAside(dataDir, /^the state is damaged/);
  });

  test("a damaged row of a transfer that was not finished", async () => {
    const dataDir = await written("staged", (engine) => stageChunk(engine, 7, Buffer.from("a staged chunk")));
    damage(dataDir, (file) => file.indexOf("a staged chunk"), "A");
    await assertSetAside(dataDir, /^the state is damaged/);
  });

  test("a damaged row of the kept checkpoint", async () => {
    const dataDir = await written("kept");
    const { engine, made: store } = await open(dataDir);
    store.captureCheckpoint(1, new Uint8Array(0));
    while (store.work(100));
    store.keepCheckpoint(1, Buffer.from("a proof of it"));
    await engine.close();
    damage(dataDir, (file) => file.indexOf("a proof of it"), "A");
    await assertSetAside(dataDir, /^the state is damaged/);
  });

  test("a state that the disk failed to take", async () => {
    const dataDir = await written("suspect");
    markSuspect(dataDir);
    await assertSetAside(dataDir, /^the disk failed to take the state/);
    assert.ok(!existsSync(join(dataDir, "state-suspect")));
  });

  test("only failures that leave the disk in doubt make it suspect", () => {
    assert.ok(makesSuspect(Object.assign(new Error("sync failed"), { code: "EIO" })));
    assert.ok(makesSuspect(new Error("nobody knows")));
    assert.ok(!makesSuspect(Object.assign(new Error("no space"), { code: "ENOSPC" })));
    assert.ok(!makesSuspect(new EngineCorruptError("found again")));
  });

  test("damage that is met later ends the process, and the next start finds it", async () => {
    const dataDir = await written("later");
    const { engine, made: store } = await open(dataDir);
    damage(dataDir, (file) => file.indexOf(MARKER), "A");
    failures.length = 0;
    assert.throws(() => store.range(rangeOf("key10")), EngineCorruptError);
    assert.equal(failures.length, 1);
    assert.ok(failures[0] instanceof EngineCorruptError);
    assert.throws(() => engine.commit(), EngineCorruptError);
    await engine.close();
    await assertSetAside(dataDir, /^the state is damaged/);
  });
});
