import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../base/prng.ts";
import { Generator } from "./generator.ts";
import { formatOperation, type Operation, parseOperations } from "./operation.ts";
import { shrink } from "./shrink.ts";

function draw(seed: number, count: number): Operation[] {
  const generator = new Generator(new Prng(seed));
  return Array.from({ length: count }, () => generator.next());
}

test("generator: one seed, one list; it survives being printed and read back", () => {
  const list = draw(7, 3000);
  assert.deepEqual(draw(7, 3000), list);
  assert.notDeepEqual(draw(8, 3000), list);
  const text = list.map(formatOperation).join("\n");
  assert.equal(parseOperations(text).map(formatOperation).join("\n"), text);
});

test("generator: a long list has every kind of operation", () => {
  const kinds = new Set(
    draw(1, 30_000).map((operation) => (operation.kind === "call" ? operation.rpc : operation.kind)),
  );
  const expected = [
    ...["range", "put", "deleteRange", "txn", "compact", "alarm"],
    ...["leaseGrant", "leaseRevoke", "leaseKeepAlive", "leaseTimeToLive", "leaseLeases"],
    ...["watch", "watchCancel", "watchProgress", "watchClose"],
  ];
  assert.deepEqual([...kinds].toSorted(), expected.toSorted());
});

test("shrink: finds the few that matter", async () => {
  const list = Array.from({ length: 500 }, (_, i) => i);
  const needed = [17, 300, 499];
  let calls = 0;
  const shortest = await shrink(
    list,
    async (candidate) => {
      calls += 1;
      return needed.every((item) => candidate.includes(item));
    },
    400,
  );
  assert.deepEqual(shortest, needed);
  assert.ok(calls < 400, `${calls} calls`);
});

test("shrink: says when the list does not show it at all", async () => {
  assert.equal(await shrink([1, 2, 3], async () => false, 50), undefined);
});
