/** Fast instances (fast-path.ts) when the leader goes or members restart: nothing that was decided is lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../base/bytes.ts";
import { put, TestCluster, testMembership } from "../replica/testing/cluster.ts";
import { Forge, type ForgedValue, type MessageOf } from "../replica/testing/forge.ts";
import { Solo, type SoloSetup } from "../replica/testing/solo.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { decodeMessage, decodeStopDataBody, type LoggedWrite, type StopDataBody } from "./messages.ts";

function reports(cluster: TestCluster): (readonly [number, StopDataBody])[] {
  const heard: (readonly [number, StopDataBody])[] = [];
  cluster.observe = (member, output) => {
    if (output.type !== "send") return;
    const message = decodeMessage(output.bytes);
    if (message.type === "stopData") heard.push([member, decodeStopDataBody(message.body)]);
  };
  return heard;
}

/** Digests that were decided in the instance, and by how many members. */
function decidedIn(cluster: TestCluster, cid: number): { digests: Set<string>; members: Set<number> } {
  const digests = new Set<string>();
  const members = new Set<number>();
  for (const { member, event } of cluster.traces) {
    if (event.kind !== "decided" || event.cid !== cid) continue;
    digests.add(toHex(event.digest));
    members.add(member);
  }
  return { digests, members };
}

// ---- decided by one member, which is gone

/** WRITEs of the first ballot reach one member alone; it decides, and is gone before anyone sends ACCEPT. */
function oneDecidesAndDies(n: number, decider: number, mutation = ""): TestCluster {
  const cluster = new TestCluster(n, { certifyInstances: 32, mutation });
  cluster.run(50);
  cluster.drop = (_from, to, bytes) => {
    const message = decodeMessage(bytes);
    return to !== decider && message.type === "write" && message.cid === 1 && message.regency === 1;
  };
  let accepts = 0;
  cluster.observe = (_member, output) => {
    if (output.type === "send" && decodeMessage(output.bytes).type === "accept") accepts += 1;
  };
  cluster.submit(decider, put("key", "decided"));
  cluster.run(5);
  assert.deepEqual(
    cluster.nodes.map(({ replica }) => replica.lastDecided),
    cluster.nodes.map((_, member) => (member === decider ? 1 : 0)),
  );
  assert.equal(accepts, 0);
  cluster.kill(decider);
  cluster.observe = () => {};
  return cluster;
}

for (const n of [4, 5, 7]) {
  test(`${n} members: what the leader alone decided by logged WRITEs outlives it`, () => {
    const cluster = oneDecidesAndDies(n, 0);
    cluster.submit(2, put("key", "later"));
    cluster.run(3_000);
    const { digests, members } = decidedIn(cluster, 1);
    assert.equal(digests.size, 1);
    assert.equal(members.size, n);
    for (const { replica } of cluster.nodes.slice(1)) assert.equal(replica.store.revision, 3);
  });

  test(`${n} members: with logged WRITEs ignored in the leader change another value is decided`, () => {
    const cluster = oneDecidesAndDies(n, 0, "loggedWritesIgnored");
    cluster.submit(2, put("key", "later"));
    cluster.run(3_000);
    assert.equal(decidedIn(cluster, 1).digests.size, 2);
  });
}

test("it outlives the leaders of several regencies, too", () => {
  const cluster = oneDecidesAndDies(7, 0);
  cluster.kill(1);
  cluster.submit(2, put("key", "later"));
  cluster.run(6_000);
  assert.ok(cluster.nodes[2]!.replica.regency >= 3);
  assert.equal(decidedIn(cluster, 1).members.size, 6);
  assert.equal(decidedIn(cluster, 1).digests.size, 1);
  for (const { replica } of cluster.nodes.slice(2)) assert.equal(replica.store.revision, 3);
});

test("what a follower alone decided by logged WRITEs is decided by the others' ACCEPTs, under the same leader", () => {
  const cluster = oneDecidesAndDies(4, 3);
  cluster.drop = () => false;
  cluster.run(500);
  const { digests, members } = decidedIn(cluster, 1);
  assert.equal(digests.size, 1);
  assert.equal(members.size, 4);
  assert.ok(cluster.nodes.slice(0, 3).every(({ replica }) => replica.regency === 1));
});

test("reports name the logged WRITEs that no certificate covers, and no others", () => {
  const cluster = new TestCluster(4, { certifyInstances: 32 });
  cluster.run(50);
  for (let i = 0; i < 40; i++) {
    cluster.submit(1, put(`key${i}`, "value"));
    cluster.run(10);
  }
  const heard = reports(cluster);
  cluster.kill(0);
  cluster.run(2_000);
  assert.ok(heard.length >= 2);
  for (const [member, { decided, claims, logged }] of heard) {
    assert.equal(decided?.cid, 32, `member ${member}`);
    assert.deepEqual(claims, []);
    assert.deepEqual(
      logged.map(({ cid, regency }) => [cid, regency]),
      [33, 34, 35, 36, 37, 38, 39, 40].map((cid) => [cid, 1]),
    );
  }
  cluster.submit(2, put("after", "value"));
  cluster.run(2_000);
  for (const { replica } of cluster.nodes.slice(1)) assert.equal(replica.store.revision, 42);
});

// ---- restarts

/** All members decide a write by logged WRITEs, lose power at once, and start again; then another write comes. */
function powerLoss(mutation: string, keepState: boolean): TestCluster {
  const cluster = new TestCluster(4, { certifyInstances: 32, mutation });
  cluster.run(50);
  const id = cluster.submit(1, put("key", "acknowledged"));
  while (!cluster.results.has(id)) cluster.run(1);
  assert.equal(decidedIn(cluster, 1).members.size, 4);
  for (let member = 0; member < 4; member++) {
    cluster.crash(member);
    if (!keepState) cluster.nodes[member]!.engine = new MemoryEngine();
  }
  for (let member = 0; member < 4; member++) {
    cluster.start(member);
    // The decision's record was not synced.
    if (!keepState) assert.equal(cluster.nodes[member]!.replica.lastDecided, 0);
  }
  cluster.run(3_000);
  cluster.submit(2, put("key", "later"));
  cluster.run(1_000);
  return cluster;
}

test("all members lose power right after a fast decision and start again: the write is there", () => {
  for (const keepState of [true, false]) {
    const cluster = powerLoss("", keepState);
    assert.equal(decidedIn(cluster, 1).digests.size, 1);
    for (const { replica } of cluster.nodes) assert.equal(replica.store.revision, 3);
  }
});

for (const mutation of ["loggedNotSynced", "loggedForgotten", "loggedWritesIgnored"]) {
  test(`with the planted ${mutation} another value takes its place`, () => {
    assert.equal(decidedIn(powerLoss(mutation, false), 1).digests.size, 2);
  });
}

/** Member 3 was offered the first instance as a fast one; it holds the value. */
function offered(setup: SoloSetup = {}, stalled = false): { solo: Solo; value: ForgedValue } {
  const solo = new Solo(setup);
  const bundle = solo.forge.bundle(0, 1);
  const value = solo.forge.value([bundle]);
  solo.diskStalls = stalled;
  solo.receive(0, bundle.message, solo.forge.propose(1, value, { fast: true }));
  return { solo, value };
}

/** What the member reports on entering a regency that it does not lead. */
function reportOf(solo: Solo, regency = 2): StopDataBody | undefined {
  solo.receive(0, { type: "authority", authority: solo.forge.authority(regency, [0, 1, 2]) });
  const message = solo.said("stopData").at(-1);
  return message && decodeStopDataBody(message.body);
}

test("a member reports its logged WRITE, decided or not, also after restarts", () => {
  for (const decided of [false, true]) {
    const { solo, value } = offered();
    const expected: LoggedWrite[] = [{ cid: 1, regency: 1, digest: value.digest }];
    if (decided) {
      for (const member of [0, 1, 2])
        solo.receive(member, solo.forge.loggedWrite(member, 1, 1, value.digest));
    }
    assert.equal(solo.replica.lastDecided, decided ? 1 : 0);
    assert.deepEqual(reportOf(solo)?.logged, expected);
    for (const regency of [3, 5]) {
      solo.restart();
      assert.deepEqual(reportOf(solo, regency)?.logged, expected);
    }
  }
});

test("a logged WRITE that was not on disk when the power went was not sent, and is not reported", () => {
  const { solo } = offered({}, true);
  assert.deepEqual(solo.said("write"), []);
  solo.restart();
  assert.deepEqual(reportOf(solo)?.logged, []);
});

test("with logged WRITEs forgotten at a restart the report hides it", () => {
  const { solo, value } = offered({ options: { mutation: "loggedForgotten" } });
  assert.equal(solo.said("write")[0]?.digest.join(), value.digest.join());
  solo.restart();
  assert.deepEqual(reportOf(solo)?.logged, []);
});

test("a logged WRITE on its way to the disk is reported, and may still leave", () => {
  const { solo, value } = offered({}, true);
  assert.equal(reportOf(solo), undefined, "the report waits for the disk, too");
  solo.syncDisk();
  const [write] = solo.said("write");
  assert.ok(write?.logged && write.regency === 1);
  const [report] = solo.said("stopData");
  assert.deepEqual(decodeStopDataBody(report!.body).logged, [{ cid: 1, regency: 1, digest: value.digest }]);
});

// ---- reports of others

const forge = new Forge(testMembership(4));
const bundle = forge.bundle(0, 1);
const bound = forge.value([bundle]);
const free = forge.value([bundle], { timestampMs: bound.value.timestampMs + 1 });
const logged: readonly LoggedWrite[] = [{ cid: 1, regency: 1, digest: bound.digest }];

/** Member 1 enters regency 2, which it leads. */
function leaderOfRegencyTwo(): Solo {
  const solo = new Solo({ self: 1 });
  solo.receive(0, { type: "authority", authority: solo.forge.authority(2, [0, 2, 3]) });
  solo.forget();
  return solo;
}

test("STOPDATA with a list of logged WRITEs that no correct member makes is refused", () => {
  const { digest } = bound;
  const decided = forge.decision([0, 1, 2], 1, 4, digest);
  const write = (cid: number, regency = 1): LoggedWrite => ({ cid, regency, digest });
  const lies: readonly Partial<StopDataBody>[] = [
    { logged: [write(2), write(1)] },
    { logged: [write(1), write(1)] },
    { logged: [write(1, 2)] },
    { logged: [write(1, 3)] },
    { logged: [write(1, 0)] },
    { logged: [write(0)] },
    { decided, logged: [write(4)] },
    { decided, logged: [write(3), write(5)] },
  ];
  for (const lie of lies) {
    const solo = leaderOfRegencyTwo();
    solo.receive(3, forge.stopData(3, 2, lie));
    assert.deepEqual(solo.complaints, ["3: STOPDATA that no correct member sends"]);
    const follower = new Solo({ self: 3 });
    const all = [0, 1, 2].map((member) => [member, forge.stopData(member, 2, lie)] as const);
    follower.receive(1, forge.sync(forge.authority(2, [0, 1, 2]), all));
    assert.deepEqual(follower.accusations, ["unsound SYNC"]);
  }
  const sound = leaderOfRegencyTwo();
  sound.receive(3, forge.stopData(3, 2, { decided, logged: [write(5), write(7)] }));
  assert.deepEqual(sound.complaints, []);
});

/** Whether a SYNC with these reports holds member 3 to the value of the logged WRITEs. */
function binds(reporters: readonly (readonly LoggedWrite[])[]): boolean {
  const all = reporters.map((list, member) => [member, forge.stopData(member, 2, { logged: list })] as const);
  const authority = forge.authority(2, [0, 1, 2]);
  const outcome = (value: ForgedValue) => {
    const solo = new Solo({ self: 3 });
    solo.receive(0, bundle.message);
    solo.receive(1, forge.sync(authority, all));
    assert.deepEqual(solo.complaints, []);
    assert.equal(solo.replica.leader, 1);
    solo.receive(1, forge.propose(2, value, { authority }));
    return { written: solo.said("write").length, accusations: solo.accusations };
  };
  assert.deepEqual(outcome(bound), { written: 1, accusations: [] });
  const { written, accusations } = outcome(free);
  if (written === 1) return false;
  assert.deepEqual(accusations, ["invalid PROPOSE: the leader change bound another value"]);
  return true;
}

test("logged WRITEs that f members report bind nothing; those of all but f reports do", () => {
  assert.equal(binds([[], [], []]), false);
  assert.equal(binds([logged, [], []]), false);
  assert.equal(binds([logged, logged, []]), true);
  assert.equal(binds([logged, logged, logged]), true);
  // Of four reports two are too few: had it been decided, three correct members would say so.
  assert.equal(binds([logged, logged, [], []]), false);
  assert.equal(binds([logged, logged, logged, []]), true);
  // Later ballots for the same value count alike, and another value does not.
  const other: readonly LoggedWrite[] = [{ cid: 1, regency: 1, digest: free.digest }];
  assert.equal(binds([logged, other, []]), false);
  assert.equal(binds([logged, other, logged]), true);
});

test("a report of a logged WRITE in a far-away instance neither hangs nor binds anything", () => {
  const far: readonly LoggedWrite[] = [1_000_000_000, Number.MAX_SAFE_INTEGER].map((cid) => ({
    cid,
    regency: 1,
    digest: bound.digest,
  }));
  assert.equal(binds([far, [], []]), false);
  assert.equal(binds([[...logged, ...far], logged, []]), true);
  const solo = leaderOfRegencyTwo();
  solo.receive(3, forge.stopData(3, 2, { logged: far }));
  solo.receive(0, forge.stopData(0, 2, { logged }));
  const syncs: MessageOf<"sync">[] = solo.said("sync");
  assert.equal(syncs.length, 1);
  // It leads on: with a request it proposes in the first instance.
  solo.receive(0, bundle.message);
  assert.equal(solo.said("propose")[0]?.cid, 1);
});

test("a leader that lacks the value that logged WRITEs bind asks for it, and proposes nothing else", () => {
  const solo = leaderOfRegencyTwo();
  solo.receive(0, bundle.message);
  for (const member of [0, 3]) solo.receive(member, forge.stopData(member, 2, { logged }));
  assert.equal(solo.said("sync").length, 1);
  assert.deepEqual(solo.said("propose"), []);
  solo.run(100, { regency: 2 });
  assert.ok(solo.said("valueRequest").some(({ digest }) => toHex(digest) === toHex(bound.digest)));
  solo.receive(0, { type: "value", cid: 1, value: bound.encoded });
  const [propose] = solo.said("propose");
  assert.deepEqual(propose?.value, bound.encoded);
  assert.equal(propose.fast, false, "a bound value is not offered as fast");
});
