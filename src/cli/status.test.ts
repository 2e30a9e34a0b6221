import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createPeerCertificate } from "../node/pki.ts";
import { type MemberStatus, readTlsFiles } from "./etcd-client.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { statusText, summarize } from "./status.ts";
import { formatSize, formatTable } from "./table.ts";

const MEMBERS = [1, 2, 3, 4].map((index) => ({
  id: BigInt(index),
  name: `m${index}`,
  clientUrls: [`http://127.0.0.1:${index}`],
}));

function status(index: number, fields: Partial<MemberStatus> = {}): MemberStatus {
  return {
    memberId: BigInt(index),
    leaderId: 2n,
    version: "3.6.0",
    revision: 41,
    regency: 2,
    lastDecided: 100,
    lastExecuted: 100,
    dbSizeBytes: 20_480,
    errors: [],
    ...fields,
  };
}

function answer(index: number, fields: Partial<MemberStatus> = {}) {
  const endpoint = MEMBERS[index - 1]!.clientUrls[0]!;
  return { endpoint, status: status(index, fields), members: MEMBERS, healthy: true };
}

function silent(index: number) {
  return { endpoint: MEMBERS[index - 1]!.clientUrls[0]!, healthy: false, problem: "connection refused" };
}

test("all healthy: one leader, exit code 0", () => {
  const summary = summarize([answer(3), answer(1), answer(2), answer(4)]);
  assert.deepEqual(
    summary.rows.map((row) => [row.name, row.leader, row.lag]),
    [
      ["m1", false, 0],
      ["m2", true, 0],
      ["m3", false, 0],
      ["m4", false, 0],
    ],
  );
  assert.equal(summary.exitCode, ExitCode.ok);
  assert.match(statusText(summary), /m2 .* yes +2 +100 +41 +0 +20\.0 KiB {2}healthy\n/);
  assert.match(statusText(summary), /4 of 4 masters healthy\n$/);
});

test("one silent: degraded, its name is known from the others", () => {
  const summary = summarize([answer(1), answer(2, { lastExecuted: 90 }), answer(3), silent(4)]);
  assert.equal(summary.exitCode, ExitCode.failure);
  assert.equal(summary.rows[1]!.lag, 10);
  assert.deepEqual([summary.rows[3]!.name, summary.rows[3]!.problem], ["m4", "connection refused"]);
  assert.match(statusText(summary), /3 of 4 masters healthy, the quorum of 3 holds\n$/);
});

test("two silent of four: no quorum", () => {
  const summary = summarize([answer(1), silent(2), { ...answer(3), healthy: false }, silent(4)]);
  assert.equal(summary.exitCode, ExitCode.severe);
  assert.match(statusText(summary), /1 of 4 masters healthy: no quorum, 3 are needed\n$/);
});

test("members that were not asked count as missing", () => {
  assert.equal(summarize([answer(1), answer(2), answer(3)]).exitCode, ExitCode.failure);
});

test("no answer at all is not a lost quorum: nothing is known", () => {
  const summary = summarize([silent(1), silent(2)]);
  assert.deepEqual([summary.exitCode, summary.quorum], [ExitCode.unknown, null]);
  assert.match(
    statusText(summary),
    /\nnone of the given endpoints answered; name others with --endpoints\n$/,
  );
  const refused = summarize([{ ...silent(1), tlsProblem: true }]);
  assert.match(statusText(refused), /name the right files with --cacert, --cert and --key\n$/);
});

test("a member's own errors are shown", () => {
  const summary = summarize([
    answer(1),
    answer(2),
    answer(3),
    answer(4, { errors: ["etcdserver: no leader"] }),
  ]);
  assert.equal(summary.rows[3]!.problem, "etcdserver: no leader");
  assert.equal(summary.rows[3]!.healthy, false);
});

test("tables and sizes", () => {
  assert.equal(formatTable(["A", "NUMBER"], [["long", "1"]], ["NUMBER"]), "A     NUMBER\nlong       1\n");
  assert.deepEqual([0, 512, 1536, 200 * 2 ** 20].map(formatSize), ["0 B", "512 B", "1.5 KiB", "200 MiB"]);
});

test("a client key that does not fit its certificate is wrong use", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-status-test-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const [one, other] = [await createPeerCertificate("one"), await createPeerCertificate("other")];
  const [cert, key] = [join(folder, "client.crt"), join(folder, "client.key")];
  writeFileSync(cert, one.cert);
  writeFileSync(key, other.key);
  assert.throws(
    () => readTlsFiles({ cert, key }),
    new CommandError(`--key ${key}: this is not the key of the certificate`, ExitCode.usage),
  );
});
