/** What becomes of a fast instance that not everybody could decide: nobody waits for a leader change in vain. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { Solo } from "../replica/testing/solo.ts";
import { decodeLogEntry } from "./log-records.ts";
import { decodeMessage, decodeStopDataBody, type StopDataBody } from "./messages.ts";
import { DEFAULT_OPTIONS } from "./options.ts";

const { fastWaitMs, leaderUnlinkedTimeoutMs } = DEFAULT_OPTIONS;
const FAST = { certifyInstances: 32 };

interface Decision {
  readonly member: number;
  readonly cid: number;
  readonly regency: number;
  readonly afterMs: number;
}

/** A cluster that serves, and what its members decide from then on. */
function deciding(): { cluster: TestCluster; decisions: Decision[] } {
  const cluster = new TestCluster(4, FAST);
  cluster.run(100);
  const beganMs = cluster.now;
  const decisions: Decision[] = [];
  cluster.observe = (member, output) => {
    if (output.type !== "trace" || output.event.kind !== "decided") return;
    const { cid, regency } = output.event;
    decisions.push({ member, cid, regency, afterMs: cluster.now - beganMs });
  };
  return { cluster, decisions };
}

/** Loses the WRITEs and ACCEPTs of one member to all but one. */
function votesToOneOnly(cluster: TestCluster, from: number, favoured: number): void {
  cluster.drop = (sender, to, bytes) =>
    sender === from && to !== favoured && ["write", "accept"].includes(decodeMessage(bytes).type);
}

test("a follower dies when its WRITE has reached the leader alone: the leader helps the others on", () => {
  const { cluster, decisions } = deciding();
  votesToOneOnly(cluster, 3, 0);
  cluster.submit(2, put("k", "v"));
  cluster.run(4);
  cluster.kill(3);
  cluster.run(fastWaitMs + 20);
  const deciders = decisions.filter(({ cid }) => cid === 1).map(({ member }) => member);
  assert.deepEqual(deciders.sort(), [0, 1, 2, 3]);
  assert.ok(decisions.every(({ regency }) => regency === 1));
});

for (const decider of [1, 2, 3]) {
  test(`member ${decider} alone decides, the leader dies: the next regency decides it for all`, () => {
    const { cluster, decisions } = deciding();
    cluster.drop = (_, to, bytes) => {
      const message = decodeMessage(bytes);
      return to !== decider && message.type === "write" && message.regency === 1;
    };
    cluster.submit(2, put("k", "v"));
    cluster.run(4);
    assert.deepEqual(
      decisions.map(({ member }) => member),
      [decider],
    );
    cluster.kill(0);
    cluster.run(leaderUnlinkedTimeoutMs + 50);
    const late = decisions.slice(1).map(({ member, regency }) => [member, regency]);
    assert.deepEqual(
      late.sort(),
      [1, 2, 3].filter((member) => member !== decider).map((member) => [member, 2]),
    );
  });
}

test("a member whose votes reach the leader alone slows the others down for a while only", () => {
  const { cluster, decisions } = deciding();
  votesToOneOnly(cluster, 3, 0);
  for (let i = 0; i < 24; i++) {
    cluster.submit(2, put(`k${i}`, "v"));
    cluster.run(60);
  }
  const at = (cid: number, member: number) =>
    decisions.find((decision) => decision.cid === cid && decision.member === member)!.afterMs;
  const lastDecided = Math.max(...decisions.filter(({ member }) => member === 1).map(({ cid }) => cid));
  const behindMs = Array.from({ length: lastDecided }, (_, i) => at(i + 1, 1) - at(i + 1, 0));
  assert.ok(behindMs[0]! >= fastWaitMs, "the others wait for the missing WRITE at first");
  const slow = behindMs.filter((ms) => ms > 5).length;
  assert.ok(slow < lastDecided / 2, `${slow} of ${lastDecided} instances were slow`);
});

for (const kind of ["ACCEPT", "logged WRITE"] as const) {
  test(`${kind} that is given again, and not on disk yet, takes nothing back from answers to fences`, () => {
    const solo = new Solo({ options: kind === "ACCEPT" ? { certifyInstances: 1 } : FAST });
    const { forge } = solo;
    const bundle = forge.bundle(0, 1);
    const value = forge.value([bundle]);
    const named = () => {
      solo.forget();
      solo.receive(0, { type: "fence", nonce: 1 });
      return solo.said("fenceReply")[0]!.accepted;
    };
    const writes = (regency: number) => {
      for (const member of [1, 2]) solo.receive(member, forge.write(member, regency, 1, value.digest));
    };
    assert.equal(named(), 0);
    solo.receive(0, bundle.message, forge.propose(1, value, { fast: true }));
    if (kind === "ACCEPT") writes(1);
    assert.equal(named(), 1);
    const authority = forge.authority(2, [0, 1, 2]);
    solo.receive(0, { type: "authority", authority });
    const report =
      kind === "ACCEPT"
        ? { claims: [forge.claim([0, 1, 2], 1, 1, value.digest)] }
        : { logged: [{ cid: 1, regency: 1, digest: value.digest }] };
    const reports = [0, 1, 2].map((member) => [member, forge.stopData(member, 2, report)] as const);
    solo.receive(1, forge.sync(authority, reports));
    solo.diskStalls = true;
    solo.receive(1, forge.propose(2, value, { authority, fast: true }));
    writes(2);
    assert.equal(named(), 1);
  });
}

test("a certificate in the log counts though the log has lost the instance that its state stands at", () => {
  const cluster = new TestCluster(4, { certifyInstances: 4 });
  cluster.run(100);
  for (let i = 1; i <= 45; i++) {
    cluster.submit(2, put(`k${i}`, "v"));
    cluster.run(20);
  }
  cluster.kill(3);
  const node = cluster.nodes[3]!;
  const lost = node.log.find(({ record }) => {
    const entry = decodeLogEntry(record);
    return entry.type === "write" && entry.cid === 45;
  })!;
  node.log = node.log.filter(({ sequence }) => sequence < lost.sequence);
  const reports: StopDataBody[] = [];
  cluster.observe = (member, output) => {
    if (member !== 3 || output.type !== "send") return;
    const message = decodeMessage(output.bytes);
    if (message.type === "stopData") reports.push(decodeStopDataBody(message.body));
  };
  cluster.start(3);
  cluster.kill(0);
  cluster.run(leaderUnlinkedTimeoutMs + 50);
  // It is looked for at the 40th decision, when the ACCEPTs for that are not yet there.
  assert.equal(reports[0]?.decided?.cid, 36);
  assert.deepEqual(
    reports[0].logged.map(({ cid }) => cid),
    [37, 38, 39, 40, 41, 42, 43, 44],
  );
});
