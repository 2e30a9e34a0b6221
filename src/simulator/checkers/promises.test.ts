/** The promise checker passes members that keep to what they said, and names those that do not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AcceptClaim,
  type DecisionCertificate,
  encodeMessage,
  encodeStopDataBody,
  type LoggedWrite,
  type Message,
} from "../../consensus/messages.ts";
import type { Violation } from "../history.ts";
import { PromiseChecker } from "./promises.ts";

const bytes = (seed: number, size = 32) => new Uint8Array(size).fill(seed);
const SIGNATURE = bytes(0, 64);

function vote(type: "write" | "accept", cid: number, regency: number, value: number): Uint8Array {
  const common = { cid, regency, digest: bytes(value), signature: SIGNATURE };
  if (type === "write") return encodeMessage({ type, ...common, logged: undefined });
  return encodeMessage({ type, ...common, executedCid: 0, executionHash: bytes(0) });
}

function loggedWrite(cid: number, regency: number, value: number): Uint8Array {
  const logged = { executedCid: 0, executionHash: bytes(0) };
  return encodeMessage({ type: "write", cid, regency, digest: bytes(value), signature: SIGNATURE, logged });
}

function stopData(
  regency: number,
  claims: readonly AcceptClaim[],
  logged: readonly LoggedWrite[] = [],
): Uint8Array {
  const body = encodeStopDataBody({ regency, decided: undefined, claims, logged });
  return encodeMessage({ type: "stopData", body, signature: SIGNATURE });
}

const claim = (cid: number, regency: number, value: number): AcceptClaim => ({
  cid,
  regency,
  digest: bytes(value),
  writes: [],
});

const fenceReply = (accepted: number): Uint8Array =>
  encodeMessage({ type: "fenceReply", nonce: 1, accepted, regency: 1 } satisfies Message);

function promises(...sent: readonly Uint8Array[]) {
  const violations: Violation[] = [];
  const checker = new PromiseChecker(new Set([3]), (violation) => {
    violations.push(violation);
  });
  for (const message of sent) checker.sent(0, message);
  const expect = (count: number) => assert.equal(violations.length, count, JSON.stringify(violations));
  return { checker, expect };
}

test("promises: two votes in a ballot", () => {
  promises(vote("write", 1, 1, 1), vote("write", 1, 1, 1), vote("write", 1, 2, 2)).expect(0);
  promises(vote("write", 1, 1, 1), vote("write", 1, 1, 2)).expect(1);
  promises(vote("accept", 1, 1, 1), vote("accept", 1, 1, 2)).expect(1);
  const propose = (value: number) =>
    encodeMessage({
      type: "propose",
      cid: 1,
      regency: 1,
      value: bytes(value),
      authorityHash: bytes(0),
      fast: false,
      signature: SIGNATURE,
    });
  promises(propose(1), propose(1)).expect(0);
  promises(propose(1), propose(2)).expect(1);
  promises(propose(1), vote("write", 1, 1, 2)).expect(1);
});

test("promises: a STOPDATA hides an ACCEPT, comes in two versions, or for an older regency", () => {
  promises(vote("accept", 1, 1, 1), stopData(2, [claim(1, 1, 1)])).expect(0);
  promises(vote("accept", 1, 1, 1), stopData(2, [])).expect(1);
  promises(vote("accept", 1, 2, 1), stopData(3, [claim(1, 1, 1)])).expect(1);
  promises(vote("accept", 1, 1, 1), stopData(2, [claim(1, 1, 2)])).expect(1);
  promises(stopData(2, []), stopData(2, [claim(1, 1, 1)])).expect(1);
  promises(stopData(3, []), stopData(2, [])).expect(1);
});

test("promises: an ACCEPT in a regency that was left", () => {
  promises(stopData(2, []), vote("accept", 1, 2, 1)).expect(0);
  promises(stopData(2, []), vote("accept", 1, 1, 1)).expect(1);
  promises(stopData(2, [claim(1, 1, 1)]), vote("accept", 1, 1, 1)).expect(0);
  const { checker, expect } = promises(stopData(2, []));
  checker.decided(0, 1, bytes(1));
  checker.sent(0, vote("accept", 1, 1, 1));
  expect(0);
});

test("promises: a STOPDATA hides a logged WRITE", () => {
  const told = (cid: number, regency: number, value: number): LoggedWrite => ({
    cid,
    regency,
    digest: bytes(value),
  });
  const write = loggedWrite(1, 1, 1);
  promises(write, stopData(2, [], [told(1, 1, 1)])).expect(0);
  promises(write, stopData(2, [])).expect(1);
  promises(write, stopData(2, [claim(1, 1, 1)])).expect(1);
  promises(write, stopData(2, [], [told(2, 1, 1)])).expect(1);
  promises(vote("write", 1, 1, 1), stopData(2, [])).expect(0);
  // The newest one counts, and every report must tell of it.
  promises(write, loggedWrite(1, 2, 2), stopData(3, [], [told(1, 2, 2)])).expect(0);
  promises(write, loggedWrite(1, 2, 2), stopData(3, [], [told(1, 1, 1)])).expect(1);
  promises(write, stopData(2, [], [told(1, 1, 1)]), stopData(3, [])).expect(1);
  promises(loggedWrite(1, 2, 1), stopData(2, [])).expect(0);
  promises(write, loggedWrite(2, 1, 1), stopData(2, [], [told(1, 1, 1)])).expect(1);
});

test("promises: a decided logged WRITE is told of, but where it lost or a certificate covers it", () => {
  const decidedAs = (value: number, decision?: DecisionCertificate) => {
    const { checker, expect } = promises(loggedWrite(1, 1, 1));
    checker.decided(0, 1, bytes(value));
    const body = encodeStopDataBody({ regency: 2, decided: decision, claims: [], logged: [] });
    checker.sent(0, encodeMessage({ type: "stopData", body, signature: SIGNATURE }));
    return expect;
  };
  decidedAs(1)(1);
  decidedAs(2)(0);
  decidedAs(1, { cid: 1, regency: 1, digest: bytes(1), accepts: [] })(0);
});

test("promises: a logged WRITE after a STOPDATA that does not tell of it", () => {
  const told = [{ cid: 1, regency: 1, digest: bytes(1) }];
  promises(stopData(2, [], told), loggedWrite(1, 1, 1)).expect(0);
  promises(stopData(2, []), loggedWrite(1, 1, 1)).expect(1);
  promises(stopData(2, []), vote("write", 1, 1, 1)).expect(0);
  promises(stopData(2, []), loggedWrite(1, 2, 1)).expect(0);
  promises(stopData(3, [], told), loggedWrite(1, 2, 1)).expect(1);
});

test("promises: the instance before a WRITE is forgotten", () => {
  promises(vote("write", 5, 1, 1), fenceReply(4)).expect(0);
  promises(vote("write", 5, 1, 1), fenceReply(3)).expect(1);
  const { checker, expect } = promises();
  checker.sent(3, vote("write", 1, 1, 1));
  checker.sent(3, vote("write", 1, 1, 2));
  expect(0);
});
