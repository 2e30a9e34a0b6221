/**
 * How many strangers may knock: a handshake costs a signature, so connections that have proved no key yet are
 * bounded in number, in all and per source, and each source in its rate.
 */

/** Bounds for connections whose other end is not known yet. */
export interface AdmissionLimits {
  readonly maxUnproven: number;
  readonly maxUnprovenPerSource: number;
  /** Connections that a source may open at once, after a time of quiet. */
  readonly burstPerSource: number;
  /** Connections a second that a source may open in the long run. */
  readonly ratePerSource: number;
}

/** Enough for ten members behind one address that all start at once; a flood gets no further. */
export const ADMISSION_LIMITS: AdmissionLimits = {
  maxUnproven: 64,
  maxUnprovenPerSource: 32,
  burstPerSource: 100,
  ratePerSource: 50,
};

const MAX_SOURCES = 4096;

interface Source {
  unproven: number;
  tokens: number;
  refilledMs: number;
}

/** Decides about each connection that comes in. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #sources = new Map<string, Source>();
  #unproven = 0;
  #refused = 0;

  constructor(limits: AdmissionLimits = ADMISSION_LIMITS) {
    this.#limits = limits;
  }

  /** Connections turned away. */
  get refused(): number {
    return this.#refused;
  }

  /** Connections let in that have proved nothing yet. */
  get unproven(): number {
    return this.#unproven;
  }

  /** Whether a connection from `address` may go on; if so, `leave` is due once, when it proved itself or ended. */
  enter(address: string, nowMs: number): boolean {
    const source = this.#source(address, nowMs);
    const { maxUnproven, maxUnprovenPerSource, burstPerSource, ratePerSource } = this.#limits;
    if (source) {
      const refill = ((nowMs - source.refilledMs) / 1000) * ratePerSource;
      source.tokens = Math.min(burstPerSource, source.tokens + refill);
      source.refilledMs = nowMs;
    }
    if (
      !source ||
      source.tokens < 1 ||
      source.unproven >= maxUnprovenPerSource ||
      this.#unproven >= maxUnproven
    ) {
      this.#refused++;
      return false;
    }
    source.tokens--;
    source.unproven++;
    this.#unproven++;
    return true;
  }

  leave(address: string): void {
    const source = this.#sources.get(address);
    if (source) source.unproven--;
    this.#unproven--;
  }

  #source(address: string, nowMs: number): Source | undefined {
    const known = this.#sources.get(address);
    if (known) return known;
    if (this.#sources.size >= MAX_SOURCES) this.#forget(nowMs);
    // So many sources at one time are an attack: no new one gets in before old ones are quiet.
    if (this.#sources.size >= MAX_SOURCES) return undefined;
    const source = { unproven: 0, tokens: this.#limits.burstPerSource, refilledMs: nowMs };
    this.#sources.set(address, source);
    return source;
  }

  /** Drops sources that have their full budget again. */
  #forget(nowMs: number): void {
    const { burstPerSource, ratePerSource } = this.#limits;
    const quietMs = (burstPerSource / ratePerSource) * 1000;
    for (const [address, source] of this.#sources) {
      if (source.unproven === 0 && nowMs - source.refilledMs > quietMs) this.#sources.delete(address);
    }
  }
}
