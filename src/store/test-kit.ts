/**
 * Short ways to write requests, and a hash of no cryptographic worth: for tests of the store and of what
 * stands on it.
 */
import { fromByteString } from "../base/bytes.ts";
import type { Hasher } from "../base/crypto.ts";
import type { StateInstaller, TransferRequest } from "./state-transfer.ts";
import type { Store } from "./store.ts";
import type {
  Compare,
  DeleteRangeRequest,
  Operation,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from "./types.ts";

const NO_VALUE = new Uint8Array(0);

export function rangeOf(key: string, rangeEnd = "", options: Partial<RangeRequest> = {}): RangeRequest {
  return {
    key,
    rangeEnd,
    limit: 0,
    revision: 0,
    sortOrder: 0,
    sortTarget: 0,
    serializable: false,
    keysOnly: false,
    countOnly: false,
    minModRevision: 0,
    maxModRevision: 0,
    minCreateRevision: 0,
    maxCreateRevision: 0,
    ...options,
  };
}

export function putOf(
  key: string,
  value: string | Uint8Array,
  options: Partial<PutRequest> = {},
): PutRequest {
  const bytes = typeof value === "string" ? fromByteString(value) : value;
  return { key, value: bytes, lease: 0n, prevKv: false, ignoreValue: false, ignoreLease: false, ...options };
}

export function deleteOf(key: string, rangeEnd = "", prevKv = false): DeleteRangeRequest {
  return { key, rangeEnd, prevKv };
}

export function compareOf(key: string, options: Partial<Compare> = {}): Compare {
  return { result: 0, target: 0, key, rangeEnd: "", number: 0, lease: 0n, value: NO_VALUE, ...options };
}

export function txnOf(options: Partial<TxnRequest>): TxnRequest {
  return { compare: [], success: [], failure: [], ...options };
}

export const op = {
  range: (...of: Parameters<typeof rangeOf>): RequestOp => ({ type: "range", range: rangeOf(...of) }),
  put: (...of: Parameters<typeof putOf>): RequestOp & Operation => ({ type: "put", put: putOf(...of) }),
  delete: (...of: Parameters<typeof deleteOf>): RequestOp & Operation => ({
    type: "deleteRange",
    deleteRange: deleteOf(...of),
  }),
  txn: (options: Partial<TxnRequest>): RequestOp & Operation => ({ type: "txn", txn: txnOf(options) }),
  compact: (revision: number): Operation => ({ type: "compact", revision }),
  grant: (id: bigint, ttlSeconds: number): Operation => ({ type: "leaseGrant", id, ttlSeconds }),
  revoke: (id: bigint): Operation => ({ type: "leaseRevoke", id }),
  keepAlive: (id: bigint): Operation => ({ type: "leaseKeepAlive", id }),
};

/** Deterministic and quick, and easy to find collisions of on purpose; nothing but tests may use it. */
export const weakHasher: Hasher = {
  hash(...parts) {
    const lanes = new Uint32Array(8).map((_, i) => 0x811c9dc5 ^ (i * 0x9e3779b9));
    let count = 0;
    for (const part of parts) {
      for (let i = 0; i < part.length; i++) {
        const lane = count++ & 7;
        lanes[lane] = Math.imul(lanes[lane]! ^ part[i]!, 0x01000193) ^ (lanes[(lane + 1) & 7]! >>> 7);
      }
    }
    for (let round = 0; round < 16; round++) {
      const lane = round & 7;
      lanes[lane] = Math.imul(lanes[lane]! ^ lanes[(lane + 3) & 7]! ^ count, 0x85ebca6b);
      lanes[lane]! ^= lanes[lane]! >>> 13;
    }
    const digest = new Uint8Array(32);
    lanes.forEach((lane, i) => {
      for (let shift = 0; shift < 4; shift++) digest[i * 4 + shift] = lane >>> (shift * 8);
    });
    return digest;
  },
};

/** What a store answers to a request of a transfer. */
export function answer(store: Store, request: TransferRequest, sizeMaxBytes: number): Uint8Array | undefined {
  if (request.type === "manifest") return store.manifest();
  if (request.type === "groupLeaves") return store.groupLeaves(request.group);
  return store.chunkPart(request.chunk, request.offsetBytes, sizeMaxBytes);
}

/** Gives an installer what it asked for. */
export function give(installer: StateInstaller, request: TransferRequest, bytes: Uint8Array): void {
  if (request.type === "manifest") installer.addManifest(bytes);
  else if (request.type === "groupLeaves") installer.addGroupLeaves(request.group, bytes);
  else installer.addChunkPart(request.chunk, request.offsetBytes, bytes);
}

/** Runs all steps of an installation; gives what the replica kept in the state. */
export function finishAll(...[installer, ...of]: [StateInstaller, ...Parameters<StateInstaller["finish"]>]) {
  const steps = installer.finish(...of);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** Runs a transfer to its end; gives the number of chunk parts that were fetched. */
export function fetchAll(installer: StateInstaller, source: Store, sizeMaxBytes = 700): number {
  let parts = 0;
  while (!installer.isComplete) {
    for (const request of installer.requests(4)) {
      if (request.type === "chunkPart") parts++;
      give(installer, request, answer(source, request, sizeMaxBytes)!.slice());
    }
  }
  return parts;
}
