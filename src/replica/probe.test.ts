import assert from "node:assert/strict";
import { test } from "node:test";
import type { Core } from "../consensus/core.ts";
import type { Message } from "../consensus/messages.ts";
import { Probe } from "./probe.ts";
import { testMembership } from "./testing/cluster.ts";

/** The limits of member n-1, which forgot everything, after each answer: how far a member's votes go, by member. */
function limitsAfter(n: number, answers: readonly (readonly [member: number, accepted: number])[]): number[] {
  const asked: Message[] = [];
  const core = {
    incarnation: 1,
    self: n - 1,
    monotonicMs: 0,
    probation: { limit: undefined as { cid: number; regency: number } | undefined },
    membership: testMembership(n),
    send: (_to: number, message: Message) => asked.push(message),
  };
  const probe = new Probe(core as unknown as Core);
  probe.tick();
  const [first] = asked;
  assert.ok(first?.type === "fence");
  const { nonce } = first;
  return answers.map(([member, accepted]) => {
    probe.onReply(member, { type: "fenceReply", nonce, accepted, regency: 1 });
    return core.probation.limit?.cid ?? 0;
  });
}

test("probation lasts past what was promised, though those who know it are late and f-1 others lie", () => {
  // n=10, f=3: the forgetful member and 2, 3, 4 and 5 accepted instance 100 with the two liars 0 and 1.
  const answers = [
    [0, 0],
    [1, 0],
    [4, 100],
    [5, 100],
    [6, 10],
    [7, 10],
    [8, 10],
    [2, 100],
    [3, 100],
  ] as const;
  const limits = limitsAfter(10, answers);
  assert.deepEqual(limits.slice(0, 6), [0, 0, 0, 0, 0, 0], "n-f answers are needed");
  for (const limit of limits.slice(6)) assert.equal(limit, 101);
});

test("an invented height silences nobody for longer than a slow member takes to answer", () => {
  // The liars 0 and 1 answer at once, the correct 7 and 8 last.
  const honest = [2, 3, 4, 5, 6, 7, 8].map((member) => [member, 10] as const);
  const limits = limitsAfter(10, [[0, 1e9], [1, 1e9], ...honest]);
  assert.equal(limits.at(-1), 11);
  // In a cluster of four nobody else may be faulty, and all three answers come to the same.
  assert.deepEqual(
    limitsAfter(4, [
      [0, 7],
      [1, 9],
      [2, 8],
    ]),
    [0, 0, 10],
  );
});
