import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { EngineCorruptError, Table } from "../store/engine.ts";
import { type EngineUnderTest, engineCases } from "./engine-cases.ts";
import { LmdbEngine } from "./lmdb-engine.ts";

const base = mkdtempSync(join(tmpdir(), "kmmr-lmdb-"));
after(() => rmSync(base, { recursive: true, force: true }));
let count = 0;

function openAt(path: string): EngineUnderTest {
  const engine = new LmdbEngine({ path, writeIntervalMs: 1 });
  return {
    engine,
    reopen: async () => {
      await engine.close();
      return openAt(path);
    },
    close: () => engine.close(),
  };
}

engineCases("lmdb engine", async () => openAt(join(base, `cases-${count++}`)));

test("lmdb engine: a damaged value is recognised and not served", async () => {
  const path = join(base, "damaged");
  const engine = new LmdbEngine({ path });
  engine.put(Table.record, Uint8Array.of(1), new TextEncoder().encode("a value that is easy to find"));
  engine.put(Table.record, Uint8Array.of(2), new TextEncoder().encode("another value"));
  engine.commit();
  await engine.close();
  const file = join(path, "data.mdb");
  const at = readFileSync(file).indexOf("easy to find");
  assert.ok(at > 0);
  writeSync(openSync(file, "r+"), "hard", at);
  const again = new LmdbEngine({ path });
  assert.throws(() => again.get(Table.record, Uint8Array.of(1)), EngineCorruptError);
  assert.throws(() => again.range(Table.record, Uint8Array.of(0), Uint8Array.of(9), 9), EngineCorruptError);
  assert.equal(again.get(Table.record, Uint8Array.of(2))?.length, "another value".length);
  await again.close();
});

test("lmdb engine: a turn that commits much waits for the disk once, for it releases nothing meanwhile", async (context) => {
  const engine = new LmdbEngine({ path: join(base, "throttle"), writeIntervalMs: 60_000 });
  const wait = context.mock.method(Atomics, "wait");
  for (let turn = 1; turn <= 2; turn++) {
    for (let unit = 0; unit < 60; unit++) {
      engine.put(Table.record, Uint8Array.of(unit), new Uint8Array(2 ** 20));
      engine.commit();
    }
    assert.equal(wait.mock.callCount(), turn);
    assert.ok(engine.isBehind);
    await engine.flushed();
    assert.ok(!engine.isBehind);
  }
  await engine.close();
});

test("lmdb engine: a short range among many rows in memory, most of them deletions", async () => {
  const engine = new LmdbEngine({ path: join(base, "ranges"), writeIntervalMs: 60_000 });
  const key = (n: number) => Uint8Array.of(n >> 8, n);
  const expected = new Map<number, number>();
  const put = (n: number, value: number) => {
    engine.put(Table.record, key(n), Uint8Array.of(value));
    expected.set(n, value);
  };
  for (let n = 0; n < 600; n++) put(n, 1);
  engine.commit();
  await engine.flushed();
  // Memory now deletes most of what LMDB holds, replaces some of it and adds to it.
  for (let n = 0; n < 900; n++) {
    if (n % 97 === 0) put(n, 2);
    else if (n % 31 !== 0) {
      engine.delete(Table.record, key(n));
      expected.delete(n);
    }
  }
  engine.commit();
  const left = [...expected].sort((a, b) => a[0] - b[0]);
  for (const [from, to] of [
    [0, 1000],
    [1, 620],
    [97, 98],
    [590, 880],
    [890, 1000],
  ] as const) {
    const inside = left.filter(([n]) => n >= from && n < to);
    for (const limit of [1, 2, 7, 18, 1000, Number.POSITIVE_INFINITY]) {
      const found = engine.range(Table.record, key(from), key(to), limit);
      const read = found.map((entry) => [entry.key[0]! * 256 + entry.key[1]!, entry.value[0]!]);
      assert.deepEqual(read, inside.slice(0, limit), `from ${from} to ${to}, at most ${limit}`);
    }
  }
  await engine.close();
});

test("lmdb engine: what is flushed survives kill -9, in whole units and in order", async () => {
  const path = join(base, "killed");
  const program = `
    import { LmdbEngine } from ${JSON.stringify(new URL("./lmdb-engine.ts", import.meta.url).href)};
    const engine = new LmdbEngine({ path: ${JSON.stringify(path)}, writeIntervalMs: 5 });
    const two = (n) => Uint8Array.of(n >> 8, n);
    let unit = 0;
    setInterval(async () => {
      for (let i = 0; i < 20; i++) {
        unit++;
        engine.put(0, two(unit), new Uint8Array(200));
        engine.put(1, two(unit), new Uint8Array(10));
        engine.put(2, two(1), two(unit));
        engine.commit();
      }
      const flushedUnit = unit;
      await engine.flushed();
      console.log(flushedUnit);
    }, 1);`;
  const cwd = fileURLToPath(new URL("../..", import.meta.url));
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], { cwd });
  let printed = "";
  await new Promise<void>((resolve) => {
    child.stdout.on("data", (data) => {
      printed += data;
      if (printed.split("\n").length > 20) child.kill("SIGKILL");
    });
    child.on("close", () => resolve());
  });
  const flushedUnit = Number(printed.split("\n").filter(Boolean).at(-1));
  assert.ok(flushedUnit > 20, "the child wrote something");
  const engine = new LmdbEngine({ path });
  const newest = engine.get(Table.meta, Uint8Array.of(0, 1))!;
  const unit = newest[0]! * 256 + newest[1]!;
  assert.ok(unit >= flushedUnit, `unit ${unit} found, ${flushedUnit} was flushed`);
  const all = [new Uint8Array(0), Uint8Array.of(255, 255), 100000] as const;
  assert.equal(engine.range(Table.record, ...all).length, unit);
  assert.equal(engine.range(Table.lease, ...all).length, unit);
  await engine.close();
});
