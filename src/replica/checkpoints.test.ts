import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeLogEntry } from "../consensus/log-records.ts";
import { decodeMessage, type MessageType } from "../consensus/messages.ts";
import { put, TestCluster } from "./testing/cluster.ts";

const LATE = 3;

function write(cluster: TestCluster, upTo: number): void {
  while (cluster.nodes[0]!.replica.lastDecided < upTo) {
    cluster.submit(0, put("key", `${cluster.now}`));
    cluster.run(10);
  }
}

/** Messages of these types do not reach the late member. */
function withhold(cluster: TestCluster, ...types: readonly MessageType[]): void {
  cluster.drop = (_, to, bytes) => to === LATE && types.includes(decodeMessage(bytes).type);
}

function stableAt(cluster: TestCluster, member: number): number[] {
  return cluster.traces.flatMap(({ member: who, event }) =>
    who === member && event.kind === "checkpoint" && event.stable ? [event.cid] : [],
  );
}

/** Instances whose decision the member's log holds. */
function logged(cluster: TestCluster, member: number): number[] {
  const cids = cluster.nodes[member]!.log.flatMap(({ record }) => {
    const entry = decodeLogEntry(record);
    return entry.type === "decision" ? [entry.certificate.cid] : [];
  });
  return [...new Set(cids)].sort((a, b) => a - b);
}

test("a checkpoint that all have signed becomes stable once, and the log is kept from the one before", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 4, keptCheckpoints: 4 });
  cluster.run(50);
  write(cluster, 7);
  // The late member gets the others' CHECKPOINTs before it has the instance's value, and then decides it itself.
  withhold(cluster, "propose", "value", "decisions");
  write(cluster, 8);
  cluster.run(50);
  withhold(cluster, "decisions");
  cluster.run(500);
  for (const member of [0, LATE]) {
    assert.deepEqual(stableAt(cluster, member), [4, 8], `member ${member}`);
    assert.deepEqual(logged(cluster, member), [5, 6, 7, 8], `member ${member}`);
  }
});

test("a member that caught up by a run of decisions asks for the ACCEPTs of the checkpoint inside it", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 4, keptCheckpoints: 4 });
  cluster.run(50);
  write(cluster, 6);
  withhold(cluster, "propose", "write", "accept", "decisions");
  write(cluster, 11);
  cluster.drop = () => false;
  cluster.run(2_000);
  assert.equal(cluster.nodes[LATE]!.replica.lastExecuted, 11);
  assert.deepEqual(stableAt(cluster, LATE), [4, 8]);
  assert.deepEqual(logged(cluster, LATE), logged(cluster, 0));
  // It asks no more once it has them.
  let asked = 0;
  cluster.observe = (member, output) => {
    if (member !== LATE || output.type !== "send") return;
    if (decodeMessage(output.bytes).type === "acceptRequest") asked += 1;
  };
  cluster.run(2_000);
  assert.equal(asked, 0);
});
