import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Http2Connection } from "./http2-connection.ts";
import { LoadError, OpenLoopSchedule, runLoad } from "./load.ts";
import type { Outcome, Requester } from "./requester.ts";

/** Stands for four members with two connections each; the requesters below do not look at them. */
const connections = [0, 1, 2, 3].map((member) => [
  `${member}a`,
  `${member}b`,
]) as unknown as Http2Connection[][];

/** Answers when its server does. */
function requesterOf(answer: (done: (outcome: Outcome) => void, connection: string) => void): Requester {
  return { send: (connection, done) => answer(done, connection as unknown as string) };
}

test("an open loop hands out every request once, when it is due, whenever it is asked", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.array(fc.double({ min: 0, max: 50, noNaN: true }), { maxLength: 50 }),
      (rate, pauses) => {
        const schedule = new OpenLoopSchedule(1000, rate);
        let nowMs = 1000;
        let taken = 0;
        for (const pauseMs of pauses) {
          nowMs += Math.min(pauseMs, 200_000 / rate);
          for (let dueMs = schedule.take(nowMs); dueMs !== undefined; dueMs = schedule.take(nowMs)) {
            assert.equal(dueMs, 1000 + (taken * 1000) / rate);
            taken++;
          }
          assert.ok(schedule.nextDueMs() > nowMs);
        }
      },
    ),
  );
});

test("a pause of the server counts for every request that was due in it", async () => {
  // Answers at once, but not between 200 and 400 ms; 500 requests a second: a fifth falls into the pause.
  const startedMs = performance.now();
  const answer = (done: (outcome: Outcome) => void): void => {
    const elapsedMs = performance.now() - startedMs;
    setTimeout(done, elapsedMs > 200 && elapsedMs < 400 ? 400 - elapsedMs : 0, undefined);
  };
  const result = await runLoad({
    shape: { ratePerSecond: 500 },
    connections,
    createRequester: () => requesterOf(answer),
    warmupMs: 0,
    durationMs: 1000,
  });
  assert.ok(Math.abs(result.succeeded - 500) < 60, `${result.succeeded} requests`);
  assert.ok(result.latency.quantileMs(0.99) > 150, `p99 ${result.latency.quantileMs(0.99)}`);
  assert.ok(result.latency.quantileMs(0.5) < 50, `p50 ${result.latency.quantileMs(0.5)}`);
});

test("a closed loop keeps its number in flight and spreads it over members and connections", async () => {
  let inFlight = 0;
  let inFlightMax = 0;
  const used = new Set<string>();
  const result = await runLoad({
    shape: { inFlight: 16 },
    connections,
    createRequester: () =>
      requesterOf((done, connection) => {
        used.add(connection);
        inFlightMax = Math.max(inFlightMax, ++inFlight);
        setTimeout(() => {
          inFlight--;
          done(undefined);
        }, 2);
      }),
    warmupMs: 20,
    durationMs: 150,
  });
  assert.equal(inFlightMax, 16);
  assert.equal(inFlight, 0);
  assert.equal(used.size, 8);
  assert.ok(result.succeeded > 100);
});

test("one in flight goes around the members", async () => {
  const used: string[] = [];
  await runLoad({
    shape: { inFlight: 1 },
    connections,
    createRequester: () =>
      requesterOf((done, connection) => {
        used.push(connection);
        setTimeout(done, 1, undefined);
      }),
    warmupMs: 0,
    durationMs: 60,
  });
  assert.deepEqual(used.slice(0, 5), ["0a", "1a", "2a", "3a", "0b"]);
});

test("failures are counted by their text and are no operations", async () => {
  let count = 0;
  const result = await runLoad({
    shape: { inFlight: 2 },
    connections,
    createRequester: () =>
      requesterOf((done) => setTimeout(done, 1, ++count % 2 === 0 ? "refused" : undefined)),
    warmupMs: 0,
    durationMs: 200,
  });
  assert.ok(result.failed > 0);
  assert.equal([...result.failures.keys()].join(), "refused");
  assert.equal(result.latency.count, result.succeeded);
});

test("failures without end break the run off", async () => {
  const failing = requesterOf((done) => setImmediate(done, "no"));
  const load = runLoad({
    shape: { ratePerSecond: 1_000_000 },
    connections,
    createRequester: () => failing,
    warmupMs: 0,
    // It ends when enough have failed, long before this.
    durationMs: 60_000,
  });
  await assert.rejects(load, LoadError);
});
