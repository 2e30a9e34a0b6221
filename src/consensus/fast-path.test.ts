/** Fast instances (fast-path.ts) at one member: what decides, what is on disk first, and how long it waits. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { put } from "../replica/testing/cluster.ts";
import type { ForgedValue } from "../replica/testing/forge.ts";
import { Solo, type SoloSetup } from "../replica/testing/solo.ts";
import { FastPolicy } from "./fast-policy.ts";
import { decodeLogEntry } from "./log-records.ts";
import { DEFAULT_OPTIONS } from "./options.ts";

const { fastWaitMs } = DEFAULT_OPTIONS;

/** A member that was offered the first instance as a fast one; it holds the value. */
function offered(setup: SoloSetup = {}, stalled = false): { solo: Solo; value: ForgedValue } {
  const solo = new Solo(setup);
  const { forge } = solo;
  const bundle = forge.bundle(0, 1);
  const value = forge.value([bundle]);
  solo.forget();
  solo.diskStalls = stalled;
  solo.receive(0, bundle.message, forge.propose(1, value, { fast: true }));
  return { solo, value };
}

function writeRecords(solo: Solo): number[] {
  return solo.log.flatMap(({ record, sequence }) =>
    decodeLogEntry(record).type === "write" ? [sequence] : [],
  );
}

function hasDecided(solo: Solo): boolean {
  return solo.traces.some((event) => event.kind === "decided");
}

test("a WRITE of a fast instance waits for its record to be on disk", () => {
  const { solo, value } = offered({}, true);
  assert.equal(writeRecords(solo).length, 1);
  assert.deepEqual(solo.said("write"), []);
  solo.syncDisk();
  assert.ok(solo.durable >= writeRecords(solo)[0]!);
  const [write] = solo.said("write");
  assert.deepEqual(write?.digest, value.digest);
  assert.ok(write.logged);
  assert.deepEqual(write.signature, solo.forge.write(solo.self, 1, 1, value.digest).signature);
  const weak = offered({ options: { mutation: "loggedNotSynced" } }, true);
  assert.equal(weak.solo.said("write").length, 1);
});

test("the leader's PROPOSE does not wait for its disk, nor does it count as its logged WRITE", () => {
  const solo = new Solo({ self: 0 });
  const { forge } = solo;
  solo.forget();
  solo.diskStalls = true;
  solo.step({ type: "submit", id: 1, operation: put("key", "value") });
  solo.step({ type: "work" });
  const [propose] = solo.said("propose");
  assert.ok(propose?.fast);
  assert.equal(writeRecords(solo).length, 1);
  const own = decodeLogEntry(solo.log.at(-1)!.record);
  assert.ok(own.type === "write");
  for (const member of [1, 2, 3]) solo.receive(member, forge.loggedWrite(member, 1, 1, own.digest));
  assert.deepEqual(solo.said("write"), []);
  assert.ok(!hasDecided(solo));
  solo.syncDisk();
  const [write] = solo.said("write");
  assert.ok(write?.logged);
  assert.deepEqual(write.signature, propose.signature, "the same WRITE, signed once");
  assert.ok(hasDecided(solo));
  assert.deepEqual(solo.said("accept"), []);
});

test("a follower does not take the leader's PROPOSE for its logged WRITE, nor n-1 logged WRITEs for enough", () => {
  const { solo, value } = offered();
  const { forge } = solo;
  for (const member of [1, 2, 1, 2]) solo.receive(member, forge.loggedWrite(member, 1, 1, value.digest));
  solo.receive(0, forge.write(0, 1, 1, value.digest));
  assert.ok(!hasDecided(solo));
  assert.deepEqual(solo.said("accept"), [], "there may be more to come");
  solo.receive(0, forge.loggedWrite(0, 1, 1, value.digest));
  assert.ok(hasDecided(solo));
  assert.deepEqual(solo.said("accept"), []);
  assert.deepEqual(solo.complaints, []);
  const weak = offered({ options: { mutation: "fastOneTooFew" } });
  for (const member of [1, 2]) weak.solo.receive(member, forge.loggedWrite(member, 1, 1, value.digest));
  assert.ok(hasDecided(weak.solo));
});

test("logged WRITEs of all for different digests, or in different ballots, decide nothing", () => {
  const { solo, value } = offered();
  const { forge } = solo;
  const other = forge.value([forge.bundle(0, 1)], { timestampMs: value.value.timestampMs + 1 });
  solo.receive(1, forge.loggedWrite(1, 1, 1, other.digest), forge.loggedWrite(1, 1, 1, value.digest));
  solo.receive(2, forge.loggedWrite(2, 2, 1, value.digest));
  solo.receive(0, forge.loggedWrite(0, 1, 1, value.digest));
  assert.ok(!hasDecided(solo));
  assert.deepEqual(solo.complaints, ["1: two WRITEs in ballot (1, 1)"]);
});

test("an ACCEPT of another member ends the wait; without one it ends by itself", () => {
  const quorumOfWrites = () => {
    const { solo, value } = offered();
    for (const member of [1, 2]) solo.receive(member, solo.forge.loggedWrite(member, 1, 1, value.digest));
    assert.deepEqual(solo.said("accept"), []);
    return { solo, value };
  };
  const told = quorumOfWrites();
  told.solo.receive(1, told.solo.forge.accept(1, 1, 1, told.value.digest));
  assert.equal(told.solo.said("accept").length, 1);
  const waiting = quorumOfWrites();
  waiting.solo.run(fastWaitMs - 10);
  assert.deepEqual(waiting.solo.said("accept"), []);
  waiting.solo.run(10);
  assert.equal(waiting.solo.said("accept").length, 1);
  // The body is in the log already: the ACCEPT's record needs none.
  const entry = decodeLogEntry(waiting.solo.log.at(-1)!.record);
  assert.ok(entry.type === "accept" && entry.body === undefined);
});

test("an ACCEPT for another digest does not end the wait", () => {
  const { solo, value } = offered();
  for (const member of [1, 2]) solo.receive(member, solo.forge.loggedWrite(member, 1, 1, value.digest));
  solo.receive(1, solo.forge.accept(1, 1, 1, new Uint8Array(32).fill(7)));
  assert.deepEqual(solo.said("accept"), []);
});

test("a logged WRITE that is still on its way to the disk keeps nobody from giving the ACCEPT after the wait", () => {
  const { solo, value } = offered({}, true);
  for (const member of [0, 1, 2]) solo.receive(member, solo.forge.loggedWrite(member, 1, 1, value.digest));
  assert.ok(!hasDecided(solo));
  solo.run(fastWaitMs);
  assert.deepEqual(solo.said("accept"), []);
  solo.syncDisk();
  assert.equal(solo.said("write").length, 1);
  assert.equal(solo.said("accept").length, 1);
  assert.ok(hasDecided(solo));
});

test("a certifying instance that a leader offers as fast goes the ordinary way", () => {
  const { solo, value } = offered({ options: { certifyInstances: 1 } }, true);
  assert.deepEqual(writeRecords(solo), []);
  const [write] = solo.said("write");
  assert.ok(write !== undefined && write.logged === undefined);
  solo.diskStalls = false;
  for (const member of [1, 2]) solo.receive(member, solo.forge.loggedWrite(member, 1, 1, value.digest));
  assert.equal(solo.said("accept").length, 1, "at once");
});

test("an answer to a fence names the instance of a logged WRITE, once it is on disk", () => {
  const { solo } = offered({}, true);
  const named = () => {
    solo.forget();
    solo.receive(0, { type: "fence", nonce: 1 });
    return solo.said("fenceReply").map(({ accepted: cid }) => cid);
  };
  assert.deepEqual(named(), [0]);
  solo.syncDisk();
  assert.deepEqual(named(), [1]);
  solo.restart();
  assert.deepEqual(named(), [1]);
});

// ---- when the leader offers

const LONG_MS = 20;

/** Notes long waits until the policy backs off; returns for how long. */
function backOff(policy: FastPolicy, nowMs: number): number {
  let noted = 0;
  while (policy.allows(nowMs)) {
    policy.note(LONG_MS, nowMs);
    assert.ok(++noted <= 2);
  }
  let offMs = 1;
  while (!policy.allows(nowMs + offMs)) offMs += 1;
  return offMs;
}

test("policy: one long pause, or many short ones, are no reason to back off", () => {
  const policy = new FastPolicy();
  for (let i = 0; i < 100; i++) {
    policy.note(LONG_MS, i);
    for (let good = 0; good < 30; good++) policy.note(0, i);
    assert.ok(policy.allows(i));
  }
  for (let i = 0; i < 1000; i++) policy.note(1.9, i);
  assert.ok(policy.allows(1000));
});

test("policy: an average above the limit backs off, twice as long each time, up to 4 s", () => {
  const policy = new FastPolicy();
  let count = 0;
  for (; policy.allows(0); count++) policy.note(3, 0);
  assert.ok(count > 10, "the average counts, not one wait");
  assert.ok(!policy.allows(249) && policy.allows(250));
  const expected = [500, 1000, 2000, 4000, 4000, 4000];
  let nowMs = 1_000;
  for (const offMs of expected) {
    assert.equal(backOff(policy, nowMs), offMs);
    nowMs += offMs;
  }
});

test("policy: every 256 instances without a back-off halve it, down to 250 ms", () => {
  const policy = new FastPolicy();
  let nowMs = 0;
  for (let i = 0; i < 2; i++) nowMs += backOff(policy, nowMs);
  for (let good = 0; good < 254; good++) policy.note(0, nowMs);
  nowMs += backOff(policy, nowMs);
  // 2000 would be next: the 254 did not count for anything.
  for (let good = 0; good < 256; good++) policy.note(0, nowMs);
  assert.equal(backOff(policy, nowMs), 1000);
  for (let good = 0; good < 256 * 20; good++) policy.note(0, nowMs + 1000);
  assert.equal(backOff(policy, nowMs + 1000), 250);
});
