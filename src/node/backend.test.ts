import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { ReplicaInput } from "../replica/contract.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { Store } from "../store/store.ts";
import { ReplicaBackend, type ReplicaBackendOptions } from "./backend.ts";
import { NodeHasher } from "./crypto.ts";

/** A backend over a replica that only writes down what it is asked. */
function backendWith(options: Partial<ReplicaBackendOptions> = {}) {
  const inputs: ReplicaInput[] = [];
  const state = { leader: 1 as number | undefined, serving: true, overloaded: false, failed: 0 };
  const backend = new ReplicaBackend({
    clusterId: 1n,
    memberId: 2n,
    members: [1n, 2n, 3n, 4n].map((id) => ({ id, name: `m${id}`, peerUrls: [], clientUrls: [] })),
    view: {
      store: new Store({ engine: new MemoryEngine(), hasher: new NodeHasher() }),
      leader: () => state.leader,
      regency: () => 7,
      lastDecided: () => 12,
      lastExecuted: () => 11,
      serving: () => state.serving,
    },
    input: (input) => inputs.push(input),
    databaseSize: () => ({ total: 100, inUse: 50 }),
    quotaBytes: 1000,
    requestTimeoutMs: 100,
    maxPendingRequests: 2,
    readMode: "fenced",
    overloaded: () => state.overloaded,
    requestFailed: (count) => {
      state.failed += count;
    },
    ...options,
  });
  return { backend, inputs, state };
}

/** Submits and fences write their answers here. */
function recorder() {
  const answers: string[] = [];
  const note = (name: string) => (answer: unknown) => {
    answers.push(`${name} ${typeof answer === "object" ? JSON.stringify(answer) : answer}`);
  };
  return { answers, note };
}

test("results, fences and failures find their request, late ones nobody", () => {
  const { backend, inputs } = backendWith({ maxPendingRequests: 10 });
  const { answers, note } = recorder();
  backend.submit({ type: "noop" }, note("write"));
  backend.fence(note("read"));
  backend.submit({ type: "noop" }, note("lost"));
  assert.deepEqual(
    inputs.map((input) => [input.type, "id" in input && input.id]),
    [
      ["submit", 1],
      ["fence", 2],
      ["submit", 3],
    ],
  );
  backend.fenced(2);
  backend.result(1, { type: "noop", revision: 4 });
  backend.failed(3, "tooManyRequests");
  backend.result(3, { type: "noop", revision: 5 });
  assert.deepEqual(answers, ["read undefined", 'write {"type":"noop","revision":4}', "lost tooManyRequests"]);
});

test("more than the limit, or a disk that is behind, is refused in a later turn", async () => {
  const { backend, inputs, state } = backendWith();
  const { answers, note } = recorder();
  state.overloaded = true;
  backend.submit({ type: "noop" }, note("overload"));
  assert.deepEqual(answers, [], "never before submit returns");
  await turn();
  state.overloaded = false;
  backend.submit({ type: "noop" }, note("1"));
  backend.fence(note("2"));
  backend.fence(note("3"));
  await turn();
  assert.deepEqual(answers, ["overload tooManyRequests", "3 tooManyRequests"]);
  assert.equal(inputs.length, 2);
});

test("what waits too long times out, and stopping answers the rest", async () => {
  const { backend, state } = backendWith();
  const { answers, note } = recorder();
  backend.submit({ type: "noop" }, note("slow"));
  backend.tick(performance.now() + 50);
  assert.deepEqual(answers, []);
  backend.tick(performance.now() + 150);
  assert.deepEqual(answers, ["slow timeout"]);
  assert.equal(state.failed, 1);
  backend.fence(note("waiting"));
  backend.stop();
  backend.submit({ type: "noop" }, note("late"));
  await turn();
  assert.deepEqual(answers, ["slow timeout", "waiting stopped", "late stopped"]);
  assert.equal(backend.unavailable(), "stopped");
});

test("ordered reads of one turn share one empty operation", async () => {
  const { backend, inputs } = backendWith({ readMode: "ordered" });
  const { answers, note } = recorder();
  for (let read = 1; read <= 5; read++) backend.fence(note(`${read}`));
  await turn();
  assert.deepEqual(inputs, [{ type: "submit", id: 1, operation: { type: "noop" } }]);
  backend.fence(note("next"));
  await turn();
  assert.equal(inputs.length, 2, "a read that came later is not covered by the first");
  backend.result(1, { type: "noop", revision: 1 });
  assert.equal(answers.length, 5);
  backend.failed(2, "noLeader");
  assert.equal(answers.at(-1), "next noLeader");
});

test("status and availability follow the replica", () => {
  const { backend, state } = backendWith();
  assert.equal(backend.status().leaderId, 2n);
  assert.deepEqual(backend.status().errors, []);
  assert.equal(backend.unavailable(), undefined);
  state.leader = undefined;
  state.serving = false;
  assert.equal(backend.status().leaderId, 0n);
  assert.deepEqual(backend.status().errors, ["etcdserver: no leader"]);
  assert.equal(backend.hasLeader(), false);
  assert.equal(backend.unavailable(), "stopped");
  for (let i = 0; i < 100; i++) assert(backend.newLeaseId() > 0n);
});
