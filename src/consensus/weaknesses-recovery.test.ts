/**
 * Weaknesses W12 and W13, which were found in other implementations of Mod-SMaRt: restarts and state that comes
 * from others. Each test is named after the weakness that it refuses; where the weak rule can be planted, the
 * test also shows that it fails with it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../base/bytes.ts";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { Forge, type ForgedBundle, type ForgedValue, type MessageOf } from "../replica/testing/forge.ts";
import { Solo } from "../replica/testing/solo.ts";
import { decodeMessage, decodeStopDataBody, encodeMessage, type MessageType } from "./messages.ts";

/** Shows member 3 a proposal for the first instance, and WRITEs of `writers` for it. */
function show(solo: Solo, content: string, writers: readonly number[] = []): ForgedValue {
  const { forge } = solo;
  const bundle = forge.bundle(0, 1, { content });
  const value = forge.value([bundle]);
  solo.receive(0, bundle.message, forge.propose(1, value));
  for (const member of writers) solo.receive(member, forge.write(member, 1, 1, value.digest));
  return value;
}

test("W12: a WRITE that a crash made forgotten is not followed by another in its ballot", () => {
  const votesTwice = (mutation: string) => {
    const solo = new Solo({ self: 3, options: { mutation } });
    show(solo, "first");
    assert.equal(solo.said("write").length, 1);
    solo.restart();
    show(solo, "second");
    return solo.said("write").length === 1;
  };
  assert.equal(votesTwice(""), false);
  assert.equal(votesTwice("ballotNotBurned"), true);
});

test("W12: a burned ballot still lets a member ACCEPT, and the next regency lets it WRITE", () => {
  const solo = new Solo({ self: 3 });
  show(solo, "first");
  solo.restart();
  const value = show(solo, "first", [0, 1, 2]);
  assert.equal(solo.said("write").length, 0);
  assert.equal(solo.said("accept").length, 1);
  const { forge } = solo;
  const authority = forge.authority(2, [0, 1, 2]);
  const claim = forge.claim([0, 1], 1, 1, value.digest);
  const reports = [0, 1, 2].map(
    (member) => [member, forge.stopData(member, 2, { claims: [claim] })] as const,
  );
  solo.receive(1, forge.sync(authority, reports), forge.propose(2, value, { authority }));
  assert.deepEqual(
    solo.said("write").map(({ regency, digest }) => [regency, toHex(digest)]),
    [[2, toHex(value.digest)]],
  );
});

test("W12: an ACCEPT is on disk, with its WRITEs and bodies, before it leaves", () => {
  const leavesEarly = (mutation: string) => {
    const solo = new Solo({ self: 3, options: { mutation } });
    solo.diskStalls = true;
    show(solo, "value", [0, 1, 2]);
    return solo.said("accept").length === 1;
  };
  assert.equal(leavesEarly(""), false);
  assert.equal(leavesEarly("acceptNotSynced"), true);
});

test("W12: what was accepted before a restart is claimed after it, with the WRITEs behind it", () => {
  const solo = new Solo({ self: 3 });
  const value = show(solo, "value", [0, 1, 2]);
  assert.equal(solo.said("accept").length, 1);
  for (const regency of [2, 3, 5]) {
    solo.restart();
    solo.receive(0, { type: "authority", authority: solo.forge.authority(regency, [0, 1, 2]) });
    const report = decodeStopDataBody(solo.said("stopData").at(-1)!.body);
    assert.equal(report.regency, regency);
    assert.deepEqual(
      report.claims.map(({ cid, regency, digest }) => [cid, regency, toHex(digest)]),
      [[1, 1, toHex(value.digest)]],
    );
    // As many as prove it: f+1.
    assert.equal(report.claims[0]!.writes.length, 2);
  }
  // The body came back from the log, too: others learn the value from here.
  solo.receive(2, { type: "valueRequest", cid: 1, digest: value.digest });
  assert.equal(solo.said("value").length, 1);
});

test("W12: a restarted member is in the regency that it left, and does not vote below it", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const authority = forge.authority(2, [0, 1, 2]);
  solo.receive(0, { type: "authority", authority });
  solo.restart();
  assert.equal(solo.replica.regency, 2);
  show(solo, "of the regency before", [0, 1, 2]);
  assert.equal(solo.said("write").length + solo.said("accept").length, 0);
  // What it reported for regency 2 it reports again, letter by letter.
  solo.run(1_000);
  assert.equal(solo.said("stopData").length, 1);
});

test("W12: a regency is on disk before STOPDATA or a vote in it", () => {
  const saysEarly = (mutation: string) => {
    const solo = new Solo({ self: 3, options: { mutation } });
    const { forge } = solo;
    solo.diskStalls = true;
    solo.forget();
    const authority = forge.authority(2, [0, 1, 2]);
    const value = forge.value([]);
    const reports = [0, 1, 2].map((member) => [member, forge.stopData(member, 2)] as const);
    solo.receive(1, forge.sync(authority, reports), forge.propose(2, value, { authority }));
    assert.equal(solo.replica.regency, 2);
    assert.equal(solo.said("write").length, 0);
    const early = solo.said("stopData").length;
    solo.syncDisk();
    assert.equal(solo.said("write").length, 1);
    assert.equal(solo.said("stopData").length, 1);
    return early > 0;
  };
  assert.equal(saysEarly(""), false);
  assert.equal(saysEarly("stopDataBeforeDurable"), true);
});

test("W12: WRITE for an instance waits until the one before is on disk", () => {
  const writesEarly = (mutation: string) => {
    const solo = new Solo({ self: 3, options: { mutation } });
    const { forge } = solo;
    // Decided by the others: this member's own ACCEPT is still on its way to the disk.
    solo.diskStalls = true;
    const value = show(solo, "value", [0, 1, 2]);
    for (const member of [0, 1, 2]) solo.receive(member, forge.accept(member, 1, 1, value.digest));
    assert.equal(solo.replica.lastDecided, 1);
    solo.forget();
    solo.receive(0, forge.propose(1, forge.value([], { previous: value })));
    const early = solo.said("write").length === 1;
    solo.syncDisk();
    assert.equal(solo.said("write").length, 1);
    return early;
  };
  assert.equal(writesEarly(""), false);
  assert.equal(writesEarly("writeBeforePreviousDurable"), true);
});

test("W12: a leader that restarts hands over", () => {
  const solo = new Solo({ self: 0 });
  solo.restart();
  solo.run(50);
  assert.deepEqual(solo.accusations, ["this leader restarted and hands over"]);
  assert.deepEqual(solo.said("propose"), []);
});

for (const state of ["lost", "uncertain"] as const) {
  test(`W12: a member whose log is ${state} says nothing until its promises cannot matter`, () => {
    const solo = new Solo({ self: 3 });
    const { forge } = solo;
    show(solo, "first", [0, 1]);
    solo.restart(state);
    show(solo, "second", [0, 1, 2]);
    const authority = forge.authority(2, [0, 1, 2]);
    solo.receive(0, { type: "authority", authority });
    solo.run(500);
    const promises = () => {
      const kinds: readonly MessageType[] = ["write", "accept", "stopData", "checkpoint"];
      return solo.sent.flatMap(({ message }) => (kinds.includes(message.type) ? [message.type] : []));
    };
    assert.deepEqual(promises(), []);
    // It may have accepted in instance 2 and have been in regency 2: it votes from instance 3 on.
    const { nonce } = solo.said("fence").find((fence) => fence.nonce % 2 ** 32 === 0)!;
    for (const [member, accepted] of [0, 1, 1].entries()) {
      solo.receive(member, { type: "fenceReply", nonce, accepted, regency: member });
    }
    const { answer, values } = honestRun(forge);
    const decided = answer.certificate;
    const reports = [0, 1, 2].map((member) => [member, forge.stopData(member, 2, { decided })] as const);
    const third = forge.value([], { previous: values[1]! });
    solo.receive(1, forge.sync(authority, reports), forge.propose(2, third, { authority }));
    solo.run(500);
    assert.deepEqual(promises(), []);
    solo.receive(1, answer, forge.propose(2, third, { authority }));
    assert.equal(solo.replica.lastDecided, 2);
    assert.ok(promises().includes("write"));
  });
}

// ---- decisions of others

/** Two decided instances, as an honest member would answer for them. */
function honestRun(forge: Forge): { bundles: ForgedBundle[]; values: ForgedValue[]; answer: Decisions } {
  const bundles = [forge.bundle(0, 1), forge.bundle(1, 1), forge.bundle(0, 2)];
  const first = forge.value([bundles[0]!, bundles[1]!]);
  const second = forge.value([bundles[2]!], { previous: first });
  const answer: Decisions = {
    type: "decisions",
    first: 1,
    instances: [
      { value: first.encoded, bundles: [bundles[0]!.encoded, bundles[1]!.encoded] },
      { value: second.encoded, bundles: [bundles[2]!.encoded] },
    ],
    links: [],
    certificate: forge.decision([0, 1, 2], 1, 2, second.digest),
  };
  return { bundles, values: [first, second], answer };
}

type Decisions = MessageOf<"decisions">;

test("W13: a run of decisions that differs in any part from what was decided is thrown away", () => {
  const { forge } = new Solo();
  const { answer, values, bundles } = honestRun(forge);
  const [one, two] = answer.instances;
  const forged = forge.bundle(0, 2, { content: "forged" });
  const other = forge.value([forged], { previous: values[0]! });
  const early = forge.value([bundles[2]!], { timestampMs: 1 });
  const lies: Record<string, Decisions> = {
    "another body": { ...answer, instances: [one!, { ...two!, bundles: [forged.encoded] }] },
    "another value with its body": {
      ...answer,
      instances: [one!, { value: other.encoded, bundles: [forged.encoded] }],
    },
    "another first value": { ...answer, instances: [{ value: early.encoded, bundles: two!.bundles }, two!] },
    "a body too few": { ...answer, instances: [{ ...one!, bundles: one!.bundles.slice(1) }, two!] },
    "bodies exchanged": { ...answer, instances: [{ ...one!, bundles: [...one!.bundles].reverse() }, two!] },
    "bytes for a value": { ...answer, instances: [one!, { ...two!, value: new Uint8Array(9) }] },
    "bytes for a body": { ...answer, instances: [one!, { ...two!, bundles: [new Uint8Array(9)] }] },
    "a certificate of another instance": { ...answer, certificate: { ...answer.certificate, cid: 3 } },
    "a certificate that is too small": {
      ...answer,
      certificate: { ...answer.certificate, accepts: answer.certificate.accepts.slice(1) },
    },
    "a certificate for a forged end": {
      ...answer,
      instances: [one!, { value: other.encoded, bundles: [forged.encoded] }],
      certificate: forge.decision([0, 0, 0], 1, 2, other.digest),
    },
    "an instance left out": { ...answer, first: 1, instances: [two!] },
  };
  for (const [what, lie] of Object.entries(lies)) {
    const solo = new Solo({ self: 3 });
    solo.receive(0, lie);
    assert.equal(solo.replica.lastDecided, 0, what);
    assert.deepEqual(solo.complaints, ["0: run of decisions that is none"], what);
    solo.receive(1, answer);
    assert.equal(solo.replica.lastDecided, 2, what);
    assert.equal(solo.replica.store.revision, 4, what);
  }
});

test("W13: a member alone cannot make another believe in a decision without certificate", () => {
  const solo = new Solo({ self: 3 });
  const value = show(solo, "value");
  const claim = { type: "decisionClaim", cid: 1, regency: 1, digest: value.digest } as const;
  solo.receive(0, claim, claim, { ...claim, regency: 2 });
  assert.equal(solo.replica.lastDecided, 0);
  solo.receive(1, { ...claim, digest: new Uint8Array(32) });
  assert.equal(solo.replica.lastDecided, 0);
  solo.receive(2, claim);
  assert.equal(solo.replica.lastDecided, 1, "two of whom one is correct");
});

// ---- state transfer

/** Members 0, 1 and 2 go on without member 3 until its log no longer reaches theirs; then it comes back. */
function transferFrom(cluster: TestCluster, away: number, others: readonly number[]): void {
  cluster.run(50);
  cluster.kill(away);
  for (let i = 0; i < 60; i++) {
    cluster.submit(others[i % others.length]!, put(`k${i % 5}`, `${i}`));
    cluster.run(4);
  }
}

function complaintsOf(cluster: TestCluster, member: number): Set<number> {
  const named = cluster.traces.flatMap(({ member: who, event }) =>
    who === member && event.kind === "misbehaviour" ? [event.member] : [],
  );
  return new Set(named);
}

function flippedAt(bytes: Uint8Array, at: number): Uint8Array {
  const flipped = bytes.slice();
  flipped[at]! ^= 0x40;
  return flipped;
}

test("W13: a peer that lies in a state transfer is found out part by part, and changes nothing", () => {
  const cluster = new TestCluster(4, { checkpointInstances: 8 });
  transferFrom(cluster, 3, [0, 1, 2]);
  let lies = 0;
  cluster.alter = (from, to, bytes) => {
    if (from !== 1 || to !== 3) return undefined;
    const message = decodeMessage(bytes);
    if (message.type !== "stateReply" || message.reply.length === 0) return undefined;
    lies += 1;
    const at = (lies * 37) % message.reply.length;
    return [encodeMessage({ ...message, reply: flippedAt(message.reply, at) })];
  };
  cluster.start(3);
  for (let i = 0; i < 20; i++) {
    cluster.submit(0, put(`more${i}`, "x"));
    cluster.run(40);
  }
  cluster.run(3_000);
  assert.ok(lies > 0, "the liar was asked");
  assert.deepEqual([...complaintsOf(cluster, 3)], [1]);
  assert.equal(cluster.nodes[3]!.replica.store.revision, cluster.nodes[0]!.replica.store.revision);
  assert.equal(cluster.nodes[3]!.replica.serving, true);
});

test("W13: two of seven that agree on a forged checkpoint convince nobody", () => {
  const cluster = new TestCluster(7, { checkpointInstances: 8 });
  transferFrom(cluster, 6, [0, 1, 2, 3, 4, 5]);
  const forge = new Forge(cluster.membership);
  const forgedRoot = new Uint8Array(32).fill(0xee);
  let forged = 0;
  cluster.alter = (from, to, bytes) => {
    if ((from !== 1 && from !== 2) || to !== 6) return undefined;
    const message = decodeMessage(bytes);
    if (message.type !== "checkpointCertificate") return undefined;
    forged += 1;
    // The same lie from both: under the signatures of the true root, and under their own, many times over.
    const { cid } = message.certificate;
    const lies = [
      { ...message.certificate, root: forgedRoot },
      forge.checkpoint([1, 2], cid, forgedRoot),
      forge.checkpoint([1, 2, 1, 2, 1, 2], cid, forgedRoot),
    ];
    return lies.map((certificate) => encodeMessage({ ...message, certificate }));
  };
  // Only the liars answer at first.
  cluster.drop = (from, to) => to === 6 && from !== 1 && from !== 2;
  cluster.start(6);
  for (const member of [1, 2]) cluster.send(6, member, { type: "decisionsRequest", from: 1 });
  cluster.run(500);
  assert.ok(forged >= 2);
  assert.deepEqual([...complaintsOf(cluster, 6)].sort(), [1, 2]);
  assert.equal(cluster.nodes[6]!.replica.lastDecided, 0);
  cluster.drop = () => false;
  cluster.run(3_000);
  assert.equal(cluster.nodes[6]!.replica.store.revision, cluster.nodes[0]!.replica.store.revision);
});
