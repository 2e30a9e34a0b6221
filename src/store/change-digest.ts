/**
 * A hash over all changes of some batches, by which replicas notice that their executions differ. Changes are
 * only noted while a batch executes; hashing them is one call, later.
 */
import { concatBytes } from "../base/bytes.ts";
import { Writer } from "../base/codec.ts";
import { DIGEST_SIZE_BYTES, type Hasher } from "../base/crypto.ts";
import { type LeaseRow, writeLease } from "./state-tree.ts";

const KIND_TIME = 0x81;
const KIND_COMPACTION = 0x82;
const KIND_LEASE = 0x83;
/** What is noted of a lease that is gone. */
const NO_LEASE = { ttlSeconds: 0, expiresAtMs: 0, extended: false };
/** So much is noted at most before it is hashed; the bound depends on the changes alone. */
const NOTED_SIZE_MAX_BYTES = 8 * 1024 * 1024;

export class ChangeDigest {
  readonly #hasher: Hasher;
  /** Records begin with their kind (1 or 2), the other changes with one of the kinds above. */
  #parts: Uint8Array[] = [];
  #sizeBytes = 0;
  readonly #writer = new Writer(32);

  constructor(hasher: Hasher) {
    this.#hasher = hasher;
  }

  addRecord(bytes: Uint8Array): void {
    this.#add(bytes);
  }

  addTime(timeMs: number): void {
    this.#add(this.#writer.u8(KIND_TIME).u53(timeMs).finish());
  }

  addCompaction(revision: number): void {
    this.#add(this.#writer.u8(KIND_COMPACTION).u53(revision).finish());
  }

  /** A lease as it is now; zeros when it is gone. */
  addLease(id: bigint, lease: Omit<LeaseRow, "id"> = NO_LEASE): void {
    this.#add(writeLease(lease, this.#writer.u8(KIND_LEASE).i64(id)).finish());
  }

  #add(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#sizeBytes += bytes.length;
    if (this.#sizeBytes < NOTED_SIZE_MAX_BYTES) return;
    this.#parts = [this.#hasher.hash(concatBytes(this.#parts))];
    this.#sizeBytes = DIGEST_SIZE_BYTES;
  }

  /** The hash of what was noted since the last call. */
  take(): Uint8Array {
    const digest = this.#hasher.hash(concatBytes(this.#parts));
    this.clear();
    return digest;
  }

  clear(): void {
    this.#parts = [];
    this.#sizeBytes = 0;
  }
}
