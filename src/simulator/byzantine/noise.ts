/** Things that no protocol asks for: old messages again, others' messages relayed, late, random bytes. */
import { encodeMessage } from "../../consensus/messages.ts";
import type { ReplicaOutput } from "../../replica/contract.ts";
import { type Behaviour, type ByzantineMind, flipped, type Sending } from "./behaviour.ts";

/** Sends what it has said in earlier regencies once more. */
export function replayOld(): Behaviour {
  return {
    act(mind) {
      if (mind.said.length === 0 || !mind.tempted()) return [];
      const old = mind.said[mind.prng.below(mind.said.length)]!;
      return mind.prng.chance(0.5) ? [old] : mind.toAll(old.message, old.lane);
    },
  };
}

/** Sends others' messages as if they were its own. */
export function relay(): Behaviour {
  return {
    act(mind) {
      if (mind.heard.length === 0 || !mind.tempted()) return [];
      const { message } = mind.prng.pick(mind.heard);
      return mind.toAll(message, "vote", mind.others().slice(0, mind.prng.between(1, 3)));
    },
  };
}

/** Holds all of its messages back for a while, each for itself, so that they come late and out of order. */
export function laggard(): Behaviour {
  const held: { sending: Sending; ticks: number }[] = [];
  return {
    bend(sending, mind) {
      if (held.length >= 2_000 || !mind.tempted()) return undefined;
      held.push({ sending, ticks: mind.prng.between(1, 300) });
      return [];
    },
    act() {
      const due: Sending[] = [];
      for (let i = held.length - 1; i >= 0; i--) {
        const item = held[i]!;
        if (item.ticks-- > 0) continue;
        due.push(item.sending);
        held.splice(i, 1);
      }
      return due;
    },
  };
}

/** Bytes that are no message, or nearly one. */
export function garbage(mind: ByzantineMind): ReplicaOutput[] {
  const { prng } = mind;
  if (!mind.tempted() || !prng.chance(0.3)) return [];
  const [to] = mind.others();
  const heard = mind.heard.length > 0 ? encodeMessage(prng.pick(mind.heard).message) : mind.randomBytes(40);
  const bytes = prng.pick([
    mind.randomBytes(prng.below(200)),
    new Uint8Array(0),
    heard.slice(0, prng.below(heard.length)),
    flipped(heard, prng),
    Uint8Array.of(...heard.subarray(0, 2_000), 0),
  ]);
  return [{ type: "send", to: to!, lane: prng.pick(["vote", "bulk"] as const), bytes }];
}
