/**
 * Bundles that wait for their decision, bounded per origin.
 */
import { toByteString } from "../base/bytes.ts";
import type { Bundle } from "./bundle.ts";
import type { OriginTable } from "./origin-table.ts";
import type { BundleReference } from "./value.ts";

interface Pooled {
  readonly bundle: Bundle;
  readonly arrivedAtMs: number;
}

interface OriginPool {
  incarnation: number;
  readonly bySeq: Map<number, Pooled>;
  sizeBytes: number;
}

/** Seqs ahead of the last decided one that are kept. */
const SEQS_AHEAD_MAX = 4096;

export class BundlePool {
  readonly #origins: OriginPool[];
  readonly #byDigest = new Map<string, Bundle>();
  readonly #table: OriginTable;
  readonly #sizeBytesMax: number;
  /** Where the round robin over origins starts next. */
  #turn = 0;

  constructor(n: number, table: OriginTable, sizeBytesMax: number) {
    this.#origins = Array.from({ length: n }, () => ({ incarnation: 0, bySeq: new Map(), sizeBytes: 0 }));
    this.#table = table;
    this.#sizeBytesMax = sizeBytesMax;
  }

  /** The bundle with this digest, as a byte string. */
  get(digestKey: string): Bundle | undefined {
    return this.#byDigest.get(digestKey);
  }

  /**
   * Keeps a bundle until it is decided. Whatever a faulty origin sent before, there is room for the one that is its
   * next to be decided: it would else wait here for ever, and others would take this member for a leader that holds
   * requests back.
   *
   * @returns false when it is past, a second one with its seq, or over the bound
   */
  add(bundle: Bundle, nowMs: number): boolean {
    const pool = this.#origins[bundle.origin];
    if (pool === undefined || bundle.seq < 1) return false;
    if (this.#table.isPast(bundle.origin, bundle.incarnation, bundle.seq)) return false;
    const key = toByteString(bundle.digest);
    if (this.#byDigest.has(key)) return true;
    const isNext = bundle.seq === this.#firstSeq(bundle.origin, bundle.incarnation) + 1;
    if (bundle.incarnation !== pool.incarnation) {
      const isNewer = bundle.incarnation > pool.incarnation;
      const hasNext = this.#next(bundle.origin) !== undefined;
      if (hasNext ? !(isNewer && isNext) : !(isNewer || isNext)) return false;
      this.#restart(pool, bundle.incarnation);
    }
    if (pool.bySeq.has(bundle.seq)) return false;
    if (bundle.seq > this.#firstSeq(bundle.origin, bundle.incarnation) + SEQS_AHEAD_MAX) return false;
    const sizeBytes = bundle.encoded.length;
    if (pool.sizeBytes + sizeBytes > this.#sizeBytesMax) {
      if (!isNext || sizeBytes > this.#sizeBytesMax) return false;
      this.#restart(pool, bundle.incarnation);
    }
    pool.bySeq.set(bundle.seq, { bundle, arrivedAtMs: nowMs });
    pool.sizeBytes += sizeBytes;
    this.#byDigest.set(key, bundle);
    return true;
  }

  #firstSeq(origin: number, incarnation: number): number {
    const decided = this.#table.at(origin);
    return decided.incarnation === incarnation ? decided.seq : 0;
  }

  /** Gives up what the origin sent, as when its process started anew: its clients of before are gone. */
  #restart(pool: OriginPool, incarnation: number): void {
    for (const { bundle } of pool.bySeq.values()) this.#byDigest.delete(toByteString(bundle.digest));
    pool.bySeq.clear();
    pool.sizeBytes = 0;
    pool.incarnation = incarnation;
  }

  /** Drops what the origin table (already advanced) has left behind. */
  prune(references: readonly BundleReference[]): void {
    for (const { origin, incarnation, seq, digest } of references) {
      const pool = this.#origins[origin]!;
      this.#byDigest.delete(toByteString(digest));
      if (pool.incarnation < incarnation) this.#restart(pool, incarnation);
      if (pool.incarnation !== incarnation) continue;
      const pooled = pool.bySeq.get(seq);
      if (pooled === undefined) continue;
      pool.bySeq.delete(seq);
      pool.sizeBytes -= pooled.bundle.encoded.length;
      this.#byDigest.delete(toByteString(pooled.bundle.digest));
    }
  }

  /** Drops the bundles of an origin that do not pass. */
  keepOnly(origin: number, passes: (bundle: Bundle) => boolean): void {
    const pool = this.#origins[origin]!;
    for (const [seq, { bundle }] of pool.bySeq) {
      if (passes(bundle)) continue;
      pool.bySeq.delete(seq);
      pool.sizeBytes -= bundle.encoded.length;
      this.#byDigest.delete(toByteString(bundle.digest));
    }
  }

  /** Drops everything that is past, after the origin table jumped. */
  pruneAll(): void {
    for (let origin = 0; origin < this.#origins.length; origin++) {
      const pool = this.#origins[origin]!;
      for (const [seq, { bundle }] of pool.bySeq) {
        if (!this.#table.isPast(origin, bundle.incarnation, seq)) continue;
        pool.bySeq.delete(seq);
        pool.sizeBytes -= bundle.encoded.length;
        this.#byDigest.delete(toByteString(bundle.digest));
      }
    }
  }

  #next(origin: number): Pooled | undefined {
    const pool = this.#origins[origin]!;
    if (pool.incarnation < this.#table.at(origin).incarnation) return undefined;
    return pool.bySeq.get(this.#firstSeq(origin, pool.incarnation) + 1);
  }

  /** Whether something can be proposed. */
  hasProposable(): boolean {
    for (let origin = 0; origin < this.#origins.length; origin++) if (this.#next(origin)) return true;
    return false;
  }

  /** When the longest-waiting proposable bundle arrived, or undefined. */
  oldestProposable(): { readonly arrivedAtMs: number; readonly bundle: Bundle } | undefined {
    let oldest: Pooled | undefined;
    for (let origin = 0; origin < this.#origins.length; origin++) {
      const next = this.#next(origin);
      if (next !== undefined && (oldest === undefined || next.arrivedAtMs < oldest.arrivedAtMs))
        oldest = next;
    }
    return oldest;
  }

  /**
   * References for a value: one bundle per origin per round, so that no origin starves another, contiguous
   * within each, up to both limits (always at least one when there is one).
   */
  take(bundlesMax: number, sizeBytesMax: number): BundleReference[] {
    const references: BundleReference[] = [];
    const n = this.#origins.length;
    const nextSeq = this.#origins.map((_, origin) => this.#next(origin)?.bundle.seq ?? 0);
    let sizeBytes = 0;
    for (let progress = true; progress; ) {
      progress = false;
      for (let i = 0; i < n; i++) {
        const origin = (this.#turn + i) % n;
        const pooled = this.#origins[origin]!.bySeq.get(nextSeq[origin]!);
        if (pooled === undefined) continue;
        const { bundle } = pooled;
        const full = references.length >= bundlesMax || sizeBytes + bundle.encoded.length > sizeBytesMax;
        if (full && references.length > 0) {
          this.#turn = origin;
          return references;
        }
        const { incarnation, seq, digest } = bundle;
        references.push({ origin, incarnation, seq, digest });
        sizeBytes += bundle.encoded.length;
        nextSeq[origin]! += 1;
        progress = true;
      }
    }
    this.#turn = (this.#turn + 1) % n;
    return references;
  }
}
