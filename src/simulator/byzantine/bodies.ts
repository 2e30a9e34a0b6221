/** Lies about bodies: withheld, damaged, sent in two versions, in another's name, or far ahead of their turn. */

import { concatBytes, fromByteString } from "../../base/bytes.ts";
import { bundleDigest, encodeBundleBody } from "../../consensus/bundle.ts";
import type { CertifiedCheckpoint, Message, MessageType } from "../../consensus/messages.ts";
import { bundleStatement } from "../../consensus/statements.ts";
import type { BundleReference } from "../../consensus/value.ts";
import { encodeOperation } from "../../store/operation.ts";
import { byzantineMark } from "../checkers/validity.ts";
import { type Behaviour, type ByzantineMind, flipped, type Sending } from "./behaviour.ts";

const CARRIERS: readonly MessageType[] = [
  "bundle",
  "value",
  "decisions",
  "stateReply",
  "checkpointCertificate",
];

/** Sends its bodies to some members only, and answers nobody who asks for them. */
export function withholdBodies(): Behaviour {
  return {
    bend({ to, message }, mind) {
      if (!CARRIERS.includes(message.type) || !mind.tempted()) return undefined;
      return mind.inFirstHalf(to, Math.floor(mind.decided / 16)) ? undefined : [];
    },
  };
}

/** Flips bits in whatever carries bodies or state. */
export function corruptBodies(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (!CARRIERS.includes(message.type) || !mind.tempted()) return undefined;
      return [{ ...sending, message: corrupted(message, mind) }];
    },
  };
}

function corrupted(message: Message, mind: ByzantineMind): Message {
  const { prng } = mind;
  switch (message.type) {
    case "bundle":
      return { ...message, bundle: flipped(message.bundle, prng) };
    case "value":
      return { ...message, value: flipped(message.value, prng) };
    case "stateReply":
      return { ...message, reply: flipped(message.reply, prng) };
    case "decisions": {
      const chosen = prng.below(Math.max(1, message.instances.length));
      const instances = message.instances.map((instance, index) => {
        if (index !== chosen) return instance;
        if (prng.chance(0.5)) return { ...instance, value: flipped(instance.value, prng) };
        return { ...instance, bundles: instance.bundles.map((bundle) => flipped(bundle, prng)) };
      });
      return { ...message, instances };
    }
    case "checkpointCertificate":
      return { ...message, ...corruptedCheckpoint(message, mind) };
    default:
      return message;
  }
}

function corruptedCheckpoint({ certificate, decision }: CertifiedCheckpoint, mind: ByzantineMind) {
  const { prng } = mind;
  const [first, ...others] = certificate.signatures;
  const forged = first && { ...first, signature: flipped(first.signature, prng) };
  return prng.pick([
    { certificate: { ...certificate, root: flipped(certificate.root, prng) } },
    { certificate: { ...certificate, signatures: others } },
    { certificate: { ...certificate, signatures: forged === undefined ? others : [forged, ...others] } },
    { certificate: { ...certificate, cid: certificate.cid + 1 } },
    { decision: { ...decision, digest: flipped(decision.digest, prng) } },
    { decision: { ...decision, accepts: decision.accepts.slice(1) } },
  ]);
}

/** A bundle with one put in it that carries this member's mark. */
function forgedBundle(mind: ByzantineMind, origin: number, incarnation: number, seq: number): Uint8Array {
  const { prng } = mind;
  const value = fromByteString(`${byzantineMark(mind.member)}${prng.u32()}|`);
  const key = `k/${String(prng.below(40)).padStart(2, "0")}`;
  const put = { key, value, lease: 0n, prevKv: false, ignoreValue: false, ignoreLease: false };
  const good = encodeOperation({ type: "put", put });
  const operations = prng.pick([[good], [good, good], [flipped(good, prng)], [mind.randomBytes(20)], []]);
  const honest = operations.every((operation) => operation === good) ? operations : [mind.randomBytes(9)];
  return signedBundle(mind, { origin, incarnation, seq }, honest).encoded;
}

/** A bundle with these operations, signed by this member whoever its origin is said to be, and its name in values. */
export function signedBundle(
  mind: ByzantineMind,
  { origin, incarnation, seq }: Omit<BundleReference, "digest">,
  operations: readonly Uint8Array[],
): { readonly encoded: Uint8Array; readonly reference: BundleReference } {
  const body = encodeBundleBody(origin, incarnation, seq, operations);
  const digest = bundleDigest(mind.hasher, mind.membership.digest, body);
  const encoded = concatBytes([body, mind.signer.sign(bundleStatement(mind.membership.digest, digest))]);
  return { encoded, reference: { origin, incarnation, seq, digest } };
}

/** Bundles of its own making: two for one seq, seqs far ahead, old and coming incarnations, others' names. */
export function forgeBundles(): Behaviour {
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (message.type !== "bundle" || !mind.tempted()) return undefined;
      const place = placeOf(message.bundle);
      if (place === undefined || place.origin !== mind.member) return undefined;
      const second = forgedBundle(mind, mind.member, place.incarnation, place.seq);
      return [{ ...sending, message: { type: "bundle", bundle: second } }];
    },
    act(mind) {
      if (!mind.tempted() || !mind.prng.chance(0.2)) return [];
      const { prng } = mind;
      const origin = prng.chance(0.5) ? mind.member : prng.below(mind.membership.n);
      const incarnation = prng.pick([1, 2, 3, 10, 1e9]);
      const bundle = forgedBundle(mind, origin, incarnation, prng.pick([1, 1, 2, 3, 1_000, 2 ** 40]));
      const members = mind.others();
      return mind.toAll({ type: "bundle", bundle }, "bulk", members.slice(prng.below(members.length)));
    },
  };
}

function placeOf(bundle: Uint8Array): { origin: number; incarnation: number; seq: number } | undefined {
  if (bundle.length < 17) return undefined;
  const view = new DataView(bundle.buffer, bundle.byteOffset, bundle.byteLength);
  const number = (at: number) => view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
  return { origin: bundle[0]!, incarnation: number(1), seq: number(9) };
}

/** Answers requests for bodies and state with those of something else. */
export function wrongAnswers(): Behaviour {
  const kept: Sending[] = [];
  return {
    bend(sending, mind) {
      const { message } = sending;
      if (!CARRIERS.includes(message.type)) return undefined;
      kept.push(sending);
      if (kept.length > 64) kept.shift();
      if (!mind.tempted()) return undefined;
      const other = mind.prng.pick(kept).message;
      if (message.type === "stateReply" && other.type === "stateReply") {
        return [{ ...sending, message: { ...message, reply: other.reply } }];
      }
      if (message.type === "value" && other.type === "value") {
        return [{ ...sending, message: { ...message, value: other.value } }];
      }
      return [{ ...sending, message: other }];
    },
  };
}
