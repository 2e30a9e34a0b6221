import assert from "node:assert/strict";
import { test } from "node:test";
import { OutputNormalizer } from "./etcdctl-output.ts";

function lines(
  stdout: string,
  unordered = false,
  normalizer = new OutputNormalizer(["http://127.0.0.1:1"]),
): string[] {
  return normalizer.normalize({ stdout, stderr: "", exitCode: 0 }, unordered);
}

test("etcdctl output: ids, addresses, sizes and times go, the rest stays", () => {
  assert.deepEqual(
    lines("http://127.0.0.1:2379, 8e9e05c52164694d, 3.6.12, 20 kB, true, false, 2, 9, 9, \n"),
    ["URL, ID, V, SIZE, true, false, N, N, N, ", "(exit code 0)"],
  );
  assert.deepEqual(
    lines('{"header":{"cluster_id":123,"member_id":456,"revision":7,"raft_term":2},"count":1}\n'),
    ['{"header":{"cluster_id":N,"member_id":N,"revision":7,"raft_term":N},"count":1}', "(exit code 0)"],
  );
});

test("etcdctl output: a lease that was granted is known by its number from then on", () => {
  const normalizer = new OutputNormalizer([]);
  const granted = lines("lease 0694d81417acd4b7 granted with TTL(600s)\n", false, normalizer);
  assert.equal(granted[0], "lease LEASE0 granted with TTL(600s)");
  assert.equal(normalizer.fillIn("--lease=$LEASE0"), "--lease=694d81417acd4b7");
  assert.equal(lines('{"lease":474241441588892855}\n', false, normalizer)[0], '{"lease":LEASE0}');
});

test("etcdctl output: lists whose order is free are sorted, also inside JSON", () => {
  assert.deepEqual(lines('[{"b":{"x":1}},{"a":2}]\n', true), lines('[{"a":2},{"b":{"x":1}}]\n', true));
  assert.notDeepEqual(lines("b\na\n"), lines("a\nb\n"));
});

test("etcdctl output: exit codes and error lines count", () => {
  const normalizer = new OutputNormalizer([]);
  const output = { stdout: "", stderr: "Error: etcdserver: key not found\n", exitCode: 1 };
  assert.deepEqual(normalizer.normalize(output, false), [
    "stderr: Error: etcdserver: key not found",
    "(exit code 1)",
  ]);
  assert.deepEqual(normalizer.normalize({ stdout: "", stderr: "", exitCode: undefined }, false), [
    "(ended from outside)",
  ]);
});
