import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import type { ReplicaInput, ReplicaOutput } from "../replica/contract.ts";
import { type HostListener, HostLoop } from "./host-loop.ts";

/** A loop around a replica that answers inputs as the test says, with everything written down. */
function loopAround(
  react: (input: ReplicaInput, out: ReplicaOutput[]) => void,
  onSend: () => void = () => {},
) {
  const events: string[] = [];
  const syncs: ((sequence: number) => void)[] = [];
  const listener: HostListener = {
    result: (id) => events.push(`result ${id}`),
    fenced: (id) => events.push(`fenced ${id}`),
    failed: (id, reason) => events.push(`failed ${id} ${reason}`),
    revision: (revision) => events.push(`revision ${revision}`),
    trace: (event) => events.push(`trace ${event.kind}`),
    tick: () => {},
    slowTurn: () => {},
    fatal: (error) => events.push(`fatal ${error}`),
  };
  const loop = new HostLoop({
    replica: {
      step: (input, _now, out) => {
        if (input.type !== "tick") events.push(input.type);
        react(input, out);
      },
    },
    log: {
      append: (sequence) => events.push(`append ${sequence}`),
      sync: (done) => {
        events.push("sync");
        syncs.push(done);
      },
      truncate: (before) => events.push(`truncate ${before}`),
    },
    links: {
      send: (to, lane) => {
        events.push(`send ${to} ${lane}`);
        onSend();
      },
    },
    listener,
  });
  return { loop, events, syncs };
}

const BYTES = new Uint8Array(1);

test("outputs are carried out in order, one sync for all appends of an input", async () => {
  const { loop, events, syncs } = loopAround((input, out) => {
    if (input.type !== "submit") return;
    out.push({ type: "append", sequence: 1, record: BYTES, sync: true });
    out.push({ type: "append", sequence: 2, record: BYTES, sync: false });
    out.push({ type: "send", to: 3, lane: "vote", bytes: BYTES });
    out.push({ type: "failed", id: 7, reason: "noLeader" });
  });
  loop.start();
  loop.input({ type: "submit", id: 7, operation: { type: "noop" } });
  assert.deepEqual(events, ["submit", "append 1", "append 2", "send 3 vote", "failed 7 noLeader", "sync"]);
  syncs[0]!(2);
  assert.equal(events.at(-1), "durable");
  await turn();
  loop.stop();
  assert.deepEqual(events.slice(-2), ["durable", "work"]);
});

test("all inputs of a turn are followed by one work", async () => {
  const { loop, events } = loopAround(() => {});
  loop.start();
  for (let id = 1; id <= 3; id++) loop.input({ type: "fence", id });
  await turn();
  await turn();
  loop.stop();
  assert.deepEqual(
    events.filter((event) => event !== "tick"),
    ["fence", "fence", "fence", "work"],
  );
});

test("an input that arrives while outputs are carried out waits its turn", () => {
  const { loop, events } = loopAround(
    (input, out) => {
      if (input.type === "submit") out.push({ type: "send", to: 0, lane: "bulk", bytes: BYTES });
      if (input.type === "submit") out.push({ type: "revision", revision: 5 });
      if (input.type === "fence") out.push({ type: "fenced", id: input.id });
    },
    // Asked from inside: the reaction of a watcher, or a client's next request.
    () => loop.input({ type: "fence", id: 9 }),
  );
  loop.start();
  loop.input({ type: "submit", id: 1, operation: { type: "noop" } });
  loop.stop();
  assert.deepEqual(events, ["submit", "send 0 bulk", "revision 5", "fence", "fenced 9"]);
});

test("moreWork asks for another work, and ticks come without inputs", async () => {
  let left = 2;
  let ticks = 0;
  const { loop, events } = loopAround((input, out) => {
    if (input.type === "tick") ticks++;
    if (input.type === "work" && left-- > 0) out.push({ type: "moreWork", when: "later" });
  });
  loop.start();
  loop.input({ type: "submit", id: 1, operation: { type: "noop" } });
  // On a busy machine ticks come late; that they come is what matters.
  const deadlineMs = performance.now() + 10_000;
  while (ticks < 3 && performance.now() < deadlineMs) await delay(10);
  loop.stop();
  assert(ticks >= 3, `${ticks} ticks`);
  assert.equal(left < 0, true);
  assert.equal(events[0], "submit");
});

test("a throwing replica is fatal, and nothing is handled after stop", async () => {
  const { loop, events } = loopAround((input) => {
    if (input.type === "fence") throw new Error("broken");
  });
  loop.start();
  loop.input({ type: "fence", id: 1 });
  assert.deepEqual(events, ["fence", "fatal Error: broken"]);
  loop.stop();
  loop.input({ type: "fence", id: 2 });
  await turn();
  assert.equal(events.length, 2);
});
