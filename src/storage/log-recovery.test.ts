/** Laws of recovery: nothing acknowledged is lost without a word, nothing is invented, a torn write is cut. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import fc from "fast-check";
import { equalBytes } from "../base/bytes.ts";
import { Prng } from "../base/prng.ts";
import { LogDamagedError, markFresh, type OpenedLog, openLog } from "./log.ts";
import { SECTOR_SIZE_BYTES } from "./log-format.ts";
import { makeDirectory } from "./log-segment.ts";

type Files = Map<string, Buffer>;

/** A log that was really written: all of it is acknowledged in `files`, all but the last write in `earlier`. */
interface WrittenLog {
  readonly records: readonly Uint8Array[];
  readonly files: Files;
  readonly earlier: Files;
  readonly earlierCount: number;
}

const SEGMENT_SIZE_BYTES = 16 * SECTOR_SIZE_BYTES;
const LOGS = 12;
const root = mkdtempSync(join(tmpdir(), "kmmr-recovery-"));
const logs: WrittenLog[] = [];
let directories = 0;

function open(directory: string): OpenedLog {
  return openLog(directory, {
    owner: new Uint8Array([7]),
    segmentSizeBytes: SEGMENT_SIZE_BYTES,
    markerDelayMs: 1000,
    onFailure: (error) => {
      throw error;
    },
  });
}

function newDirectory(): string {
  return join(root, String(++directories));
}

function snapshot(directory: string): Files {
  const names = readdirSync(directory).filter((name) => !name.endsWith(".preparing"));
  return new Map(names.map((name) => [name, readFileSync(join(directory, name))]));
}

function restore(files: Files): string {
  const directory = newDirectory();
  mkdirSync(directory);
  for (const [name, bytes] of files) writeFileSync(join(directory, name), bytes);
  return directory;
}

/** Records whose lengths and content vary, some of them whole sectors of zeros. */
function someRecord(prng: Prng): Uint8Array {
  const record = new Uint8Array(prng.chance(0.3) ? prng.between(500, 3000) : prng.below(200));
  if (!prng.chance(0.3)) for (let i = 0; i < record.length; i++) record[i] = prng.below(256);
  return record;
}

async function writeLog(seed: number): Promise<WrittenLog> {
  const prng = new Prng(seed);
  const directory = newDirectory();
  markFresh(directory);
  let { log } = open(directory);
  const records: Uint8Array[] = [];
  const appendAndSync = async (): Promise<void> => {
    for (let i = prng.between(1, 4); i > 0; i--) {
      const record = someRecord(prng);
      records.push(record);
      log.append(record);
    }
    await new Promise((resolve) => log.sync(resolve));
  };
  for (let writes = seed === 0 ? 0 : prng.between(1, 12); writes > 0; writes--) {
    await appendAndSync();
    if (prng.chance(0.2)) {
      await log.close();
      log = open(directory).log;
    }
  }
  const earlierCount = records.length;
  const earlier = snapshot(directory);
  await appendAndSync();
  const files = snapshot(directory);
  await log.close();
  rmSync(directory, { recursive: true });
  return { records, files, earlier, earlierCount };
}

/** What opening gave: the error, or the state and how many records, all of which must be the ones written. */
async function recover(files: Files, written: readonly Uint8Array[]) {
  const directory = restore(files);
  try {
    const opened = open(directory);
    const found = [...opened.recovery.records];
    await opened.log.close();
    checkNotInvented(found, written);
    assert.equal(opened.recovery.nextSequence, found.length + 1);
    return { state: opened.recovery.state, count: found.length, directory };
  } catch (error) {
    if (!(error instanceof LogDamagedError)) throw error;
    return { state: "damaged" as const, count: 0, directory };
  }
}

function checkNotInvented(
  found: readonly { sequence: number; record: Uint8Array }[],
  written: readonly Uint8Array[],
) {
  for (const [i, item] of found.entries()) {
    assert.equal(item.sequence, i + 1);
    assert.ok(equalBytes(item.record, written[i]!), `record ${item.sequence} is not what was written`);
  }
}

/** After a cut the log must be usable, and what follows must come back. */
async function checkUsable(directory: string, before: readonly Uint8Array[]) {
  const again = open(directory);
  assert.equal([...again.recovery.records].length, before.length);
  const more = [new Uint8Array([1]), new Uint8Array(5000), new Uint8Array([2])];
  for (const record of more) again.log.append(record);
  await new Promise((resolve) => again.log.sync(resolve));
  await again.log.close();
  const last = open(directory);
  const found = [...last.recovery.records];
  await last.log.close();
  assert.equal(last.recovery.state, "clean");
  assert.equal(found.length, before.length + more.length);
  checkNotInvented(found, [...before, ...more]);
}

/** The acknowledged records are all there, or the damage was said. */
function checkNotSilent(result: { state: string; count: number }, acknowledged: number): void {
  if (result.state === "damaged" || result.state === "uncertain" || result.state === "lost") return;
  assert.ok(result.count >= acknowledged, `${result.count} of ${acknowledged} records and ${result.state}`);
}

const anyLog = fc.nat({ max: LOGS - 1 });
/** Spread evenly, as fc.double is not. */
const fraction = fc.nat({ max: 99_999 }).map((value) => value / 100_000);

describe("log recovery", { concurrency: false }, () => {
  before(async () => {
    for (let seed = 0; seed < LOGS; seed++) logs.push(await writeLog(seed));
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  it("cuts a write of which any sectors are missing, cleanly", async () => {
    await fc.assert(
      fc.asyncProperty(anyLog, fc.infiniteStream(fc.boolean()), fc.boolean(), async (pick, draws, usable) => {
        const { records, files, earlier, earlierCount } = logs[pick]!;
        const torn: Files = new Map();
        let missing = 0;
        for (const [name, bytes] of files) {
          const old = earlier.get(name) ?? Buffer.concat([bytes.subarray(0, 512)], bytes.length);
          const mixed = Buffer.from(bytes);
          for (let at = 0; at < bytes.length; at += SECTOR_SIZE_BYTES) {
            const end = at + SECTOR_SIZE_BYTES;
            if (bytes.compare(old, at, end, at, end) === 0 || draws.next().value) continue;
            old.copy(mixed, at, at, end);
            missing++;
          }
          torn.set(name, mixed);
        }
        for (const [name, bytes] of earlier) if (!torn.has(name)) torn.set(name, bytes);
        const result = await recover(torn, records);
        const expected = missing === 0 ? records.length : earlierCount;
        assert.equal(result.count, expected);
        assert.equal(result.state, expected === 0 ? "fresh" : "clean");
        if (usable) await checkUsable(result.directory, records.slice(0, expected));
        rmSync(result.directory, { recursive: true });
      }),
      { numRuns: 200 },
    );
  });

  it("never takes flipped bits for good", async () => {
    const flips = fc.array(fc.tuple(fraction, fc.nat({ max: 7 })), { minLength: 1, maxLength: 4 });
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(anyLog, fraction, flips, async (pick, which, bits) => {
        const { records, files } = logs[pick]!;
        const damaged: Files = new Map([...files].map(([name, bytes]) => [name, Buffer.from(bytes)]));
        const segments = [...damaged.entries()].filter(([name]) => name.endsWith(".log"));
        const bytes = segments[Math.floor(which * segments.length)]![1];
        for (const [where, bit] of bits) bytes[Math.floor(where * bytes.length)]! ^= 1 << bit;
        const result = await recover(damaged, records);
        checkNotSilent(result, records.length);
        seen.set(result.state, (seen.get(result.state) ?? 0) + 1);
        if (result.state === "uncertain") {
          // The doubt must outlive a second start that comes before anything was written.
          assert.equal((await recover(snapshot(result.directory), records)).state, "uncertain");
          await checkUsable(result.directory, records.slice(0, result.count));
        }
        rmSync(result.directory, { recursive: true });
      }),
      { numRuns: 300 },
    );
    assert.ok((seen.get("damaged") ?? 0) > 0 && (seen.get("uncertain") ?? 0) > 0, JSON.stringify([...seen]));
  });

  it("never takes a shortened or missing file for good", async () => {
    await fc.assert(
      fc.asyncProperty(anyLog, fraction, fc.option(fraction), async (pick, which, where) => {
        const { records, files } = logs[pick]!;
        const damaged: Files = new Map(files);
        const used = [...files.keys()].filter(
          (name) => name.endsWith(".log") && holdsBatches(files.get(name)!),
        );
        const name = used[Math.floor(which * used.length)]!;
        // A log whose newest files vanish whole looks like an older, shorter log: nothing in it can tell.
        if (where === null && name === used.at(-1) && used.length > 1) return;
        if (where === null) damaged.delete(name);
        else damaged.set(name, files.get(name)!.subarray(0, Math.floor(where * files.get(name)!.length)));
        const result = await recover(damaged, records);
        assert.notEqual(result.state, "clean");
        checkNotSilent(result, records.length);
        rmSync(result.directory, { recursive: true });
      }),
      { numRuns: 150 },
    );
  });

  it("names file, place and next step of damage before the end, and writes nothing", async () => {
    const { records, files } = logs.find((log) => log.earlierCount > 8)!;
    const name = [...files.keys()].filter((file) => file.endsWith(".log")).sort()[0]!;
    const damaged = new Map(files);
    const bytes = Buffer.from(files.get(name)!);
    bytes[SECTOR_SIZE_BYTES + 70]! ^= 1;
    damaged.set(name, bytes);
    const directory = restore(damaged);
    assert.throws(
      () => open(directory),
      (error) => {
        assert.ok(error instanceof LogDamagedError);
        assert.equal(error.offset, SECTOR_SIZE_BYTES);
        assert.equal(error.fromSequence, 1);
        assert.match(error.message, new RegExp(`${name}.*nothing was cut.*repairs itself from its peers`));
        return true;
      },
    );
    assert.deepEqual(snapshot(directory), damaged);
    assert.ok(records.length > 0);
  });

  it("writes the last batch again, which the system may show although the disk refused it", async () => {
    for (const { records, files } of logs) {
      const directory = restore(files);
      const longAgo = new Date(1_000_000);
      const used = [...files.keys()].filter((name) => name.endsWith(".log")).sort();
      for (const name of used) utimesSync(join(directory, name), longAgo, longAgo);
      const { log } = open(directory);
      const written = used.filter((name) => statSync(join(directory, name)).mtimeMs > longAgo.getTime());
      const active = used.findLast((name) => holdsBatches(files.get(name)!));
      assert.deepEqual(written, [active ?? used[0]].slice(0, records.length === 0 ? 0 : 1));
      for (const [name, bytes] of files) {
        if (name.endsWith(".log")) assert.deepEqual(readFileSync(join(directory, name)), bytes);
      }
      await log.close();
      rmSync(directory, { recursive: true });
    }
  });

  it("removes segments that a truncation left behind, and keeps them where records are missing", async () => {
    const { records, files } = logs.find((log) => [...log.files.keys()].includes("0000000004.log"))!;
    const whole = restore(files);
    const { log, recovery } = open(whole);
    assert.equal([...recovery.records].length, records.length);
    const before = new Map([...files].filter(([name]) => name.endsWith(".log")));
    log.truncateBefore(records.length + 1);
    log.append(new Uint8Array(3000));
    log.append(new Uint8Array(3000));
    await new Promise((resolve) => log.sync(resolve));
    await log.close();
    const after = snapshot(whole);
    const [first] = [...after.keys()].sort();
    assert.ok(first! >= "0000000003.log", first);
    // Segment 2 is gone, and 1 came back.
    const left = restore(new Map([...after, ["0000000001.log", before.get("0000000001.log")!]]));
    const again = open(left);
    assert.ok([...again.recovery.records].length >= 2);
    assert.ok(!existsSync(join(left, "0000000001.log")));
    await again.log.close();
    const gap = new Map(before);
    gap.delete("0000000002.log");
    const damaged = restore(gap);
    assert.throws(() => open(damaged), LogDamagedError);
    assert.deepEqual(snapshot(damaged), gap);
  });

  it("makes each new directory an entry of its parent for good", () => {
    const synced: string[] = [];
    const directory = newDirectory();
    mkdirSync(directory);
    makeDirectory(join(directory, "a/b/c"), (path) => synced.push(path));
    assert.deepEqual(
      synced,
      ["", "a", "a/b"].map((path) => join(directory, path).replace(/\/$/, "")),
    );
    synced.length = 0;
    makeDirectory(join(directory, "a/b"), (path) => synced.push(path));
    assert.deepEqual(synced, []);
    // Where a file system makes no directories, mkdir's own recursion would never end.
    assert.throws(() => makeDirectory("/proc/kmmr/data"), { code: "ENOENT" });
  });
});

function holdsBatches(bytes: Buffer): boolean {
  return bytes.subarray(SECTOR_SIZE_BYTES).some((byte) => byte !== 0);
}
