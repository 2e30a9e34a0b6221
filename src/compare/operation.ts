/**
 * Operations of the differential test. They name revisions and leases by what they are ("two before the newest",
 * "the third lease the server named"), not by number: so one list of operations means the same to two stores whose
 * revisions started apart, and still means something after the shrinker has taken operations out of it.
 */
import type { RpcName } from "./etcd-schema.ts";

/** A revision: counted from the newest, from the last compaction, from a key's last change, or as it stands. */
export interface RevisionReference {
  readonly $revision: "head" | "compact" | "key" | "absolute";
  readonly delta: number;
  /** For "key". */
  readonly key?: string;
}

/** A lease: by its number, or the nth one whose id the server chose (modulo how many there are). */
export interface LeaseReference {
  readonly $lease: "id" | "chosen";
  readonly number: number;
}

/** A value of `sizeBytes` equal bytes, so that big requests print short. */
export interface FillReference {
  readonly $fill: string;
  readonly sizeBytes: number;
}

export type SymbolicValue =
  | number
  | boolean
  | string
  | RevisionReference
  | LeaseReference
  | FillReference
  | SymbolicMessage
  | readonly SymbolicValue[];

/** A request as wire.ts encodes it, with references where both stores may differ. */
export interface SymbolicMessage {
  readonly [field: string]: SymbolicValue | undefined;
}

/** `member` is taken modulo the number of members of the store. Keys and values are byte strings. */
export type Operation =
  | {
      readonly kind: "call";
      readonly rpc: RpcName;
      readonly member: number;
      readonly request: SymbolicMessage;
    }
  /** Opens a watcher; on stream `stream`, which is opened on `member` when it is not there yet. */
  | {
      readonly kind: "watch";
      readonly stream: number;
      readonly member: number;
      readonly request: SymbolicMessage;
    }
  /** Cancels the nth watcher of the stream (modulo how many there are), or one that never was. */
  | { readonly kind: "watchCancel"; readonly stream: number; readonly nth: number; readonly unknown: boolean }
  | { readonly kind: "watchProgress"; readonly stream: number }
  | { readonly kind: "watchClose"; readonly stream: number };

/** Whether the operation changes nothing, so that several of them can be under way at once. */
export function isRead(operation: Operation): boolean {
  if (operation.kind !== "call") return false;
  switch (operation.rpc) {
    case "range":
    case "leaseTimeToLive":
    case "leaseLeases":
    case "alarm":
      return true;
    default:
      return false;
  }
}

/** Whether a member may answer from its own state, which may lag behind what another member acknowledged. */
export function isLocal(operation: Operation): boolean {
  if (operation.kind !== "call") return true;
  switch (operation.rpc) {
    case "range":
      return operation.request.serializable === true;
    case "put":
    case "deleteRange":
    case "compact":
    case "leaseGrant":
    case "leaseRevoke":
      return false;
    case "txn":
      return [operation.request.success, operation.request.failure].every(isSerializable);
    // What they answer may be the leader's or agreed on, but the revision in the header is the member's own.
    default:
      return true;
  }
}

/** Whether all operations of a branch are serializable ranges; a transaction of nothing else is local. */
function isSerializable(branch: SymbolicValue | undefined): boolean {
  const operations = (branch ?? []) as readonly SymbolicMessage[];
  return operations.every(
    (item) => (item.request_range as SymbolicMessage | undefined)?.serializable === true,
  );
}

/** One line that can be read back with parseOperations. */
export function formatOperation(operation: Operation): string {
  return JSON.stringify(operation);
}

/** Operations from lines of formatOperation; empty lines and lines that start with # are left out. */
export function parseOperations(text: string): Operation[] {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => JSON.parse(line) as Operation);
}
