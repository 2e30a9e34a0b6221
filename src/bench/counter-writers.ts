/**
 * Writers that count: each raises a counter in a key of its own, with an update that takes effect only on the value
 * it knows. Whatever happens to the cluster meanwhile, afterwards the counter must stand where the last acknowledged
 * write left it (or one higher, if one was in flight), and the version of the key, which counts its writes, must be
 * the counter: nothing lost, nothing done twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { call, connectTo, methodHeaders } from "./connect.ts";
import type { CallStatus, Http2Connection, StreamListener } from "./http2-connection.ts";
import type { Target } from "./target.ts";
import { encodeRange, encodeUpdate, readRange, readUpdate, type UpdateAnswer } from "./wire.ts";

const valueBytes = 256;
const retryPauseMs = 20;
const reconnectPauseMs = 50;
/** A writer that waits longer has lost its request for good. */
const stopTimeoutMs = 60_000;

/** The moments at which writes were acknowledged, in order. */
export class AcknowledgementLog {
  private times = new Float64Array(65_536);
  count = 0;

  record(timeMs: number): void {
    if (this.count === this.times.length) {
      const larger = new Float64Array(this.times.length * 2);
      larger.set(this.times);
      this.times = larger;
    }
    this.times[this.count++] = timeMs;
  }

  /**
   * The longest time without an acknowledgement that ends in the interval or lasts to its end. It may have begun
   * before the interval.
   */
  longestPauseMs(fromMs: number, toMs: number): number {
    const first = this.indexAfter(fromMs);
    let previousMs = first === 0 ? fromMs : this.times[first - 1]!;
    let longestMs = 0;
    for (let index = first; index < this.count && this.times[index]! <= toMs; index++) {
      longestMs = Math.max(longestMs, this.times[index]! - previousMs);
      previousMs = this.times[index]!;
    }
    return Math.max(longestMs, toMs - previousMs);
  }

  /** The first acknowledgement after this moment; undefined when there is none. */
  firstAfter(momentMs: number): number | undefined {
    const index = this.indexAfter(momentMs);
    return index < this.count ? this.times[index] : undefined;
  }

  /** Acknowledgements after the first moment and not after the second. */
  countBetween(fromMs: number, toMs: number): number {
    return this.indexAfter(toMs) - this.indexAfter(fromMs);
  }

  /** Index of the first acknowledgement after this moment, `count` when there is none. */
  private indexAfter(momentMs: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.times[middle]! > momentMs) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** One connection per member, opened again whenever it was lost. */
class MemberConnections {
  private readonly target: Target;
  private readonly connections: (Http2Connection | undefined)[] = [];
  private closing = false;

  constructor(target: Target) {
    this.target = target;
    for (const index of target.members.keys()) void this.keepOpen(index);
  }

  /** The member's connection, or that of the next member which has one; undefined when none has. */
  at(index: number): Http2Connection | undefined {
    const count = this.target.members.length;
    for (let step = 0; step < count; step++) {
      const connection = this.connections[(index + step) % count];
      if (connection !== undefined && !connection.closed) return connection;
    }
    return undefined;
  }

  close(): void {
    this.closing = true;
    for (const connection of this.connections) connection?.close();
  }

  private async keepOpen(index: number): Promise<void> {
    const { members, tls } = this.target;
    while (!this.closing) {
      try {
        const connection = await connectTo(members[index]!.clientUrl, tls);
        this.connections[index] = connection;
        while (!connection.closed && !this.closing) await sleep(reconnectPauseMs);
      } catch {
        // It is down: that is what this is about.
        await sleep(reconnectPauseMs);
      }
    }
    this.connections[index]?.close();
  }
}

class CounterWriter implements StreamListener {
  readonly key: Buffer;
  /** Writes known to be done. */
  counter = 0;
  modRevision = 0;
  /** Whether the next write may have been done without our knowing. */
  inDoubt = false;
  fault: string | undefined;
  stopped = false;
  errors = 0;
  private readonly fleet: CounterWriters;
  private readonly index: number;
  private attempts = 0;
  private answer: UpdateAnswer | undefined;
  private readonly value = Buffer.alloc(valueBytes, 0x5a);

  constructor(fleet: CounterWriters, index: number) {
    this.fleet = fleet;
    this.index = index;
    this.key = Buffer.from(`/kmmr-failover/writer-${String(index).padStart(4, "0")}`);
  }

  send(): void {
    if (this.fleet.stopping || this.fault !== undefined) {
      this.stopped = true;
      return;
    }
    const connection = this.fleet.connections.at(this.index + this.attempts);
    if (connection === undefined) {
      setTimeout(() => this.send(), retryPauseMs);
      return;
    }
    this.answer = undefined;
    this.value.writeUInt32LE(this.index, 0);
    this.value.writeUInt32LE(this.counter + 1, 4);
    connection.unary(methodHeaders.txn, encodeUpdate(this.key, this.modRevision, this.value), this);
  }

  message(bytes: Buffer): void {
    const answer = readUpdate(bytes);
    const current = answer.current && { ...answer.current, value: Uint8Array.from(answer.current.value) };
    this.answer = { ...answer, current };
  }

  end(status: CallStatus): void {
    if (status.code !== 0 || this.answer === undefined) {
      this.errors++;
      this.attempts++;
      this.inDoubt = true;
      this.fleet.failed(status);
      setTimeout(() => this.send(), retryPauseMs);
      return;
    }
    if (this.answer.succeeded) this.advance(this.answer.revision);
    else this.refused(this.answer);
    this.send();
  }

  private advance(revision: number): void {
    this.counter++;
    this.modRevision = revision;
    this.inDoubt = false;
    this.fleet.log.record(performance.now());
  }

  /** Only right when an earlier attempt without an answer was done after all. */
  private refused(answer: UpdateAnswer): void {
    const found = answer.current;
    if (found !== undefined && this.inDoubt && counterOf(found.value) === this.counter + 1) {
      this.advance(found.modRevision);
      return;
    }
    const stands =
      found === undefined ? "no key" : `counter ${counterOf(found.value)} at ${found.modRevision}`;
    this.fault = `${this.key}: an update of counter ${this.counter} at ${this.modRevision} was refused by ${stands}`;
  }
}

function counterOf(value: Uint8Array): number {
  return value.length < 8
    ? -1
    : Buffer.from(value.buffer, value.byteOffset, value.byteLength).readUInt32LE(4);
}

/** What the reading back found. */
export interface CounterVerdict {
  readonly acknowledged: number;
  readonly faults: readonly string[];
}

/** All writers of a cluster, in closed loop until stopped. */
export class CounterWriters {
  stopping = false;
  readonly log = new AcknowledgementLog();
  readonly connections: MemberConnections;
  /** Different errors that writers met, with their number. */
  readonly errors = new Map<string, number>();
  private readonly writers: readonly CounterWriter[];

  constructor(target: Target, count: number) {
    this.connections = new MemberConnections(target);
    this.writers = Array.from({ length: count }, (_, index) => new CounterWriter(this, index));
    for (const writer of this.writers) writer.send();
  }

  failed(status: CallStatus): void {
    const text = `${status.text} (gRPC code ${status.code})`;
    if (this.errors.has(text) || this.errors.size < 50)
      this.errors.set(text, (this.errors.get(text) ?? 0) + 1);
  }

  /** Waits until acknowledgements come again after the given moment; false when they do not. */
  async untilAcknowledged(afterMs: number, timeoutMs: number): Promise<boolean> {
    const deadlineMs = performance.now() + timeoutMs;
    while (this.log.firstAfter(afterMs) === undefined) {
      if (performance.now() > deadlineMs) return false;
      await sleep(20);
    }
    return true;
  }

  /** Ends the writing once every request in flight has ended, then reads every key back. */
  async finish(): Promise<CounterVerdict> {
    this.stopping = true;
    const deadlineMs = performance.now() + stopTimeoutMs;
    while (!this.writers.every((writer) => writer.stopped) && performance.now() < deadlineMs) await sleep(10);
    const faults = this.writers.flatMap((writer) => {
      if (writer.fault !== undefined) return [writer.fault];
      return writer.stopped ? [] : [`${writer.key}: a request got no answer in ${stopTimeoutMs} ms`];
    });
    let acknowledged = 0;
    for (const [index, writer] of this.writers.entries()) {
      acknowledged += writer.counter;
      const fault = await this.check(writer, index);
      if (fault !== undefined) faults.push(fault);
    }
    this.connections.close();
    return { acknowledged, faults };
  }

  private async check(writer: CounterWriter, index: number): Promise<string | undefined> {
    const connection = this.connections.at(index);
    if (connection === undefined) return `${writer.key}: no member to read it from`;
    const found = readRange(await call(connection, methodHeaders.range, encodeRange({ key: writer.key })))
      .kvs[0];
    const stored = found === undefined ? 0 : counterOf(found.value);
    const { counter, inDoubt, key } = writer;
    if (stored < counter) return `${key}: acknowledged write ${counter} is lost, ${stored} is stored`;
    if (stored > counter + (inDoubt ? 1 : 0)) return `${key}: ${stored} is stored, sent were ${counter}`;
    if (found !== undefined && found.version !== stored)
      return `${key}: ${found.version} writes were done for a counter of ${stored}`;
    return undefined;
  }
}
