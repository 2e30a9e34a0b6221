/** Lies about the past: STOPDATA that hides, invents or moves ACCEPTs; false fences; false progress. */
import {
  type AcceptClaim,
  decodeStopDataBody,
  encodeStopDataBody,
  type Message,
  type StopDataBody,
} from "../../consensus/messages.ts";
import { stopDataStatement } from "../../consensus/statements.ts";
import { type Behaviour, type ByzantineMind, flipped } from "./behaviour.ts";

type StopData = Extract<Message, { type: "stopData" }>;

/** Regencies of which it remembers what it said. */
const REGENCIES_MAX = 16;

/** Sends STOPDATA with another body, properly signed. */
function changedStopData(change: (body: StopDataBody, mind: ByzantineMind) => StopDataBody): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "stopData" || !mind.tempted()) return undefined;
      const body = encodeStopDataBody(change(decodeStopDataBody(message.body), mind));
      const signature = mind.signer.sign(stopDataStatement(mind.membership.digest, body));
      return [{ ...sending, message: { type: "stopData", body, signature } }];
    },
  };
}

/** Hides what it has accepted or decided. */
export function hideHistory(): Behaviour {
  return changedStopData((body, mind) => ({
    regency: body.regency,
    decided: mind.prng.chance(0.5) ? body.decided : undefined,
    claims: mind.prng.chance(0.7) ? [] : body.claims.slice(1),
    logged: mind.prng.chance(0.7) ? [] : body.logged.slice(1),
  }));
}

/** The instance that a leader change is about. */
function nextCid(body: StopDataBody, mind: ByzantineMind): number {
  const claimed = body.claims[body.claims.length - 1]?.cid ?? (body.decided?.cid ?? 0) + 1;
  return mind.prng.chance(0.7) ? claimed : Math.max(1, claimed + mind.prng.pick([-1, 1, 5]));
}

function withClaim(body: StopDataBody, claim: AcceptClaim): StopDataBody {
  return { ...body, claims: [...body.claims.filter(({ cid }) => cid !== claim.cid), claim] };
}

/** Says that it had logged a WRITE for what somebody voted for, or for what nobody ever saw, in some ballot. */
export function falseLogged(): Behaviour {
  return changedStopData((body, mind) => {
    const { prng } = mind;
    const votes = mind.heard.flatMap(({ message }) => (message.type === "write" ? [message] : []));
    const vote = votes.length > 0 && prng.chance(0.8) ? prng.pick(votes.slice(-12)) : undefined;
    const cid = vote?.cid ?? nextCid(body, mind);
    const regency = prng.pick([vote?.regency ?? 1, body.regency - 1, body.regency - 1, body.regency]);
    const digest = vote?.digest ?? mind.randomBytes(32);
    return { ...body, logged: [...body.logged.filter((write) => write.cid < cid), { cid, regency, digest }] };
  });
}

/** Claims an ACCEPT with too few WRITEs, with one of them many times, or with signatures on something else. */
export function weakClaim(): Behaviour {
  return changedStopData((body, mind) => {
    const cid = nextCid(body, mind);
    const { prng } = mind;
    const regency = prng.pick([
      body.regency - 1,
      body.regency - 1,
      body.regency,
      Math.max(1, body.regency - 2),
    ]);
    const digest = prng.chance(0.5) ? mind.randomBytes(32) : (body.claims[0]?.digest ?? mind.randomBytes(32));
    const own = mind.writesFor(cid, regency, digest);
    const foreign = mind.heard.flatMap(({ from, message }) =>
      message.type === "write" ? [{ member: from, signature: message.signature }] : [],
    );
    const self = own.find(({ member }) => member === mind.member)!;
    const writes = prng.pick([
      [],
      [self],
      [self, self, self],
      [...own, ...foreign.slice(-3)],
      foreign.slice(-4),
    ]);
    return withClaim(body, { cid, regency, digest, writes: writes.slice(0, 31) });
  });
}

/** Claims an ACCEPT it never made, with all WRITE signatures that it has heard: enough of them, sometimes. */
export function borrowedClaim(): Behaviour {
  return changedStopData((body, mind) => {
    const votes = mind.heard.flatMap(({ message }) => (message.type === "write" ? [message] : []));
    const vote = votes.length > 0 ? mind.prng.pick(votes.slice(-12)) : undefined;
    if (vote === undefined) return body;
    const { cid, regency, digest } = vote;
    return withClaim(body, { cid, regency, digest, writes: mind.writesFor(cid, regency, digest) });
  });
}

/** Sends its first STOPDATA of an earlier regency again, as it was or as one of the present regency. */
export function oldStopData(): Behaviour {
  const first = new Map<number, StopData>();
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "stopData") return undefined;
      const { regency } = decodeStopDataBody(message.body);
      if (!first.has(regency)) first.set(regency, message);
      if (first.size > REGENCIES_MAX) first.delete(first.keys().next().value!);
      const old = [...first].flatMap(([of, said]) => (of < regency ? [said] : []));
      if (old.length === 0 || !mind.tempted()) return undefined;
      const chosen = mind.prng.pick(old);
      if (mind.prng.chance(0.5)) return [{ ...sending, message: chosen }];
      const body = encodeStopDataBody({ ...decodeStopDataBody(chosen.body), regency });
      const signature = mind.signer.sign(stopDataStatement(mind.membership.digest, body));
      return [{ ...sending, message: { type: "stopData", body, signature } }];
    },
  };
}

/** Garbles the certificate of its last decision, or names another instance in it. */
export function falseCertificate(): Behaviour {
  return changedStopData((body, mind) => {
    const { decided } = body;
    if (decided === undefined) return body;
    const { prng } = mind;
    const first = decided.accepts[0];
    const changed = prng.pick([
      { ...decided, cid: decided.cid + prng.pick([1, 1_000_000]) },
      { ...decided, regency: decided.regency + 1 },
      { ...decided, digest: flipped(decided.digest, prng) },
      { ...decided, accepts: decided.accepts.slice(1) },
      { ...decided, accepts: first === undefined ? [] : decided.accepts.map(() => first) },
    ]);
    return { ...body, decided: changed };
  });
}

/** Answers fences with instances that never come, or with none; some do one of these all the time. */
export function falseFence(): Behaviour {
  let always: number | undefined;
  let isDrawn = false;
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "fenceReply" || !mind.tempted()) return undefined;
      const { prng } = mind;
      const lies = [0, message.accepted + 1, message.accepted + 1_000, 2 ** 52];
      if (!isDrawn) always = prng.chance(0.5) ? prng.below(2) : undefined;
      isDrawn = true;
      const accepted = always === undefined ? prng.pick(lies) : lies[always]!;
      const regency = prng.pick([0, message.regency, message.regency + 1, 2 ** 52]);
      return [{ ...sending, message: { ...message, accepted, regency } }];
    },
  };
}

/** Claims to be far ahead or far behind. */
export function falseProgress(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "heartbeat" || !mind.tempted()) return undefined;
      const { prng } = mind;
      const decided = prng.pick([0, message.decided + 1, message.decided + 1_000, 2 ** 52]);
      const regency = prng.pick([0, 1, message.regency, message.regency + 1, message.regency + 1e6]);
      return [{ ...sending, message: { ...message, decided, regency } }];
    },
  };
}
