/** Fast instances (fast-path.ts) in whole clusters: when they are offered, how long they take, who is waited for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ReplicaOutput } from "../replica/contract.ts";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { decodeLogEntry } from "./log-records.ts";
import { decodeMessage, encodeMessage, type Message } from "./messages.ts";
import { type ConsensusOptions, DEFAULT_OPTIONS } from "./options.ts";

const { fastWaitMs } = DEFAULT_OPTIONS;

interface Seen {
  readonly member: number;
  readonly atMs: number;
  readonly output: ReplicaOutput;
}

/** A cluster that serves, with every output of every member from then on. */
function watched(n = 4, options: Partial<ConsensusOptions> = {}): { cluster: TestCluster; seen: Seen[] } {
  const cluster = new TestCluster(n, { certifyInstances: 32, ...options });
  cluster.run(100);
  const seen: Seen[] = [];
  cluster.observe = (member, output) => seen.push({ member, atMs: cluster.now, output });
  return { cluster, seen };
}

/** The messages among the outputs; a broadcast counts once for each receiver. */
function messagesOf(seen: readonly Seen[]): { member: number; atMs: number; message: Message }[] {
  return seen.flatMap(({ member, atMs, output }) =>
    output.type === "send" ? [{ member, atMs, message: decodeMessage(output.bytes) }] : [],
  );
}

/** Whether each instance was offered as a fast one. */
function offers(seen: readonly Seen[]): Map<number, boolean> {
  const offered = new Map<number, boolean>();
  for (const { message } of messagesOf(seen)) {
    if (message.type === "propose") offered.set(message.cid, message.fast);
  }
  return offered;
}

function isAcceptRecord(output: ReplicaOutput): boolean {
  return output.type === "append" && decodeLogEntry(output.record).type === "accept";
}

/** Instances in which anyone sent ACCEPT. */
function accepted(seen: readonly Seen[]): number[] {
  const cids = messagesOf(seen).flatMap(({ message }) => (message.type === "accept" ? [message.cid] : []));
  return [...new Set(cids)];
}

/** How long each instance took from its PROPOSE until the last member decided it. */
function durations(seen: readonly Seen[]): number[] {
  const proposed = new Map<number, number>();
  const decided = new Map<number, number>();
  for (const { message, atMs } of messagesOf(seen)) {
    if (message.type === "propose") proposed.set(message.cid, atMs);
  }
  for (const { atMs, output } of seen) {
    if (output.type === "trace" && output.event.kind === "decided") decided.set(output.event.cid, atMs);
  }
  return [...decided].map(([cid, atMs]) => atMs - proposed.get(cid)!);
}

function isFrom(member: number, ...types: readonly Message["type"][]) {
  return (from: number, _to: number, bytes: Uint8Array) =>
    from === member && types.includes(decodeMessage(bytes).type);
}

function writeEach(cluster: TestCluster, count: number, everyMs = 10): void {
  for (let i = 0; i < count; i++) {
    cluster.submit(1, put(`key${i}`, "value"));
    cluster.run(everyMs);
  }
}

/** Every member that is up has executed this many writes. */
function assertWritten(cluster: TestCluster, count: number): void {
  for (const [member, { replica, up }] of cluster.nodes.entries()) {
    if (up) assert.equal(replica.store.revision, count + 1, `member ${member}`);
  }
}

for (const n of [4, 5, 7]) {
  test(`${n} members up: decided in two steps, with ACCEPTs only afterwards, for the certifying instances`, () => {
    const { cluster, seen } = watched(n, { certifyInstances: 4 });
    writeEach(cluster, 10);
    assertWritten(cluster, 10);
    assert.deepEqual(accepted(seen), [4, 8]);
    for (const [cid, fast] of offers(seen)) assert.ok(fast, `offer of ${cid}`);
    assert.deepEqual(durations(seen), new Array(10).fill(2));
    // Each member's to each other one, once: nobody takes them for those of members that gave up waiting.
    const accepts = messagesOf(seen).filter(({ message }) => message.type === "accept");
    assert.equal(accepts.length, 2 * n * (n - 1));
    assert.ok(!seen.some(({ output }) => isAcceptRecord(output)));
  });
}

test("without a next instance the ACCEPTs for a certifying one come with a tick", () => {
  const { cluster, seen } = watched(4, { certifyInstances: 4 });
  writeEach(cluster, 4);
  cluster.run(50);
  assert.deepEqual(accepted(seen), [4]);
  assert.ok(!seen.some(({ output }) => isAcceptRecord(output)));
});

test("each member's logged WRITE has a record before it, which was asked to be synced", () => {
  const { cluster, seen } = watched(4, { certifyInstances: 4 });
  writeEach(cluster, 10);
  const recorded = new Set<string>();
  const sent = new Set<string>();
  for (const { member, output } of seen) {
    if (output.type === "append") {
      const entry = decodeLogEntry(output.record);
      if (entry.type !== "write") continue;
      assert.ok(output.sync);
      assert.ok(entry.body !== undefined && entry.body.bundles.length > 0);
      recorded.add(`${member} ${entry.cid} ${entry.regency} ${entry.digest.join()}`);
    } else if (output.type === "send") {
      const message = decodeMessage(output.bytes);
      if (message.type !== "write" || message.logged === undefined) continue;
      const key = `${member} ${message.cid} ${message.regency} ${message.digest.join()}`;
      assert.ok(recorded.has(key), key);
      sent.add(key);
    }
  }
  assert.equal(sent.size, 4 * 10);
  assert.deepEqual(recorded, sent);
});

test("an instance of more than eight operations is not offered", () => {
  const { cluster, seen } = watched();
  for (const count of [8, 9, 8]) {
    for (let i = 0; i < count; i++) cluster.submit(1, put(`key${i}`, "value"));
    cluster.run(10);
  }
  assertWritten(cluster, 25);
  assert.deepEqual(
    [...offers(seen)],
    [
      [1, true],
      [2, false],
      [3, true],
    ],
  );
});

test("a member whose WRITEs are lost delays by the wait: then ACCEPTs decide", () => {
  const { cluster, seen } = watched();
  cluster.drop = isFrom(3, "write");
  cluster.submit(1, put("key", "value"));
  cluster.run(50);
  assertWritten(cluster, 1);
  assert.deepEqual([...offers(seen)], [[1, true]]);
  assert.deepEqual(accepted(seen), [1]);
  const [durationMs] = durations(seen);
  // Time is looked at in ticks, here every 10 ms.
  assert.ok(durationMs! >= fastWaitMs && durationMs! <= fastWaitMs + 15, `${durationMs} ms`);
});

test("a member that never says that it logs delays two instances; then none are offered, and later some again", () => {
  const { cluster, seen } = watched();
  cluster.alter = (from, _to, bytes) => {
    const message = decodeMessage(bytes);
    if (from !== 3 || message.type !== "write") return undefined;
    return [encodeMessage({ ...message, logged: undefined })];
  };
  writeEach(cluster, 4, 50);
  assertWritten(cluster, 4);
  assert.deepEqual([...offers(seen).values()], [true, true, false, false]);
  assert.deepEqual(durations(seen).slice(2), [3, 3]);
  cluster.run(300);
  seen.length = 0;
  writeEach(cluster, 3, 50);
  assert.deepEqual([...offers(seen).values()], [true, true, false]);
  cluster.run(300);
  seen.length = 0;
  writeEach(cluster, 1);
  assert.deepEqual([...offers(seen).values()], [false], "longer this time");
});

test("nothing is offered while a member is not linked; when it is back and has caught up, all is again", () => {
  const { cluster, seen } = watched();
  cluster.kill(3);
  writeEach(cluster, 3);
  assertWritten(cluster, 3);
  assert.deepEqual([...offers(seen).values()], [false, false, false]);
  assert.deepEqual(durations(seen), [3, 3, 3]);
  cluster.start(3);
  cluster.run(300);
  seen.length = 0;
  writeEach(cluster, 3);
  assertWritten(cluster, 6);
  assert.deepEqual([...offers(seen).values()], [true, true, true]);
  assert.deepEqual(accepted(seen), []);
});

test("nothing is offered while a linked member does not vote; when it does again, fast instances are", () => {
  const { cluster, seen } = watched();
  writeEach(cluster, 1);
  cluster.drop = (from, to) => from === 3 || to === 3;
  writeEach(cluster, 4, 50);
  // It is offered twice more: what it did in the last instance is not known while that is new.
  assert.deepEqual([...offers(seen).values()], [true, true, false, false, false]);
  assert.deepEqual(durations(seen).slice(2), [3, 3, 3]);
  cluster.drop = () => false;
  cluster.run(500);
  seen.length = 0;
  writeEach(cluster, 3);
  assertWritten(cluster, 8);
  assert.ok([...offers(seen).values()].at(-1));
  assert.ok(!accepted(seen).includes(8));
});

test("after more than 32 fast instances a certificate covers them; a member without log gets the others, too", () => {
  const { cluster, seen } = watched();
  writeEach(cluster, 40);
  assertWritten(cluster, 40);
  assert.deepEqual(accepted(seen), [32]);
  cluster.crash(3);
  seen.length = 0;
  // It orders nothing, so that no further instance certifies those before it.
  cluster.drop = isFrom(3, "bundle");
  cluster.start(3, "lost");
  cluster.run(1_500);
  assertWritten(cluster, 40);
  const runs = messagesOf(seen).flatMap(({ message }) =>
    message.type === "decisions" ? [message.certificate.cid] : [],
  );
  assert.deepEqual(runs, [32, 40]);
  const asked = messagesOf(seen).flatMap(({ message }) =>
    message.type === "acceptRequest" ? [message.cid] : [],
  );
  assert.ok(asked.length > 0 && asked.every((cid) => cid === 40), "ACCEPTs of the newest are asked for");
});
