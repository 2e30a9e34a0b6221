/** Tells what a message is by its first bytes, for faults and checkers that look at everything that is sent. */
import { encodeMessage, type Message } from "../consensus/messages.ts";

const AIMED_KINDS = [
  "bundle",
  "propose",
  "write",
  "accept",
  "stop",
  "stopData",
  "sync",
  "value",
  "fenceReply",
] as const;

/** Kinds of messages that faults are aimed at or checkers look at. */
export type AimedKind = (typeof AIMED_KINDS)[number];

const DIGEST = new Uint8Array(32);
const SIGNATURE = new Uint8Array(64);
const VOTE = { regency: 1, cid: 1, digest: DIGEST, signature: SIGNATURE };
const EMPTY = new Uint8Array(0);

const SAMPLES: readonly (Extract<Message, { type: AimedKind }> & { readonly type: AimedKind })[] = [
  { type: "bundle", bundle: EMPTY },
  {
    type: "propose",
    regency: 1,
    cid: 1,
    value: EMPTY,
    authorityHash: DIGEST,
    fast: false,
    signature: SIGNATURE,
  },
  { type: "write", ...VOTE, logged: undefined },
  { type: "accept", ...VOTE, executedCid: 0, executionHash: DIGEST },
  { type: "stop", regency: 1, signature: SIGNATURE },
  { type: "stopData", body: EMPTY, signature: SIGNATURE },
  { type: "value", cid: 1, value: EMPTY },
  { type: "fenceReply", nonce: 0, accepted: 0, regency: 1 },
  {
    type: "sync",
    sync: { authority: { regency: 1, stops: [] }, collects: [], signature: SIGNATURE },
  },
];

const KINDS = new Map<number, AimedKind>(SAMPLES.map((sample) => [encodeMessage(sample)[0]!, sample.type]));

/** The kind of an encoded message, when it is one of those. */
export function kindOf(bytes: Uint8Array): AimedKind | undefined {
  return KINDS.get(bytes[0] ?? 0xff);
}

/** The regency of an encoded PROPOSE, WRITE, ACCEPT or STOP: the number that follows the kind. */
export function regencyOf(bytes: Uint8Array): number {
  if (bytes.length < 9) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 9);
  return view.getUint32(1) * 0x1_0000_0000 + view.getUint32(5);
}
