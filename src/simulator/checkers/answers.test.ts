/** The checkers of refusals, leases by agreed time and evidence for decisions, each on good and on planted bad histories. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromByteString } from "../../base/bytes.ts";
import { encodeMessage } from "../../consensus/messages.ts";
import type { Operation, OperationResult, PutRequest } from "../../store/types.ts";
import type { ClientRecord, ClientRequest, Outcome, Violation } from "../history.ts";
import { plainRange } from "../store-view.ts";
import { checkAgreedLeases, type LeaseSighting } from "./agreed-leases.ts";
import type { DecidedBatch } from "./decided-log.ts";
import { EvidenceChecker } from "./evidence.ts";
import { checkRefusals } from "./refusals.ts";

function violationsOf(run: (report: (violation: Violation) => void) => void): number {
  const violations: Violation[] = [];
  run((violation) => violations.push(violation));
  return violations.length;
}

function record(
  request: ClientRequest,
  outcome: Outcome | undefined,
  more: Partial<ClientRecord> = {},
): ClientRecord {
  return {
    client: 0,
    member: 0,
    request,
    invokedMs: 100,
    returnedMs: 200,
    outcome,
    trusted: true,
    ...more,
  };
}

const asked = (operation: Operation, result: OperationResult, more: Partial<ClientRecord> = {}) =>
  record({ type: "write", operation }, { type: "written", result }, more);

function put(key: string, tag: string, lease: bigint): Extract<Operation, { type: "put" }> {
  const request: PutRequest = {
    key,
    value: fromByteString(`${tag}|`),
    lease,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
  };
  return { type: "put", put: request };
}

test("refusals: without a reason, a compaction nobody asked for, a future that is past", () => {
  const judged = (...records: ClientRecord[]) => violationsOf((report) => checkRefusals(records, report));
  const read = (revision: number, code: "compacted" | "futureRevision", more: Partial<ClientRecord> = {}) =>
    record(
      { type: "read", range: plainRange("k/", "k0", revision), fenced: true },
      { type: "refused", code },
      more,
    );
  const compact = (revision: number, result: OperationResult, more: Partial<ClientRecord> = {}) =>
    asked({ type: "compact", revision }, result, more);
  const done = compact(10, { type: "compact", revision: 20 }, { returnedMs: 50, invokedMs: 10 });
  assert.equal(judged(read(9, "compacted"), done), 0);
  assert.equal(judged(read(9, "compacted")), 1);
  assert.equal(judged(read(10, "compacted"), done), 1);
  assert.equal(judged(read(9, "compacted"), { ...done, invokedMs: 300 }), 1);
  assert.equal(judged(compact(10, { type: "error", error: "compacted" }), done), 0);
  assert.equal(judged(compact(11, { type: "error", error: "compacted" }), done), 1);
  assert.equal(judged(read(20, "futureRevision"), done), 1);
  assert.equal(judged(read(21, "futureRevision"), done), 0);
  assert.equal(judged(asked(put("k/00", "c0.1", 0n), { type: "error", error: "leaseNotFound" })), 1);
  assert.equal(judged(asked(put("l/0/0", "c0.1", 7n), { type: "error", error: "leaseNotFound" })), 0);
  assert.equal(judged(asked(put("l/0/0", "c0.1", 7n), { type: "error", error: "noSpace" })), 1);
});

const GRANT = { type: "leaseGrant", id: 7n, ttlSeconds: 3 } as const;
const GRANTED = { type: "leaseGrant", id: 7n, ttlSeconds: 3, revision: 1 } as const;
const KEEP = { type: "leaseKeepAlive", id: 7n } as const;

function kept(ttlSeconds: number): OperationResult {
  return { type: "leaseKeepAlive", id: 7n, ttlSeconds, revision: 1 };
}

/** Instance 1 grants lease 7 for 3 s, 2 puts a key on it, 3 keeps it alive 2 s later, 4 and 5 are at these times. */
function judgedLeases(
  [fourthMs, fifthMs]: readonly [number, number],
  {
    records = [] as readonly ClientRecord[],
    sightings = [] as readonly LeaseSighting[],
    deletedIn = 5,
    key = true,
  } = {},
): number {
  const operations: readonly (readonly Operation[])[] = [
    [GRANT],
    key ? [put("l/0/0", "c0.1", 7n)] : [],
    [KEEP],
    [KEEP],
    [],
  ];
  const times = [0, 1_000, 2_000, fourthMs, fifthMs];
  const batches: DecidedBatch[] = times.map((timestampMs, index) => ({
    cid: index + 1,
    timestampMs,
    operations: operations[index]!,
  }));
  return violationsOf((report) =>
    checkAgreedLeases(
      {
        batch: (cid) => batches[cid - 1],
        lastCid: 5,
        records,
        sightings,
        deletedIn: (cid) => (cid === deletedIn && key ? ["l/0/0"] : []),
      },
      report,
    ),
  );
}

test("leases by agreed time: ends early, late, in silence, and answers that are not so", () => {
  assert.equal(judgedLeases([4_999, 7_999]), 0);
  assert.equal(judgedLeases([5_000, 8_000], { deletedIn: 4 }), 0);
  // A millisecond early, by agreed time; and one that does not end.
  assert.equal(judgedLeases([4_999, 7_998]), 1);
  assert.equal(judgedLeases([4_999, 7_999], { deletedIn: 0 }), 1);
  const sighted = (cid: number, leases: readonly (readonly [bigint, number])[]) => ({
    sightings: [{ member: 1, cid, leases: new Map(leases) }],
    key: false,
  });
  assert.equal(judgedLeases([4_999, 7_998], sighted(5, [[7n, 7_999]])), 0);
  assert.equal(judgedLeases([4_999, 7_998], sighted(5, [])), 1);
  assert.equal(judgedLeases([4_999, 7_998], sighted(3, [[7n, 4_400]])), 1);
  const answered = (operation: Operation, result: OperationResult, executedIn: number) => ({
    records: [asked(operation, result, { executedIn })],
  });
  assert.equal(judgedLeases([4_999, 7_999], answered(GRANT, GRANTED, 1)), 0);
  assert.equal(judgedLeases([4_999, 7_999], answered(KEEP, kept(3), 4)), 0);
  assert.equal(judgedLeases([4_999, 7_999], answered(KEEP, kept(0), 4)), 1);
  assert.equal(judgedLeases([5_000, 8_000], { ...answered(KEEP, kept(0), 4), deletedIn: 4 }), 0);
  const refused: OperationResult = { type: "error", error: "leaseNotFound" };
  assert.equal(judgedLeases([4_999, 7_999], answered(put("l/0/0", "c0.1", 7n), refused, 2)), 1);
});

test("evidence: decisions behind which no quorum of ACCEPTs and not all logged WRITEs stand", () => {
  const digest = new Uint8Array(32).fill(5);
  const vote = { regency: 1, cid: 3, digest, signature: new Uint8Array(64) };
  const report = { executedCid: 0, executionHash: new Uint8Array(32) };
  const accept = () => encodeMessage({ type: "accept", ...vote, ...report });
  const write = (logged: boolean) =>
    encodeMessage({ type: "write", ...vote, logged: logged ? report : undefined });
  const judged = (byzantine: readonly number[], ...sent: readonly (readonly [number, Uint8Array])[]) =>
    violationsOf((violated) => {
      const checker = new EvidenceChecker(4, 3, new Set(byzantine), violated);
      for (const [member, bytes] of sent) checker.sent(member, bytes);
      checker.decided(0, 3, digest);
    });
  assert.equal(judged([], [0, accept()], [1, accept()], [2, accept()]), 0);
  assert.equal(judged([], [0, accept()], [1, accept()], [1, accept()]), 1);
  assert.equal(judged([3], [0, accept()], [1, accept()]), 0);
  assert.equal(judged([3], [0, accept()], [3, accept()]), 1);
  assert.equal(judged([3], [0, write(true)], [1, write(true)], [2, write(true)]), 0);
  assert.equal(judged([3], [0, write(true)], [1, write(true)], [2, write(false)]), 1);
});
