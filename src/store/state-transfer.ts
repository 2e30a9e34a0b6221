/**
 * Fetches a certified state from peers, part by part, and puts it in place of the local one.
 *
 * The root comes from a certificate. The manifest is checked against it, each group against the manifest,
 * each chunk against its group, before anything of them is used; so a lying peer can only make us ask again.
 * Chunks that the local state has already are not asked for. Complete chunks are kept in the engine, so that
 * an installer made anew after a break asks only for the rest. The local state stays as it is until `finish`.
 */
import { assert } from "../base/assert.ts";
import { equalBytes } from "../base/bytes.ts";
import { DecodeError } from "../base/codec.ts";
import type { Hasher } from "../base/crypto.ts";
import { type Engine, Table } from "./engine.ts";
import { recordKey } from "./record.ts";
import { dropStaged, installStaged, stageChunk, stagedChunk, switchOver } from "./staging.ts";
import {
  CHUNK_REVISIONS,
  decodeLeaves,
  decodeManifest,
  decodeMisc,
  encodeManifest,
  GROUP_CHUNKS,
  GROUP_REVISIONS,
  groupHash,
  type Leaf,
  leafHash,
  type Manifest,
  rootHash,
  type StateMisc,
} from "./state-tree.ts";
import type { InstallTarget, Store } from "./store.ts";

/** A part from a peer that does not fit the certified root: drop it and ask another peer. */
export class TransferError extends Error {
  override name = "TransferError";
}

/** What to ask a peer for; the answers come from the methods of the same name of its Store. */
export type TransferRequest =
  | { readonly type: "manifest" }
  | { readonly type: "groupLeaves"; readonly group: number }
  /** The parts of one chunk are best asked of one peer: only all of them together can be checked. */
  | { readonly type: "chunkPart"; readonly chunk: number; readonly offsetBytes: number };

/** Chunks of the local state that one call of `requests` compares at most. */
const COMPARED_MAX = 64;

export class StateInstaller {
  readonly #store: Store;
  readonly #target: InstallTarget;
  readonly #engine: Engine;
  readonly #hasher: Hasher;
  readonly #root: Uint8Array;
  readonly #localRevision: number;
  #manifest: Manifest | undefined;
  #misc: StateMisc | undefined;
  readonly #groups = new Map<number, Uint8Array>();
  readonly #leaves: Leaf[] = [];
  /** Leaves not yet held against the local state. */
  #unexamined: Leaf[] = [];
  /** Chunks to fetch, with what there is of them. */
  readonly #wanted = new Map<
    number,
    { readonly leaf: Leaf; readonly bytes: Uint8Array; receivedBytes: number }
  >();
  readonly #staged = new Set<number>();

  /**
   * Prepares to replace the state of `store` by the one with this certified root. Until `finish` (or until the
   * transfer is given up) the store must execute nothing.
   */
  constructor(store: Store, root: Uint8Array) {
    this.#store = store;
    this.#target = store.installTarget();
    this.#engine = this.#target.engine;
    this.#hasher = this.#target.hasher;
    this.#root = root;
    this.#localRevision = this.#target.revision();
  }

  /** Whether everything is here, so that `finish` can be called. */
  get isComplete(): boolean {
    return (
      this.#manifest !== undefined &&
      this.#groups.size === 0 &&
      this.#unexamined.length === 0 &&
      this.#wanted.size === 0
    );
  }

  /**
   * What to ask for now, at most `countMax`; the same again until it has come. May be empty although the
   * transfer is not complete (the comparison with the local state goes in slices): then call again soon.
   */
  requests(countMax: number): TransferRequest[] {
    if (this.#manifest === undefined) return [{ type: "manifest" }];
    this.#examine(countMax);
    const requests: TransferRequest[] = [];
    for (const [chunk, { receivedBytes }] of this.#wanted) {
      if (requests.length >= countMax) return requests;
      requests.push({ type: "chunkPart", chunk, offsetBytes: receivedBytes });
    }
    for (const group of this.#groups.keys()) {
      if (requests.length >= countMax) return requests;
      requests.push({ type: "groupLeaves", group });
    }
    return requests;
  }

  /** The replica's own part of the certified state; known once the manifest is. */
  get extra(): Uint8Array {
    assert(this.#misc !== undefined, "the manifest is here");
    return this.#misc.extra;
  }

  /** Takes a manifest. Throws TransferError when it is not the one with our root. */
  addManifest(bytes: Uint8Array): void {
    if (this.#manifest !== undefined) return;
    const manifest = refusing(() => decodeManifest(bytes));
    if (!equalBytes(rootHash(this.#hasher, manifest), this.#root)) {
      throw new TransferError("the manifest does not have the certified root");
    }
    this.#misc = refusing(() => decodeMisc(manifest.misc));
    this.#manifest = manifest;
    for (const { group, hash } of manifest.groups) this.#groups.set(group, hash);
  }

  /** Takes the leaves of a group. Throws TransferError when they are not what the manifest says. */
  addGroupLeaves(group: number, bytes: Uint8Array): void {
    const hash = this.#groups.get(group);
    if (hash === undefined) return;
    if (!equalBytes(groupHash(this.#hasher, bytes), hash)) {
      throw new TransferError(`the leaves of group ${group} do not have the hash in the manifest`);
    }
    const leaves = refusing(() => decodeLeaves(group, bytes));
    this.#groups.delete(group);
    this.#leaves.push(...leaves);
    this.#unexamined.push(...leaves);
  }

  /**
   * Holds some chunks against the local state and against what is staged, and wants those that differ: no more of
   * them than are asked for at once, since each has its memory from here on.
   */
  #examine(wantedMax: number): void {
    for (let i = 0; i < COMPARED_MAX && this.#wanted.size < wantedMax; i++) {
      const leaf = this.#unexamined.pop();
      if (leaf === undefined) return;
      const { chunk, sizeBytes, hash } = leaf;
      const local = this.#target.leafNow(chunk);
      if (local !== undefined && equalBytes(local.hash, hash)) continue;
      const staged = stagedChunk(this.#engine, chunk);
      if (staged !== undefined && equalBytes(leafHash(this.#hasher, chunk, staged), hash)) {
        this.#staged.add(chunk);
        continue;
      }
      // The size is certified, so this is no more memory than the chunk needs.
      this.#wanted.set(chunk, { leaf, bytes: new Uint8Array(sizeBytes), receivedBytes: 0 });
    }
  }

  /**
   * Takes the bytes of a chunk from an offset on. Parts that come twice or out of turn are ignored. Throws
   * TransferError when the chunk, now complete, is not the certified one; all of it is then asked for again.
   */
  addChunkPart(chunk: number, offsetBytes: number, part: Uint8Array): void {
    const wanted = this.#wanted.get(chunk);
    if (wanted === undefined || offsetBytes !== wanted.receivedBytes || part.length === 0) return;
    const { leaf, bytes } = wanted;
    if (offsetBytes + part.length > bytes.length) {
      wanted.receivedBytes = 0;
      throw new TransferError(`chunk ${chunk} is longer than its leaf says`);
    }
    bytes.set(part, offsetBytes);
    wanted.receivedBytes += part.length;
    if (wanted.receivedBytes < bytes.length) return;
    const isSound = equalBytes(leafHash(this.#hasher, chunk, bytes), leaf.hash);
    if (!isSound && this.#target.mutation !== "chunkNotChecked") {
      wanted.receivedBytes = 0;
      throw new TransferError(`chunk ${chunk} does not have the hash of its leaf`);
    }
    stageChunk(this.#engine, chunk, bytes);
    this.#engine.commit();
    this.#staged.add(chunk);
    this.#wanted.delete(chunk);
  }

  /**
   * Replaces the local state, at once as far as a crash can tell, and opens it. `cid` is the instance of the
   * checkpoint, `proof` is kept with it (see Store). `putMeta` may put the replica's own named values into the
   * unit that switches over, which is the first step. Each further step moves or reads a bounded part of the state. It
   * yields true while the engine has to write what was moved: go on later. Until the last step the store must not be
   * read. Gives back the replica's `extra`.
   */
  *finish(
    cid: number,
    proof: Uint8Array,
    putMeta: (store: Store) => void = () => {},
  ): Generator<boolean, Uint8Array> {
    assert(
      this.isComplete && this.#misc !== undefined && this.#manifest !== undefined,
      "the transfer is complete",
    );
    // What was compared must be what is replaced.
    assert(this.#target.revision() === this.#localRevision, "nothing was executed during the transfer");
    const misc = this.#misc;
    const manifest = encodeManifest(this.#manifest);
    this.#stageRemovals();
    dropStaged(this.#engine, (chunk) => this.#staged.has(chunk));
    this.#engine.commit();
    switchOver(this.#engine, misc.leases);
    const { revision } = misc;
    this.#target.putState(misc, { cid, revision, root: this.#root, manifest, proof }, this.#leaves);
    putMeta(this.#store);
    this.#engine.commit();
    yield false;
    for (const _ of installStaged(this.#engine)) {
      do yield this.#engine.isBehind;
      while (this.#engine.isBehind);
    }
    for (const _ of this.#target.reload()) yield false;
    return misc.extra;
  }

  /** Chunks that the local state has and the new one has not become empty. */
  #stageRemovals(): void {
    const present = new Set(this.#leaves.map((leaf) => leaf.chunk));
    const last = Math.floor(this.#localRevision / GROUP_REVISIONS);
    for (let group = 0; group <= last; group++) {
      if (!this.#hasRecords(group * GROUP_REVISIONS, GROUP_REVISIONS)) continue;
      for (let chunk = group * GROUP_CHUNKS; chunk < (group + 1) * GROUP_CHUNKS; chunk++) {
        if (present.has(chunk) || !this.#hasRecords(chunk * CHUNK_REVISIONS, CHUNK_REVISIONS)) continue;
        stageChunk(this.#engine, chunk, new Uint8Array(0));
        this.#staged.add(chunk);
      }
    }
  }

  #hasRecords(revision: number, count: number): boolean {
    const from = recordKey(revision, 0);
    return this.#engine.range(Table.record, from, recordKey(revision + count, 0), 1).length > 0;
  }
}

/** Runs a decoder; bytes that it refuses become a TransferError. */
function refusing<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (error instanceof DecodeError) throw new TransferError(`a part can not be read: ${error.message}`);
    throw error;
  }
}
