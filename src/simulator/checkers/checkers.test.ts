/** Every checker passes a good history and fails on a planted bad one; promises.test.ts has that of promises. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromByteString } from "../../base/bytes.ts";
import type { KeyValue, OperationResult, WatchEvent } from "../../store/types.ts";
import type { ClientRecord, ClientRequest, Outcome, Violation } from "../history.ts";
import { plainRange } from "../store-view.ts";
import { AgreementChecker } from "./agreement.ts";
import { BlameChecker } from "./blame.ts";
import { ChangeHistory } from "./changes.ts";
import { checkDurability } from "./durability.ts";
import { checkExactlyOnce } from "./exactly-once.ts";
import { ExecutionChecker } from "./execution.ts";
import { checkLeases } from "./leases.ts";
import { checkLinearizability } from "./linearizability.ts";
import { checkLiveness } from "./liveness.ts";
import { StoreModel } from "./model.ts";
import { checkValidity } from "./validity.ts";

const bytes = (seed: number, size = 32) => new Uint8Array(size).fill(seed);

function collector() {
  const violations: Violation[] = [];
  const report = (violation: Violation) => {
    violations.push(violation);
  };
  const expect = (checker: string, count: number) => {
    const found = violations.filter((violation) => violation.checker === checker);
    assert.equal(found.length, count, JSON.stringify(violations));
    assert.equal(violations.length, count, JSON.stringify(violations));
    violations.length = 0;
  };
  return { report, expect };
}

// ---- a small history: revision 2 puts k/00, revision 3 puts it again, revision 4 deletes it

function keyValue(key: string, modRevision: number, tag: string, more: Partial<KeyValue> = {}): KeyValue {
  const value = fromByteString(`${tag}|..`);
  return { key, createRevision: 2, modRevision, version: modRevision - 1, value, lease: 0n, ...more };
}

const put = (kv: KeyValue): WatchEvent => ({ type: "put", kv, prevKv: undefined });
const remove = (key: string, modRevision: number): WatchEvent => ({
  type: "delete",
  kv: { key, createRevision: 0, modRevision, version: 0, value: new Uint8Array(0), lease: 0n },
  prevKv: undefined,
});

const FIRST = keyValue("k/00", 2, "c0.1");
const SECOND = keyValue("k/00", 3, "c1.1");
const HISTORY = [put(FIRST), put(SECOND), remove("k/00", 4)];

function history(events: readonly WatchEvent[], seenMs = (revision: number) => revision * 100) {
  const { report, expect } = collector();
  const changes = new ChangeHistory(report);
  for (const event of events) changes.observe(0, [event], seenMs(event.kv.modRevision));
  return { changes, report, expect };
}

function record(
  request: ClientRequest,
  times: readonly [number, number],
  outcome: Outcome | undefined,
  more: Partial<ClientRecord> = {},
): ClientRecord {
  const [invokedMs, returnedMs] = times;
  return { client: 0, member: 0, request, invokedMs, returnedMs, outcome, trusted: true, ...more };
}

const written = (result: OperationResult): Outcome => ({ type: "written", result });

function putRecord(kv: KeyValue, times: readonly [number, number], revision = kv.modRevision): ClientRecord {
  const { key, value, lease } = kv;
  const request = { key, value, lease, prevKv: false, ignoreValue: false, ignoreLease: false };
  return record(
    { type: "write", operation: { type: "put", put: request } },
    times,
    written({ type: "put", put: { revision, prevKv: undefined } }),
  );
}

function deleteRecord(times: readonly [number, number], revision: number, deleted: number): ClientRecord {
  return record(
    {
      type: "write",
      operation: { type: "deleteRange", deleteRange: { key: "k/00", rangeEnd: "", prevKv: false } },
    },
    times,
    written({ type: "deleteRange", deleteRange: { revision, deleted, prevKvs: [] } }),
  );
}

function readRecord(
  times: readonly [number, number],
  revision: number,
  kvs: readonly KeyValue[],
): ClientRecord {
  return record({ type: "read", range: plainRange("k/00", ""), fenced: true }, times, {
    type: "read",
    result: { revision, kvs, more: false, count: kvs.length },
  });
}

const GOOD = [
  putRecord(FIRST, [150, 210]),
  readRecord([220, 230], 2, [FIRST]),
  putRecord(SECOND, [250, 310]),
  deleteRecord([350, 410], 4, 1),
  readRecord([420, 430], 4, []),
];

test("agreement: two values for one instance", () => {
  const { report, expect } = collector();
  const checker = new AgreementChecker(report);
  checker.decided(0, 1, 1, bytes(1));
  checker.decided(1, 1, 2, bytes(1));
  checker.decided(1, 2, 2, bytes(2));
  expect("agreement", 0);
  checker.decided(2, 1, 3, bytes(3));
  expect("agreement", 1);
});

test("execution: other effects, other revisions, instances out of order, other checkpoints", () => {
  const { report, expect } = collector();
  const checker = new ExecutionChecker(report);
  for (const member of [0, 1]) for (const cid of [1, 2]) checker.executed(member, cid, cid + 1, bytes(cid));
  checker.checkpoint(0, 2, bytes(9));
  checker.checkpoint(1, 2, bytes(9));
  checker.restarted(1);
  checker.executed(1, 1, 2, bytes(1));
  expect("execution", 0);
  checker.executed(2, 1, 2, bytes(7));
  expect("execution", 1);
  checker.executed(3, 1, 3, bytes(1));
  expect("execution", 1);
  checker.executed(0, 1, 2, bytes(1));
  expect("execution", 1);
  checker.checkpoint(2, 2, bytes(8));
  expect("execution", 1);
});

test("changes: members show different events for one revision", () => {
  const { changes, expect } = history(HISTORY);
  changes.observe(1, HISTORY, 1_000);
  expect("changes", 0);
  changes.observe(2, [put(keyValue("k/00", 2, "c9.9"))], 1_000);
  expect("changes", 1);
  changes.observe(2, [remove("k/00", 3)], 1_000);
  expect("changes", 1);
});

test("model: versions, creation and deletions that no etcd makes", () => {
  const judged = (events: readonly WatchEvent[]) => {
    const { changes, report, expect } = history(events);
    const model = new StoreModel(changes, report);
    assert.equal(model.lastRevision, events.at(-1)!.kv.modRevision);
    return expect;
  };
  judged(HISTORY)("model", 0);
  judged([put(FIRST), put({ ...SECOND, version: 7 })])("model", 1);
  judged([put(FIRST), put({ ...SECOND, createRevision: 3 })])("model", 1);
  judged([put(FIRST), remove("k/01", 3)])("model", 1);
});

test("validity: a value that nobody asked for, too early, changed, or refused", () => {
  const judged = (
    events: readonly WatchEvent[],
    records: readonly ClientRecord[],
    byzantine: number[] = [],
  ) => {
    const { changes, report, expect } = history(events);
    checkValidity(changes.all(), records, new Set(byzantine), report);
    return expect;
  };
  judged(HISTORY, GOOD)("validity", 0);
  judged(HISTORY, GOOD.slice(1))("validity", 1);
  judged(HISTORY, [{ ...GOOD[0]!, invokedMs: 201 }, ...GOOD.slice(1)])("validity", 1);
  judged(HISTORY, [{ ...GOOD[0]!, outcome: { type: "notTaken" } }, ...GOOD.slice(1)])("validity", 1);
  const refused = written({ type: "error", error: "leaseNotFound" });
  judged(HISTORY, [{ ...GOOD[0]!, outcome: refused }, ...GOOD.slice(1)])("validity", 1);
  judged([put({ ...FIRST, lease: 5n }), ...HISTORY.slice(1)], GOOD)("validity", 1);
  judged([put({ ...FIRST, value: fromByteString("c0.1|xx") }), ...HISTORY.slice(1)], GOOD)("validity", 1);
  const forged = [put(keyValue("k/00", 2, "z3.1")), ...HISTORY.slice(1)];
  judged(forged, GOOD, [3])("validity", 0);
  judged(forged, GOOD, [2])("validity", 1);
});

test("exactly once: a put at two revisions, a deletion that nobody is left to explain", () => {
  const judged = (events: readonly WatchEvent[], records: readonly ClientRecord[]) => {
    const { changes, report, expect } = history(events);
    checkExactlyOnce(changes.all(), records, report);
    return expect;
  };
  judged(HISTORY, GOOD)("exactly-once", 0);
  judged([...HISTORY, put(keyValue("k/00", 5, "c0.1"))], GOOD)("exactly-once", 1);
  const again = [...HISTORY, put(keyValue("k/00", 5, "c2.1")), remove("k/00", 6)];
  judged(again, GOOD)("exactly-once", 1);
  const open = record(deleteRecord([1, 2], 0, 0).request, [500, Number.POSITIVE_INFINITY], undefined);
  judged(again, [...GOOD, open])("exactly-once", 0);
  judged(again, [...GOOD, { ...open, invokedMs: 700 }])("exactly-once", 1);
});

test("linearizability: stale reads, wrong answers, revisions of two owners, order against real time", () => {
  const judged = (records: readonly ClientRecord[]) => {
    const { changes, report, expect } = history(HISTORY);
    checkLinearizability(records, new StoreModel(changes, report), report);
    return expect;
  };
  judged(GOOD)("linearizability", 0);
  // A read that began after revision 3 was acknowledged still sees revision 2.
  judged([...GOOD.slice(0, 3), readRecord([320, 330], 2, [FIRST])])("linearizability", 1);
  // The revision is right and the content is not.
  judged([...GOOD.slice(0, 3), readRecord([320, 330], 3, [FIRST])])("linearizability", 1);
  judged([...GOOD.slice(0, 3), readRecord([320, 330], 3, [])])("linearizability", 1);
  judged([readRecord([520, 530], 9, [])])("linearizability", 1);
  // Two puts are told the same revision: the second one is not what is there, and has no revision of its own.
  judged([GOOD[0]!, putRecord(keyValue("k/00", 2, "c5.1"), [150, 210])])("linearizability", 2);
  judged([deleteRecord([350, 410], 4, 2)])("linearizability", 1);
});

test("durability: an acknowledged write is gone, a store holds something else", () => {
  const judged = (revision: number, kvs: readonly KeyValue[], records = GOOD) => {
    const { changes, report, expect } = history(HISTORY.slice(0, 2));
    const model = new StoreModel(changes, report);
    checkDurability([{ member: 1, revision, kvs }], records, model, report);
    return expect;
  };
  const acknowledged = GOOD.slice(0, 3);
  judged(3, [SECOND], acknowledged)("durability", 0);
  judged(2, [FIRST], acknowledged)("durability", 1);
  judged(3, [], acknowledged)("durability", 1);
  judged(3, [FIRST], acknowledged)("durability", 1);
  judged(5, [SECOND], acknowledged)("durability", 1);
});

test("leases: an expiry before its time, a deletion that no lease explains", () => {
  const granted: ClientRecord = record(
    { type: "write", operation: { type: "leaseGrant", id: 7n, ttlSeconds: 5 } },
    [0, 50],
    written({ type: "leaseGrant", id: 7n, ttlSeconds: 5, revision: 1 }),
  );
  const leased = put(keyValue("l/0/1", 2, "c0.2", { lease: 7n }));
  const judged = (deletedMs: number, records: readonly ClientRecord[], lease = leased) => {
    const seenMs = (revision: number) => (revision === 2 ? 100 : deletedMs);
    const { changes, report, expect } = history([lease, remove("l/0/1", 3)], seenMs);
    checkLeases(changes.all(), records, { slackMs: 500 }, report);
    return expect;
  };
  judged(5_000, [granted])("leases", 0);
  judged(4_001, [granted])("leases", 0);
  judged(3_900, [granted])("leases", 1);
  const revoked = record(
    { type: "write", operation: { type: "leaseRevoke", id: 7n } },
    [1_000, 1_100],
    undefined,
  );
  judged(3_900, [granted, revoked])("leases", 0);
  judged(5_000, [granted], put(keyValue("l/0/1", 2, "c0.2")))("leases", 1);
});

test("liveness: clients without service, reads without an answer, members that are behind or down", () => {
  const client = { client: 1, member: 0 };
  const judged = (unserved: (typeof client)[], position: number, running = true, hangingReads = unserved) => {
    const { report, expect } = collector();
    const positions = [{ member: 0, running, position }];
    checkLiveness({ boundMs: 1_000, unserved, hangingReads, positions, highest: 5 }, report);
    return expect;
  };
  judged([], 5)("liveness", 0);
  judged([client], 5, true, [])("liveness", 1);
  judged([], 5, true, [client])("liveness", 1);
  judged([], 4)("liveness", 1);
  judged([], 5, false)("liveness", 1);
});

test("blame: a correct member looks guilty or diverges", () => {
  const { report, expect } = collector();
  const checker = new BlameChecker(new Set([3]), report);
  checker.blamed(0, 3, "two WRITEs");
  expect("blame", 0);
  assert.deepEqual([...checker.caught], [["two WRITEs", 1]]);
  checker.blamed(0, 1, "two WRITEs");
  expect("blame", 1);
  checker.diverged(2, 4);
  expect("blame", 1);
});
