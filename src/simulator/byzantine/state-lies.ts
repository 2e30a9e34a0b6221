/**
 * Lies to a member that has been away, about what was decided and what the state is meanwhile: forged checkpoints
 * with a state behind them, false parts of a true one, claims of decisions, certificates that lack a signer.
 */
import { equalBytes, fromByteString, toByteString } from "../../base/bytes.ts";
import { DecodeError, Reader, Writer } from "../../base/codec.ts";
import { bundleDigest } from "../../consensus/bundle.ts";
import type {
  AcceptSignature,
  CertifiedCheckpoint,
  DecisionCertificate,
  MemberSignature,
  Message,
} from "../../consensus/messages.ts";
import { OriginTable } from "../../consensus/origin-table.ts";
import { encodeAppliedPosition } from "../../consensus/recovery.ts";
import { acceptStatement, checkpointStatement } from "../../consensus/statements.ts";
import { decodeValue, valueDigest } from "../../consensus/value.ts";
import { MemoryEngine } from "../../storage/memory-engine.ts";
import { Store } from "../../store/store.ts";
import { byzantineMark } from "../checkers/validity.ts";
import { type Behaviour, type ByzantineMind, flipped, keep, type Sending } from "./behaviour.ts";
import { reproposed } from "./proposing.ts";

type Propose = Extract<Message, { type: "propose" }>;
type Accept = Extract<Message, { type: "accept" }>;

const BODIES_MAX = 1_000;
/** First bytes of a request for state (replica/state-sync.ts). */
const REQUEST_KINDS = ["manifest", "groupLeaves", "chunkPart"] as const;
/** Bytes of state in one reply. */
const PART_SIZE_BYTES = 256 << 10;

/** Collects ACCEPTs as they are heard and said. */
class Ballots {
  readonly #accepts = new Map<
    string,
    { readonly accept: Accept; readonly by: Map<number, AcceptSignature> }
  >();

  note(member: number, accept: Accept): ReadonlyMap<number, AcceptSignature> {
    const key = `${accept.cid}/${accept.regency}/${toByteString(accept.digest)}`;
    let ballot = this.#accepts.get(key);
    if (ballot === undefined) keep(this.#accepts, key, (ballot = { accept, by: new Map() }));
    const { executedCid, executionHash, signature } = accept;
    ballot.by.set(member, { member, signature, executedCid, executionHash });
    return ballot.by;
  }

  /** The newest decision that it can prove. */
  newest(quorum: number): DecisionCertificate | undefined {
    let newest: DecisionCertificate | undefined;
    for (const { accept, by } of this.#accepts.values()) {
      const { cid, regency, digest } = accept;
      if (by.size < quorum || cid <= (newest?.cid ?? 0)) continue;
      newest = { cid, regency, digest, accepts: [...by.values()].slice(0, quorum) };
    }
    return newest;
  }
}

/**
 * Shows a checkpoint with a root of its own, behind a true decision: signed by itself and its accomplices only, by
 * itself many times, or by others for something else. It serves the state to that root, too, in which it has put what
 * it likes.
 */
export function forgedCheckpoint(): Behaviour {
  const ballots = new Ballots();
  const signatures = new Map<number, MemberSignature>();
  const states = new Map<number, { readonly checkpoint: CertifiedCheckpoint; readonly store: Store }>();
  const lie = (mind: ByzantineMind, members: readonly number[]): Sending[] => {
    const decision = ballots.newest(mind.membership.quorum);
    if (decision === undefined || !mind.tempted()) return [];
    let state = states.get(decision.cid);
    if (state === undefined) {
      const store = forgedState(decision, mind);
      const checkpoint = { certificate: forgedSignatures(store, decision.cid, signatures, mind), decision };
      keep(states, decision.cid, (state = { checkpoint, store }), 8);
    }
    return mind.toAll({ type: "checkpointCertificate", ...state.checkpoint }, "vote", members);
  };
  return {
    hear(from, message, mind) {
      if (message.type === "accept") ballots.note(from, message);
      if (message.type === "checkpoint") signatures.set(from, { member: from, signature: message.signature });
      if (message.type === "decisionsRequest") return lie(mind, [from]);
      if (message.type !== "stateRequest") return [];
      const store = states.get(message.cid)?.store;
      const reply = store && stateReply(store, message.request);
      if (reply === undefined) return [];
      const { cid, request } = message;
      return [{ to: from, lane: "bulk", message: { type: "stateReply", cid, request, reply } }];
    },
    bend({ message }, mind) {
      if (message.type === "accept") ballots.note(mind.member, message);
      return undefined;
    },
    act(mind) {
      return mind.prng.chance(0.02) ? lie(mind, mind.others().slice(0, 1)) : [];
    },
  };
}

/** A whole state after a decision, with one key in it that nobody has put. */
function forgedState({ cid, digest }: DecisionCertificate, mind: ByzantineMind): Store {
  const store = new Store({ engine: new MemoryEngine(), hasher: mind.hasher });
  const value = fromByteString(`${byzantineMark(mind.member)}${cid}|`);
  store.beginBatch(mind.wallMs);
  const put = { key: "k/00", value, lease: 0n, prevKv: false, ignoreValue: false, ignoreLease: false };
  store.execute({ type: "put", put });
  store.endBatch();
  const table = new Writer(64);
  new OriginTable(mind.membership.n).write(table);
  const position = encodeAppliedPosition({
    cid,
    digest,
    timestampMs: mind.wallMs,
    table: table.finish(),
    executionHash: mind.randomBytes(32),
  });
  // The replica's own part of a state: its position, and how far it has counted to the next checkpoint.
  store.captureCheckpoint(cid, new Writer(256).bytes(position).u53(0).u53(0).finish());
  while (store.work(256));
  store.keepCheckpoint(cid, new Uint8Array(0));
  return store;
}

function forgedSignatures(
  store: Store,
  cid: number,
  foreign: ReadonlyMap<number, MemberSignature>,
  mind: ByzantineMind,
): CertifiedCheckpoint["certificate"] {
  const { root } = store.computedCheckpoint(cid)!;
  const own = [...mind.accomplices].map(([member, signer]) => ({
    member,
    signature: signer.sign(checkpointStatement(mind.membership.digest, cid, root)),
  }));
  const stale = [...foreign.values()].filter(({ member }) => !mind.accomplices.has(member));
  const signatures = mind.prng.pick([
    own,
    Array.from({ length: mind.membership.quorum }, () => own[0]!),
    [...own, ...stale],
  ]);
  return { cid, root, signatures };
}

function stateReply(store: Store, request: Uint8Array): Uint8Array | undefined {
  try {
    const r = new Reader(request);
    const kind = REQUEST_KINDS[r.u8()];
    if (kind === "manifest") return store.manifest();
    if (kind === "groupLeaves") return store.groupLeaves(r.u53());
    return kind === undefined ? undefined : store.chunkPart(r.u53(), r.u53(), PART_SIZE_BYTES);
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/** Hands out a checkpoint's manifest and leaves as they are, and false records to them. */
export function falseChunks(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "stateReply" || message.reply.length === 0) return undefined;
      if (REQUEST_KINDS[message.request[0]!] !== "chunkPart" || !mind.tempted()) return undefined;
      return [{ ...sending, message: { ...message, reply: flipped(message.reply, mind.prng) } }];
    },
  };
}

/** Says that another value than the proposed one was decided, and hands that out. */
export function falseDecisionClaim(): Behaviour {
  const lies = new Map<
    number,
    { readonly digest: Uint8Array; readonly regency: number; value: Uint8Array }
  >();
  const lieAbout = (propose: Propose, mind: ByzantineMind): boolean => {
    const { cid, regency } = propose;
    if (lies.get(cid)?.regency === regency) return true;
    const other = mind.tempted()
      ? reproposed(propose, mind, (value) => ({
          ...value,
          timestampMs: value.timestampMs + mind.prng.pick([1, 60_000]),
          bundles: mind.prng.chance(0.3) ? [] : value.bundles,
        }))
      : undefined;
    if (other === undefined) return false;
    const { value } = other;
    keep(lies, cid, { digest: valueDigest(mind.hasher, value), regency, value });
    return true;
  };
  const claim = (cid: number, mind: ByzantineMind, members: readonly number[]): Sending[] => {
    const lie = lies.get(cid);
    if (lie === undefined) return [];
    const { digest, regency, value } = lie;
    const claims = mind.toAll({ type: "decisionClaim", cid, regency, digest }, "vote", members);
    return [...claims, ...mind.toAll({ type: "value", cid, value }, "vote", members)];
  };
  return {
    hear(from, message, mind) {
      if (message.type === "propose" && lieAbout(message, mind))
        return claim(message.cid, mind, mind.others());
      if (message.type === "decisionsRequest") return claim(message.from, mind, [from]);
      if (message.type !== "valueRequest") return [];
      const lie = lies.get(message.cid);
      if (lie === undefined || !equalBytes(lie.digest, message.digest)) return [];
      return [{ to: from, lane: "vote", message: { type: "value", cid: message.cid, value: lie.value } }];
    },
    bend(sending, mind) {
      const { message, to } = sending;
      if (message.type !== "propose" || !lieAbout(message, mind)) return undefined;
      return [sending, ...claim(message.cid, mind, [to])];
    },
  };
}

/**
 * Gives its WRITE to one member only, so that with luck this one alone ACCEPTs, and shows the others a decision that
 * lacks just one signer.
 */
export function shortCertificate(): Behaviour {
  const ballots = new Ballots();
  const values = new Map<string, Uint8Array>();
  const bodies = new Map<string, Uint8Array>();
  const note = (message: Message, mind: ByzantineMind) => {
    if (message.type === "propose") {
      keep(values, toByteString(valueDigest(mind.hasher, message.value)), message.value);
    }
    if (message.type !== "bundle") return;
    const body = message.bundle.subarray(0, -64);
    const digest = bundleDigest(mind.hasher, mind.membership.digest, body);
    keep(bodies, toByteString(digest), message.bundle, BODIES_MAX);
  };
  const chosen = (cid: number, mind: ByzantineMind) => cid % mind.membership.n;
  return {
    hear(from, message, mind) {
      note(message, mind);
      if (message.type !== "accept") return [];
      const by = new Map(ballots.note(from, message));
      for (const [member, signer] of mind.accomplices)
        by.set(member, acceptOf(member, message, signer, mind));
      const value = values.get(toByteString(message.digest));
      const { quorum } = mind.membership;
      if (by.size < quorum - 1 || value === undefined || !mind.tempted()) return [];
      const bundles = decodeValue(value).bundles.map((bundle) => bodies.get(toByteString(bundle.digest)));
      if (bundles.includes(undefined)) return [];
      const { cid, regency, digest } = message;
      const certificate = { cid, regency, digest, accepts: [...by.values()].slice(0, quorum - 1) };
      const instances = [{ value, bundles: bundles as Uint8Array[] }];
      return mind.toAll({ type: "decisions", first: cid, instances, links: [], certificate }, "bulk");
    },
    bend({ to, message }, mind) {
      note(message, mind);
      if (message.type === "accept" && mind.tempted()) return [];
      if (message.type !== "write" || !mind.tempted()) return undefined;
      return to === chosen(message.cid, mind) ? undefined : [];
    },
  };
}

function acceptOf(
  member: number,
  { cid, regency, digest }: Accept,
  signer: { sign(statement: Uint8Array): Uint8Array },
  mind: ByzantineMind,
): AcceptSignature {
  const executionHash = new Uint8Array(32);
  const statement = acceptStatement(mind.membership.digest, regency, cid, digest, 0, executionHash);
  return { member, signature: signer.sign(statement), executedCid: 0, executionHash };
}
