import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger, readableLine } from "./logger.ts";
import { Metrics } from "./metrics.ts";

test("log lines are JSON with level, time, one component and text", () => {
  const lines: string[] = [];
  const logger = createLogger("info", { write: (line) => lines.push(line) });
  logger.debug("not shown");
  logger.component("links").component("gateway").warn("something", { peer: 3 });
  assert.equal(lines.length, 1);
  const { ts, ...rest } = JSON.parse(lines[0]!) as Record<string, unknown>;
  assert.deepEqual(rest, { level: "warn", component: "gateway", peer: 3, msg: "something" });
  assert.match(String(ts), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.equal(lines[0]!.match(/"component"/g)?.length, 1);
  assert.equal(readableLine(lines[0]!, false).slice(12), " warn  gateway: something peer=3\n");
});

test("metrics have etcd's names, and count leader changes but not the first leader", async () => {
  const metrics = new Metrics({
    members: ["m1", "m2"],
    serving: () => true,
    regency: () => 2,
    lastDecided: () => 10,
    lastExecuted: () => 9,
    pending: () => 3,
    logBufferedBytes: () => 0,
  });
  metrics.trace({ kind: "regency", regency: 1, leader: 0 });
  metrics.trace({ kind: "regency", regency: 2, leader: 1 });
  metrics.trace({ kind: "misbehaviour", member: 1, what: "malformed message" });
  metrics.requestFailed(2);
  metrics.logSynced(0.2);
  const text = await metrics.registry.metrics();
  for (const line of [
    "etcd_server_leader_changes_seen_total 1",
    "etcd_server_proposals_committed_total 10",
    "etcd_server_proposals_applied_total 9",
    "etcd_server_proposals_pending 3",
    "etcd_server_proposals_failed_total 2",
    'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.00025"} 1',
    'kmmr_misbehaviour_total{member="m2"} 1',
    "kmmr_regency 2",
    "kmmr_serving 1",
  ]) {
    assert(text.includes(`${line}\n`), line);
  }
  assert.match(text, /^process_resident_memory_bytes /m);
});
