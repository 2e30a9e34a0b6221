/**
 * Weakness W9, which was found in other implementations of Mod-SMaRt: one message that stops a member, or fills
 * its memory. Whatever one member sends, the others go on.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { toHex } from "../base/bytes.ts";
import { Prng } from "../base/prng.ts";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { Solo } from "../replica/testing/solo.ts";
import { encodeOperation } from "../store/operation.ts";
import {
  encodeMessage,
  encodeStopDataBody,
  MAX_BUNDLES_PER_VALUE,
  type Message,
  type StopDataBody,
} from "./messages.ts";
import { bundleStatement } from "./statements.ts";
import * as arbitrary from "./test-arbitraries.test.ts";
import type { Value } from "./value.ts";

/** What a Byzantine member may put its name to, with numbers of its choice. */
type Signed =
  | { readonly kind: "propose"; readonly regency: number; readonly cid: number; readonly value: Value }
  | {
      readonly kind: "write" | "accept" | "stop";
      readonly regency: number;
      readonly cid: number;
      readonly digest: Uint8Array;
    }
  | { readonly kind: "stopData"; readonly body: StopDataBody }
  | { readonly kind: "bundle"; readonly origin: number; readonly incarnation: number; readonly seq: number };

const { number53, digest } = arbitrary;
const signed: fc.Arbitrary<Signed> = fc.oneof(
  fc.record({
    kind: fc.constant("propose" as const),
    regency: number53,
    cid: number53,
    value: arbitrary.value,
  }),
  fc.record({
    kind: fc.constantFrom("write" as const, "accept" as const, "stop" as const),
    regency: number53,
    cid: number53,
    digest,
  }),
  fc.record({ kind: fc.constant("stopData" as const), body: arbitrary.stopDataBody }),
  fc.record({
    kind: fc.constant("bundle" as const),
    origin: fc.nat({ max: 5 }),
    incarnation: number53,
    seq: number53,
  }),
);

/** The message with the liar's own signature, or with that which it claims to forward. */
function sign(solo: Solo, liar: number, statement: Signed): Message {
  const { forge } = solo;
  switch (statement.kind) {
    case "propose": {
      const { cid, regency } = statement;
      return { ...forge.propose(1, forge.value([], statement.value), { cid }), regency };
    }
    case "write":
    case "accept":
      return forge[statement.kind](liar, statement.regency, statement.cid, statement.digest);
    case "stop":
      return forge.stop(liar, statement.regency);
    case "stopData": {
      const message = forge.stopData(liar, statement.body.regency, statement.body);
      assert.deepEqual(message.body, encodeStopDataBody(statement.body));
      return message;
    }
    case "bundle": {
      const { origin, incarnation, seq } = statement;
      return forge.bundle(origin, seq, { incarnation, signer: liar }).message;
    }
  }
}

const input = fc.oneof(
  { weight: 3, arbitrary: signed.map((statement) => ({ kind: "signed" as const, statement })) },
  { weight: 3, arbitrary: arbitrary.message.map((message) => ({ kind: "message" as const, message })) },
  {
    weight: 2,
    arbitrary: fc.tuple(arbitrary.message, arbitrary.mutation).map(([message, mutation]) => ({
      kind: "bytes" as const,
      bytes: arbitrary.mutated(encodeMessage(message), mutation),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => ({ kind: "bytes" as const, bytes })),
  },
  { weight: 1, arbitrary: fc.constantFrom(10, 300, 1_200).map((ms) => ({ kind: "time" as const, ms })) },
);

/** The members other than the liar get on with each other: a value is decided in a regency of theirs. */
function assertGoesOn(solo: Solo, liar: number): void {
  const { forge } = solo;
  const honest = [0, 1, 2, 3].filter((member) => member !== liar);
  // The first regency from now on that the liar does not lead, nor the member under test.
  let regency = solo.replica.regency + 1;
  while ([liar, solo.self].includes(forge.membership.leaderOf(regency))) regency += 1;
  const leader = forge.membership.leaderOf(regency);
  const authority = forge.authority(regency, honest);
  solo.forget();
  solo.receive(leader, { type: "authority", authority });
  assert.equal(solo.replica.regency, regency);
  const own = solo.said("stopData").at(-1)!;
  const reports = honest.map((member) =>
    member === solo.self ? ([member, own] as const) : ([member, forge.stopData(member, regency)] as const),
  );
  const bundle = forge.bundle(leader, 1, { incarnation: 1_000 });
  const value = forge.value([bundle], { timestampMs: 1_700_000_000_000 + solo.now });
  solo.receive(leader, forge.sync(authority, reports), bundle.message);
  solo.receive(leader, forge.propose(regency, value, { authority }));
  assert.equal(solo.said("write").length, 1);
  for (const member of honest) solo.receive(member, forge.write(member, regency, 1, value.digest));
  assert.equal(solo.said("accept").length, 1);
  for (const member of honest) solo.receive(member, forge.accept(member, regency, 1, value.digest));
  assert.equal(solo.replica.lastDecided, 1);
  assert.equal(solo.replica.lastExecuted, 1);
}

test("W9: whatever one member sends, another neither throws nor is kept from deciding", () => {
  fc.assert(
    fc.property(fc.constantFrom(0, 1, 2), fc.array(input, { maxLength: 40, size: "max" }), (liar, inputs) => {
      const solo = new Solo({ self: 3, options: { checkpointInstances: 4 } });
      for (const step of inputs) {
        if (step.kind === "time") solo.run(step.ms, { silent: [liar] });
        else if (step.kind === "signed") solo.receive(liar, sign(solo, liar, step.statement));
        else solo.receive(liar, step.kind === "bytes" ? step.bytes : step.message);
      }
      assertGoesOn(solo, liar);
    }),
    { numRuns: 250 },
  );
});

test("W9: bytes in place of operations are executed as errors, the same everywhere", () => {
  const operation = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .tuple(fc.constantFrom("a", "b"), arbitrary.mutation)
      .map(([key, mutation]) => arbitrary.mutated(encodeOperation(put(key, "value")), mutation)),
  );
  fc.assert(
    fc.property(fc.array(operation, { minLength: 1, maxLength: 6 }), (operations) => {
      const hashes = [2, 3].map((self) => {
        const solo = new Solo({ self });
        const { forge } = solo;
        const bundle = forge.bundle(0, 1, { operations });
        const value = forge.value([bundle]);
        solo.receive(0, bundle.message, forge.propose(1, value));
        for (const member of [0, 1]) solo.receive(member, forge.write(member, 1, 1, value.digest));
        for (const member of [0, 1]) solo.receive(member, forge.accept(member, 1, 1, value.digest));
        const executed = solo.traces.find((event) => event.kind === "executed");
        assert.ok(executed?.kind === "executed");
        return toHex(executed.executionHash);
      });
      assert.equal(hashes[0], hashes[1]);
    }),
    { numRuns: 60 },
  );
});

/** A cluster in which member 1 garbles a good part of what it says, while member 3 is cut off for a time. */
function runGarbled(seed: number): void {
  const prng = new Prng(seed);
  const cluster = new TestCluster(4, { checkpointInstances: 8 });
  cluster.alter = (from, _to, bytes) => {
    if (from !== 1 || prng.chance(0.5)) return undefined;
    const kind = prng.pick(["flip", "set", "cut", "insert", "remove", "number"] as const);
    return [arbitrary.mutated(bytes, { at: prng.u32(), byte: prng.below(256), kind })];
  };
  const cut = 40 + prng.below(40);
  for (let i = 0; i < 120; i++) {
    cluster.drop = (from, to) => i < cut && (from === 3 || to === 3);
    cluster.submit(i % 3, put(`k${i % 7}`, `${i}`));
    cluster.run(8);
  }
  cluster.alter = (from) => (from === 1 ? [] : undefined);
  const id = cluster.submit(0, put("last", "x"));
  cluster.run(9_000);
  assert.equal(typeof cluster.results.get(id), "object", `seed ${seed}`);
  const revisions = [0, 2, 3].map((member) => cluster.nodes[member]!.replica.store.revision);
  assert.equal(new Set(revisions).size, 1, `seed ${seed}: ${revisions}`);
}

test("W9: three members go on and agree while the fourth garbles what it says", () => {
  for (const seed of [1, 2, 3]) runGarbled(seed);
});

// ---- memory

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes that are still held after what was done. */
function heldBytes(act: () => void): number {
  const used = () => {
    // Buffers that a first collection lets go of are given back by the second.
    collectGarbage();
    collectGarbage();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = used();
  act();
  return used() - before;
}

const WIDE_VALUE_BYTES = 49 * MAX_BUNDLES_PER_VALUE;

/** The largest values there are, all different. */
function wideValue(solo: Solo, i: number): ReturnType<Solo["forge"]["value"]> {
  const bundles = Array.from({ length: MAX_BUNDLES_PER_VALUE }, (_, k) => ({
    origin: 0,
    incarnation: i + 1,
    seq: k + 1,
    digest: new Uint8Array(32).fill(i),
  }));
  return solo.forge.value([], { bundles });
}

/** Streams of messages without end, each of which once filled something. */
const FLOODS: Record<string, (solo: Solo, i: number) => readonly Message[]> = {
  "proposals of one ballot": (solo, i) => [solo.forge.propose(1, wideValue(solo, i))],
  "proposals of a regency ahead": (solo, i) => [solo.forge.propose(5 - (i % 2) * 4, wideValue(solo, i))],
  "proposals of instances ahead": (solo, i) => [
    solo.forge.propose(1, wideValue(solo, i), { cid: 2 + (i % 9) }),
  ],
  "votes for regencies and instances ahead": (solo, i) => [
    solo.forge.write(0, i, 1 + (i % 20), new Uint8Array(32).fill(i)),
    solo.forge.accept(0, 2 ** 40 + i, 1 + i, new Uint8Array(32).fill(i)),
    solo.forge.stop(0, 2 + i),
    { type: "stopData", body: new Uint8Array(WIDE_VALUE_BYTES), signature: new Uint8Array(64) },
  ],
  "values that nobody asked for": (solo, i) => [
    { type: "value", cid: 1, value: wideValue(solo, i).encoded },
    { type: "decisionClaim", cid: 1, regency: i, digest: new Uint8Array(32).fill(i) },
  ],
  "checkpoints and answers": (solo, i) => [
    { type: "stateReply", cid: i, request: new Uint8Array(9), reply: new Uint8Array(WIDE_VALUE_BYTES) },
    { type: "fenceReply", nonce: i, accepted: i, regency: i },
    { type: "heartbeat", regency: i, decided: 2 ** 50 + i },
    { ...checkpointBy(solo, i) },
  ],
  "execution reports": (solo, i) => [
    { ...solo.forge.accept(0, 1, 1, new Uint8Array(32)), executedCid: i + 1 },
  ],
};

function checkpointBy(solo: Solo, cid: number): Message {
  const root = new Uint8Array(32).fill(cid);
  const { signatures } = solo.forge.checkpoint([0], cid, root);
  return { type: "checkpoint", cid, root, signature: signatures[0]!.signature };
}

for (const [what, flood] of Object.entries(FLOODS)) {
  test(`W9: ${what} fill nobody's memory`, () => {
    const solo = new Solo({ self: 3 });
    const rounds = 300;
    const held = heldBytes(() => {
      for (let i = 0; i < rounds; i++) {
        solo.receive(0, ...flood(solo, i));
        solo.forget();
        solo.log = [];
      }
    });
    // Each flood brings 15 MB of values, or else small things by the thousand.
    assert.ok(held < 6 << 20, `${held} bytes held`);
    assert.ok(solo.replica.regency >= 1);
  });
}

test("W9: a small request is not answered with more than a value may hold", () => {
  const solo = new Solo({ self: 3 });
  const { forge } = solo;
  const large = [1, 2, 3, 4, 5].map((seq) =>
    forge.bundle(1, seq, { operations: [new Uint8Array(600 << 10).fill(seq)] }),
  );
  for (const { message } of large) solo.receive(1, message);
  const ask = (digests: readonly Uint8Array[]) => {
    solo.forget();
    solo.receive(0, { type: "bundleRequest", digests });
    return solo.sent.filter(({ message }) => message.type === "bundle").length;
  };
  const [first] = large;
  assert.equal(ask(new Array(500).fill(first!.reference.digest)), 1);
  assert.equal(ask(large.map(({ reference }) => reference.digest)), 3);
  assert.equal(ask(large.slice(3).map(({ reference }) => reference.digest)), 2);
});

test("W9: bundles of an origin are held up to a bound, and another origin has its own", () => {
  const poolSizeBytesPerOrigin = 1 << 20;
  const solo = new Solo({ self: 3, options: { poolSizeBytesPerOrigin } });
  const { forge } = solo;
  const large = (origin: number, seq: number) =>
    forge.bundle(origin, seq, { operations: [new Uint8Array(64 << 10).fill(seq)] });
  const held = heldBytes(() => {
    for (let seq = 1; seq <= 200; seq++) {
      solo.receive(0, large(0, seq).message);
      solo.receive(0, forge.bundle(0, 2 ** 30 + seq).message);
      solo.forget();
    }
  });
  assert.ok(held < 3 << 20, `${held} bytes held`);
  const bundle = forge.bundle(1, 1);
  solo.receive(1, bundle.message);
  solo.receive(0, forge.propose(1, forge.value([bundle])));
  assert.equal(solo.said("write").length, 1);
  assert.notEqual(bundleStatement(forge.membership.digest, bundle.reference.digest).length, 0);
});
