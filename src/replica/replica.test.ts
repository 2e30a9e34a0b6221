import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../base/bytes.ts";
import { decodeMessage, encodeMessage } from "../consensus/messages.ts";
import type { Operation } from "../store/types.ts";
import { put, TestCluster } from "./testing/cluster.ts";

function executionHashes(cluster: TestCluster, member: number): Map<number, string> {
  const hashes = new Map<number, string>();
  for (const { member: who, event } of cluster.traces) {
    if (who === member && event.kind === "executed") hashes.set(event.cid, toHex(event.executionHash));
  }
  return hashes;
}

function assertSameExecution(cluster: TestCluster, members: readonly number[]): void {
  const reference = executionHashes(cluster, members[0]!);
  for (const member of members) {
    for (const [cid, hash] of executionHashes(cluster, member)) {
      const expected = reference.get(cid);
      if (expected !== undefined) assert.equal(hash, expected, `member ${member}, instance ${cid}`);
    }
  }
}

function misbehaviour(cluster: TestCluster): string[] {
  return cluster.traces.flatMap(({ event }) => (event.kind === "misbehaviour" ? [event.what] : []));
}

test("four members order and execute writes of all of them", () => {
  const cluster = new TestCluster();
  cluster.run(50);
  const ids: number[] = [];
  for (let i = 0; i < 40; i++) {
    ids.push(cluster.submit(i % 4, put(`key${i}`, `value${i}`)));
    cluster.run(2);
  }
  cluster.run(50);
  for (const id of ids) assert.equal((cluster.results.get(id) as { type: string } | undefined)?.type, "put");
  for (const { replica } of cluster.nodes) assert.equal(replica.store.revision, 41);
  assertSameExecution(cluster, [0, 1, 2, 3]);
  assert.deepEqual(misbehaviour(cluster), []);
});

test("a fence is answered, and only after what was acknowledged before is executed", () => {
  const cluster = new TestCluster();
  cluster.run(50);
  cluster.submit(0, put("a", "1"));
  cluster.run(20);
  const fence = cluster.fence(3);
  cluster.run(20);
  assert.equal(cluster.results.get(fence), "fenced");
  assert.equal(cluster.nodes[3]!.replica.store.revision, 2);
});

test("a dead leader is replaced and nothing acknowledged is lost", () => {
  const cluster = new TestCluster();
  cluster.run(50);
  for (let i = 0; i < 10; i++) cluster.submit(1, put(`before${i}`, "x"));
  cluster.run(30);
  cluster.kill(0);
  const id = cluster.submit(2, put("after", "y"));
  cluster.run(3000);
  assert.equal((cluster.results.get(id) as { type: string } | undefined)?.type, "put");
  for (const member of [1, 2, 3]) assert.equal(cluster.nodes[member]!.replica.store.revision, 12);
  assert.equal(cluster.nodes[1]!.replica.regency, 2);
  cluster.start(0);
  cluster.run(1000);
  assert.equal(cluster.nodes[0]!.replica.store.revision, 12);
  assertSameExecution(cluster, [0, 1, 2, 3]);
  assert.deepEqual(misbehaviour(cluster), []);
});

test("all members restart at once and go on with the same state", () => {
  const cluster = new TestCluster();
  cluster.run(50);
  for (let i = 0; i < 20; i++) cluster.submit(i % 4, put(`k${i}`, "x"));
  cluster.run(7);
  for (let i = 0; i < 4; i++) cluster.kill(i);
  const acknowledged = [...cluster.results.values()].filter((result) => typeof result === "object").length;
  for (let i = 0; i < 4; i++) cluster.start(i);
  cluster.run(3000);
  const id = cluster.submit(3, put("again", "z"));
  cluster.run(3000);
  assert.equal((cluster.results.get(id) as { type: string } | undefined)?.type, "put");
  for (const { replica } of cluster.nodes) assert.ok(replica.store.revision >= acknowledged + 2);
  assertSameExecution(cluster, [0, 1, 2, 3]);
});

test("a member that was away for a while catches up by decisions", () => {
  const cluster = new TestCluster();
  cluster.run(50);
  cluster.kill(3);
  for (let i = 0; i < 100; i++) {
    cluster.submit(i % 3, put(`k${i % 7}`, `${i}`));
    cluster.run(3);
  }
  cluster.start(3);
  cluster.run(1500);
  assert.equal(cluster.nodes[3]!.replica.store.revision, 101);
  assertSameExecution(cluster, [0, 1, 2, 3]);
});

test("checkpoints become stable and cut the log", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 8 });
  cluster.run(50);
  for (let i = 0; i < 60; i++) {
    cluster.submit(i % 4, put(`k${i % 5}`, `${i}`));
    cluster.run(5);
  }
  cluster.run(300);
  const stable = cluster.traces.filter(({ event }) => event.kind === "checkpoint" && event.stable);
  assert.ok(stable.length >= 4 * 4, `${stable.length} stable checkpoints`);
  for (const { log } of cluster.nodes) assert.ok(log.length < 80, `${log.length} records`);
});

function runWrites(cluster: TestCluster, count: number, origins: readonly number[]): void {
  for (let i = 0; i < count; i++) {
    cluster.submit(origins[i % origins.length]!, put(`k${i % 11}`, `${i}`));
    cluster.run(4);
  }
  cluster.run(100);
}

test("a member whose log no longer reaches the others' takes a certified state", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 8 });
  cluster.run(50);
  cluster.kill(3);
  runWrites(cluster, 100, [0, 1, 2]);
  cluster.start(3);
  runWrites(cluster, 20, [0, 1, 2, 3]);
  cluster.run(2000);
  assert.equal(cluster.nodes[3]!.replica.store.revision, 121);
  assert.ok(cluster.traces.some(({ member, event }) => member === 3 && event.kind === "transfer"));
  assertSameExecution(cluster, [0, 1, 2, 3]);
  assert.deepEqual(misbehaviour(cluster), []);
});

test("decisions are kept longer for a member that is away, and not for ever", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 8, keptCheckpoints: 3 });
  cluster.run(50);
  cluster.kill(3);
  runWrites(cluster, 28, [0, 1, 2]);
  cluster.start(3);
  cluster.run(1500);
  const transfers = () =>
    cluster.traces.filter(({ member, event }) => member === 3 && event.kind === "transfer").length;
  assert.equal(transfers(), 0);
  assertSameExecution(cluster, [0, 1, 2, 3]);
  const whole = cluster.nodes[0]!.log.length;
  cluster.kill(3);
  runWrites(cluster, 100, [0, 1, 2]);
  const bounded = cluster.nodes[0]!.log.length;
  assert.ok(bounded < 4 * 8 * 3, `${whole} records with all members, ${bounded} without one`);
  cluster.start(3);
  runWrites(cluster, 20, [0, 1, 2, 3]);
  cluster.run(2000);
  assert.ok(transfers() > 0);
  assertSameExecution(cluster, [0, 1, 2, 3]);
});

test("a member that lost its disk comes back without voting on what it may have promised", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 8 });
  cluster.run(50);
  runWrites(cluster, 50, [0, 1, 2, 3]);
  cluster.kill(2);
  runWrites(cluster, 10, [0, 1, 3]);
  cluster.start(2, "lost");
  runWrites(cluster, 30, [0, 1, 3]);
  cluster.run(2000);
  assert.equal(cluster.nodes[2]!.replica.store.revision, 91);
  assert.equal(cluster.nodes[2]!.replica.serving, true);
  assertSameExecution(cluster, [0, 1, 2, 3]);
  assert.deepEqual(misbehaviour(cluster), []);
});

test("a member that lost its disk stays on probation over a restart", () => {
  const cluster = new TestCluster(4, {});
  cluster.run(50);
  runWrites(cluster, 10, [0, 1, 2, 3]);
  cluster.kill(2);
  cluster.start(2, "lost");
  cluster.drop = (from, to) => from === 2 || to === 2;
  cluster.run(50);
  // Its log is in order by now, and says of its own what was lost before.
  cluster.kill(2);
  cluster.start(2, "clean");
  const voted: string[] = [];
  cluster.drop = (from, _to, bytes) => {
    const { type } = decodeMessage(bytes);
    if (from === 2 && (type === "write" || type === "accept" || type === "stopData")) voted.push(type);
    // Nobody tells it how far its promises may reach.
    return type === "fenceReply";
  };
  runWrites(cluster, 20, [0, 1, 3]);
  assert.deepEqual(voted, []);
  // Told so, it votes again, and a further restart does not silence it.
  cluster.drop = () => false;
  runWrites(cluster, 20, [0, 1, 3]);
  cluster.run(1000);
  cluster.kill(2);
  cluster.start(2, "clean");
  cluster.kill(1);
  runWrites(cluster, 10, [0, 3]);
  // Its burned ballot has no quorum while member 1 is down: a leader change goes past it.
  cluster.run(4000);
  assert.equal(cluster.nodes[0]!.replica.store.revision, 61);
  assertSameExecution(cluster, [0, 2, 3]);
});

test("a member whose execution differs stops serving and repairs itself from the others", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 8 });
  cluster.run(50);
  runWrites(cluster, 20, [0, 1, 2, 3]);
  const wrong = cluster.nodes[1]!.replica.store;
  wrong.beginBatch(wrong.timeMs);
  wrong.execute(put("k3", "flipped") as Operation);
  wrong.endBatch();
  runWrites(cluster, 60, [0, 2, 3]);
  cluster.run(2000);
  assert.ok(cluster.traces.some(({ member, event }) => member === 1 && event.kind === "diverged"));
  const states = cluster.nodes.map(({ replica }) => replica.store.revision);
  assert.deepEqual(states, [81, 81, 81, 81]);
  assert.equal(cluster.nodes[1]!.replica.serving, true);
});

test("without a quorum no member has a leader, not even one that hears it", () => {
  const cluster = new TestCluster(4);
  cluster.run(300);
  const leaders = () => cluster.nodes.map(({ replica }) => replica.leader);
  assert.deepEqual(leaders(), [0, 0, 0, 0]);
  // Two stand still, their connections open.
  cluster.drop = (from, to) => from >= 2 || to >= 2;
  cluster.run(2_000);
  assert.deepEqual(leaders().slice(0, 2), [undefined, undefined]);
  cluster.drop = () => false;
  cluster.run(5_000);
  const [leader] = leaders();
  assert.ok(leader !== undefined);
  assert.deepEqual(leaders(), [leader, leader, leader, leader]);
});

test("a member stops serving when others are far ahead, by what correct ones say: one liar changes nothing", () => {
  for (const lie of [0, 2 ** 52]) {
    const cluster = new TestCluster();
    cluster.run(200);
    const { replica } = cluster.nodes[3]!;
    // What it would learn by a fence does not reach it; only heartbeats do.
    cluster.drop = (_, to, bytes) => to === 3 && decodeMessage(bytes).type !== "heartbeat";
    cluster.alter = (from, _to, bytes) => {
      const message = decodeMessage(bytes);
      if (message.type !== "heartbeat") return undefined;
      const decided = from === 0 ? lie : from === 3 ? message.decided : claimed;
      return [encodeMessage({ ...message, decided })];
    };
    let claimed = 0;
    cluster.run(500);
    assert.equal(replica.serving, true, `member 0 says ${lie}, the others ${claimed}`);
    claimed = 5_000;
    cluster.run(500);
    assert.equal(replica.serving, false, `member 0 says ${lie}, the others ${claimed}`);
  }
});
