/** Lies that make others wait: for instances that never come, or for a state that nobody hands out. */
import type {
  AcceptSignature,
  CheckpointCertificate,
  DecisionCertificate,
  MemberSignature,
  Message,
} from "../../consensus/messages.ts";
import type { Behaviour, ByzantineMind, Sending } from "./behaviour.ts";

/** Names instances far ahead in its answers to fences, so that whoever believes it waits for ever. */
export function farFence(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "fenceReply" || !mind.tempted()) return undefined;
      return [{ ...sending, message: { ...message, accepted: message.accepted + 1_000_000 } }];
    },
  };
}

const KEPT_MAX = 8;

/** What it could show to prove a checkpoint. */
class Proofs {
  readonly #checkpoints = new Map<number, { root: Uint8Array; signatures: MemberSignature[] }>();
  readonly #decisions = new Map<
    number,
    Omit<DecisionCertificate, "accepts"> & { accepts: AcceptSignature[] }
  >();

  note(from: number, message: Message): void {
    if (message.type === "checkpoint") this.#noteCheckpoint(from, message);
    if (message.type === "accept") this.#noteAccept(from, message);
  }

  #noteCheckpoint(member: number, message: Extract<Message, { type: "checkpoint" }>): void {
    const { cid, root, signature } = message;
    const kept = this.#checkpoints.get(cid) ?? { root, signatures: [] };
    remember(this.#checkpoints, cid, kept, KEPT_MAX);
    if (!kept.signatures.some((signed) => signed.member === member))
      kept.signatures.push({ member, signature });
  }

  #noteAccept(member: number, message: Extract<Message, { type: "accept" }>): void {
    const { cid, regency, digest, signature, executedCid, executionHash } = message;
    const kept = this.#decisions.get(cid) ?? { cid, regency, digest, accepts: [] };
    remember(this.#decisions, cid, kept, 16 * KEPT_MAX);
    if (kept.regency !== regency || kept.accepts.some((accept) => accept.member === member)) return;
    kept.accepts.push({ member, signature, executedCid, executionHash });
  }

  /** The newest checkpoint that one correct member has signed, for which there is a decision certificate. */
  newest({ membership }: ByzantineMind): Extract<Message, { type: "checkpointCertificate" }> | undefined {
    for (const [cid, { root, signatures }] of [...this.#checkpoints].sort(([a], [b]) => b - a)) {
      const decision = this.#decisions.get(cid);
      if (signatures.length <= membership.f || decision === undefined) continue;
      if (decision.accepts.length < membership.quorum) continue;
      const certificate: CheckpointCertificate = { cid, root, signatures };
      return { type: "checkpointCertificate", certificate, decision };
    }
    return undefined;
  }
}

function remember<T>(map: Map<number, T>, cid: number, value: T, countMax: number): void {
  map.set(cid, value);
  if (map.size > countMax) map.delete(Math.min(...map.keys()));
}

/**
 * Signs checkpoints for itself alone, so that with one more member missing none becomes stable, and shows them to
 * one victim, which it keeps a little behind; then it hands nothing out.
 */
export function unstableCheckpoints(): Behaviour {
  const proofs = new Proofs();
  let ticks = 0;
  let shown = 0;
  const victimOf = ({ member, membership }: ByzantineMind) =>
    (member + 1 + (Math.floor(ticks / 400) % (membership.n - 1))) % membership.n;
  const show = (mind: ByzantineMind): Sending[] => {
    const message = proofs.newest(mind);
    if (message === undefined || message.certificate.cid <= shown) return [];
    shown = message.certificate.cid;
    return [{ to: victimOf(mind), lane: "vote", message }];
  };
  return {
    bend({ to, message }, mind) {
      proofs.note(mind.member, message);
      switch (message.type) {
        case "checkpoint":
        case "checkpointCertificate":
        case "stateReply":
          return [];
        case "propose":
        case "bundle":
        case "value":
        case "decisions":
          return to === victimOf(mind) && mind.tempted() ? [] : undefined;
        default:
          return undefined;
      }
    },
    hear(from, message, mind) {
      proofs.note(from, message);
      return message.type === "checkpoint" || message.type === "accept" ? show(mind) : [];
    },
    act(mind) {
      ticks++;
      // Once more now and then: whoever gave a transfer up may be willing again.
      if (ticks % 50 === 0 && mind.tempted()) shown = 0;
      return show(mind);
    },
  };
}
