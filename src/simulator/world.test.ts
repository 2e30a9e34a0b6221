/** The simulated world by itself: time, links, disk, clocks, keys. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../base/prng.ts";
import { EPOCH_MS, SimulatedClock } from "./clock.ts";
import { makeSigners, SimulatedHasher, SimulatedVerifier } from "./crypto.ts";
import { type DiskOptions, LogDamagedError, SimulatedLog } from "./disk.ts";
import { CALM_NETWORK, Network, type NetworkOptions } from "./network.ts";
import { Scheduler } from "./scheduler.ts";

const never = (): boolean => false;

test("events run in the order of their times, and in the order of planning at one time", () => {
  const scheduler = new Scheduler();
  const order: string[] = [];
  const prng = new Prng(1);
  const times = Array.from({ length: 500 }, () => prng.below(50));
  for (const [index, time] of times.entries()) scheduler.at(time, () => order.push(`${time}/${index}`));
  const expected = times
    .map((time, index) => ({ time, index }))
    .sort((a, b) => a.time - b.time || a.index - b.index)
    .map(({ time, index }) => `${time}/${index}`);
  scheduler.run(1_000, never);
  assert.deepEqual(order, expected);
  assert.equal(scheduler.nowMs, 1_000);
  assert.throws(() => scheduler.at(999, () => {}));
});

interface Delivery {
  readonly to: number;
  readonly from: number;
  readonly first: number;
}

function network(options: Partial<NetworkOptions>, n = 3) {
  const scheduler = new Scheduler();
  const delivered: Delivery[] = [];
  const links: string[] = [];
  const net = new Network(
    scheduler,
    new Prng(2),
    n,
    { ...CALM_NETWORK, ...options },
    {
      deliver: (to, from, bytes) => delivered.push({ to, from, first: bytes[0]! }),
      link: (member, peer, up) => links.push(`${member}${up ? "+" : "-"}${peer}`),
    },
  );
  for (let member = 0; member < n; member++) net.memberUp(member);
  scheduler.run(100, never);
  const send = (from: number, to: number, value: number) => net.send(from, to, "vote", Uint8Array.of(value));
  return { scheduler, net, delivered, links, send };
}

test("an ordered link keeps its order and loses nothing", () => {
  const { scheduler, delivered, send } = network({ delayMeanMs: 20 });
  for (let i = 0; i < 200; i++) send(0, 1, i);
  scheduler.run(5_000, never);
  assert.deepEqual(
    delivered.map(({ first }) => first),
    Array.from({ length: 200 }, (_, i) => i),
  );
});

test("losses, duplicates and reordering happen where they are asked for", () => {
  const { scheduler, net, delivered, send } = network({
    delayMeanMs: 20,
    ordered: false,
    lossChance: 0.2,
    duplicateChance: 0.2,
  });
  for (let i = 0; i < 200; i++) send(0, 1, i);
  scheduler.run(5_000, never);
  const firsts = delivered.map(({ first }) => first);
  assert.ok(net.counts.lost > 10 && net.counts.duplicated > 10);
  assert.ok(new Set(firsts).size < 200 && firsts.length > new Set(firsts).size);
  assert.notDeepEqual(
    firsts,
    firsts.toSorted((a, b) => a - b),
  );
});

test("a cut is one-way, is noticed at both ends, and takes what is under way", () => {
  const { scheduler, net, delivered, links, send } = network({ noticeDelayMs: 50 });
  links.length = 0;
  send(0, 1, 1);
  net.setCut(0, 1, true);
  send(1, 0, 2);
  scheduler.run(1_000, never);
  assert.deepEqual(delivered, [{ to: 0, from: 1, first: 2 }]);
  assert.deepEqual(links.toSorted(), ["0-1", "1-0"]);
  net.heal();
  send(0, 1, 3);
  scheduler.run(2_000, never);
  assert.deepEqual(delivered.at(-1), { to: 1, from: 0, first: 3 });
  assert.deepEqual(links.slice(2).toSorted(), ["0+1", "1+0"]);
});

test("a filter loses what it matches, until healing", () => {
  const { scheduler, net, delivered, send } = network({});
  net.filters.add((_, to, bytes) => to === 2 && bytes[0] === 7);
  send(0, 2, 7);
  send(0, 2, 8);
  send(0, 1, 7);
  scheduler.run(1_000, never);
  assert.deepEqual(delivered.map(({ to, first }) => `${to}:${first}`).sort(), ["1:7", "2:8"]);
  net.heal();
  send(0, 2, 7);
  scheduler.run(2_000, never);
  assert.equal(delivered.length, 3);
});

test("what was sent to one process does not reach the next one over a connection", () => {
  const { scheduler, net, delivered, send } = network({ delayMinMs: 10 });
  send(0, 1, 1);
  net.memberDown(1);
  net.memberUp(1);
  send(0, 1, 2);
  scheduler.run(1_000, never);
  assert.deepEqual(
    delivered.map(({ first }) => first),
    [2],
  );
});

const DISK: DiskOptions = { syncMinMs: 1, syncMeanMs: 1, stallChance: 0, stallMs: 0, flushMeanMs: 100 };

function disk(seed = 3) {
  const scheduler = new Scheduler();
  const durable: number[] = [];
  const log = new SimulatedLog(scheduler, new Prng(seed), DISK, (sequence) => durable.push(sequence));
  log.open();
  const append = (sequence: number, sync: boolean) => log.append(sequence, Uint8Array.of(sequence), sync);
  return { scheduler, log, durable, append };
}

test("a crash keeps what was synced and at most loses what was not", () => {
  let lost = 0;
  for (let seed = 1; seed <= 50; seed++) {
    const { scheduler, log, durable, append } = disk(seed);
    append(1, false);
    append(2, true);
    scheduler.run(100, never);
    assert.deepEqual(durable, [2]);
    append(3, true);
    append(4, false);
    log.crash();
    scheduler.run(200, never);
    assert.deepEqual(durable, [2], "a sync of a dead process ends in nothing");
    const { records, nextSequence, state } = log.open();
    assert.equal(state, "clean");
    const sequences = [...records].map(({ sequence }) => sequence);
    assert.deepEqual(sequences, [1, 2, 3, 4].slice(0, sequences.length));
    assert.ok(sequences.length >= 2);
    assert.equal(nextSequence, sequences.length + 1);
    if (sequences.length < 4) lost++;
  }
  assert.ok(lost > 10, `${lost} crashes lost something`);
});

test("a stalled disk confirms nothing until the stall is over", () => {
  const { scheduler, log, durable, append } = disk();
  log.stall(500);
  append(1, true);
  scheduler.run(499, never);
  assert.deepEqual(durable, []);
  scheduler.run(600, never);
  assert.deepEqual(durable, [1]);
});

test("damage is told apart: a cut end, a damaged middle, nothing left", () => {
  const filled = () => {
    const made = disk();
    for (let i = 1; i <= 20; i++) made.append(i, i === 20);
    made.scheduler.run(100, never);
    made.log.crash();
    return made.log;
  };
  const tail = filled();
  tail.damage("tail");
  const cut = tail.open();
  assert.equal(cut.state, "uncertain");
  assert.ok([...cut.records].length >= 12);
  const wiped = filled();
  wiped.damage("wiped");
  assert.deepEqual(wiped.open(), { records: [], nextSequence: 1, state: "lost" });
  const middle = filled();
  middle.damage("middle");
  assert.throws(() => middle.open(), LogDamagedError);
  assert.throws(() => middle.open(), LogDamagedError, "it stays damaged");
});

test("truncation drops the records before a sequence and nothing else", () => {
  const { scheduler, log, append } = disk();
  for (let i = 1; i <= 10; i++) append(i, i === 10);
  scheduler.run(100, never);
  log.truncate(7);
  log.crash();
  assert.deepEqual(
    [...log.open().records].map(({ sequence }) => sequence),
    [7, 8, 9, 10],
  );
});

test("a good wall clock stays within its skew, and a monotonic one never goes back", () => {
  const options = { skewMaxMs: 100, driftMaxPpm: 5_000, stepChancePerSecond: 0.5 };
  for (let seed = 1; seed <= 20; seed++) {
    const clock = new SimulatedClock(options, new Prng(seed));
    clock.restart(0);
    let before = -1;
    for (let trueMs = 0; trueMs < 100_000; trueMs += 1_000) {
      clock.maybeStep();
      const { monotonicMs, wallMs } = clock.read(trueMs);
      assert.ok(Math.abs(wallMs - EPOCH_MS - trueMs) <= options.skewMaxMs + 1);
      assert.ok(monotonicMs > before);
      before = monotonicMs;
    }
    clock.breakBy(1e6);
    assert.ok(clock.read(0).wallMs - EPOCH_MS > 1e6 - 200);
    clock.restart(5_000);
    assert.equal(clock.read(5_000).monotonicMs, 0);
  }
});

test("only the holder of a key can sign, and only what is verified", () => {
  const signers = makeSigners(4, new Prng(5));
  const verifier = new SimulatedVerifier(signers);
  const statement = Uint8Array.of(1, 2, 3);
  for (const [index, signer] of signers.entries()) {
    const signature = signer.sign(statement);
    for (const [other, { publicKey }] of signers.entries()) {
      assert.equal(verifier.verify(publicKey, statement, signature), other === index);
    }
    assert.equal(verifier.verify(signer.publicKey, Uint8Array.of(1, 2, 4), signature), false);
    signature[5]! ^= 1;
    assert.equal(verifier.verify(signer.publicKey, statement, signature), false);
  }
});

test("the stand-in hash tells 20,000 neighbouring inputs apart", () => {
  const hasher = new SimulatedHasher();
  const seen = new Set<string>();
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 20_000; i++) {
    view.setUint32((i % 3) * 4, i);
    seen.add(hasher.hash(bytes.slice()).subarray(0, 8).join());
  }
  assert.equal(seen.size, 20_000);
});
