/** Linearizable reads of whole replicas, with a member that names instances far ahead in its answers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeMessage, encodeMessage } from "../consensus/messages.ts";
import { FENCES_MAX } from "./fences.ts";
import { put, TestCluster } from "./testing/cluster.ts";

const LIAR = 0;
const READER = 1;
const WHAT = "named an instance that did not come";

/** A cluster that has been up for ten minutes, with a liar whose answers come first. */
function clusterWithLiar(ahead = 1_000_000): TestCluster {
  const cluster = new TestCluster();
  cluster.now = 600_000;
  cluster.run(50);
  for (let i = 0; i < 40; i++) {
    cluster.submit(2, put("key", `${i}`));
    cluster.run(20);
  }
  cluster.alter = (from, _to, bytes) => {
    const message = decodeMessage(bytes);
    if (from !== LIAR || message.type !== "fenceReply") return undefined;
    return [encodeMessage({ ...message, accepted: message.accepted + ahead })];
  };
  return cluster;
}

/** Loses what member 2 answers, so that the reader needs the liar's answer. */
function silenceAnswers(cluster: TestCluster): void {
  cluster.drop = (from, _to, bytes) => from === 2 && decodeMessage(bytes).type === "fenceReply";
}

function blamed(cluster: TestCluster): (readonly [number, string])[] {
  return cluster.traces.flatMap(({ event }) =>
    event.kind === "misbehaviour" ? [[event.member, event.what] as const] : [],
  );
}

test("one liar costs a read nothing while the other members answer", () => {
  const cluster = clusterWithLiar();
  for (let i = 0; i < 20; i++) {
    const read = cluster.fence(READER);
    cluster.run(5);
    assert.equal(cluster.results.get(read), "fenced", `read ${i}`);
  }
  const before = cluster.nodes[READER]!.replica.lastDecided;
  assert.equal(before, 40, "none of them was ordered");
});

test("where the liar's answer is needed the read is ordered soon, and the liar is known as one", () => {
  const cluster = clusterWithLiar();
  silenceAnswers(cluster);
  const read = cluster.fence(READER);
  cluster.run(150);
  assert.equal(cluster.results.get(read), "fenced");
  assert.deepEqual(blamed(cluster), [[LIAR, WHAT]]);
});

test("a member that names an instance which is late is not blamed", () => {
  const cluster = clusterWithLiar(0);
  // Member 3 misses an instance that the others accept, and reads.
  cluster.drop = (_, to, bytes) => to === 3 && ["write", "accept"].includes(decodeMessage(bytes).type);
  cluster.submit(2, put("key", "late"));
  cluster.run(20);
  const read = cluster.fence(3);
  cluster.run(1_100);
  cluster.drop = () => false;
  cluster.run(1_000);
  assert.equal(cluster.results.get(read), "fenced");
  assert.deepEqual(blamed(cluster), []);
});

test("reads beyond the bound are refused, whatever the others wait for", () => {
  const cluster = clusterWithLiar();
  silenceAnswers(cluster);
  for (let i = 0; i < FENCES_MAX / 2; i++) cluster.fence(READER);
  cluster.run(5);
  // They wait for the liar's instance by now; a little later for an operation that nobody decides.
  const { drop } = cluster;
  cluster.drop = (from, to, bytes) => drop(from, to, bytes) || decodeMessage(bytes).type === "write";
  for (let i = 0; i < FENCES_MAX / 2; i++) cluster.fence(READER);
  for (let i = 0; i < 3; i++) {
    assert.equal(cluster.results.get(cluster.fence(READER)), "tooManyRequests", `after ${i} times 100 ms`);
    cluster.run(100);
  }
  cluster.drop = () => false;
  cluster.run(3_000);
  const answers = [...cluster.results.values()];
  assert.equal(answers.filter((answer) => answer === "fenced").length, FENCES_MAX);
  assert.equal(cluster.results.get(cluster.fence(READER)), undefined, "there is room again");
});
