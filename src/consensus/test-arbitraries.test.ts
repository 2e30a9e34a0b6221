/** Random messages, log records, values and bundles, for property tests and fuzzing (no tests itself). */
import fc from "fast-check";
import type { LogEntry } from "./log-records.ts";
import type { Message, MessageType } from "./messages.ts";
import type { Value } from "./value.ts";

/** Records as the decoders make them, with the usual prototype. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

/** Numbers at which things may break, and small ones that meet each other. */
export const number53 = fc.oneof(
  { weight: 8, arbitrary: fc.nat({ max: 12 }) },
  fc.constantFrom(0, 1, 255, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 52, Number.MAX_SAFE_INTEGER),
  fc.maxSafeNat(),
);

function bytesOf(size: number): fc.Arbitrary<Uint8Array> {
  // One byte all over, mostly: equal digests must occur.
  return fc.oneof(
    { weight: 4, arbitrary: fc.nat({ max: 3 }).map((byte) => new Uint8Array(size).fill(byte)) },
    fc.uint8Array({ minLength: size, maxLength: size }),
  );
}

export const digest = bytesOf(32);
export const signature = bytesOf(64);
const anyBytes = fc.uint8Array({ maxLength: 80 });
const member = fc.oneof({ weight: 9, arbitrary: fc.nat({ max: 6 }) }, fc.nat({ max: 255 }));

export const memberSignature = record({ member, signature });
const acceptSignature = record({
  member,
  signature,
  executedCid: number53,
  executionHash: digest,
});
export const certificate = record({
  cid: number53,
  regency: number53,
  digest,
  accepts: fc.array(acceptSignature, { maxLength: 5 }),
});
export const authority = record({
  regency: number53,
  stops: fc.array(memberSignature, { maxLength: 5 }),
});
const checkpointCertificate = record({
  cid: number53,
  root: digest,
  signatures: fc.array(memberSignature, { maxLength: 5 }),
});
const claim = record({
  cid: number53,
  regency: number53,
  digest,
  writes: fc.array(memberSignature, { maxLength: 5 }),
});
export const stopDataBody = record({
  regency: number53,
  decided: fc.option(certificate, { nil: undefined }),
  claims: fc.array(claim, { maxLength: 4 }),
  logged: fc.array(record({ cid: number53, regency: number53, digest }), { maxLength: 4 }),
});

export const value: fc.Arbitrary<Value> = record({
  cid: number53,
  previousDigest: digest,
  timestampMs: number53,
  bundles: fc.array(record({ origin: member, incarnation: number53, seq: number53, digest }), {
    maxLength: 6,
  }),
});

const body = record({ value: anyBytes, bundles: fc.array(anyBytes, { maxLength: 4 }) });

/** An arbitrary of each type: the compiler sees to it that none is missing. */
type ByType<U extends { readonly type: string }> = {
  readonly [T in U["type"]]: fc.Arbitrary<Omit<Extract<U, { type: T }>, "type">>;
};

const MESSAGES: ByType<Message> = {
  bundle: record({ bundle: anyBytes }),
  propose: record({
    regency: number53,
    cid: number53,
    value: anyBytes,
    authorityHash: digest,
    fast: fc.boolean(),
    signature,
  }),
  write: record({
    regency: number53,
    cid: number53,
    digest,
    signature,
    logged: fc.option(record({ executedCid: number53, executionHash: digest }), { nil: undefined }),
  }),
  accept: record({
    regency: number53,
    cid: number53,
    digest,
    executedCid: number53,
    executionHash: digest,
    signature,
  }),
  stop: record({ regency: number53, signature }),
  stopData: record({ body: anyBytes, signature }),
  sync: record({
    sync: record({
      authority,
      collects: fc.array(record({ member, body: anyBytes, signature }), { maxLength: 4 }),
      signature,
    }),
  }),
  authority: record({ authority }),
  authorityRequest: record({ regency: number53, wantSync: fc.boolean() }),
  heartbeat: record({ regency: number53, decided: number53 }),
  bundleRequest: record({ digests: fc.array(digest, { maxLength: 5 }) }),
  valueRequest: record({ cid: number53, digest }),
  value: record({ cid: number53, value: anyBytes }),
  acceptRequest: record({ cid: number53 }),
  decisionClaim: record({ cid: number53, regency: number53, digest }),
  decisionsRequest: record({ from: number53 }),
  decisions: record({
    first: number53,
    instances: fc.array(body, { maxLength: 3 }),
    links: fc.array(anyBytes, { maxLength: 3 }),
    certificate,
  }),
  checkpoint: record({ cid: number53, root: digest, signature }),
  checkpointCertificate: record({ certificate: checkpointCertificate, decision: certificate }),
  fence: record({ nonce: number53 }),
  fenceReply: record({ nonce: number53, accepted: number53, regency: number53 }),
  stateRequest: record({ cid: number53, request: anyBytes }),
  stateReply: record({ cid: number53, request: anyBytes, reply: anyBytes }),
};

const LOG_ENTRIES: ByType<LogEntry> = {
  write: record({ cid: number53, regency: number53, digest, body: fc.option(body, { nil: undefined }) }),
  accept: record({
    cid: number53,
    regency: number53,
    digest,
    writes: fc.array(memberSignature, { maxLength: 5 }),
    body: fc.option(body, { nil: undefined }),
  }),
  decision: record({ certificate, body: fc.option(body, { nil: undefined }) }),
  regency: record({ authority }),
  stop: record({ regency: number53 }),
  stopData: record({ regency: number53, body: anyBytes, signature }),
  state: record({
    lastDecided: number53,
    authority: fc.option(authority, { nil: undefined }),
    stopped: number53,
    onProbation: fc.boolean(),
    checkpoint: fc.option(checkpointCertificate, { nil: undefined }),
    decision: fc.option(certificate, { nil: undefined }),
  }),
};

function tagged<U extends { readonly type: string }>(byType: ByType<U>): Record<string, fc.Arbitrary<U>> {
  const entries = Object.entries<fc.Arbitrary<object>>(byType);
  return Object.fromEntries(
    entries.map(([type, arbitrary]) => [type, arbitrary.map((rest) => ({ type, ...rest }) as unknown as U)]),
  );
}

/** Messages by type. */
export const messageOfType = tagged<Message>(MESSAGES) as Record<MessageType, fc.Arbitrary<Message>>;
/** Any message. */
export const message: fc.Arbitrary<Message> = fc.oneof(...Object.values(messageOfType));
/** Log records by type. */
export const logEntryOfType = tagged<LogEntry>(LOG_ENTRIES) as Record<
  LogEntry["type"],
  fc.Arbitrary<LogEntry>
>;

/** A change of bytes: one flipped, cut off, put in or taken out. */
export interface Mutation {
  readonly at: number;
  readonly byte: number;
  readonly kind: "flip" | "set" | "cut" | "insert" | "remove" | "number";
}

export const mutation: fc.Arbitrary<Mutation> = record({
  at: fc.nat({ max: 2 ** 20 }),
  byte: fc.oneof(fc.constantFrom(0, 1, 0x1f, 0x7f, 0xff), fc.nat({ max: 255 })),
  kind: fc.constantFrom("flip", "flip", "set", "cut", "insert", "remove", "number"),
});

/** The bytes with the change made in them. */
export function mutated(bytes: Uint8Array, { at, byte, kind }: Mutation): Uint8Array {
  const place = bytes.length === 0 ? 0 : at % bytes.length;
  const head = [...bytes.subarray(0, place)];
  const tail = [...bytes.subarray(place + 1)];
  const own = bytes[place] ?? 0;
  switch (kind) {
    case "flip":
      return Uint8Array.from([...head, own ^ (1 << (byte & 7)), ...tail]);
    case "set":
      return Uint8Array.from([...head, byte, ...tail]);
    case "cut":
      return bytes.slice(0, place);
    case "insert":
      return Uint8Array.from([...head, byte, own, ...tail]);
    case "remove":
      return Uint8Array.from([...head, ...tail]);
    case "number":
      // Eight bytes that may be a regency, an instance or a length become another one.
      return Uint8Array.from([...head, 0, 0, 0, 0, 0, 0, byte & 1, byte, ...tail.slice(7)]);
  }
}
