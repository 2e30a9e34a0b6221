/**
 * Which bundle of each origin comes next: the replicated deduplication. It is a function of the decided
 * values alone, stands in checkpoints and state transfer (refusing W8 and W14), and says of a proposed list
 * whether a correct leader can have sent it.
 */
import { DecodeError, type Reader, type Writer } from "../base/codec.ts";
import type { BundleReference } from "./value.ts";

interface OriginPosition {
  /** 0 before the first bundle of the origin. */
  incarnation: number;
  /** Last decided seq of that incarnation. */
  seq: number;
}

export class OriginTable {
  readonly #positions: OriginPosition[];

  constructor(n: number) {
    this.#positions = Array.from({ length: n }, () => ({ incarnation: 0, seq: 0 }));
  }

  /** The last decided position of an origin. */
  at(origin: number): Readonly<OriginPosition> {
    return this.#positions[origin]!;
  }

  /** Whether (incarnation, seq) was decided already or can never be. */
  isPast(origin: number, incarnation: number, seq: number): boolean {
    const position = this.#positions[origin]!;
    if (incarnation !== position.incarnation) return incarnation < position.incarnation;
    return seq <= position.seq;
  }

  /** Whether the references continue every origin without gap or repetition. */
  accepts(references: readonly BundleReference[]): boolean {
    const next = new Map<number, OriginPosition>();
    for (const { origin, incarnation, seq } of references) {
      const position = next.get(origin) ?? this.#positions[origin];
      if (position === undefined) return false;
      if (incarnation === position.incarnation) {
        if (seq !== position.seq + 1) return false;
      } else if (incarnation < position.incarnation || seq !== 1) {
        return false;
      }
      next.set(origin, { incarnation, seq });
    }
    return true;
  }

  /** Takes over the references of a decided value. */
  advance(references: readonly BundleReference[]): void {
    for (const { origin, incarnation, seq } of references) {
      const position = this.#positions[origin]!;
      position.incarnation = incarnation;
      position.seq = seq;
    }
  }

  write(w: Writer): void {
    w.list(this.#positions, (position) => w.u53(position.incarnation).u53(position.seq));
  }

  /** Throws DecodeError. */
  read(r: Reader): void {
    const count = r.u32();
    if (count !== this.#positions.length) throw new DecodeError(`positions of ${count} origins`);
    for (const position of this.#positions) {
      position.incarnation = r.u53();
      position.seq = r.u53();
    }
  }
}
