import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync, write as writeToFile } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, describe, it } from "node:test";
import {
  type Log,
  LogForeignError,
  LogLimitError,
  type LogOptions,
  LogWriteError,
  markFresh,
  type OpenedLog,
  openLog,
} from "./log.ts";

const OWNER = new Uint8Array([1, 2, 3]);
const root = mkdtempSync(join(tmpdir(), "kmmr-log-"));
after(() => rmSync(root, { recursive: true, force: true }));

let directories = 0;
function freshDirectory(): string {
  const directory = join(root, String(++directories));
  markFresh(directory);
  return directory;
}

function open(directory: string, options: Partial<LogOptions> = {}): OpenedLog {
  const onFailure = (error: Error): void => {
    throw error;
  };
  return openLog(directory, { owner: OWNER, onFailure, segmentSizeBytes: 16 * 1024, ...options });
}

function record(sequence: number, sizeBytes = 40): Uint8Array {
  return new Uint8Array(sizeBytes).fill(sequence % 251);
}

function sync(log: Log): Promise<number> {
  return new Promise((resolve) => log.sync(resolve));
}

/** Appends records `from` to `to`, each of which its sequence tells. */
function appendAll(log: Log, from: number, to: number, sizeBytes?: number): void {
  for (let sequence = from; sequence <= to; sequence++) {
    assert.equal(log.append(record(sequence, sizeBytes)), sequence);
  }
}

function expectRecords(opened: OpenedLog, from: number, to: number, sizeBytes?: number): void {
  const found = [...opened.recovery.records];
  assert.deepEqual(
    found.map((item) => item.sequence),
    Array.from({ length: to - from + 1 }, (_, i) => from + i),
  );
  for (const item of found) assert.deepEqual(item.record, record(item.sequence, sizeBytes));
  assert.equal(opened.recovery.nextSequence, to + 1);
}

function wait(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}

describe("log", () => {
  it("gives back after a close what was appended, synced or not", async () => {
    const directory = freshDirectory();
    const first = open(directory);
    assert.equal(first.recovery.state, "fresh");
    appendAll(first.log, 1, 5);
    assert.equal(await sync(first.log), 5);
    appendAll(first.log, 6, 9);
    await first.log.close();
    const second = open(directory);
    assert.equal(second.recovery.state, "clean");
    assert.equal(second.finding, undefined);
    expectRecords(second, 1, 9);
    appendAll(second.log, 10, 10);
    assert.equal(await sync(second.log), 10);
    await second.log.close();
    const third = open(directory);
    expectRecords(third, 1, 10);
    await third.log.close();
  });

  it("shares one write among all callers of the time that a write takes", async () => {
    const { log } = open(freshDirectory());
    appendAll(log, 1, 20);
    const first = sync(log);
    const second = Array.from({ length: 20 }, (_, i) => {
      appendAll(log, i + 21, i + 21);
      return sync(log);
    });
    assert.equal(await first, 20);
    assert.deepEqual(new Set(await Promise.all(second)), new Set([40]));
    assert.equal(log.stats().writes, 2);
    await log.close();
  });

  it("writes small batches on the calling thread once the disk has shown itself quick", async () => {
    const directory = freshDirectory();
    const { log } = open(directory, { inlineLimitMs: 500 });
    for (let sequence = 1; sequence <= 60; sequence++) {
      appendAll(log, sequence, sequence, 700);
      assert.equal(await sync(log), sequence);
    }
    const { inlineWrites } = log.stats();
    assert.ok(inlineWrites > 10, `${inlineWrites} of 60`);
    appendAll(log, 61, 70, 700);
    await sync(log);
    assert.equal(log.stats().inlineWrites, inlineWrites, "a large batch goes to the thread pool");
    await log.close();
    const again = open(directory);
    expectRecords(again, 1, 70, 700);
    await again.log.close();
  });

  it("writes on the calling thread only when all ticks of the turn have run", async () => {
    const { log } = open(freshDirectory(), { inlineLimitMs: 1e6 });
    appendAll(log, 1, 1);
    const order: string[] = [];
    process.nextTick(() => order.push("sent"));
    const durable = new Promise<void>((resolve) => {
      log.sync(() => {
        order.push("durable");
        resolve();
      });
    });
    process.nextTick(() => order.push("later"));
    assert.deepEqual(order, []);
    await durable;
    assert.deepEqual(order, ["sent", "durable", "later"]);
    assert.equal(log.stats().inlineWrites, 1);
    await log.close();
  });

  it("leaves the calling thread alone when the disk is slow, or when told so", async () => {
    const slowly: LogOptions["write"] = (fd, bytes, offset, sizeBytes, position, done) => {
      setTimeout(() => writeToFile(fd, bytes, offset, sizeBytes, position, done), 10);
    };
    for (const options of [{ inlineLimitMs: 0 }, { inlineLimitMs: 5, write: slowly }]) {
      const { log } = open(freshDirectory(), options);
      for (let sequence = 1; sequence <= 60; sequence++) {
        appendAll(log, sequence, sequence);
        await sync(log);
      }
      assert.equal(log.stats().inlineWrites, 0);
      await log.close();
    }
  });

  it("answers a sync at once when all is durable", async () => {
    const { log } = open(freshDirectory());
    assert.equal(await sync(log), 0);
    appendAll(log, 1, 3);
    await sync(log);
    const { writes } = log.stats();
    assert.equal(await sync(log), 3);
    assert.equal(log.stats().writes, writes);
    await log.close();
  });

  it("writes records that nobody syncs after the delay", async () => {
    const { log } = open(freshDirectory(), { writeDelayMs: 5 });
    appendAll(log, 1, 2);
    assert.equal(log.durableSequence, 0);
    for (let i = 0; i < 100 && log.durableSequence < 2; i++) await wait(5);
    assert.equal(log.durableSequence, 2);
    assert.equal(log.bufferedBytes, 0);
    await log.close();
  });

  it("proves the last write with a marker when it is idle, once", async () => {
    const { log } = open(freshDirectory(), { markerDelayMs: 3 });
    appendAll(log, 1, 1);
    await sync(log);
    for (let i = 0; i < 100 && log.stats().markers === 0; i++) await wait(3);
    await wait(20);
    assert.equal(log.stats().markers, 1);
    await log.close();
    assert.equal(log.stats().markers, 1);
  });

  it("goes on over many segments, and writes batches up to a whole one", async () => {
    const directory = freshDirectory();
    const { log } = open(directory);
    const largest = 16 * 1024 - 512 - 64 - 4;
    appendAll(log, 1, 12, largest);
    assert.equal(await sync(log), 12);
    assert.throws(() => log.append(new Uint8Array(largest + 1)), LogLimitError);
    await log.close();
    const again = open(directory);
    expectRecords(again, 1, 12, largest);
    await again.log.close();
  });

  it("truncates whole segments only, and only below the mark", async () => {
    const directory = freshDirectory();
    const { log } = open(directory, { markerDelayMs: 1 });
    for (let sequence = 1; sequence <= 100; sequence++) {
      appendAll(log, sequence, sequence, 600);
      await sync(log);
    }
    const before = log.stats().segments;
    log.truncateBefore(50);
    for (let i = 0; i < 200 && log.stats().segments >= before; i++) await wait(2);
    assert.ok(log.stats().segments < before);
    await log.close();
    const again = open(directory);
    const first = [...again.recovery.records][0]!.sequence;
    assert.ok(first > 1 && first <= 50, `first record left is ${first}`);
    expectRecords(again, first, 100, 600);
    assert.equal(again.recovery.state, "clean");
    await again.log.close();
  });

  it("is lost without a log and without a mark, and fresh only until a first record is durable", async () => {
    const directory = join(root, "unmarked");
    const lost = open(directory);
    assert.equal(lost.recovery.state, "lost");
    assert.equal(lost.recovery.nextSequence, 1);
    await lost.log.close();
    const still = open(directory);
    assert.equal(still.recovery.state, "lost");
    await still.log.close();

    const marked = freshDirectory();
    const unused = open(marked);
    await unused.log.close();
    const fresh = open(marked);
    assert.equal(fresh.recovery.state, "fresh");
    appendAll(fresh.log, 1, 1);
    assert.ok(existsSync(join(marked, "fresh")));
    await sync(fresh.log);
    assert.ok(!existsSync(join(marked, "fresh")));
    await fresh.log.close();
    for (const name of readdirSync(marked)) rmSync(join(marked, name));
    const emptied = open(marked);
    assert.equal(emptied.recovery.state, "lost");
    await emptied.log.close();
  });

  it("refuses the log of another member and a half-prepared segment is no log", async () => {
    const directory = freshDirectory();
    const { log } = open(directory);
    appendAll(log, 1, 1);
    await log.close();
    assert.throws(() => open(directory, { owner: new Uint8Array([9]) }), LogForeignError);
    writeFileSync(join(directory, "0000000009.log.preparing"), "half");
    const again = open(directory);
    expectRecords(again, 1, 1);
    await again.log.close();
    assert.ok(!readdirSync(directory).some((name) => name.startsWith("0000000009")));
  });

  it("bounds what waits in memory", async () => {
    const { log } = open(freshDirectory(), { maxBufferedBytes: 1000 });
    appendAll(log, 1, 20);
    assert.throws(() => appendAll(log, 21, 40), LogLimitError);
    assert.ok(log.bufferedBytes <= 1000);
    await log.close();
  });

  it("never acknowledges after the disk failed, and says why", async () => {
    const directory = freshDirectory();
    const failures: Error[] = [];
    let isFull = false;
    const { log } = open(directory, {
      onFailure: (error) => failures.push(error),
      write: (fd, bytes, offset, sizeBytes, position, done) => {
        if (isFull) setImmediate(done, Object.assign(new Error("no space left"), { code: "ENOSPC" }), 0);
        // Half of it at a time: short writes are continued.
        else writeToFile(fd, bytes, offset, Math.ceil(sizeBytes / 2), position, done);
      },
    });
    appendAll(log, 1, 3);
    assert.equal(await sync(log), 3);
    isFull = true;
    appendAll(log, 4, 5);
    let acknowledged = false;
    log.sync(() => {
      acknowledged = true;
    });
    for (let i = 0; i < 100 && failures.length === 0; i++) await wait(2);
    assert.equal(failures.length, 1);
    assert.ok(failures[0] instanceof LogWriteError && failures[0].code === "ENOSPC");
    assert.match(failures[0].message, /free space/);
    assert.throws(() => log.append(record(6)), LogWriteError);
    assert.throws(() => log.sync(() => {}), LogWriteError);
    await log.close();
    assert.equal(acknowledged, false);
    const again = open(directory);
    expectRecords(again, 1, 3);
    await again.log.close();
  });

  it("keeps all that it acknowledged through kill -9", async () => {
    const directory = freshDirectory();
    const program = `
      const { openLog } = await import(${JSON.stringify(new URL("./log.ts", import.meta.url).href)});
      const onFailure = (error) => { throw error; };
      const owner = new Uint8Array([1, 2, 3]);
      const { log } = openLog(${JSON.stringify(directory)}, { owner, onFailure, segmentSizeBytes: 16384 });
      const next = () => {
        for (let i = 0; i < 3; i++) {
          const sequence = log.append(new Uint8Array(40).fill((log.durableSequence + i + 1) % 251));
        }
        log.sync((sequence) => { process.stdout.write(sequence + "\\n"); next(); });
      };
      next();`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let acknowledged = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line);
      if (acknowledged > 300) child.kill("SIGKILL");
    }
    assert.ok(acknowledged > 300);
    const again = open(directory);
    assert.equal(again.recovery.state, "clean");
    assert.ok(again.recovery.nextSequence > acknowledged);
    expectRecords(again, 1, again.recovery.nextSequence - 1);
    await again.log.close();
  });
});
