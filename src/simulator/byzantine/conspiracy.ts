/**
 * Lies that are planned over several steps, each aimed at one rule of the protocol: what a claim, a
 * certificate, a STOPDATA and a ballot are worth. Against the real rules none of them does more than cost time.
 */
import { equalBytes, toByteString } from "../../base/bytes.ts";
import { decodeBundle } from "../../consensus/bundle.ts";
import {
  type AcceptClaim,
  type Collect,
  decodeStopDataBody,
  encodeStopDataBody,
  encodeSyncContent,
  type Message,
  type StopDataBody,
} from "../../consensus/messages.ts";
import {
  acceptStatement,
  stopDataStatement,
  stopStatement,
  syncStatement,
} from "../../consensus/statements.ts";
import { decodeValue, encodeValue, type Value, valueDigest } from "../../consensus/value.ts";
import { type Behaviour, type ByzantineMind, KEPT_MAX, keep, type Sending } from "./behaviour.ts";
import { reproposed } from "./proposing.ts";

type Propose = Extract<Message, { type: "propose" }>;
type StopData = Extract<Message, { type: "stopData" }>;

function signedStopData(body: StopDataBody, mind: ByzantineMind): StopData {
  const bytes = encodeStopDataBody(body);
  const signature = mind.signer.sign(stopDataStatement(mind.membership.digest, bytes));
  return { type: "stopData", body: bytes, signature };
}

function withClaim(body: StopDataBody, claim: AcceptClaim): StopDataBody {
  const claims = [...body.claims.filter(({ cid }) => cid < claim.cid), claim];
  return { ...body, claims };
}

/**
 * Claims an ACCEPT of the newest ballot for a value that nobody ever proposed, with its own WRITE and others'
 * for something else, and hands the value out to whoever asks: its time is wrong, it repeats what was decided
 * before, or it follows nothing.
 */
export function ghostClaim(): Behaviour {
  return ghost((cid, body, digest, mind) => {
    const foreign = mind.heard.flatMap(({ from, message: heard }) =>
      heard.type === "write" ? [{ member: from, signature: heard.signature }] : [],
    );
    const own = mind.writesFor(cid, body.regency - 1, digest);
    const other = foreign.findLast(({ member }) => !own.some((write) => write.member === member));
    const writes = other !== undefined && mind.prng.chance(0.5) ? [...own, other] : own;
    return withClaim(body, { cid, regency: body.regency - 1, digest, writes });
  });
}

/** The same with a logged WRITE, which nobody else has to stand behind. */
export function ghostLogged(): Behaviour {
  return ghost((cid, body, digest) => {
    const logged = body.logged.filter((write) => write.cid < cid);
    return { ...body, logged: [...logged, { cid, regency: body.regency - 1, digest }] };
  });
}

/** Reports a value of its own making in the way given, and hands it out. */
function ghost(
  report: (cid: number, body: StopDataBody, digest: Uint8Array, mind: ByzantineMind) => StopDataBody,
): Behaviour {
  const values = new Map<number, Uint8Array>();
  const ghosts = new Map<string, { readonly cid: number; readonly value: Uint8Array }>();
  return {
    hear(from, message) {
      if (message.type === "propose") keep(values, message.cid, message.value);
      if (message.type !== "valueRequest") return [];
      const ghost = ghosts.get(toByteString(message.digest));
      return ghost === undefined ? [] : [{ to: from, lane: "vote", message: { type: "value", ...ghost } }];
    },
    bend(sending, mind) {
      const { message } = sending;
      if (message.type === "propose") keep(values, message.cid, message.value);
      if (message.type !== "stopData" || !mind.tempted()) return undefined;
      const body = decodeStopDataBody(message.body);
      const cid = body.claims.at(-1)?.cid ?? Math.max(mind.decided, body.decided?.cid ?? 0) + 1;
      const value = ghostOf(cid, values, mind);
      if (value === undefined) return undefined;
      const digest = valueDigest(mind.hasher, value);
      keep(ghosts, toByteString(digest), { cid, value });
      return [{ ...sending, message: signedStopData(report(cid, body, digest, mind), mind) }];
    },
  };
}

/** A value for the instance that breaks one rule or another. */
function ghostOf(
  cid: number,
  values: ReadonlyMap<number, Uint8Array>,
  mind: ByzantineMind,
): Uint8Array | undefined {
  const before = values.get(cid - 1);
  if (before === undefined) return undefined;
  try {
    const value = decodeValue(before);
    return encodeValue({
      cid,
      previousDigest: mind.prng.chance(0.5) ? valueDigest(mind.hasher, before) : mind.randomBytes(32),
      timestampMs: value.timestampMs + mind.prng.pick([1, 60_000]),
      bundles: mind.prng.chance(0.3) ? value.bundles : [],
    });
  } catch {
    return undefined;
  }
}

/**
 * As leader gives one member another value than the others, and in the leader change that follows claims to
 * have accepted that one: with its own and the victim's WRITE, the claim is backed by more than f.
 */
export function splitClaim(): Behaviour {
  const splits = new Map<
    number,
    { readonly regency: number; readonly victim: number; readonly other: Propose }
  >();
  return {
    bend(sending, mind) {
      const { message, to } = sending;
      if (message.type === "propose") {
        let split = splits.get(message.cid);
        if (split?.regency !== message.regency) {
          const other = reproposed(message, mind, (value) => ({
            ...value,
            timestampMs: value.timestampMs + 1,
          }));
          if (other === undefined || !mind.tempted()) return undefined;
          split = { regency: message.regency, victim: mind.others()[0]!, other };
          keep(splits, message.cid, split);
        }
        return to === split.victim ? [{ ...sending, message: split.other }] : undefined;
      }
      if (message.type === "value") return splits.get(message.cid)?.victim === to ? [] : undefined;
      if (message.type === "write") {
        // The victim must not see a quorum for the value of the others.
        const split = splits.get(message.cid);
        if (split?.victim !== to || split.regency !== message.regency) return undefined;
        return [{ ...sending, message: mind.voteFor(message, valueDigest(mind.hasher, split.other.value)) }];
      }
      if (message.type !== "stopData") return undefined;
      return claimSplit(sending, message, splits, mind);
    },
  };
}

function claimSplit(
  sending: Sending,
  message: StopData,
  splits: ReadonlyMap<number, { readonly regency: number; readonly other: Propose }>,
  mind: ByzantineMind,
): readonly Sending[] | undefined {
  const body = decodeStopDataBody(message.body);
  const cid = body.claims.at(-1)?.cid ?? (body.decided?.cid ?? 0) + 1;
  const split = splits.get(cid);
  if (split === undefined) return undefined;
  const digest = valueDigest(mind.hasher, split.other.value);
  const writes = mind.writesFor(cid, split.regency, digest);
  const lie = withClaim(body, { cid, regency: split.regency, digest, writes });
  return [{ ...sending, message: signedStopData(lie, mind) }];
}

/**
 * As leader offers a fast instance to one member only, says nothing of it in the leader change that follows, and when
 * another value may have been decided since, reports its logged WRITE beside that member's.
 */
export function lateLogged(): Behaviour {
  let offer:
    | { readonly cid: number; readonly regency: number; readonly digest: Uint8Array; readonly victim: number }
    | undefined;
  return {
    bend(sending, mind) {
      const { message, to } = sending;
      if (message.type === "propose") {
        const { cid, regency } = message;
        if (offer?.cid !== cid || offer.regency !== regency) {
          if (!mind.tempted()) return undefined;
          offer = {
            cid,
            regency,
            digest: valueDigest(mind.hasher, message.value),
            victim: mind.others()[0]!,
          };
        }
        return to === offer.victim ? [{ ...sending, message: { ...message, fast: true } }] : [];
      }
      if (message.type === "write") {
        const isOffer = offer?.cid === message.cid && offer.regency === message.regency;
        return isOffer && to !== offer?.victim ? [] : undefined;
      }
      if (message.type !== "stopData" || offer === undefined) return undefined;
      const body = decodeStopDataBody(message.body);
      const { cid, regency, digest } = offer;
      if (body.regency <= regency || cid <= (body.decided?.cid ?? 0)) return undefined;
      const others = body.logged.filter((write) => write.cid < cid);
      const logged = body.regency === regency + 1 ? others : [...others, { cid, regency, digest }];
      return [{ ...sending, message: signedStopData({ ...body, logged }, mind) }];
    },
  };
}

/**
 * As leader proposes to one member only, waits until that one may have died and come back, and then proposes
 * something else to everybody in the same ballot.
 */
export function secondProposal(): Behaviour {
  let plan:
    | { readonly cid: number; readonly regency: number; readonly victim: number; ticks: number }
    | undefined;
  let second: Propose | undefined;
  return {
    bend(sending, mind) {
      const { message, to } = sending;
      if (message.type !== "propose") return undefined;
      if (plan?.cid !== message.cid || plan.regency !== message.regency) {
        if (!mind.tempted()) return undefined;
        const { cid, regency } = message;
        plan = { cid, regency, victim: mind.others()[0]!, ticks: mind.prng.between(3, 50) };
        second = reproposed(message, mind, (value) => ({ ...value, timestampMs: value.timestampMs + 1 }));
      }
      if (plan.ticks <= 0 && second !== undefined) return [{ ...sending, message: second }];
      return to === plan.victim ? undefined : [];
    },
    act(mind) {
      if (plan === undefined || second === undefined || plan.ticks <= 0) return [];
      plan.ticks--;
      return plan.ticks === 0 ? mind.toAll(second, "vote") : [];
    },
  };
}

/**
 * As leader puts STOPDATAs of earlier regencies, in which less was accepted, into its SYNC, and proposes
 * something new where the true ones would have bound a value.
 */
export function staleSync(): Behaviour {
  const old = new Map<number, Collect[]>();
  let stale = 0;
  let fresh: Propose | undefined;
  const remember = (collect: Collect) => {
    // Throws for an accomplice's garbage, which whoever calls takes for unheard.
    decodeStopDataBody(collect.body);
    const kept = old.get(collect.member) ?? [];
    if (kept.length < 12 && !kept.some(({ body }) => equalBytes(body, collect.body))) kept.push(collect);
    old.set(collect.member, kept);
  };
  return {
    hear(from, message) {
      if (message.type === "sync") for (const collect of message.sync.collects) remember(collect);
      if (message.type === "stopData") {
        remember({ member: from, body: message.body, signature: message.signature });
      }
      return [];
    },
    bend(sending, mind) {
      const { message } = sending;
      if (message.type === "sync") {
        const { authority, collects } = message.sync;
        const silent = collects.map((collect) => silentOne(old.get(collect.member) ?? [], authority.regency));
        const replaced = collects.map((collect, index) => silent[index] ?? collect);
        if (silent.every((collect) => collect === undefined) || !mind.tempted()) return undefined;
        stale = authority.regency;
        const content = { authority, collects: replaced };
        const signature = mind.signer.sign(syncStatement(mind.membership.digest, encodeSyncContent(content)));
        return [{ ...sending, message: { type: "sync", sync: { ...content, signature } } }];
      }
      if (message.type === "propose" && message.regency === stale) {
        if (fresh?.cid !== message.cid || fresh.regency !== stale) {
          fresh = reproposed(message, mind, (value) => ({ ...value, timestampMs: value.timestampMs + 7 }));
        }
        return fresh === undefined ? undefined : [{ ...sending, message: fresh }];
      }
      if ((message.type !== "write" && message.type !== "accept") || message.regency !== stale)
        return undefined;
      if (fresh?.cid !== message.cid || fresh.regency !== stale) return undefined;
      return [{ ...sending, message: mind.voteFor(message, valueDigest(mind.hasher, fresh.value)) }];
    },
  };
}

/** A report of an earlier regency that claims nothing. */
function silentOne(collects: readonly Collect[], regency: number): Collect | undefined {
  return collects.findLast(({ body }) => {
    const report = decodeStopDataBody(body);
    return report.regency < regency && report.claims.length === 0;
  });
}

/** Certificates that hold a quorum of its own signatures: of authority, and of decisions nobody made. */
export function forgedCertificates(): Behaviour {
  const values = new Map<number, Uint8Array>();
  return {
    hear(_, message) {
      if (message.type === "propose") keep(values, message.cid, message.value);
      return [];
    },
    bend(sending) {
      if (sending.message.type === "propose") keep(values, sending.message.cid, sending.message.value);
      return undefined;
    },
    act(mind) {
      if (!mind.tempted() || !mind.prng.chance(0.05)) return [];
      const { quorum } = mind.membership;
      if (mind.prng.chance(0.5)) {
        const regency = mind.regency + mind.prng.pick([1, 1, 2, 7]);
        const signature = mind.signer.sign(stopStatement(mind.membership.digest, regency));
        const stops = new Array(quorum).fill({ member: mind.member, signature });
        return mind.toAll({ type: "authority", authority: { regency, stops } }, "vote");
      }
      const message = forgedDecision(values, mind);
      const others = mind.others();
      return message === undefined ? [] : mind.toAll(message, "bulk", others.slice(others.length >> 1));
    },
  };
}

function forgedDecision(values: ReadonlyMap<number, Uint8Array>, mind: ByzantineMind): Message | undefined {
  const newest = Math.max(0, ...values.keys());
  const before = values.get(newest - mind.prng.below(2));
  if (before === undefined) return undefined;
  let value: Value;
  try {
    value = decodeValue(before);
  } catch {
    return undefined;
  }
  const cid = value.cid + 1;
  const previousDigest = valueDigest(mind.hasher, before);
  const encoded = encodeValue({ cid, previousDigest, timestampMs: value.timestampMs + 1, bundles: [] });
  const digest = valueDigest(mind.hasher, encoded);
  const executionHash = new Uint8Array(32);
  const statement = acceptStatement(mind.membership.digest, mind.regency, cid, digest, 0, executionHash);
  const accept = {
    member: mind.member,
    signature: mind.signer.sign(statement),
    executedCid: 0,
    executionHash,
  };
  const accepts = new Array(mind.membership.quorum).fill(accept);
  const certificate = { cid, regency: mind.regency, digest, accepts };
  return {
    type: "decisions",
    first: cid,
    instances: [{ value: encoded, bundles: [] }],
    links: [],
    certificate,
  };
}

/** Sends the first bundles of every member again, properly signed by their origins, in their order. */
export function replayBundles(): Behaviour {
  const kept: {
    readonly origin: number;
    readonly incarnation: number;
    readonly seq: number;
    message: Message;
  }[] = [];
  return {
    hear(_, message, mind) {
      if (message.type !== "bundle" || kept.length >= KEPT_MAX) return [];
      const bundle = decodeBundle(mind.hasher, mind.membership.digest, message.bundle);
      const { origin, incarnation, seq } = bundle;
      if (
        seq > 4 ||
        kept.some((k) => k.origin === origin && k.incarnation === incarnation && k.seq === seq)
      ) {
        return [];
      }
      kept.push({ origin, incarnation, seq, message });
      kept.sort((a, b) => a.origin - b.origin || a.incarnation - b.incarnation || a.seq - b.seq);
      return [];
    },
    act(mind) {
      if (kept.length === 0 || !mind.tempted() || !mind.prng.chance(0.05)) return [];
      const { origin, incarnation } = mind.prng.pick(kept);
      const again = kept.filter((k) => k.origin === origin && k.incarnation === incarnation);
      return again.flatMap(({ message }) => mind.toAll(message, "vote"));
    },
  };
}
