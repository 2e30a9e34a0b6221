/**
 * What was decided, read off the wire: the operations of every instance with its agreed time, independent of how any
 * member executes them. PROPOSEs show values, bundles their operations; which value it was, correct members say.
 */
import { toByteString } from "../../base/bytes.ts";
import { DecodeError } from "../../base/codec.ts";
import { decodeBundle } from "../../consensus/bundle.ts";
import { decodeMessage } from "../../consensus/messages.ts";
import { decodeValue, type Value, valueDigest } from "../../consensus/value.ts";
import { decodeOperation } from "../../store/operation.ts";
import type { Operation } from "../../store/types.ts";
import { SimulatedHasher } from "../crypto.ts";
import { kindOf } from "../message-kinds.ts";

/** One decided instance. */
export interface DecidedBatch {
  readonly cid: number;
  /** Agreed time, milliseconds since 1970. */
  readonly timestampMs: number;
  /** In the order of execution, without those that are none. */
  readonly operations: readonly Operation[];
}

export class DecidedLog {
  readonly #membershipDigest: Uint8Array;
  readonly #hasher = new SimulatedHasher();
  readonly #values = new Map<string, Value>();
  readonly #bundles = new Map<string, readonly Uint8Array[]>();
  readonly #decided = new Map<number, string>();
  /** A broadcast is sent to each member in turn. */
  #seen: Uint8Array | undefined;

  constructor(membershipDigest: Uint8Array) {
    this.#membershipDigest = membershipDigest;
  }

  /** Any member sends a message. */
  sent(bytes: Uint8Array): void {
    if (this.#seen === bytes) return;
    const kind = kindOf(bytes);
    if (kind !== "propose" && kind !== "bundle") return;
    this.#seen = bytes;
    try {
      const message = decodeMessage(bytes);
      if (message.type === "propose") {
        const key = toByteString(valueDigest(this.#hasher, message.value));
        if (!this.#values.has(key)) this.#values.set(key, decodeValue(message.value));
      } else if (message.type === "bundle") {
        const bundle = decodeBundle(this.#hasher, this.#membershipDigest, message.bundle);
        this.#bundles.set(toByteString(bundle.digest), bundle.operations);
      }
    } catch (error) {
      // A Byzantine member's: nobody decides what nobody can read.
      if (!(error instanceof DecodeError)) throw error;
    }
  }

  /** A correct member has decided. */
  decided(cid: number, digest: Uint8Array): void {
    if (!this.#decided.has(cid)) this.#decided.set(cid, toByteString(digest));
  }

  /** Undefined when it is not known to the last operation. */
  batch(cid: number): DecidedBatch | undefined {
    const value = this.#values.get(this.#decided.get(cid) ?? "");
    if (value === undefined) return undefined;
    const operations: Operation[] = [];
    for (const { digest } of value.bundles) {
      const encoded = this.#bundles.get(toByteString(digest));
      if (encoded === undefined) return undefined;
      for (const bytes of encoded) {
        const operation = decoded(bytes);
        if (operation !== undefined) operations.push(operation);
      }
    }
    return { cid, timestampMs: value.timestampMs, operations };
  }
}

/** Undefined for bytes that are no operation, which change nothing. */
function decoded(bytes: Uint8Array): Operation | undefined {
  try {
    return decodeOperation(bytes);
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}
