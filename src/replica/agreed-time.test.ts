/** Leases hang on agreed time alone: on the times that decided values carry, not on any member's clock. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeOperation } from "../store/operation.ts";
import type { Operation } from "../store/types.ts";
import { put, TestCluster } from "./testing/cluster.ts";
import type { ForgedValue } from "./testing/forge.ts";
import { Solo } from "./testing/solo.ts";

const START_MS = 1_700_000_001_000;

function putWithLease(key: string, lease: bigint): Operation {
  const operation = put(key, "x");
  assert.ok(operation.type === "put");
  return { type: "put", put: { ...operation.put, lease } };
}

/** Decides a value of the given time, with a bundle of member 0 if there are operations. */
function decide(
  solo: Solo,
  timestampMs: number,
  previous: ForgedValue | undefined,
  operations: readonly Operation[] = [],
): ForgedValue {
  const { forge } = solo;
  const bundles =
    operations.length > 0 ? [forge.bundle(0, 1, { operations: operations.map(encodeOperation) })] : [];
  const value = forge.value(bundles, { previous, timestampMs });
  for (const { message } of bundles) solo.receive(0, message);
  const { cid } = value.value;
  for (const member of [0, 1, 2]) solo.receive(member, forge.accept(member, 1, cid, value.digest));
  // A leader need not be right about the time: a quorum of members found it so.
  solo.receive(0, forge.propose(1, value));
  assert.equal(solo.replica.lastExecuted, cid);
  return value;
}

/** The revision after the value of each time; the lease of two seconds is granted with the first. */
function revisions(mutation: string, timesMs: readonly number[]): number[] {
  const solo = new Solo({ self: 3, options: { mutation } });
  const grant: Operation = { type: "leaseGrant", id: 7n, ttlSeconds: 2 };
  let value = decide(solo, START_MS, undefined, [grant, putWithLease("leased", 7n)]);
  const seen = [solo.replica.store.revision];
  // This member's clock runs ahead of the others'.
  solo.now += 2_500;
  for (const timeMs of timesMs) {
    value = decide(solo, START_MS + timeMs, value);
    seen.push(solo.replica.store.revision);
  }
  return seen;
}

test("a lease expires at the first value whose time is up, whatever the own clock says", () => {
  assert.deepEqual(revisions("", [1, 1_000, 1_999, 2_500]), [2, 2, 2, 2, 3]);
  assert.deepEqual(revisions("leaseExpiryByLocalClock", [1, 1_000, 1_999, 2_500]), [2, 3, 3, 3, 3]);
});

test("an outage longer than its time ends no lease whose client is still there", () => {
  const cluster = new TestCluster(4);
  cluster.run(50);
  cluster.submit(0, { type: "leaseGrant", id: 7n, ttlSeconds: 5 });
  cluster.submit(0, putWithLease("leased", 7n));
  cluster.run(1_000);
  for (const member of [2, 3]) cluster.kill(member);
  const early = cluster.submit(0, { type: "leaseKeepAlive", id: 7n });
  cluster.run(9_000);
  cluster.start(2);
  cluster.run(1_000);
  const late = cluster.submit(0, { type: "leaseKeepAlive", id: 7n });
  cluster.run(5_500);
  for (const id of [early, late]) {
    const result = cluster.results.get(id);
    assert.ok(typeof result === "object" && result.type === "leaseKeepAlive" && result.ttlSeconds === 5);
  }
  assert.equal(cluster.nodes[0]!.replica.store.leases().length, 0, "and nobody renewed it after that");
});
