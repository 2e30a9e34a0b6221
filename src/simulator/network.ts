/**
 * The simulated network: every link between two members has its own delays, losses, duplicates and cuts, in
 * each direction for itself. Bounded: a link that holds too much loses what is sent next.
 */
import type { Prng } from "../base/prng.ts";
import type { Lane, MemberIndex } from "../replica/contract.ts";
import type { Scheduler } from "./scheduler.ts";

export interface NetworkOptions {
  /** Least delay of a message. */
  readonly delayMinMs: number;
  /** Mean of what comes on top (exponential). */
  readonly delayMeanMs: number;
  /** Probability that a message is held up by as much as `delayTailMs` more. */
  readonly delayTailChance: number;
  readonly delayTailMs: number;
  readonly lossChance: number;
  readonly duplicateChance: number;
  /** Whether messages of one link and lane stay in order, as on a TCP connection. */
  readonly ordered: boolean;
  /** How long until both ends of a broken connection notice it; 0 or less: they never do. */
  readonly noticeDelayMs: number;
  /** Messages on their way over one link, at most. */
  readonly inFlightMax: number;
}

/** A quiet local network, as in the liveness phase. */
export const CALM_NETWORK: NetworkOptions = {
  delayMinMs: 0.2,
  delayMeanMs: 0.5,
  delayTailChance: 0,
  delayTailMs: 0,
  lossChance: 0,
  duplicateChance: 0,
  ordered: true,
  noticeDelayMs: 50,
  inFlightMax: 20_000,
};

/** What the lanes of a link take (transport/links.ts). */
const FRAME_SIZE_BYTES_MAX: Readonly<Record<Lane, number>> = { vote: 1 << 20, bulk: 4 << 20 };
/** No message is under way for longer: a connection that is slower than this breaks. */
const DELAY_MAX_MS = 5_000;

/** Who is told what arrives. */
export interface NetworkEnds {
  deliver(to: MemberIndex, from: MemberIndex, bytes: Uint8Array): void;
  link(member: MemberIndex, peer: MemberIndex, up: boolean): void;
}

/** Says of a message whether it is lost. */
export type LinkFilter = (from: MemberIndex, to: MemberIndex, bytes: Uint8Array) => boolean;

interface Link {
  cut: boolean;
  /** How many times slower than the others. */
  factor: number;
  inFlight: number;
  lastArrivalMs: { vote: number; bulk: number };
}

export interface NetworkCounts {
  sent: number;
  delivered: number;
  lost: number;
  duplicated: number;
}

export class Network {
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #n: number;
  readonly #ends: NetworkEnds;
  readonly #links: Link[];
  readonly #up: boolean[];
  /** Counts the starts of a member: what was sent to one process does not reach the next over TCP. */
  readonly #starts: number[];
  /** What each end believes of its connection to each other one. */
  readonly #believed: boolean[];
  /** What any of them matches is lost when it is sent. */
  readonly filters = new Set<LinkFilter>();
  readonly counts: NetworkCounts = { sent: 0, delivered: 0, lost: 0, duplicated: 0 };
  #options: NetworkOptions;

  constructor(scheduler: Scheduler, prng: Prng, n: number, options: NetworkOptions, ends: NetworkEnds) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#n = n;
    this.#options = options;
    this.#ends = ends;
    this.#links = Array.from({ length: n * n }, () => newLink());
    this.#up = new Array<boolean>(n).fill(false);
    this.#starts = new Array<number>(n).fill(0);
    this.#believed = new Array<boolean>(n * n).fill(false);
  }

  get options(): NetworkOptions {
    return this.#options;
  }

  /** Messages already under way keep their delays. */
  setOptions(options: NetworkOptions): void {
    this.#options = options;
  }

  send(from: MemberIndex, to: MemberIndex, lane: Lane, bytes: Uint8Array): void {
    if (to < 0 || to >= this.#n) return;
    this.counts.sent++;
    const link = this.#links[from * this.#n + to]!;
    const options = this.#options;
    const fits = bytes.length <= FRAME_SIZE_BYTES_MAX[lane];
    const refused = link.cut || !this.#up[to] || link.inFlight >= options.inFlightMax || !fits;
    if (refused || this.#isFiltered(from, to, bytes) || this.#prng.chance(options.lossChance)) {
      this.counts.lost++;
      return;
    }
    this.#carry(link, from, to, lane, bytes);
    if (this.#prng.chance(options.duplicateChance)) {
      this.counts.duplicated++;
      this.#carry(link, from, to, lane, bytes);
    }
  }

  #isFiltered(from: MemberIndex, to: MemberIndex, bytes: Uint8Array): boolean {
    for (const filter of this.filters) if (filter(from, to, bytes)) return true;
    return false;
  }

  #carry(link: Link, from: MemberIndex, to: MemberIndex, lane: Lane, bytes: Uint8Array): void {
    const options = this.#options;
    let arrivalMs = this.#scheduler.nowMs + Math.min(this.#delayMs() * link.factor, DELAY_MAX_MS);
    if (options.ordered) {
      arrivalMs = Math.max(arrivalMs, link.lastArrivalMs[lane]);
      link.lastArrivalMs[lane] = arrivalMs;
    }
    const start = this.#starts[to]!;
    const sameProcess = options.ordered;
    link.inFlight++;
    this.#scheduler.at(arrivalMs, () => {
      link.inFlight--;
      if (link.cut || !this.#up[to] || (sameProcess && this.#starts[to] !== start)) {
        this.counts.lost++;
        return;
      }
      this.counts.delivered++;
      this.#ends.deliver(to, from, bytes);
    });
  }

  #delayMs(): number {
    const options = this.#options;
    const prng = this.#prng;
    const uniform = (prng.u32() + 1) / 0x1_0000_0001;
    let delayMs = options.delayMinMs - Math.log(uniform) * options.delayMeanMs;
    if (prng.chance(options.delayTailChance)) delayMs += (prng.u32() / 0x1_0000_0000) * options.delayTailMs;
    return delayMs;
  }

  /** A process has started: it and its peers connect. */
  memberUp(member: MemberIndex): void {
    this.#up[member] = true;
    this.#starts[member]!++;
    for (let peer = 0; peer < this.#n; peer++) {
      this.#believed[member * this.#n + peer] = false;
      // A connection to the process before is broken, even if nobody had noticed yet.
      if (this.#believed[peer * this.#n + member]) this.#tell(peer, member, false);
      if (peer !== member) this.#review(member, peer, 1);
    }
  }

  /** The process has died: its connections break. */
  memberDown(member: MemberIndex): void {
    this.#up[member] = false;
    for (let peer = 0; peer < this.#n; peer++) {
      this.#believed[member * this.#n + peer] = false;
      if (peer !== member) this.#review(member, peer, this.#options.noticeDelayMs);
    }
  }

  /** Cuts or mends one direction of a link. */
  setCut(from: MemberIndex, to: MemberIndex, cut: boolean): void {
    const link = this.#links[from * this.#n + to]!;
    if (link.cut === cut) return;
    link.cut = cut;
    this.#review(from, to, this.#options.noticeDelayMs);
  }

  /** Cuts all links between members of different groups; members named in no group are cut from all. */
  partition(groups: readonly (readonly MemberIndex[])[]): void {
    const groupOf = new Map<MemberIndex, number>();
    groups.forEach((group, index) => {
      for (const member of group) groupOf.set(member, index);
    });
    for (let a = 0; a < this.#n; a++) {
      for (let b = 0; b < this.#n; b++) {
        if (a !== b) this.setCut(a, b, groupOf.get(a) === undefined || groupOf.get(a) !== groupOf.get(b));
      }
    }
  }

  /** Makes all links from and to a member slower (1 is normal). */
  setFactor(member: MemberIndex, factor: number): void {
    for (let peer = 0; peer < this.#n; peer++) {
      this.#links[member * this.#n + peer]!.factor = factor;
      this.#links[peer * this.#n + member]!.factor = factor;
    }
  }

  /** Mends every cut and slow link; crashed members stay crashed. */
  heal(): void {
    this.filters.clear();
    for (let a = 0; a < this.#n; a++) {
      this.setFactor(a, 1);
      // New messages do not queue behind what a slow link still holds.
      for (let b = 0; b < this.#n; b++) this.#links[a * this.#n + b]!.lastArrivalMs = { vote: 0, bulk: 0 };
      for (let b = 0; b < this.#n; b++) if (a !== b) this.setCut(a, b, false);
    }
  }

  /** Later, both ends learn whether they are connected, if that has changed. */
  #review(a: MemberIndex, b: MemberIndex, delayMs: number): void {
    if (delayMs <= 0) return;
    this.#scheduler.after(delayMs, () => {
      const connected = this.#up[a]! && this.#up[b]! && !this.#isCut(a, b) && !this.#isCut(b, a);
      if (this.#up[a] && this.#believed[a * this.#n + b] !== connected) this.#tell(a, b, connected);
      if (this.#up[b] && this.#believed[b * this.#n + a] !== connected) this.#tell(b, a, connected);
    });
  }

  #tell(member: MemberIndex, peer: MemberIndex, up: boolean): void {
    this.#believed[member * this.#n + peer] = up;
    this.#ends.link(member, peer, up);
  }

  #isCut(from: MemberIndex, to: MemberIndex): boolean {
    return this.#links[from * this.#n + to]!.cut;
  }
}

function newLink(): Link {
  return { cut: false, factor: 1, inFlight: 0, lastArrivalMs: { vote: 0, bulk: 0 } };
}
