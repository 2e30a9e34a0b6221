/**
 * The keys that the bench works on, and what it knows of each: the last write that was acknowledged. They look like
 * a Kubernetes cluster's: namespaces of 500 objects, so that a list of a namespace is a list of 500.
 */
import type { Prng } from "../base/prng.ts";
import { prefixEnd } from "./wire.ts";

/** Objects per namespace, and so the length of a list. */
export const namespaceKeys = 500;

/** All keys of the bench lie under it. */
export const keyPrefix: Buffer = Buffer.from("/registry/pods/");
/** End of the range of all keys. */
export const keyPrefixEnd: Uint8Array = prefixEnd(keyPrefix);

/** The stamp at the start of a value: which key, which write to it. */
const stampBytes = 8;
/** Smaller values would not tell one write from another. */
export const valueBytesMin: number = stampBytes;

const pickAttemptsMax = 1000;

/** Keys of one cluster. At most one write per key is in flight, so the last acknowledged one is what must be there. */
export class Keyspace {
  readonly keys: readonly Buffer[];
  /** Mod revision of the last acknowledged write; 0 before the first. */
  readonly modRevisions: Float64Array;
  /** Number of the last write sent. */
  private readonly writes: Uint32Array;
  private readonly writing: Uint8Array;
  /** Keys whose last write got no clear answer: it may or may not have happened. */
  private readonly uncertain: Uint8Array;
  private readonly value: Buffer;
  private readonly prng: Prng;

  constructor(count: number, valueBytes: number, prng: Prng) {
    this.prng = prng;
    this.keys = Array.from({ length: count }, (_, index) => Buffer.from(keyName(index)));
    this.modRevisions = new Float64Array(count);
    this.writes = new Uint32Array(count);
    this.writing = new Uint8Array(count);
    this.uncertain = new Uint8Array(count);
    this.value = Buffer.alloc(valueBytes);
    // Noise, so that no layer can compress it away.
    for (let index = 0; index < valueBytes; index++) this.value[index] = prng.below(256);
  }

  /** Any key. */
  pick(): number {
    return this.prng.below(this.keys.length);
  }

  /** A key without a write in flight, which it now has; -1 when a thousand draws found none. */
  pickForWrite(): number {
    for (let attempt = 0; attempt < pickAttemptsMax; attempt++) {
      const index = this.pick();
      if (this.writing[index] === 0 && this.uncertain[index] === 0) return this.startWrite(index);
    }
    return -1;
  }

  /** Marks the key as being written. */
  startWrite(index: number): number {
    this.writing[index] = 1;
    this.writes[index]!++;
    return index;
  }

  /** The value of the key's current write; overwritten by the next call. */
  valueOf(index: number): Buffer {
    this.value.writeUInt32LE(index, 0);
    this.value.writeUInt32LE(this.writes[index]!, 4);
    return this.value;
  }

  /** The write was acknowledged with this revision. */
  acknowledge(index: number, revision: number): void {
    this.writing[index] = 0;
    this.modRevisions[index] = revision;
  }

  /** The write failed, perhaps after it was done: nothing is known of the key any more. */
  lose(index: number): void {
    this.writing[index] = 0;
    this.uncertain[index] = 1;
  }

  /** Whether what is acknowledged must be what is stored. */
  isCertain(index: number): boolean {
    return this.writing[index] === 0 && this.uncertain[index] === 0 && this.modRevisions[index]! > 0;
  }

  /** Range of a random namespace: the prefix of its keys. */
  pickNamespace(): Buffer {
    return Buffer.from(namespacePrefix(Math.floor(this.pick() / namespaceKeys)));
  }
}

function namespacePrefix(namespace: number): string {
  return `/registry/pods/ns-${String(namespace).padStart(4, "0")}/`;
}

function keyName(index: number): string {
  return `${namespacePrefix(Math.floor(index / namespaceKeys))}pod-${String(index % namespaceKeys).padStart(3, "0")}`;
}
