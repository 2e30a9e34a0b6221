/**
 * W9 for what is agreed on: a faulty leader or origin cannot have decided what fits no record of the log or no message
 * to a member that was away, and a member whose disk is slow keeps no more in memory than it may.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { Forge } from "../replica/testing/forge.ts";
import { Solo } from "../replica/testing/solo.ts";
import type { Operation } from "../store/types.ts";
import { encodeBundleBody } from "./bundle.ts";
import {
  decodeMessage,
  encodeMessage,
  MAX_BODIES_SIZE_BYTES,
  MAX_BUNDLES_PER_VALUE,
  MAX_VALUE_SIZE_BYTES,
} from "./messages.ts";

const MIB = 1 << 20;
/** What the bulk lane of a link takes (transport/links.ts). */
const FRAME_SIZE_BYTES = 4 * MIB;
/** A bundle's encoding without its operations' bytes: its place, one operation's length, the signature. */
const BUNDLE_OVERHEAD_BYTES = 17 + 4 + 4 + 64;

const LARGE_PUT: Operation = {
  type: "put",
  put: {
    key: "large",
    value: new Uint8Array(MIB),
    lease: 0n,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
  },
};

for (const fast of [false, true]) {
  test(`W9: a value of more bytes than may be decided gets no WRITE, but an accusation${fast ? ", fast or not" : ""}`, () => {
    const solo = new Solo({ self: 3 });
    const { forge } = solo;
    const bundles = Array.from({ length: 20 }, (_, i) =>
      forge.bundle(0, i + 1, { operations: [new Uint8Array(MIB)] }),
    );
    const value = forge.value(bundles);
    for (const { message } of bundles) solo.receive(0, message);
    solo.receive(0, forge.propose(1, value, { fast }));
    solo.receive(1, forge.write(1, 1, 1, value.digest));
    solo.run(100);
    assert.equal(solo.said("write").length + solo.said("accept").length, 0);
    assert.deepEqual(solo.accusations, ["invalid PROPOSE: of more bytes than a value may have"]);
    assert.ok(solo.log.every(({ record }) => record.length < MIB));
  });
}

test("W9: bodies that a PROPOSE names are kept up to what a value may have, and no more", () => {
  const solo = new Solo({ self: 3, options: { poolSizeBytesPerOrigin: 1 } });
  const { forge } = solo;
  const bundles = Array.from({ length: 40 }, (_, i) =>
    forge.bundle(0, i + 1, { operations: [new Uint8Array(MIB / 4)] }),
  );
  solo.receive(0, forge.propose(1, forge.value(bundles)));
  for (const { message } of bundles) solo.receive(0, message);
  assert.deepEqual(solo.accusations, ["invalid PROPOSE: of more bytes than a value may have"]);
  // Whoever asks for all of them gets those that were kept.
  let kept = 0;
  for (const { reference } of bundles) {
    solo.forget();
    solo.receive(1, { type: "bundleRequest", digests: [reference.digest] });
    kept += solo.said("bundle").length;
  }
  assert.equal(kept, 7);
});

test("W9: a bundle larger than a value may be is none", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const largest = forge.bundle(2, 1, {
    operations: [new Uint8Array(MAX_BODIES_SIZE_BYTES - BUNDLE_OVERHEAD_BYTES)],
  });
  assert.equal(largest.encoded.length, MAX_BODIES_SIZE_BYTES);
  const body = encodeBundleBody(2, 1, 1, [new Uint8Array(MAX_BODIES_SIZE_BYTES)]);
  const tooLarge = encodeMessage({
    type: "bundle",
    bundle: new Uint8Array([...body, ...new Uint8Array(64)]),
  });
  solo.receive(2, tooLarge);
  assert.deepEqual(solo.complaints.length, 1, `${solo.complaints}`);
  solo.receive(2, largest.message);
  solo.receive(0, forge.propose(1, forge.value([largest])));
  assert.equal(solo.said("write").length, 1);
});

test("W9: the largest instance, with values to the certificate, fits one message", () => {
  const instance = { value: new Uint8Array(MAX_VALUE_SIZE_BYTES), bundles: [] as Uint8Array[] };
  for (let i = 0; i < MAX_BUNDLES_PER_VALUE; i++) {
    instance.bundles.push(new Uint8Array(MAX_BODIES_SIZE_BYTES / MAX_BUNDLES_PER_VALUE));
  }
  const accept = { signature: new Uint8Array(64), executedCid: 1, executionHash: new Uint8Array(32) };
  const accepts = Array.from({ length: 31 }, (_, member) => ({ member, ...accept }));
  const message = encodeMessage({
    type: "decisions",
    first: 1,
    instances: [instance],
    links: Array.from({ length: 64 }, () => instance.value),
    certificate: { cid: 65, regency: 1, digest: new Uint8Array(32), accepts },
  });
  assert.ok(message.length <= FRAME_SIZE_BYTES, `${message.length} bytes`);
});

test("W9: a member that was away gets the largest instance that a faulty origin could have decided", () => {
  const cluster = new TestCluster(4, { certifyInstances: 32 });
  const forge = new Forge(cluster.membership);
  cluster.run(50);
  cluster.drop = (_from, _to, bytes) => bytes.length > FRAME_SIZE_BYTES;
  cluster.kill(2);
  const operations = [new Uint8Array(MAX_BODIES_SIZE_BYTES - BUNDLE_OVERHEAD_BYTES)];
  const { message } = forge.bundle(3, 1, { incarnation: 9, operations });
  for (const to of [0, 1, 3]) cluster.send(3, to, message);
  cluster.run(300);
  const decided = cluster.nodes[0]!.replica.lastDecided;
  assert.ok(decided >= 1);
  cluster.start(2);
  cluster.run(1_000);
  cluster.kill(3);
  const id = cluster.submit(0, put("after", "1"));
  cluster.run(5_000);
  assert.equal(typeof cluster.results.get(id), "object", "the three that are left decide");
  assert.ok(cluster.nodes[2]!.replica.lastDecided > decided);
});

test("a member whose disk stands still takes over no more than it may hold, and goes on when the disk does", () => {
  const cluster = new TestCluster(4);
  cluster.run(50);
  const node = cluster.nodes[3]!;
  cluster.stallDisk(3, true);
  let undurable = 0;
  for (let i = 0; i < 45; i++) {
    cluster.submit(0, LARGE_PUT);
    cluster.run(50);
    undurable = node.log
      .filter(({ sequence }) => sequence > node.durable)
      .reduce((sum, { record }) => sum + record.length, 0);
  }
  assert.ok(cluster.nodes[0]!.replica.lastDecided >= 45, "the others go on");
  assert.ok(undurable > 24 * MIB && undurable < 36 * MIB, `${undurable} bytes wait for the disk`);
  cluster.stallDisk(3, false);
  cluster.run(5_000);
  assert.equal(node.replica.lastDecided, cluster.nodes[0]!.replica.lastDecided);
});

test("a member that catches up asks on when its disk has what it got", () => {
  const cluster = new TestCluster(4);
  cluster.run(50);
  cluster.kill(3);
  for (let i = 0; i < 20; i++) {
    cluster.submit(0, LARGE_PUT);
    cluster.run(50);
  }
  cluster.start(3);
  cluster.stallDisk(3, true);
  let answers = 0;
  cluster.observe = (_member, output) => {
    if (output.type === "send" && output.to === 3 && decodeMessage(output.bytes).type === "decisions")
      answers++;
  };
  cluster.run(150);
  assert.equal(answers, 1);
  cluster.stallDisk(3, false);
  cluster.run(2_000);
  assert.equal(cluster.nodes[3]!.replica.lastDecided, cluster.nodes[0]!.replica.lastDecided);
});

test("an operation that no bundle can hold is refused, and what comes after it is not held up", () => {
  const cluster = new TestCluster(4);
  cluster.run(50);
  const key = "k";
  const deletion = { type: "deleteRange", deleteRange: { key, rangeEnd: "", prevKv: false } } as const;
  const nested = { compare: [], success: new Array<typeof deletion>(100_000).fill(deletion), failure: [] };
  const [wide, small] = [
    cluster.submit(0, { type: "txn", txn: { ...nested, success: [...nested.success, ...nested.success] } }),
    cluster.submit(0, put("after", "1")),
  ];
  cluster.run(500);
  assert.equal(cluster.results.get(wide), "requestTooLarge");
  assert.equal(typeof cluster.results.get(small), "object");
});

test("W9: a peer that asks for the same large body again and again is charged for the bytes", () => {
  const solo = new Solo({ self: 3 });
  const large = solo.forge.bundle(2, 1, { operations: [new Uint8Array(MAX_BODIES_SIZE_BYTES - MIB / 4)] });
  solo.receive(2, large.message);
  let answers = 0;
  for (let i = 0; i < 3_000; i++) {
    solo.forget();
    solo.receive(0, { type: "bundleRequest", digests: [large.reference.digest] });
    answers += solo.sent.length;
    if (solo.complaints.length > 0) break;
  }
  assert.deepEqual(solo.complaints, ["0: causes too much work"]);
  assert.ok(answers < 1_500, `${answers} answers`);
});
