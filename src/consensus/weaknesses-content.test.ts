/**
 * Weaknesses W6, W7, W8 and W14, which were found in other implementations of Mod-SMaRt: what is proposed and
 * executed is what its origin signed, once. Each test is named after the weakness that it refuses; where the
 * weak rule can be planted, the test also shows that it fails with it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { Forge, type ForgedBundle, type ForgedValue } from "../replica/testing/forge.ts";
import { Solo } from "../replica/testing/solo.ts";
import { decodeMessage, encodeMessage } from "./messages.ts";
import type { BundleReference, Value } from "./value.ts";

/** Proposes and decides a value at the member under test, on which all others agree. */
function decide(solo: Solo, bundles: readonly ForgedBundle[], previous?: ForgedValue): ForgedValue {
  const { forge } = solo;
  const value = forge.value(bundles, { previous });
  for (const { message, reference } of bundles) solo.receive(reference.origin, message);
  solo.receive(0, forge.propose(1, value));
  const { cid } = value.value;
  for (const member of [0, 1]) solo.receive(member, forge.write(member, 1, cid, value.digest));
  for (const member of [0, 1]) solo.receive(member, forge.accept(member, 1, cid, value.digest));
  assert.equal(solo.replica.lastDecided, cid);
  return value;
}

/** What member 3 does with a proposal: the WRITEs it sends, and its accusations. */
function judged(
  bundles: readonly ForgedBundle[],
  change: Partial<Value> & { cid?: number } = {},
  mutation = "",
): { writes: number; accusations: string[] } {
  const solo = new Solo({ self: 3, options: { mutation } });
  for (const { message, reference } of bundles) solo.receive(reference.origin, message);
  solo.receive(0, solo.forge.propose(1, solo.forge.value(bundles, change), { cid: 1 }));
  return { writes: solo.said("write").length, accusations: solo.accusations };
}

test("W6: a bundle that its origin did not sign is no bundle, whoever forwards it", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const forged = forge.bundle(2, 1, { content: "the leader's own", signer: 0 });
  solo.receive(0, forged.message, forge.propose(1, forge.value([forged])));
  solo.run(1_000);
  assert.equal(solo.said("write").length, 0);
  assert.ok(solo.said("bundleRequest").length > 0, "it asks others for the body");
  // The same bytes from the origin itself: its link vouches for them, and so it will be held to them.
  solo.receive(2, forged.message);
  assert.equal(solo.said("write").length, 1);
});

test("W6: a forwarded bundle counts by its origin's signature, and a garbled one is nobody's", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const bundle = forge.bundle(2, 1);
  const flipped = bundle.encoded.slice();
  flipped[40]! ^= 1;
  solo.receive(0, { type: "bundle", bundle: flipped }, forge.propose(1, forge.value([bundle])));
  assert.equal(solo.said("write").length, 0);
  solo.receive(1, bundle.message);
  assert.equal(solo.said("write").length, 1);
});

test("W6: a body that a quorum stands for is taken by its digest, though its signature is bad", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const bundle = forge.bundle(2, 1, { signer: 0 });
  const value = forge.value([bundle]);
  solo.receive(0, bundle.message, forge.propose(1, value));
  assert.equal(solo.said("accept").length, 0);
  // Its origin sent it to these three, which must not be stuck with a member that it left out.
  for (const member of [0, 1, 2]) solo.receive(member, forge.write(member, 1, 1, value.digest));
  solo.receive(1, bundle.message);
  assert.equal(solo.said("accept").length, 1);
});

test("W6: a bad signature that only shows when a decided body is asked for is its origin's", () => {
  const solo = new Solo({ self: 3 });
  const bundle = solo.forge.bundle(2, 1, { signer: 0 });
  decide(solo, [bundle]);
  assert.deepEqual(solo.complaints, []);
  solo.receive(1, { type: "bundleRequest", digests: [bundle.reference.digest] });
  assert.deepEqual(solo.complaints, ["2: bad signature on a bundle"]);
  assert.equal(solo.said("bundle").length, 1);
});

test("W6: an own body that came back with another signature is handed on with the right one", () => {
  const solo = new Solo({ self: 3 });
  solo.restart();
  const { forge } = solo;
  const bundle = forge.bundle(3, 1, { signer: 0 });
  const value = forge.value([bundle]);
  const claim = forge.claim([0, 1, 2], 1, 1, value.digest);
  const authority = forge.authority(2, [0, 1, 2]);
  const reports = [0, 1, 2].map(
    (member) => [member, forge.stopData(member, 2, { claims: [claim] })] as const,
  );
  solo.receive(1, { type: "authority", authority }, forge.sync(authority, reports));
  solo.receive(1, forge.propose(2, value, { authority }), bundle.message);
  solo.forget();
  solo.receive(2, { type: "bundleRequest", digests: [bundle.reference.digest] });
  assert.deepEqual(
    solo.said("bundle").map((message) => [...message.bundle]),
    [[...forge.bundle(3, 1).encoded]],
  );
});

test("W7: a leader cannot put other content under a name that is pending", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const right = forge.bundle(2, 1, { content: "right" });
  const wrong = forge.bundle(2, 1, { content: "wrong", signer: 0 });
  solo.receive(2, right.message);
  solo.receive(0, wrong.message, forge.propose(1, forge.value([wrong])));
  solo.run(1_000);
  assert.equal(solo.said("write").length, 0);
});

test("W7: a leader cannot put a bundle under another name than its own", () => {
  const bundle = new Forge(new Solo().forge.membership).bundle(2, 1);
  const named = (change: Partial<BundleReference>) =>
    judged([bundle], { bundles: [{ ...bundle.reference, ...change }] });
  const mismatch = ["invalid PROPOSE: names a bundle by another origin or seq than its own"];
  assert.deepEqual(named({}), { writes: 1, accusations: [] });
  assert.deepEqual(named({ origin: 1 }), { writes: 0, accusations: mismatch });
  assert.deepEqual(named({ incarnation: 3 }), { writes: 0, accusations: mismatch });
});

test("W7: a proposal that no correct leader makes gets no WRITE, but an accusation", () => {
  const forge = new Forge(new Solo().forge.membership);
  const [first, second, third] = [1, 2, 3].map((seq) => forge.bundle(2, seq));
  const order = ["invalid PROPOSE: repeats or leaves out bundles of an origin"];
  assert.deepEqual(judged([first!, second!, third!]), { writes: 1, accusations: [] });
  assert.deepEqual(judged([first!, first!]), { writes: 0, accusations: order });
  assert.deepEqual(judged([second!]), { writes: 0, accusations: order });
  assert.deepEqual(judged([first!, third!]), { writes: 0, accusations: order });
  assert.deepEqual(judged([second!, first!]), { writes: 0, accusations: order });
  assert.deepEqual(judged([], { previousDigest: new Uint8Array(32) }), {
    writes: 0,
    accusations: ["invalid PROPOSE: does not follow the decision before"],
  });
  assert.deepEqual(judged([], { cid: 2 }).accusations, ["invalid PROPOSE: value of another instance"]);
  assert.equal(judged([second!], {}, "proposeContentNotChecked").writes, 1);
});

test("W7: the leader's time is the members' time, or nobody votes for it", () => {
  const wall = 1_700_000_001_000;
  const ahead = ["invalid PROPOSE: time is too far ahead of this member's clock"];
  const behind = ["invalid PROPOSE: time is too far behind this member's clock"];
  assert.deepEqual(judged([], { timestampMs: wall + 5_000 }), { writes: 1, accusations: [] });
  assert.deepEqual(judged([], { timestampMs: wall + 5_001 }), { writes: 0, accusations: ahead });
  assert.deepEqual(judged([], { timestampMs: Number.MAX_SAFE_INTEGER }), { writes: 0, accusations: ahead });
  assert.deepEqual(judged([], { timestampMs: wall - 5_001 }), { writes: 0, accusations: behind });
  assert.deepEqual(judged([], { timestampMs: 0 }).writes, 0);
  assert.equal(judged([], { timestampMs: wall + 5_001 }, "timestampNotChecked").writes, 1);
});

test("W8: what an origin sent before it restarted is never taken again", () => {
  const offer = (mutation: string) => {
    const solo = new Solo({ self: 3, options: { mutation } });
    const { forge } = solo;
    const old = forge.bundle(2, 1, { content: "of before", incarnation: 4 });
    const value = decide(solo, [forge.bundle(2, 1, { incarnation: 5 })]);
    solo.receive(2, old.message);
    solo.receive(0, old.message, forge.propose(1, forge.value([old], { previous: value })));
    return solo.accusations;
  };
  const order = ["invalid PROPOSE: repeats or leaves out bundles of an origin"];
  assert.deepEqual(offer(""), order);
  assert.deepEqual(offer("proposeContentNotChecked"), []);
});

test("W8: a new incarnation begins at its first bundle, and what was pending of the one before is dropped", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const value = decide(solo, [forge.bundle(2, 1, { incarnation: 5 })]);
  const pending = forge.bundle(2, 2, { incarnation: 5 });
  const later = [1, 2].map((seq) => forge.bundle(2, seq, { incarnation: 9, content: `${seq}` }));
  solo.receive(2, pending.message, later[0]!.message, later[1]!.message);
  const next = decide(solo, later, value);
  solo.receive(0, forge.propose(1, forge.value([pending], { previous: next })));
  assert.deepEqual(solo.accusations, ["invalid PROPOSE: repeats or leaves out bundles of an origin"]);
});

test("W14: what was executed before a restart is not executed again after it", () => {
  const offerAgain = (mutation: string) => {
    const solo = new Solo({ self: 3, options: { mutation } });
    const { forge } = solo;
    const bundle = forge.bundle(2, 1);
    const value = decide(solo, [bundle]);
    assert.equal(solo.replica.store.revision, 2);
    solo.restart();
    // A later regency, for the one of before the restart is burned here.
    const authority = forge.authority(5, [0, 1, 2]);
    const decided = forge.decision([0, 1, 2], 1, 1, value.digest);
    const reports = [0, 1, 2].map((member) => [member, forge.stopData(member, 5, { decided })] as const);
    solo.receive(0, forge.sync(authority, reports), bundle.message);
    const again = forge.value([bundle], { previous: value });
    solo.receive(0, forge.propose(5, again, { authority }));
    return { writes: solo.said("write").length, accusations: solo.accusations };
  };
  const order = ["invalid PROPOSE: repeats or leaves out bundles of an origin"];
  assert.deepEqual(offerAgain(""), { writes: 0, accusations: order });
  assert.deepEqual(offerAgain("dedupNotReplicated"), { writes: 1, accusations: [] });
});

/** Member 3 takes a state over, and is then offered a bundle again that stands in this state. */
function offeredAgainAfterTransfer(mutation: string): { writes: number; accusations: string[] } {
  const options = { checkpointInstances: 8 };
  const cluster = new TestCluster(4, (member) => (member === 3 ? { ...options, mutation } : options));
  let old: Uint8Array | undefined;
  cluster.observe = (member, output) => {
    if (member !== 1 || output.type !== "send" || old !== undefined) return;
    const message = decodeMessage(output.bytes);
    if (message.type === "bundle") old = message.bundle;
  };
  cluster.run(50);
  cluster.kill(3);
  for (let i = 0; i < 60; i++) {
    // Member 1 is heard of before the checkpoint only: what comes after it says nothing of its bundles.
    cluster.submit(i < 9 ? i % 3 : 2 * (i % 2), put(`k${i % 5}`, `${i}`));
    cluster.run(4);
  }
  cluster.start(3);
  cluster.run(1_500);
  assert.ok(cluster.traces.some(({ event }) => event.kind === "transfer" && event.phase === "done"));
  // Cut off from the others, it hears a leader whose time has come that offers the old bundle again.
  cluster.drop = (_from, to) => to === 3;
  cluster.run(10);
  const forge = new Forge(cluster.membership);
  const last = cluster.traces.findLast(({ member, event }) => member === 3 && event.kind === "decided");
  const decided = cluster.nodes[3]!.replica.lastDecided;
  assert.ok(last?.event.kind === "decided" && last.event.cid === decided);
  const certificate = forge.decision([0, 1, 2], 1, decided, last.event.digest);
  const authority = forge.authority(5, [0, 1, 2]);
  const reports = [0, 1, 2].map(
    (member) => [member, forge.stopData(member, 5, { decided: certificate })] as const,
  );
  const bundle = { type: "bundle", bundle: old! } as const;
  const again = forge.bundleOf(old!);
  const value = forge.value([again], {
    cid: decided + 1,
    previousDigest: last.event.digest,
    timestampMs: 1_700_000_000_000 + cluster.now + 1,
  });
  const said = { writes: 0, accusations: [] as string[] };
  cluster.observe = (member, output) => {
    if (member !== 3) return;
    if (output.type === "send" && output.to === 0 && decodeMessage(output.bytes).type === "write") {
      said.writes += 1;
    }
    if (output.type === "trace" && output.event.kind === "stop") said.accusations.push(output.event.reason);
  };
  const messages = [forge.sync(authority, reports), bundle, forge.propose(5, value, { authority })];
  cluster.drop = (_from, to, bytes) =>
    to === 3 && !messages.some((message) => encodeMessage(message).join() === bytes.join());
  for (const message of messages) cluster.send(0, 3, message);
  cluster.run(30);
  return said;
}

test("W14: what a transferred state holds is not executed again on it", () => {
  const order = ["invalid PROPOSE: repeats or leaves out bundles of an origin"];
  assert.deepEqual(offeredAgainAfterTransfer(""), { writes: 0, accusations: order });
  assert.deepEqual(offeredAgainAfterTransfer("dedupNotReplicated"), { writes: 1, accusations: [] });
});
