/**
 * Signed messages of any member, right ones and false ones: the tests play Byzantine members with it. It holds
 * every member's key, so what it makes is as good or bad as the fields it is given.
 */
import { bundleDigest, decodeBundle, encodeBundleBody } from "../../consensus/bundle.ts";
import type { Membership } from "../../consensus/membership.ts";
import {
  type AcceptClaim,
  type AuthorityCertificate,
  type CheckpointCertificate,
  type Collect,
  type DecisionCertificate,
  encodeAuthority,
  encodeStopDataBody,
  encodeSyncContent,
  type MemberSignature,
  type Message,
  type StopDataBody,
} from "../../consensus/messages.ts";
import {
  acceptStatement,
  bundleStatement,
  checkpointStatement,
  stopDataStatement,
  stopStatement,
  syncStatement,
  writeStatement,
} from "../../consensus/statements.ts";
import { type BundleReference, encodeValue, type Value, valueDigest } from "../../consensus/value.ts";
import { encodeOperation } from "../../store/operation.ts";
import { put, testHasher, testSigner } from "./cluster.ts";

export type MessageOf<T extends Message["type"]> = Extract<Message, { type: T }>;

/** A bundle with its signature, and the name by which values know it. */
export interface ForgedBundle {
  readonly encoded: Uint8Array;
  readonly reference: BundleReference;
  readonly message: MessageOf<"bundle">;
}

/** A value with its bytes and digest. */
export interface ForgedValue {
  readonly value: Value;
  readonly encoded: Uint8Array;
  readonly digest: Uint8Array;
}

const NO_HASH = new Uint8Array(32);
/** Wall clock of a test cluster at time 0. */
export const WALL_START_MS = 1_700_000_000_000;

export class Forge {
  readonly membership: Membership;

  constructor(membership: Membership) {
    this.membership = membership;
  }

  #sign(member: number, statement: Uint8Array): Uint8Array {
    return testSigner(member).sign(statement);
  }

  /** A bundle with a put of `key` to `content`, or with the operations given. */
  bundle(
    origin: number,
    seq: number,
    { content = "x", incarnation = 1, signer = origin, operations = [] as readonly Uint8Array[] } = {},
  ): ForgedBundle {
    const contents = operations.length > 0 ? operations : [encodeOperation(put(`of-${origin}`, content))];
    const body = encodeBundleBody(origin, incarnation, seq, contents);
    const digest = bundleDigest(testHasher, this.membership.digest, body);
    const signature = this.#sign(signer, bundleStatement(this.membership.digest, digest));
    const encoded = new Uint8Array(body.length + signature.length);
    encoded.set(body);
    encoded.set(signature, body.length);
    return this.bundleOf(encoded);
  }

  /** The bundle in these bytes. */
  bundleOf(encoded: Uint8Array): ForgedBundle {
    const { origin, incarnation, seq, digest } = decodeBundle(testHasher, this.membership.digest, encoded);
    return {
      encoded,
      reference: { origin, incarnation, seq, digest },
      message: { type: "bundle", bundle: encoded },
    };
  }

  /** A value that follows `previous`, or the first one. */
  value(
    bundles: readonly ForgedBundle[],
    { previous = undefined as ForgedValue | undefined, ...change }: Partial<Value> & ForgeValueOptions = {},
  ): ForgedValue {
    const value: Value = {
      cid: (previous?.value.cid ?? 0) + 1,
      previousDigest: previous?.digest ?? this.membership.digest,
      timestampMs: Math.max(WALL_START_MS + 1_000, (previous?.value.timestampMs ?? 0) + 1),
      bundles: bundles.map(({ reference }) => reference),
      ...change,
    };
    const encoded = encodeValue(value);
    return { value, encoded, digest: valueDigest(testHasher, encoded) };
  }

  propose(
    regency: number,
    { value, encoded, digest }: ForgedValue,
    { authority = undefined as AuthorityCertificate | undefined, cid = value.cid, fast = false } = {},
  ): MessageOf<"propose"> {
    const leader = this.membership.leaderOf(regency);
    const authorityHash =
      authority === undefined ? this.membership.digest : testHasher.hash(encodeAuthority(authority));
    const statement = writeStatement(this.membership.digest, regency, cid, digest);
    return {
      type: "propose",
      regency,
      cid,
      value: encoded,
      authorityHash,
      fast,
      signature: this.#sign(leader, statement),
    };
  }

  write(member: number, regency: number, cid: number, digest: Uint8Array): MessageOf<"write"> {
    const signature = this.#sign(member, writeStatement(this.membership.digest, regency, cid, digest));
    return { type: "write", regency, cid, digest, signature, logged: undefined };
  }

  /** A WRITE that says it is on the member's disk. */
  loggedWrite(member: number, regency: number, cid: number, digest: Uint8Array): MessageOf<"write"> {
    const logged = { executedCid: 0, executionHash: NO_HASH };
    return { ...this.write(member, regency, cid, digest), logged };
  }

  accept(member: number, regency: number, cid: number, digest: Uint8Array): MessageOf<"accept"> {
    const statement = acceptStatement(this.membership.digest, regency, cid, digest, 0, NO_HASH);
    const signature = this.#sign(member, statement);
    return { type: "accept", regency, cid, digest, executedCid: 0, executionHash: NO_HASH, signature };
  }

  stop(member: number, regency: number): MessageOf<"stop"> {
    const signature = this.#sign(member, stopStatement(this.membership.digest, regency));
    return { type: "stop", regency, signature };
  }

  authority(regency: number, members: readonly number[]): AuthorityCertificate {
    const stops = members.map((member) => ({ member, signature: this.stop(member, regency).signature }));
    return { regency, stops };
  }

  /** WRITE signatures of the members for one ballot and digest. */
  writes(
    members: readonly number[],
    regency: number,
    cid: number,
    digest: Uint8Array,
  ): readonly MemberSignature[] {
    return members.map((member) => ({
      member,
      signature: this.write(member, regency, cid, digest).signature,
    }));
  }

  claim(members: readonly number[], regency: number, cid: number, digest: Uint8Array): AcceptClaim {
    return { cid, regency, digest, writes: this.writes(members, regency, cid, digest) };
  }

  decision(
    members: readonly number[],
    regency: number,
    cid: number,
    digest: Uint8Array,
  ): DecisionCertificate {
    const accepts = members.map((member) => {
      const { signature, executedCid, executionHash } = this.accept(member, regency, cid, digest);
      return { member, signature, executedCid, executionHash };
    });
    return { cid, regency, digest, accepts };
  }

  checkpoint(members: readonly number[], cid: number, root: Uint8Array): CheckpointCertificate {
    const statement = checkpointStatement(this.membership.digest, cid, root);
    const signatures = members.map((member) => ({ member, signature: this.#sign(member, statement) }));
    return { cid, root, signatures };
  }

  stopData(
    member: number,
    regency: number,
    { decided = undefined, claims = [], logged = [] }: Partial<Omit<StopDataBody, "regency">> = {},
  ): MessageOf<"stopData"> {
    const body = encodeStopDataBody({ regency, decided, claims, logged });
    return {
      type: "stopData",
      body,
      signature: this.#sign(member, stopDataStatement(this.membership.digest, body)),
    };
  }

  sync(
    authority: AuthorityCertificate,
    reports: readonly (readonly [number, MessageOf<"stopData">])[],
  ): MessageOf<"sync"> {
    const collects: Collect[] = reports.map(([member, { body, signature }]) => ({ member, body, signature }));
    const statement = syncStatement(this.membership.digest, encodeSyncContent({ authority, collects }));
    const leader = this.membership.leaderOf(authority.regency);
    return { type: "sync", sync: { authority, collects, signature: this.#sign(leader, statement) } };
  }
}

interface ForgeValueOptions {
  readonly previous?: ForgedValue | undefined;
}
