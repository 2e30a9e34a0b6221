/** Deadlines of calls: one coarse timer for all of them instead of one each. */

const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 0.001,
  n: 0.000001,
};

/** Milliseconds of a `grpc-timeout` header, or undefined when it is none. */
export function parseTimeoutMs(text: string): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * UNIT_MS[match[2]!]!;
}

/** What grpc-go says about a `grpc-timeout` header that is none. */
export function timeoutComplaint(text: string): string {
  const quoted = JSON.stringify(text);
  if (text.length < 2) return `transport: timeout string is too short: ${quoted}`;
  if (text.length > 9) return `transport: timeout string is too long: ${quoted}`;
  if (UNIT_MS[text.at(-1)!] === undefined) return `transport: timeout unit is not recognized: ${quoted}`;
  return `strconv.ParseUint: parsing ${JSON.stringify(text.slice(0, -1))}: invalid syntax`;
}

/** How late an expiry may be noticed. */
const SLOT_MS = 32;

/** Anything that can run out of time. */
export interface Expiring {
  /** The slot it waits in, kept by the queue. */
  deadlineSlot: number;
  expire(): void;
}

export class DeadlineQueue {
  readonly #slots = new Map<number, Set<Expiring>>();
  #timer: NodeJS.Timeout | undefined;
  #swept = 0;

  /** Calls `expire` once `timeoutMs` are over, unless it is removed before. */
  add(item: Expiring, timeoutMs: number): void {
    const slot = Math.ceil((performance.now() + timeoutMs) / SLOT_MS);
    let items = this.#slots.get(slot);
    if (items === undefined) this.#slots.set(slot, (items = new Set()));
    items.add(item);
    item.deadlineSlot = slot;
    if (this.#timer === undefined) {
      this.#swept = Math.floor(performance.now() / SLOT_MS);
      this.#timer = setInterval(() => this.#sweep(), SLOT_MS);
      this.#timer.unref();
    }
  }

  remove(item: Expiring): void {
    const items = this.#slots.get(item.deadlineSlot);
    if (items === undefined) return;
    items.delete(item);
    if (items.size === 0) this.#slots.delete(item.deadlineSlot);
  }

  #sweep(): void {
    const now = Math.floor(performance.now() / SLOT_MS);
    // After a long pause of the process there are more slots in time than in use.
    const due =
      now - this.#swept > this.#slots.size
        ? [...this.#slots.keys()].filter((slot) => slot <= now)
        : Array.from({ length: now - this.#swept }, (_, i) => this.#swept + 1 + i);
    this.#swept = now;
    for (const slot of due) {
      const items = this.#slots.get(slot);
      if (items === undefined) continue;
      this.#slots.delete(slot);
      for (const item of items) item.expire();
    }
    if (this.#slots.size === 0) this.stop();
  }

  /** Stops the timer; calls that wait never expire. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
