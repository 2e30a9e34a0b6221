/**
 * Weaknesses W1, W2 and W4, which were found in other implementations of Mod-SMaRt: what a leader change makes
 * of reports. Each test is named after the weakness that it refuses; where the weak rule can be planted, the
 * test also shows that it fails with it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../base/bytes.ts";
import { put, TestCluster, testMembership } from "../replica/testing/cluster.ts";
import { Forge } from "../replica/testing/forge.ts";
import { Solo } from "../replica/testing/solo.ts";
import { decodeMessage, decodeStopDataBody, type MessageType } from "./messages.ts";

/** How many different values were decided in the instance for which there are most. */
function valuesOfAnInstance(cluster: TestCluster): number {
  const byInstance = new Map<number, Set<string>>();
  for (const { event } of cluster.traces) {
    if (event.kind !== "decided") continue;
    const digests = byInstance.get(event.cid) ?? new Set();
    byInstance.set(event.cid, digests.add(toHex(event.digest)));
  }
  return Math.max(0, ...[...byInstance.values()].map((digests) => digests.size));
}

function typeOf(bytes: Uint8Array): MessageType {
  return decodeMessage(bytes).type;
}

/**
 * Member 0 alone gets the ACCEPTs of the first instance, decides it and is gone; members 1 and 2 have accepted
 * it, member 3 saw nothing of it. Nobody is Byzantine.
 */
function leaderDecidesAloneAndDies(mutation: string): TestCluster {
  const cluster = new TestCluster(4, { mutation });
  cluster.run(50);
  const ofInstance: readonly MessageType[] = ["bundle", "propose", "write", "accept"];
  cluster.drop = (_from, to, bytes) => {
    const type = typeOf(bytes);
    return (type === "accept" && to !== 0) || (to === 3 && ofInstance.includes(type));
  };
  cluster.submit(0, put("key", "decided"));
  cluster.run(10);
  assert.deepEqual(
    cluster.nodes.map(({ replica }) => replica.lastDecided),
    [1, 0, 0, 0],
  );
  cluster.kill(0);
  cluster.drop = () => false;
  cluster.submit(2, put("key", "later"));
  cluster.run(3000);
  return cluster;
}

test("W1: a value decided in the first regency outlives the leader change", () => {
  const cluster = leaderDecidesAloneAndDies("");
  assert.equal(valuesOfAnInstance(cluster), 1);
  assert.deepEqual(
    cluster.nodes.slice(1).map(({ replica }) => replica.store.revision),
    [3, 3, 3],
  );
});

test("W1: with the first regency taken for none, two values are decided", () => {
  assert.equal(valuesOfAnInstance(leaderDecidesAloneAndDies("liveRegencyZero")), 2);
});

/**
 * Member 0 leads and is Byzantine. It proposes v to 1 and 2 and w to 3, votes for v, and claims w in the leader
 * change, with its own WRITE and that of member 3, which are signed well. Then it votes for w.
 */
function claimOfAnotherValue(mutation: string): { cluster: TestCluster; settled: boolean } {
  const cluster = new TestCluster(4, { mutation });
  const forge = new Forge(cluster.membership);
  cluster.run(50);
  const bundle = forge.bundle(0, 1);
  const decided = forge.value([bundle]);
  const other = forge.value([bundle], { timestampMs: decided.value.timestampMs + 1 });
  cluster.alter = (from, to, bytes) => {
    if (from !== 0) return undefined;
    if (typeOf(bytes) !== "heartbeat") return [];
    return to === 1 ? [] : undefined;
  };
  const claim = forge.claim([0, 3], 1, 1, other.digest);
  for (const to of [1, 2, 3]) {
    const sent = [bundle.message, forge.propose(1, to === 3 ? other : decided)];
    const votes = [forge.write(0, 1, 1, decided.digest), forge.accept(0, 1, 1, decided.digest)];
    for (const message of [...sent, ...votes]) cluster.send(0, to, message);
  }
  // The ACCEPTs of correct members reach member 2 alone, so that it alone decides; member 3 accepts nothing.
  cluster.drop = (from, to, bytes) =>
    (from !== 0 && to !== 2 && typeOf(bytes) === "accept") || (to === 3 && typeOf(bytes) === "write");
  cluster.run(20);
  assert.deepEqual(
    cluster.nodes.slice(1).map(({ replica }) => replica.lastDecided),
    [0, 1, 0],
  );
  // Silent, and asking for the next leader: member 1, to whom it lies. Member 2 is slow.
  cluster.drop = (from) => from === 2;
  for (const to of [1, 3]) cluster.send(0, to, forge.stop(0, 2));
  for (const to of [1, 3]) cluster.send(3, to, forge.stop(3, 2));
  cluster.run(20);
  cluster.send(0, 1, forge.stopData(0, 2, { claims: [claim] }));
  for (const to of [1, 3]) {
    cluster.send(0, to, forge.write(0, 2, 1, other.digest));
    cluster.send(0, to, forge.accept(0, 2, 1, other.digest));
  }
  cluster.run(100);
  const settled = cluster.nodes[1]!.replica.leader === 1;
  cluster.drop = () => false;
  cluster.run(4000);
  return { cluster, settled };
}

test("W1: a claim that no quorum of reports backs is not taken; the leader waits for more", () => {
  const { cluster, settled } = claimOfAnotherValue("");
  assert.equal(settled, false);
  assert.equal(valuesOfAnInstance(cluster), 1);
  assert.ok(cluster.nodes[1]!.replica.lastDecided >= 1);
});

for (const mutation of ["selectionUnbacked", "selectionOneFewer"]) {
  test(`W1: with the planted ${mutation}, two values are decided`, () => {
    assert.equal(valuesOfAnInstance(claimOfAnotherValue(mutation).cluster), 2);
  });
}

/** Member 3 in regency 3, whose leader shows reports that were signed for regency 2. */
function reportsOfAnotherRegency(mutation: string): Solo {
  const solo = new Solo({ self: 3, options: { mutation } });
  const { forge } = solo;
  solo.receive(0, { type: "authority", authority: forge.authority(2, [0, 1, 2]) });
  const authority = forge.authority(3, [0, 1, 2]);
  const old = [0, 1, 2].map((member) => [member, forge.stopData(member, 2)] as const);
  solo.receive(2, forge.sync(authority, old));
  assert.equal(solo.replica.regency, 3);
  return solo;
}

test("W2: reports signed for another regency settle nothing", () => {
  const solo = reportsOfAnotherRegency("");
  assert.deepEqual(solo.complaints, ["2: SYNC that no correct leader sends"]);
  assert.deepEqual(solo.accusations, ["unsound SYNC"]);
  assert.equal(solo.replica.leader, undefined);
  assert.deepEqual(reportsOfAnotherRegency("regencyNotBound").complaints, []);
});

test("W2: reports of strangers, of one member twice, or of too few settle nothing", () => {
  const { forge } = new Solo();
  const authority = forge.authority(2, [0, 2, 3]);
  const report = (member: number) => [member, forge.stopData(member, 2)] as const;
  const strange: readonly (readonly (readonly [number, ReturnType<typeof forge.stopData>])[])[] = [
    [report(0), report(2)],
    [report(0), report(2), report(2)],
    [report(0), report(2), [7, forge.stopData(7, 2)]],
    [report(0), report(2), [3, forge.stopData(1, 2)]],
  ];
  for (const reports of strange) {
    const solo = new Solo({ self: 3 });
    solo.receive(1, forge.sync(authority, reports));
    assert.deepEqual(solo.complaints, ["1: SYNC that no correct leader sends"]);
  }
  const solo = new Solo({ self: 3 });
  solo.receive(1, forge.sync(authority, [report(0), report(2), report(3)]));
  assert.deepEqual(solo.complaints, []);
  assert.equal(solo.replica.leader, 1);
});

test("W2: a leader takes no report of an earlier regency for one of its own", () => {
  const ask = (mutation: string) => {
    const solo = new Solo({ self: 1, options: { mutation } });
    const { forge } = solo;
    solo.receive(0, { type: "authority", authority: forge.authority(2, [0, 2, 3]) });
    solo.receive(0, { type: "authority", authority: forge.authority(6, [0, 2, 3]) });
    solo.receive(2, forge.stopData(2, 2));
    solo.receive(3, forge.stopData(3, 2));
    return solo.said("sync").length;
  };
  assert.equal(ask(""), 0);
  assert.equal(ask("regencyNotBound"), 1);
});

const forge = new Forge(testMembership(4));

/** Member 1 enters regency 2, which it leads. */
function leaderOfRegencyTwo(mutation = ""): Solo {
  const solo = new Solo({ self: 1, options: { mutation } });
  solo.receive(0, { type: "authority", authority: solo.forge.authority(2, [0, 2, 3]) });
  solo.forget();
  return solo;
}

test("W4: a decision with a false certificate in STOPDATA makes the report worthless, not the leader lost", () => {
  const digest = new Uint8Array(32).fill(9);
  const sound = forge.decision([0, 1, 2], 1, 4, digest);
  const lies = [
    { ...sound, cid: 1_000_000 },
    { ...sound, cid: Number.MAX_SAFE_INTEGER },
    { ...sound, accepts: sound.accepts.slice(1) },
    { ...sound, accepts: [] },
    forge.decision([3, 3, 3], 1, 1_000_000, digest),
  ];
  for (const decided of lies) {
    const solo = leaderOfRegencyTwo();
    solo.receive(3, forge.stopData(3, 2, { decided }));
    assert.deepEqual(solo.complaints, ["3: STOPDATA that no correct member sends"]);
    solo.receive(0, forge.stopData(0, 2, { decided: sound }));
    solo.receive(2, forge.stopData(2, 2));
    const [message] = solo.said("sync");
    assert.deepEqual(
      message?.sync.collects.map(({ member, body }) => [member, decodeStopDataBody(body).decided?.cid]),
      [
        [0, 4],
        [1, undefined],
        [2, undefined],
      ],
    );
    // A leader that shows such a report is replaced by those who follow it.
    const follower = new Solo({ self: 3 });
    const reports = [0, 2, 3].map((member) => [member, forge.stopData(member, 2, { decided })] as const);
    follower.receive(1, forge.sync(forge.authority(2, [0, 2, 3]), reports));
    assert.deepEqual(follower.accusations, ["unsound SYNC"]);
  }
});

test("W4: claims that no correct member makes make a report worthless", () => {
  const digest = new Uint8Array(32).fill(9);
  const decided = forge.decision([0, 1, 2], 1, 4, digest);
  const claim = forge.claim([0, 2], 1, 5, digest);
  const lies = [
    { decided, claims: [forge.claim([0, 2], 1, 4, digest)] },
    { decided, claims: [forge.claim([0, 2], 2, 5, digest)] },
    { decided, claims: [claim, claim] },
    { decided, claims: [forge.claim([3], 1, 5, digest)] },
    { claims: [forge.claim([3, 3], 1, 1_000_000_000, digest)] },
  ];
  for (const lie of lies) {
    const solo = leaderOfRegencyTwo();
    solo.receive(3, forge.stopData(3, 2, lie));
    assert.deepEqual(solo.complaints, ["3: STOPDATA that no correct member sends"]);
  }
  const sound = leaderOfRegencyTwo();
  sound.receive(3, forge.stopData(3, 2, { decided, claims: [claim] }));
  assert.deepEqual(sound.complaints, []);
  const weak = leaderOfRegencyTwo("claimNotChecked");
  weak.receive(3, forge.stopData(3, 2, { claims: [forge.claim([3], 1, 5, digest)] }));
  assert.deepEqual(weak.complaints, []);
});
