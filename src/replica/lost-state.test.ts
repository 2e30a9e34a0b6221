/** What the simulator found about states that came by transfer, or that nobody kept. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeLogEntry } from "../consensus/log-records.ts";
import { decodeMessage } from "../consensus/messages.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { Table } from "../store/engine.ts";
import { metaKey } from "../store/staging.ts";
import { rangeOf } from "../store/test-kit.ts";
import { put, TestCluster } from "./testing/cluster.ts";

function writes(cluster: TestCluster, member: number, count: number): void {
  for (let i = 0; i < count; i++) {
    cluster.submit(member, put(`key${i}`, `value${i}`));
    cluster.run(10);
  }
}

test("a member that fell back behind its log answers fences with what the log knows", () => {
  const cluster = new TestCluster();
  cluster.run(50);
  writes(cluster, 0, 10);
  const node = cluster.nodes[3]!;
  const before = node.replica.lastDecided;
  assert.ok(before >= 10);
  cluster.kill(3);
  // As after a transfer whose state a crash has lost: the log begins above the executed state.
  node.engine = new MemoryEngine();
  node.log = node.log.slice(node.log.length >> 1);
  const replies: number[] = [];
  cluster.observe = (member, output) => {
    if (member !== 3 || output.type !== "send") return;
    const message = decodeMessage(output.bytes);
    if (message.type === "fenceReply") replies.push(message.accepted);
  };
  cluster.nodes.forEach((_, member) => {
    if (member !== 3) cluster.kill(member);
  });
  // Started twice: what the first start wrote must not hide what the log before it knew.
  cluster.start(3);
  cluster.run(20);
  cluster.kill(3);
  node.log = node.log.slice(-1);
  cluster.start(3);
  assert.equal(node.replica.lastDecided, 0);
  for (const member of [0, 1, 2]) cluster.start(member);
  cluster.fence(0);
  cluster.run(3);
  assert.ok(replies.length > 0);
  for (const accepted of replies) assert.ok(accepted >= before, `accepted ${accepted}, before ${before}`);
});

test("the state of the last stable checkpoint is handed out after a restart of all", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 4 });
  cluster.run(50);
  cluster.kill(3);
  writes(cluster, 0, 40);
  const checkpoints = cluster.traces.filter(({ event }) => event.kind === "checkpoint" && event.stable);
  assert.ok(checkpoints.length > 10);
  cluster.kill(2);
  for (const member of [0, 1]) {
    cluster.kill(member);
    cluster.start(member);
  }
  cluster.start(3);
  cluster.run(5_000);
  assert.ok(cluster.traces.some(({ member, event }) => member === 3 && event.kind === "transfer"));
  assert.ok(cluster.nodes[3]!.replica.lastExecuted >= 40, `at ${cluster.nodes[3]!.replica.lastExecuted}`);
  const id = cluster.submit(3, put("after", "1"));
  cluster.run(5_000);
  assert.equal((cluster.results.get(id) as { type: string } | undefined)?.type, "put");
});

test("two members that stand one instance apart, without a certificate, hand out the state they have in common", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 4 });
  cluster.run(50);
  cluster.kill(3);
  writes(cluster, 0, 41);
  const common = cluster.nodes[1]!.replica.lastExecuted;
  assert.ok(common % 4 !== 0 && common % 4 !== 3, `no checkpoint at ${common} or behind it`);
  cluster.drop = (_, to, bytes) => to === 1 && decodeMessage(bytes).type === "accept";
  cluster.submit(0, put("ahead", "1"));
  cluster.run(20);
  assert.equal(cluster.nodes[0]!.replica.lastExecuted, common + 1);
  assert.equal(cluster.nodes[1]!.replica.lastExecuted, common);
  // The decision's record is not synced; what was executed is in the engine.
  for (const member of [0, 1, 2]) cluster.crash(member);
  cluster.drop = () => false;
  for (const member of [0, 1, 3]) cluster.start(member);
  cluster.run(10_000);
  for (const member of [0, 1, 3]) {
    assert.ok(cluster.nodes[member]!.replica.lastExecuted > common, `member ${member}`);
  }
  const id = cluster.submit(3, put("after", "1"));
  cluster.run(5_000);
  assert.equal((cluster.results.get(id) as { type: string } | undefined)?.type, "put");
});

test("a kept checkpoint is offered only with the certificates that belong to it", () => {
  for (const damage of ["none", "empty", "shortened", "another's"] as const) {
    const cluster = new TestCluster(4, { checkpointInstances: 4 });
    cluster.run(50);
    cluster.kill(3);
    writes(cluster, 0, 40);
    const { store } = cluster.nodes[0]!.replica;
    const { proof } = store.checkpoint()!;
    for (const member of [0, 1, 2]) cluster.kill(member);
    if (damage !== "none") {
      store.captureCheckpoint(1000, new Uint8Array(0));
      while (store.work(1000));
      const wrong = { empty: new Uint8Array(0), shortened: proof.subarray(0, -1), "another's": proof };
      assert.ok(store.keepCheckpoint(1000, wrong[damage]));
    }
    let offers = 0;
    cluster.observe = (member, output) => {
      if (member !== 0 || output.type !== "send") return;
      if (decodeMessage(output.bytes).type === "checkpointCertificate") offers++;
    };
    for (const member of [0, 3]) cluster.start(member);
    cluster.send(3, 0, { type: "decisionsRequest", from: 1 });
    cluster.run(50);
    assert.equal(offers > 0, damage === "none", `${damage}: ${offers} offers`);
  }
});

test("a checkpoint whose state a crash has lost is kept again once it was executed again", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 4 });
  cluster.run(50);
  writes(cluster, 0, 5);
  const node = cluster.nodes[3]!;
  const before = node.replica.store.checkpoint()!;
  assert.ok(before.cid >= 4 && node.log[0]!.sequence === 1, "the first one: nothing is cut");
  for (let member = 0; member < 4; member++) cluster.kill(member);
  node.engine = new MemoryEngine();
  cluster.start(3);
  cluster.run(20);
  assert.deepEqual(node.replica.store.checkpoint()?.root, before.root);
  assert.equal(node.replica.store.checkpoint()?.cid, before.cid);
});

test("the decision of a kept checkpoint is shown to others although the log has lost it", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 2 });
  cluster.run(50);
  writes(cluster, 0, 2);
  const node = cluster.nodes[1]!;
  assert.equal(node.replica.store.checkpoint()?.cid, 2);
  for (let member = 0; member < 4; member++) cluster.kill(member);
  // The engine was flushed; of the log the last records were not synced: it ends with the ACCEPT.
  const isAccept = (record: Uint8Array) => {
    const entry = decodeLogEntry(record);
    return entry.type === "accept" && entry.cid === 2;
  };
  node.log = node.log.slice(0, node.log.findLastIndex(({ record }) => isAccept(record)) + 1);
  assert.ok(node.log.length > 0);
  const answers: string[] = [];
  cluster.observe = (member, output) => {
    if (member === 1 && output.type === "send" && output.to === 3)
      answers.push(decodeMessage(output.bytes).type);
  };
  for (const member of [1, 3]) cluster.start(member);
  cluster.send(3, 1, { type: "decisionsRequest", from: 2 });
  cluster.run(20);
  assert.ok(answers.includes("decisions") && !answers.includes("decisionClaim"), answers.join());
});

test("a large state is put in place step by step, and a crash in between is made good", () => {
  const isSwitched = ({ engine }: { engine: MemoryEngine }) =>
    engine.get(Table.meta, metaKey("store/install")) !== undefined;
  for (const crash of [false, true]) {
    const cluster = new TestCluster(4, { checkpointInstances: 8 });
    cluster.run(50);
    cluster.kill(3);
    // Five chunks and more, each of them a step.
    const large = put("", "v".repeat(66_000));
    assert.ok(large.type === "put");
    for (let i = 0; i < 350; i++) {
      cluster.submit(0, { type: "put", put: { ...large.put, key: `key${i}` } });
      if (i % 4 === 0) cluster.run(10);
    }
    cluster.start(3);
    const node = cluster.nodes[3]!;
    let switchedMs = 0;
    for (let ms = 0; ms < 10_000 && (node.replica.lastExecuted < 88 || ms < 500); ms++) {
      cluster.run(1);
      if (!isSwitched(node)) continue;
      switchedMs++;
      assert.equal(node.replica.serving, false);
      assert.equal(node.replica.lastExecuted, 0);
      if (ms % 3 === 0) cluster.submit(0, put("meanwhile", "1"));
      if (crash && switchedMs === 2) {
        cluster.crash(3);
        cluster.start(3);
        assert.ok(!isSwitched(node), "done at the start");
      }
    }
    assert.ok(switchedMs >= 2, `${switchedMs} ms`);
    assert.ok(node.replica.lastExecuted >= 88, `at ${node.replica.lastExecuted}`);
    const id = cluster.submit(3, put("after", "1"));
    cluster.run(2000);
    assert.equal((cluster.results.get(id) as { type: string } | undefined)?.type, "put");
    const [a, b] = [cluster.nodes[0]!.replica, node.replica];
    assert.equal(b.lastExecuted, a.lastExecuted);
    assert.deepEqual(b.store.range(rangeOf("\0", "\0")), a.store.range(rangeOf("\0", "\0")));
  }
});

test("a member whose incarnation went back learns so from the others' table, also through a transfer", () => {
  for (const checkpointInstances of [4, 1000]) {
    const cluster = new TestCluster(4, { checkpointInstances });
    cluster.run(50);
    const node = cluster.nodes[3]!;
    cluster.kill(3);
    node.incarnation = 5000;
    cluster.start(3);
    cluster.run(200);
    const id = cluster.submit(3, put("ahead", "1"));
    cluster.run(200);
    assert.ok(typeof cluster.results.get(id) === "object");
    writes(cluster, 0, 20);
    assert.equal(node.replica.outlivedBy, undefined);
    cluster.kill(3);
    writes(cluster, 0, 20);
    node.incarnation = 1;
    cluster.start(3, "lost");
    assert.equal(node.replica.outlivedBy, undefined);
    cluster.run(5000);
    assert.equal(node.replica.outlivedBy, 5001);
    cluster.kill(3);
    node.incarnation = 5001;
    cluster.start(3);
    cluster.run(5000);
    assert.equal(node.replica.outlivedBy, undefined);
    const after = cluster.submit(3, put("after", "1"));
    cluster.run(500);
    assert.equal((cluster.results.get(after) as { type: string } | undefined)?.type, "put");
  }
});

test("a member comes back under load though the others' logs are cut every few instances", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 4 });
  const write = (count: number) => {
    for (let i = 0; i < count; i++) {
      cluster.submit(i % 3, put(`key${i % 20}`, `value${i}`));
      cluster.run(2);
    }
  };
  cluster.run(50);
  cluster.kill(3);
  write(50);
  cluster.start(3);
  write(500);
  const [other, back] = [cluster.nodes[0]!.replica, cluster.nodes[3]!.replica];
  assert.ok(other.lastExecuted > 100);
  assert.ok(back.lastExecuted >= other.lastExecuted - 8, `${back.lastExecuted} of ${other.lastExecuted}`);
  const transfers = cluster.traces.filter(({ event }) => event.kind === "transfer" && event.phase === "done");
  assert.ok(transfers.length <= 2, `${transfers.length} transfers`);
});
