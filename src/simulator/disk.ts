/**
 * The simulated write-ahead log of one member: what is appended becomes durable only with a sync that takes
 * its time, a crash loses what was not synced, and the medium may damage what was.
 */
import { assert } from "../base/assert.ts";
import type { Prng } from "../base/prng.ts";
import type { LogRecord, LogRecovery } from "../replica/contract.ts";
import type { Scheduler } from "./scheduler.ts";

export interface DiskOptions {
  readonly syncMinMs: number;
  /** Mean of what comes on top (exponential). */
  readonly syncMeanMs: number;
  /** Probability that a sync takes as long as `stallMs`. */
  readonly stallChance: number;
  readonly stallMs: number;
  /** Mean time between two flushes of the engine. */
  readonly flushMeanMs: number;
}

/** Damage that is found when the log is opened next. */
export type DiskDamage =
  /** Bits flipped among the last records: they are cut, and may have been acknowledged as durable. */
  | "tail"
  /** Bits flipped before the last records: the log refuses to open, the member stays down. */
  | "middle"
  /** The log is gone. */
  | "wiped";

/** As the real log refuses: cutting at the damage would forget promises that later records prove were made. */
export class LogDamagedError extends Error {
  override name = "LogDamagedError";
}

/** More fits no segment of a log (storage/log-writer.ts). */
const RECORD_SIZE_BYTES_MAX = 15 << 20;

export class SimulatedLog {
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #options: DiskOptions;
  readonly #onDurable: (sequence: number) => void;
  #records: LogRecord[] = [];
  #nextSequence = 1;
  #durableSequence = 0;
  /** Highest record that asks for a sync; the host is told once it is durable. */
  #wantedSequence = 0;
  #syncing = false;
  /** Grows with every crash: syncs begun before it end in nothing. */
  #generation = 0;
  #damage: DiskDamage | undefined;
  /** No sync ends before this time. */
  #stalledUntilMs = 0;
  #calm = false;
  /** What the log says of itself until a first record is on disk, however often it is opened before. */
  #mark: "fresh" | "uncertain" | "lost" | undefined = "fresh";

  constructor(scheduler: Scheduler, prng: Prng, options: DiskOptions, onDurable: (sequence: number) => void) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#options = options;
    this.#onDurable = onDurable;
  }

  get durableSequence(): number {
    return this.#durableSequence;
  }

  get size(): number {
    return this.#records.length;
  }

  append(sequence: number, record: Uint8Array, sync: boolean): void {
    assert(sequence === this.#nextSequence, `record ${sequence} appended, ${this.#nextSequence} is next`);
    assert(
      record.length <= RECORD_SIZE_BYTES_MAX,
      `record of ${record.length} bytes fits no segment of a log`,
    );
    this.#records.push({ sequence, record: record.slice() });
    this.#nextSequence++;
    if (!sync) return;
    this.#wantedSequence = sequence;
    if (!this.#syncing) this.#sync();
  }

  /** One sync at a time, for all that was appended when it begins. */
  #sync(): void {
    this.#syncing = true;
    const upTo = this.#nextSequence - 1;
    const generation = this.#generation;
    const done = () => {
      if (generation !== this.#generation) return;
      if (this.#scheduler.nowMs < this.#stalledUntilMs) {
        this.#scheduler.at(this.#stalledUntilMs, done);
        return;
      }
      this.#syncing = false;
      this.#durableSequence = Math.max(this.#durableSequence, upTo);
      this.#mark = undefined;
      // The next sync begins before the host learns of this one, as with a thread that only syncs.
      if (this.#wantedSequence > upTo) this.#sync();
      this.#onDurable(upTo);
    };
    this.#scheduler.after(this.#syncDelayMs(), done);
  }

  /** The disk hangs until then, or until the process dies. */
  stall(untilMs: number): void {
    this.#stalledUntilMs = untilMs;
  }

  /** No more stalls. */
  calm(): void {
    this.#calm = true;
    this.#stalledUntilMs = 0;
  }

  #syncDelayMs(): number {
    const uniform = (this.#prng.u32() + 1) / 0x1_0000_0001;
    const delayMs = this.#options.syncMinMs - Math.log(uniform) * this.#options.syncMeanMs;
    const stalls = this.#prng.chance(this.#options.stallChance) && !this.#calm;
    return stalls ? delayMs + this.#options.stallMs : delayMs;
  }

  /** Drops records below `before`. The caller has flushed the engine. */
  truncate(before: number): void {
    let keep = 0;
    while (keep < this.#records.length && this.#records[keep]!.sequence < before) keep++;
    if (keep > 0) this.#records = this.#records.slice(keep);
  }

  /** The process dies: of what was not synced, some first part may have reached the disk all the same. */
  crash(): void {
    this.#generation++;
    this.#syncing = false;
    this.#stalledUntilMs = 0;
    const unsynced = this.#nextSequence - 1 - this.#durableSequence;
    const survivors = this.#prng.chance(0.5) ? 0 : this.#prng.between(0, unsynced);
    this.#cutAfter(this.#durableSequence + survivors);
    // Whatever is found at the next start has been read from the disk, and opening it syncs it.
    this.#durableSequence = this.#nextSequence - 1;
    this.#wantedSequence = 0;
  }

  /** Plans damage to the log of a member that is down. */
  damage(damage: DiskDamage): void {
    this.#damage = damage;
  }

  /** @throws LogDamagedError when records before the last ones do not match their checksums. */
  open(): LogRecovery {
    const damage = this.#damage;
    this.#damage = undefined;
    if (damage === "middle" && this.#records.length > 0) {
      this.#damage = damage;
      throw new LogDamagedError("a record before the end of the log does not match its checksum");
    }
    if (damage === "wiped") {
      this.#records = [];
      this.#nextSequence = 1;
      this.#durableSequence = 0;
      this.#mark = "lost";
    } else if (damage === "tail" && this.#records.length > 0) {
      this.#cutAfter(this.#nextSequence - 1 - this.#prng.between(0, Math.min(8, this.#records.length - 1)));
      this.#durableSequence = this.#nextSequence - 1;
      if (this.#mark === undefined) this.#mark = "uncertain";
    }
    const records = this.#records.map(({ sequence, record }) => ({ sequence, record: record.slice() }));
    return { records, nextSequence: this.#nextSequence, state: this.#mark ?? "clean" };
  }

  #cutAfter(last: number): void {
    while (this.#records.length > 0 && this.#records[this.#records.length - 1]!.sequence > last) {
      this.#records.pop();
    }
    this.#nextSequence = last + 1;
  }
}
