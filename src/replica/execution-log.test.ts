import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ExecutionLog } from "./execution-log.ts";

const hashOf = (value: number) => new Uint8Array(32).fill(value);

const step = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant("executed" as const), hash: fc.constantFrom(1, 1, 2) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant("reported" as const),
      member: fc.nat({ max: 3 }),
      cid: fc.integer({ min: 1, max: 8 }),
      hash: fc.constantFrom(1, 2, 2, 3),
    }),
  },
);

test("a quorum that reports another hash is told from one that does not, in whatever order all comes", () => {
  let diverged = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      const log = new ExecutionLog(3);
      const own: number[] = [];
      const reports = new Map<string, number>();
      const differs = (cid: number) => {
        const mine = own[cid - 1];
        if (mine === undefined) return false;
        const others = [0, 1, 2, 3].map((member) => reports.get(`${cid}/${member}`));
        return [1, 2, 3].some((hash) => hash !== mine && others.filter((each) => each === hash).length >= 3);
      };
      for (const one of steps) {
        if (one.type === "executed") {
          own.push(one.hash);
          assert.equal(log.executed(own.length, hashOf(one.hash)), differs(own.length));
          assert.deepEqual(log.get(own.length), hashOf(one.hash));
        } else {
          const key = `${one.cid}/${one.member}`;
          const isFirst = !reports.has(key);
          if (isFirst) reports.set(key, one.hash);
          const said = log.reported(one.member, one.cid, hashOf(one.hash), own.length);
          // A second word of a member changes nothing, and is no news.
          assert.equal(said, isFirst && differs(one.cid));
          if (said) diverged += 1;
        }
      }
    }),
    { numRuns: 500 },
  );
  assert.ok(diverged > 0);
});

test("hashes are kept for the last few hundred instances, and reports far off are not", () => {
  const log = new ExecutionLog(3);
  for (let cid = 1; cid <= 1_000; cid++) log.executed(cid, hashOf(1));
  assert.equal(log.get(744), undefined);
  assert.ok(log.get(745) !== undefined);
  for (const cid of [1, 744, 1_257, Number.MAX_SAFE_INTEGER]) {
    for (const member of [0, 1, 2]) assert.equal(log.reported(member, cid, hashOf(2), 1_000), false);
  }
  for (const member of [0, 1]) assert.equal(log.reported(member, 1_000, hashOf(2), 1_000), false);
  assert.equal(log.reported(2, 1_000, hashOf(2), 1_000), true);
  log.clear();
  assert.equal(log.get(1_000), undefined);
});
