/** Bundles that are more than anyone can keep or hand on, and ones that hide others in the pools. */

import type { Behaviour, Sending } from "./behaviour.ts";
import { signedBundle } from "./bodies.ts";
import { reproposed } from "./proposing.ts";

/** Higher than those of the real replica: its own bundles are past once one of these is decided. */
const INCARNATION = 2e9;
const LARGE_SIZE_BYTES = 1 << 20;
/** More than a record of the log may have. */
const LARGE_COUNT = 17;

/** As leader, once in its life: proposes a value that no log can hold, and hands all of it out. */
export function oversizedValue(): Behaviour {
  const bundles: Sending["message"][] = [];
  let ballot = "";
  let lie: Sending["message"] | undefined;
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "propose") return undefined;
      const key = `${message.cid}/${message.regency}`;
      if (ballot === "" && mind.tempted()) {
        ballot = key;
        lie = reproposed(message, mind, (value) => {
          const large = Array.from({ length: LARGE_COUNT }, (_, i) => {
            const place = { origin: mind.member, incarnation: INCARNATION, seq: i + 1 };
            return signedBundle(mind, place, [new Uint8Array(LARGE_SIZE_BYTES)]);
          });
          bundles.push(...large.map(({ encoded }) => ({ type: "bundle", bundle: encoded }) as const));
          return { ...value, bundles: large.map(({ reference }) => reference) };
        });
      }
      if (key !== ballot || lie === undefined) return undefined;
      const { to } = sending;
      return [
        ...bundles.map((bundle) => ({ to, lane: "bulk", message: bundle }) as const),
        { ...sending, message: lie },
      ];
    },
  };
}

/** Once in its life: a bundle that fits a message, and with a certificate beside it does not. */
export function oversizedBundle(): Behaviour {
  let isDone = false;
  return {
    act(mind) {
      if (isDone || !mind.tempted() || !mind.prng.chance(0.05)) return [];
      isDone = true;
      const place = { origin: mind.member, incarnation: INCARNATION, seq: 1 };
      const { encoded } = signedBundle(mind, place, [new Uint8Array((4 << 20) - 150)]);
      return mind.toAll({ type: "bundle", bundle: encoded }, "bulk");
    },
  };
}

/** Shows the leader a bundle that cannot be decided yet, and the others one that can: the leader seems to hold it back. */
export function hiddenBundles(): Behaviour {
  let incarnation = INCARNATION;
  let regency = 0;
  return {
    act(mind) {
      if (mind.regency === regency || !mind.tempted()) return [];
      regency = mind.regency;
      incarnation += 2;
      const origin = mind.member;
      const leader = mind.membership.leaderOf(regency);
      const [shown, hiding] = [
        signedBundle(mind, { origin, incarnation, seq: 1 }, [mind.randomBytes(9)]),
        signedBundle(mind, { origin, incarnation: incarnation + 1, seq: 2 }, [mind.randomBytes(9)]),
      ];
      return mind.others().map((to) => {
        const { encoded } = to === leader ? hiding : shown;
        return { to, lane: "bulk", message: { type: "bundle", bundle: encoded } };
      });
    },
  };
}
