/**
 * How a Byzantine member is made: a real replica whose messages are bent on their way out, and that now and
 * then says things of its own. It signs with its own key only (and those of its accomplices).
 */
import { toByteString } from "../../base/bytes.ts";
import type { Hasher } from "../../base/crypto.ts";
import type { Prng } from "../../base/prng.ts";
import type { Membership } from "../../consensus/membership.ts";
import { encodeMessage, type MemberSignature, type Message } from "../../consensus/messages.ts";
import { acceptStatement, writeStatement } from "../../consensus/statements.ts";
import type { Lane, ReplicaOutput } from "../../replica/contract.ts";
import type { SimulatedSigner } from "../crypto.ts";

/** A message that a Byzantine member sends. */
export interface Sending {
  readonly to: number;
  readonly lane: Lane;
  readonly message: Message;
}

export type Vote = Extract<Message, { type: "write" | "accept" }>;

/** One way to misbehave. All methods may do nothing most of the time. */
export interface Behaviour {
  /** What goes out instead of a message of the real replica; undefined leaves it to the other behaviours. */
  bend?(sending: Sending, mind: ByzantineMind): readonly Sending[] | undefined;
  /** Called with every message that comes in. */
  hear?(from: number, message: Message, mind: ByzantineMind): readonly Sending[];
  /** Called on every tick. */
  act?(mind: ByzantineMind): readonly Sending[];
}

/** A message that came in, with its sender. */
export interface Heard {
  readonly from: number;
  readonly message: Message;
}

const HEARD_MAX = 200;
const BALLOTS_MAX = 400;

/** What a Byzantine member knows and can do. */
export class ByzantineMind {
  readonly member: number;
  readonly membership: Membership;
  readonly signer: SimulatedSigner;
  readonly accomplices: ReadonlyMap<number, SimulatedSigner>;
  readonly hasher: Hasher;
  readonly prng: Prng;
  /** How often it misbehaves where it could, 0 to 1. */
  readonly zeal: number;
  /** Latest messages that came in, oldest first. */
  readonly heard: Heard[] = [];
  /** Latest messages that the real replica sent, oldest first. */
  readonly said: Sending[] = [];
  /** WRITE signatures seen for each ballot and value. */
  readonly #writes = new Map<string, Map<number, MemberSignature>>();
  regency = 1;
  decided = 0;
  /** Wall clock of this member at the present input. */
  wallMs = 0;

  constructor(
    member: number,
    membership: Membership,
    signers: ReadonlyMap<number, SimulatedSigner>,
    hasher: Hasher,
    prng: Prng,
    zeal: number,
  ) {
    this.member = member;
    this.membership = membership;
    this.signer = signers.get(member)!;
    this.accomplices = signers;
    this.hasher = hasher;
    this.prng = prng;
    this.zeal = zeal;
  }

  /** Whether to misbehave this time. */
  tempted(): boolean {
    return this.prng.chance(this.zeal);
  }

  /** The other members, in a random order. */
  others(): number[] {
    const others = this.membership.members.map((_, member) => member).filter((m) => m !== this.member);
    for (let i = others.length - 1; i > 0; i--) {
      const j = this.prng.below(i + 1);
      const held = others[i]!;
      others[i] = others[j]!;
      others[j] = held;
    }
    return others;
  }

  /** A group of about half of the members, the same for as long as `topic` is the same. */
  inFirstHalf(to: number, topic: number): boolean {
    return ((topic * 0x9e3779b1 + to * 0x85ebca6b) >>> 13) % 2 === 0;
  }

  randomBytes(size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) bytes[i] = this.prng.below(256);
    return bytes;
  }

  hear(from: number, message: Message): void {
    this.heard.push({ from, message });
    if (this.heard.length > HEARD_MAX) this.heard.shift();
    if ("regency" in message && message.type !== "fenceReply") {
      if (message.regency < this.regency + 100) this.regency = Math.max(this.regency, message.regency);
    }
    if (message.type === "heartbeat") this.decided = Math.max(this.decided, message.decided);
    if (message.type === "write") this.noteWrite(from, message);
  }

  say(sending: Sending): void {
    this.said.push(sending);
    if (this.said.length > HEARD_MAX) this.said.shift();
    const { message } = sending;
    if (message.type === "write") this.noteWrite(this.member, message);
    if (message.type === "heartbeat") this.decided = Math.max(this.decided, message.decided);
  }

  noteWrite(from: number, write: Extract<Message, { type: "write" }>): void {
    const key = `${write.cid}/${write.regency}/${toByteString(write.digest)}`;
    let writes = this.#writes.get(key);
    if (writes === undefined) {
      this.#writes.set(key, (writes = new Map()));
      if (this.#writes.size > BALLOTS_MAX) this.#writes.delete(this.#writes.keys().next().value!);
    }
    writes.set(from, { member: from, signature: write.signature });
  }

  /** All WRITE signatures it can show for a ballot and value, those of its accomplices made on the spot. */
  writesFor(cid: number, regency: number, digest: Uint8Array): MemberSignature[] {
    const writes = new Map(this.#writes.get(`${cid}/${regency}/${toByteString(digest)}`));
    const statement = writeStatement(this.membership.digest, regency, cid, digest);
    for (const [member, signer] of this.accomplices)
      writes.set(member, { member, signature: signer.sign(statement) });
    return [...writes.values()];
  }

  /** The vote for another digest, properly signed. */
  voteFor(vote: Vote, digest: Uint8Array): Vote {
    const { regency, cid } = vote;
    if (vote.type === "write") {
      const statement = writeStatement(this.membership.digest, regency, cid, digest);
      return { ...vote, digest, signature: this.signer.sign(statement) };
    }
    const { executedCid, executionHash } = vote;
    const statement = acceptStatement(
      this.membership.digest,
      regency,
      cid,
      digest,
      executedCid,
      executionHash,
    );
    return { ...vote, digest, signature: this.signer.sign(statement) };
  }

  /** The same message to each of them. */
  toAll(message: Message, lane: Lane, members: readonly number[] = this.others()): Sending[] {
    return members.map((to) => ({ to, lane, message }));
  }
}

/** As an output of a replica. */
export function toOutput(sending: Sending): ReplicaOutput {
  return { type: "send", to: sending.to, lane: sending.lane, bytes: encodeMessage(sending.message) };
}

/** A copy in which some bits are flipped. */
export function flipped(bytes: Uint8Array, prng: Prng): Uint8Array {
  const copy = bytes.slice();
  if (copy.length === 0) return copy;
  for (let i = prng.between(1, 3); i > 0; i--) {
    const at = prng.below(copy.length);
    copy[at] = copy[at]! ^ (1 << prng.below(8));
  }
  return copy;
}

/** Entries that a Byzantine member remembers of one kind, where nothing else is said. */
export const KEPT_MAX = 64;

/** Remembers an entry; the oldest gives way beyond so many. */
export function keep<K, V>(map: Map<K, V>, key: K, value: V, countMax = KEPT_MAX): void {
  map.set(key, value);
  if (map.size > countMax) map.delete(map.keys().next().value!);
}
