/** State transfer with a member that shows checkpoints which nobody else hands out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CheckpointCertificate,
  type DecisionCertificate,
  decodeMessage,
  type Message,
} from "../consensus/messages.ts";
import { put, TestCluster } from "./testing/cluster.ts";

const LIAR = 0;
const VICTIM = 3;
/** Instances between checkpoints. */
const EVERY = 4;

function write(cluster: TestCluster, count: number, operations = 1): void {
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < operations; j++) cluster.submit(1, put(`key${(i * 7 + j) % 50}`, `value${i}`));
    cluster.run(10);
  }
}

function transfers(cluster: TestCluster, phase: string): number {
  const isOne = ({ member, event }: TestCluster["traces"][number]) =>
    member === VICTIM && event.kind === "transfer" && event.phase === phase;
  return cluster.traces.filter(isOne).length;
}

/**
 * The liar shows nobody its CHECKPOINTs, so that without the victim none becomes stable, and collects what proves
 * them: its own signature with the one of a correct member, and the ACCEPTs of the instance.
 */
class Attack {
  readonly #cluster: TestCluster;
  readonly #checkpoints = new Map<number, CheckpointCertificate>();
  readonly #decisions = new Map<number, DecisionCertificate>();
  /** Whether an answer of the liar to a request for a part of a state leaves. */
  answers: () => boolean = () => false;

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
    cluster.alter = (from, _to, bytes) => {
      if (from !== LIAR) return undefined;
      const { type } = decodeMessage(bytes);
      if (type === "checkpoint" || type === "checkpointCertificate" || type === "decisions") return [];
      return type === "stateReply" && !this.answers() ? [] : undefined;
    };
    cluster.observe = (member, output) => {
      if (output.type === "send" && output.to === VICTIM) this.#note(member, decodeMessage(output.bytes));
    };
  }

  #note(member: number, message: Message): void {
    if (message.type === "checkpoint" && member < 2) {
      const { cid, root, signature } = message;
      const signatures = this.#checkpoints.get(cid)?.signatures ?? [];
      if (signatures.some((signed) => signed.member === member)) return;
      this.#checkpoints.set(cid, { cid, root, signatures: [...signatures, { member, signature }] });
    } else if (message.type === "accept") {
      const { cid, regency, digest, signature, executedCid, executionHash } = message;
      const accepts = this.#decisions.get(cid)?.accepts ?? [];
      if (accepts.some((accept) => accept.member === member)) return;
      const accept = { member, signature, executedCid, executionHash };
      this.#decisions.set(cid, { cid, regency, digest, accepts: [...accepts, accept] });
    }
  }

  /** Shows the victim the newest checkpoint that a correct member and the liar have signed. */
  show(): void {
    const signed = [...this.#checkpoints.values()].filter(({ signatures }) => signatures.length === 2);
    const certificate = signed.at(-1)!;
    const decision = this.#decisions.get(certificate.cid)!;
    this.#cluster.send(LIAR, VICTIM, { type: "checkpointCertificate", certificate, decision });
  }
}

/** A victim that misses some decisions for so long, and is shown a checkpoint that nobody else hands out. */
function assertGoesOn(missingMs: number): void {
  const cluster = new TestCluster(4, { checkpointInstances: EVERY, keptCheckpoints: 4 });
  cluster.run(50);
  write(cluster, 5);
  const attack = new Attack(cluster);
  const types = ["propose", "write", "accept", "decisions"];
  cluster.drop = (_, to, bytes) => to === VICTIM && types.includes(decodeMessage(bytes).type);
  write(cluster, 5);
  attack.show();
  cluster.run(missingMs);
  assert.equal(transfers(cluster, "start"), 1, "it looks as if the victim were far behind");
  cluster.drop = () => false;
  write(cluster, 20);
  cluster.run(500);
  const { replica } = cluster.nodes[VICTIM]!;
  assert.equal(replica.lastExecuted, replica.lastDecided);
  assert.equal(replica.lastExecuted, cluster.nodes[1]!.replica.lastExecuted);
  assert.equal(replica.serving, true);
}

test("a checkpoint that nobody hands out stops a member only until it has decided that far", () => {
  assertGoesOn(2);
});

test("after a transfer that came to nothing a member goes on from the state that it has", () => {
  assertGoesOn(11_000);
});

/** A victim that is back after so long that only a state helps, and a liar that shows it others all the time. */
function assertComesBack(answers: (cluster: TestCluster) => boolean): void {
  const cluster = new TestCluster(4, { checkpointInstances: EVERY });
  cluster.run(50);
  write(cluster, 2);
  cluster.kill(VICTIM);
  // Some two dozen chunks of state.
  write(cluster, 40, 40);
  const attack = new Attack(cluster);
  attack.answers = () => answers(cluster);
  write(cluster, 2 * EVERY);
  cluster.start(VICTIM);
  for (let i = 0; i < 400 && transfers(cluster, "done") === 0; i++) {
    attack.show();
    cluster.run(100);
  }
  assert.ok(transfers(cluster, "failed") > 0, "the liar's checkpoint was tried");
  assert.equal(transfers(cluster, "done"), 1);
  cluster.run(1_000);
  assert.equal(cluster.nodes[VICTIM]!.replica.lastExecuted, cluster.nodes[1]!.replica.lastExecuted);
}

test("a member that needs a state gets one, though a liar shows it newer ones that nobody hands out", () => {
  assertComesBack(() => false);
});

test("a liar that hands its state out in a trickle holds nobody up for long", () => {
  let answeredAtMs = 0;
  assertComesBack(({ now }) => {
    if (now - answeredAtMs < 5_000) return false;
    answeredAtMs = now;
    return true;
  });
});
