/** What fast instances leave without a certificate: in a leader change, for members that were away, and at rest. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../base/bytes.ts";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { Forge } from "../replica/testing/forge.ts";
import { decodeMessage, decodeStopDataBody, encodeMessage } from "./messages.ts";

const FAST = { certifyInstances: 32 };

/** What member 3, which is Byzantine, makes of what it would send as a correct one. */
function spoilsCertificates(cluster: TestCluster, forge: Forge): { restarted: boolean } {
  const state = { restarted: false };
  cluster.alter = (from, _to, bytes) => {
    if (from !== 3) return undefined;
    const message = decodeMessage(bytes);
    if (message.type === "stopData") {
      return [encodeMessage(forge.stopData(3, decodeStopDataBody(message.body).regency, {}))];
    }
    if (state.restarted || !("cid" in message) || message.cid % 32 !== 0) return undefined;
    if (message.type === "accept") return [];
    if (message.type !== "write") return undefined;
    const accept = forge.accept(3, message.regency, message.cid, message.digest);
    return [bytes, encodeMessage({ ...accept, signature: new Uint8Array(64) })];
  };
  return state;
}

test("a decision of all outlives more instances without a certificate than a report has room for", () => {
  const cluster = new TestCluster(4, FAST);
  const digests = new Map<number, Set<string>>();
  cluster.observe = (member, output) => {
    if (member === 3 || output.type !== "trace" || output.event.kind !== "decided") return;
    const { cid, digest } = output.event;
    const known = digests.get(cid);
    if (known === undefined) digests.set(cid, new Set([toHex(digest)]));
    else known.add(toHex(digest));
  };
  const liar = spoilsCertificates(cluster, new Forge(cluster.membership));
  cluster.run(200);
  const decided = () => cluster.nodes.map(({ replica }) => replica.lastDecided);
  for (let i = 0; Math.max(...decided()) < 99; i++) {
    cluster.submit(2, put(`k${i}`, "v"));
    cluster.run(12);
  }
  // Member 2 alone learns of the last one, and tells its client.
  cluster.drop = (_, to, bytes) => to !== 2 && decodeMessage(bytes).type === "write";
  const acknowledged = cluster.submit(2, put("precious", "acknowledged"));
  cluster.run(5);
  assert.equal(typeof cluster.results.get(acknowledged), "object");
  assert.deepEqual(decided().slice(0, 3), [99, 99, 100]);
  for (const member of [0, 1, 2]) cluster.crash(member);
  cluster.drop = () => false;
  liar.restarted = true;
  cluster.start(0);
  cluster.start(1);
  cluster.run(300);
  cluster.submit(1, put("precious", "other"));
  cluster.run(1500);
  cluster.start(2);
  cluster.run(1500);
  assert.ok(decided().every((cid) => cid > 100));
  for (const [cid, values] of digests)
    assert.equal(values.size, 1, `${values.size} values of instance ${cid}`);
});

test("a member without its log catches up past large fast instances", () => {
  const cluster = new TestCluster(4, FAST);
  cluster.run(200);
  for (let i = 0; i < 24; i++) {
    cluster.submit(0, put(`k${i}`, "x".repeat(150_000)));
    cluster.run(12);
  }
  cluster.kill(3);
  cluster.start(3, "lost");
  cluster.run(1500);
  const { replica } = cluster.nodes[3]!;
  assert.equal(replica.lastDecided, cluster.nodes[0]!.replica.lastDecided);
  assert.ok(replica.serving);
});

test("a cluster at rest says nothing but that it is alive, also after a leader change over a fast instance", () => {
  const cluster = new TestCluster(4, FAST);
  cluster.run(200);
  for (let i = 0; i < 5; i++) {
    cluster.submit(1, put(`k${i}`, "v"));
    cluster.run(12);
  }
  cluster.kill(0);
  cluster.run(3000);
  cluster.start(0);
  cluster.run(3000);
  assert.ok(cluster.nodes.every(({ replica }) => replica.regency > 1));
  const said = new Set<string>();
  cluster.observe = (_, output) => {
    if (output.type === "send") said.add(decodeMessage(output.bytes).type);
  };
  cluster.run(5000);
  assert.deepEqual([...said], ["heartbeat"]);
});
