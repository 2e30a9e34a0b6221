/** Ways in which a voter lies: double votes, bad signatures, false execution hashes, untimely STOPs. */
import type { Message } from "../../consensus/messages.ts";
import { checkpointStatement, stopStatement } from "../../consensus/statements.ts";
import { valueDigest } from "../../consensus/value.ts";
import { type Behaviour, type ByzantineMind, flipped, type Sending } from "./behaviour.ts";

/** A digest that somebody else has voted for or proposed in this instance, or a random one. */
function otherDigest(vote: Extract<Message, { type: "write" | "accept" }>, mind: ByzantineMind): Uint8Array {
  for (let i = mind.heard.length - 1; i >= 0; i--) {
    const { message } = mind.heard[i]!;
    if ((message.type !== "write" && message.type !== "accept") || message.cid !== vote.cid) continue;
    if (message.digest.some((byte, at) => byte !== vote.digest[at])) return message.digest;
  }
  return mind.randomBytes(32);
}

/** Votes twice in a ballot: another value to some members, or both values to all. */
export function doubleVote(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if ((message.type !== "write" && message.type !== "accept") || !mind.tempted()) return undefined;
      const other: Sending = { ...sending, message: mind.voteFor(message, otherDigest(message, mind)) };
      return mind.prng.pick([[other], [sending, other], [other, sending]]);
    },
  };
}

/** Says of a WRITE that it is on its disk though it is not, or the other way round, or says it to some only. */
export function falseLogging(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "write" || !mind.tempted()) return undefined;
      const report = { executedCid: 0, executionHash: new Uint8Array(32) };
      const logged = mind.prng.chance(0.7) ? (message.logged ?? report) : undefined;
      return mind.prng.chance(0.3) ? [] : [{ ...sending, message: { ...message, logged } }];
    },
  };
}

/** Votes ACCEPT at once, for whatever anyone writes, and WRITE for whatever anyone proposes. */
export function eagerVote(): Behaviour {
  return {
    hear(_, message, mind) {
      if ((message.type !== "write" && message.type !== "propose") || !mind.tempted()) return [];
      const { regency, cid, signature } = message;
      if (message.type === "propose") {
        const digest = valueDigest(mind.hasher, message.value);
        const write = { type: "write", regency, cid, digest, signature, logged: undefined } as const;
        return mind.toAll(mind.voteFor(write, digest), "vote");
      }
      const { digest } = message;
      const executionHash = new Uint8Array(32);
      const accept = {
        type: "accept",
        regency,
        cid,
        digest,
        executedCid: 0,
        executionHash,
        signature,
      } as const;
      return mind.toAll(mind.voteFor(accept, digest), "vote");
    },
  };
}

/** Votes that count over their link but convince nobody else. */
export function badSignature(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (!("signature" in message) || !mind.tempted()) return undefined;
      const signature = flipped(message.signature, mind.prng);
      return [{ ...sending, message: { ...message, signature } as Message }];
    },
  };
}

/** Says that its execution, or its state at a checkpoint, is another one. */
export function falseExecution(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type === "accept" && mind.tempted()) {
        const executionHash = flipped(message.executionHash, mind.prng);
        const executedCid = Math.max(1, message.executedCid + mind.prng.pick([0, 0, -1, 1, 1000]));
        return [
          { ...sending, message: mind.voteFor({ ...message, executionHash, executedCid }, message.digest) },
        ];
      }
      if (message.type === "write" && message.logged !== undefined && mind.tempted()) {
        const executionHash = flipped(message.logged.executionHash, mind.prng);
        return [{ ...sending, message: { ...message, logged: { ...message.logged, executionHash } } }];
      }
      if (message.type === "checkpoint" && mind.tempted()) {
        const root = flipped(message.root, mind.prng);
        const signature = mind.signer.sign(checkpointStatement(mind.membership.digest, message.cid, root));
        return [{ ...sending, message: { ...message, root, signature } }];
      }
      return undefined;
    },
  };
}

/** Asks for a new regency all the time, sometimes for one far ahead. */
export function stopSpam(): Behaviour {
  return {
    act(mind) {
      if (!mind.tempted() || !mind.prng.chance(0.1)) return [];
      const regency = mind.regency + mind.prng.pick([1, 1, 1, 2, 50, 1e9]);
      const signature = mind.signer.sign(stopStatement(mind.membership.digest, regency));
      const members = mind.others();
      return mind.toAll(
        { type: "stop", regency, signature },
        "vote",
        members.slice(mind.prng.below(members.length)),
      );
    },
  };
}

/** Says nothing, or nothing of one kind, for long stretches. */
export function silent(kinds: readonly Message["type"][] | undefined): Behaviour {
  let quiet = true;
  let ticks = 0;
  return {
    bend({ message }) {
      return quiet && (kinds === undefined || kinds.includes(message.type)) ? [] : undefined;
    },
    act(mind) {
      if (ticks-- <= 0) {
        quiet = mind.prng.chance(0.7);
        ticks = mind.prng.between(20, 1_000);
      }
      return [];
    },
  };
}
