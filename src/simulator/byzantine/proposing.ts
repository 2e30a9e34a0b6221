/** Ways in which a leader lies: equivocation, partial proposals, wrong times, wrong contents, wrong SYNCs. */
import { equalBytes } from "../../base/bytes.ts";
import { encodeSyncContent, type Message, type SyncBody } from "../../consensus/messages.ts";
import { syncStatement, writeStatement } from "../../consensus/statements.ts";
import { decodeValue, encodeValue, type Value, valueDigest } from "../../consensus/value.ts";
import type { Behaviour, ByzantineMind, Sending } from "./behaviour.ts";

type SyncContent = Omit<SyncBody, "signature">;
type Propose = Extract<Message, { type: "propose" }>;

/** The proposal with another value in it, properly signed. Undefined when the value is no value. */
export function reproposed(
  propose: Propose,
  mind: ByzantineMind,
  change: (value: Value) => Value | undefined,
): Propose | undefined {
  let value: Uint8Array;
  try {
    const changed = change(decodeValue(propose.value));
    if (changed === undefined) return undefined;
    value = encodeValue(changed);
  } catch {
    return undefined;
  }
  return signedPropose({ ...propose, value }, mind);
}

function signedPropose(propose: Propose, mind: ByzantineMind): Propose {
  const digest = valueDigest(mind.hasher, propose.value);
  const { regency, cid } = propose;
  const statement = writeStatement(mind.membership.digest, regency, cid, digest);
  return { ...propose, signature: mind.signer.sign(statement) };
}

/** Sends every proposal changed in the same way to everybody; undefined leaves one as it is. */
function changedProposals(change: (value: Value, mind: ByzantineMind) => Value | undefined): Behaviour {
  // All members get the same lie, so one lie is made for each ballot.
  let ballot = "";
  let lie: Propose | undefined;
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "propose") return undefined;
      const key = `${message.cid}/${message.regency}`;
      if (key !== ballot) {
        ballot = key;
        lie = mind.tempted() ? reproposed(message, mind, (value) => change(value, mind)) : undefined;
      }
      return lie === undefined ? undefined : [{ ...sending, message: lie }];
    },
  };
}

/** Offers an instance as a fast one to some members and as an ordinary one to others. */
export function mixedOffers(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "propose" || !mind.tempted()) return undefined;
      return [{ ...sending, message: { ...message, fast: mind.prng.chance(0.6) } }];
    },
  };
}

/** Two different valid proposals, and WRITEs and ACCEPTs to each half as it wants them. */
export function equivocate(): Behaviour {
  const second = new Map<number, Propose>();
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type === "propose") {
        let other = second.get(message.cid);
        if (other === undefined || other.regency !== message.regency) {
          other = reproposed(message, mind, (value) => ({
            ...value,
            timestampMs: value.timestampMs + 1,
            bundles: mind.prng.chance(0.5) ? value.bundles.slice(0, -1) : value.bundles,
          }));
          if (other === undefined || !mind.tempted()) return undefined;
          second.set(message.cid, other);
          if (second.size > 64) second.delete(second.keys().next().value!);
        }
        return mind.inFirstHalf(sending.to, message.cid) ? undefined : [{ ...sending, message: other }];
      }
      if (message.type !== "write" && message.type !== "accept") return undefined;
      const other = second.get(message.cid);
      if (other?.regency !== message.regency || mind.inFirstHalf(sending.to, message.cid)) return undefined;
      // Its second face votes for the second value.
      return [{ ...sending, message: mind.voteFor(message, valueDigest(mind.hasher, other.value)) }];
    },
  };
}

/** The proposal reaches one member only. */
export function proposeToOne(): Behaviour {
  return {
    bend({ to, message }, mind) {
      if (message.type !== "propose") return undefined;
      const chosen = (message.cid + message.regency) % mind.membership.n;
      return to === chosen || !mind.tempted() ? undefined : [];
    },
  };
}

/** The proposal leaves one correct member out, again and again another one. */
export function proposeToFew(): Behaviour {
  return {
    bend({ to, message }, mind) {
      if (message.type !== "propose") return undefined;
      const left = Math.floor(message.cid / 8) % mind.membership.n;
      return to === left && mind.tempted() ? [] : undefined;
    },
  };
}

/** Batch times far from the truth, or going backwards. */
export function wrongTimestamp(): Behaviour {
  return changedProposals((value, mind) => ({
    ...value,
    timestampMs: Math.max(
      0,
      value.timestampMs + mind.prng.pick([-1, 1]) * mind.prng.pick([1, 3_000, 6_000, 60_000, 1e9]),
    ),
  }));
}

/** Values that break a rule: bundles twice, left out of order, from nowhere, or on another predecessor. */
export function wrongContent(): Behaviour {
  return changedProposals((value, mind) => {
    const { prng } = mind;
    const { bundles } = value;
    const first = bundles[0];
    switch (prng.below(6)) {
      case 0:
        return { ...value, bundles: [...bundles, ...bundles] };
      case 1:
        return { ...value, bundles: [...bundles].reverse() };
      case 2:
        return { ...value, previousDigest: mind.randomBytes(32) };
      case 3:
        return { ...value, cid: value.cid + prng.pick([-1, 1, 1000]) };
      case 4:
        return first === undefined
          ? value
          : { ...value, bundles: [{ ...first, seq: first.seq + 1 }, ...bundles] };
      default:
        return first === undefined
          ? value
          : { ...value, bundles: [{ ...first, digest: mind.randomBytes(32) }] };
    }
  });
}

/** Offers bundles again that were decided before: the rule against them is the replicated deduplication. */
export function proposeAgain(): Behaviour {
  const old: Value["bundles"][number][] = [];
  const note = (message: Message) => {
    if (message.type !== "propose") return;
    const { bundles } = decodeValue(message.value);
    for (const bundle of bundles)
      if (!old.some((known) => equalBytes(known.digest, bundle.digest))) old.push(bundle);
    if (old.length > 64) old.splice(0, old.length - 64);
  };
  const { bend } = changedProposals((value, mind) => {
    const before = old.filter(
      (bundle) => !value.bundles.some((now) => equalBytes(now.digest, bundle.digest)),
    );
    return before.length === 0
      ? undefined
      : { ...value, bundles: [mind.prng.pick(before), ...value.bundles] };
  });
  return {
    hear(_, message) {
      note(message);
      return [];
    },
    bend(sending, mind) {
      const bent = bend?.(sending, mind);
      note(sending.message);
      return bent;
    },
  };
}

/** Holds every proposal back for a while: alive, but slow. */
export function slowLeader(): Behaviour {
  const held: { sending: Sending; ticks: number }[] = [];
  return {
    bend(sending, mind) {
      if (sending.message.type !== "propose" || held.length > 256) return undefined;
      held.push({ sending, ticks: mind.prng.between(10, 60) });
      return [];
    },
    act() {
      const due: Sending[] = [];
      for (const item of held) item.ticks--;
      while (held.length > 0 && held[0]!.ticks <= 0) due.push(held.shift()!.sending);
      return due;
    },
  };
}

/** SYNCs with other collects for each member, with collects left out, doubled or taken from elsewhere. */
export function wrongSync(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "sync" || !mind.tempted()) return undefined;
      const { authority, collects } = message.sync;
      const { prng } = mind;
      const first = collects[0];
      if (first === undefined) return undefined;
      const changed: (() => SyncContent)[] = [
        () => ({ authority, collects: collects.slice(1) }),
        () => ({ authority, collects: [...collects.slice(1), collects[1] ?? first] }),
        () => ({ authority, collects: collects.filter(({ member }) => member !== sending.to) }),
        () => ({ authority: { ...authority, regency: authority.regency + 1 }, collects }),
        () => ({ authority: { ...authority, stops: authority.stops.slice(1) }, collects }),
        () => ({
          authority,
          collects: [{ ...first, member: (first.member + 1) % mind.membership.n }, ...collects],
        }),
        () => ({ authority, collects: [...collects].reverse() }),
      ];
      const content = prng.pick(changed)();
      const statement = syncStatement(mind.membership.digest, encodeSyncContent(content));
      return [
        {
          ...sending,
          message: { type: "sync", sync: { ...content, signature: mind.signer.sign(statement) } },
        },
      ];
    },
  };
}
