/**
 * The few etcd messages that the load generator sends and reads, encoded by hand. Encoders return a view that the
 * next encoder call overwrites; readers look only at the fields that a measurement needs. Malformed answers throw
 * WireError: to the bench a server that sends them has failed.
 */

/** An answer that does not decode. */
export class WireError extends Error {
  override name = "WireError";
}

const scratchBytes = 65_536;

/** Writes protobuf back to front, so that the length of a nested message is known when it is written. */
class BackwardWriter {
  private readonly scratch = Buffer.allocUnsafe(scratchBytes);
  private start = scratchBytes;

  reset(): void {
    this.start = scratchBytes;
  }

  finish(): Buffer {
    return this.scratch.subarray(this.start);
  }

  /** Where a nested message will end; give it to `nested` once its fields are written. */
  mark(): number {
    return this.start;
  }

  nested(field: number, mark: number): void {
    this.varint(mark - this.start);
    this.varint(field * 8 + 2);
  }

  bytes(field: number, value: Uint8Array): void {
    if (value.length === 0) return;
    if (value.length + 16 > this.start) throw new WireError("message is too large for the generator");
    this.start -= value.length;
    this.scratch.set(value, this.start);
    this.varint(value.length);
    this.varint(field * 8 + 2);
  }

  /** Also written when it is 0 if `always`: members of a oneof. */
  integer(field: number, value: number, always = false): void {
    if (value === 0 && !always) return;
    this.varint(value);
    this.varint(field * 8);
  }

  flag(field: number, value: boolean): void {
    if (value) this.integer(field, 1);
  }

  private varint(value: number): void {
    let size = 1;
    for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
    this.start -= size;
    let rest = value;
    for (let index = 0; index < size - 1; index++) {
      this.scratch[this.start + index] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.scratch[this.start + size - 1] = rest;
  }
}

const writer = new BackwardWriter();

/** PutRequest. */
export function encodePut(key: Uint8Array, value: Uint8Array): Buffer {
  writer.reset();
  writePut(key, value);
  return writer.finish();
}

function writePut(key: Uint8Array, value: Uint8Array): void {
  writer.bytes(2, value);
  writer.bytes(1, key);
}

/** What a RangeRequest of the bench may ask for. */
export interface RangeOptions {
  readonly key: Uint8Array;
  /** Empty: the one key. */
  readonly rangeEnd?: Uint8Array;
  readonly limit?: number;
  readonly serializable?: boolean;
}

const empty = new Uint8Array(0);

/** RangeRequest. */
export function encodeRange(options: RangeOptions): Buffer {
  writer.reset();
  writer.flag(7, options.serializable ?? false);
  writer.integer(3, options.limit ?? 0);
  writer.bytes(2, options.rangeEnd ?? empty);
  writer.bytes(1, options.key);
  return writer.finish();
}

/** The TxnRequest of a kube-apiserver's update: put if the mod revision is still this one, else read the key. */
export function encodeUpdate(key: Uint8Array, modRevision: number, value: Uint8Array): Buffer {
  writer.reset();
  const failure = writer.mark();
  writer.bytes(1, key);
  writer.nested(1, failure);
  writer.nested(3, failure);
  const success = writer.mark();
  writePut(key, value);
  writer.nested(2, success);
  writer.nested(2, success);
  const compare = writer.mark();
  writer.integer(6, modRevision, true);
  writer.bytes(3, key);
  writer.integer(2, 2);
  writer.nested(1, compare);
  return writer.finish();
}

/** The WatchRequest of a kube-apiserver's watch cache: previous values and progress. */
export function encodeWatchCreate(key: Uint8Array, rangeEnd: Uint8Array, startRevision: number): Buffer {
  writer.reset();
  const create = writer.mark();
  writer.flag(6, true);
  writer.flag(4, true);
  writer.integer(3, startRevision);
  writer.bytes(2, rangeEnd);
  writer.bytes(1, key);
  writer.nested(1, create);
  return writer.finish();
}

/** The end of the range of all keys with this prefix. */
export function prefixEnd(prefix: Uint8Array): Uint8Array {
  // A copy: slice of a Buffer would be a view of the same bytes.
  const end = Uint8Array.from(prefix);
  end[end.length - 1]!++;
  return end;
}

/** Walks over fields. Kept allocation-free: one reader per message type, repositioned for each message. */
class Reader {
  private buffer: Uint8Array = empty;
  offset = 0;
  end = 0;
  field = 0;
  private wireType = 0;

  open(buffer: Uint8Array, offset = 0, end = buffer.length): this {
    this.buffer = buffer;
    this.offset = offset;
    this.end = end;
    return this;
  }

  /** Moves to the next field; its payload must be read or skipped before the next call. */
  next(): boolean {
    if (this.offset >= this.end) return false;
    const tag = this.varint();
    this.field = Math.floor(tag / 8);
    this.wireType = tag % 8;
    return true;
  }

  /** Exact up to 2^53, which revisions do not reach. */
  varint(): number {
    let value = 0;
    for (let scale = 1; this.offset < this.end && scale < 2 ** 70; scale *= 128) {
      const byte = this.buffer[this.offset++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new WireError("bad varint in an answer");
  }

  /** Exact, for member ids. */
  varintExact(): bigint {
    let value = 0n;
    for (let shift = 0n; this.offset < this.end && shift < 70n; shift += 7n) {
      const byte = this.buffer[this.offset++]!;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new WireError("bad varint in an answer");
  }

  /** Enters a length-delimited field: returns where it ends, the offset stands on its first byte. */
  length(): number {
    const length = this.varint();
    const end = this.offset + length;
    if (this.wireType !== 2 || end > this.end) throw new WireError("bad length in an answer");
    return end;
  }

  bytes(): Uint8Array {
    const end = this.length();
    const value = this.buffer.subarray(this.offset, end);
    this.offset = end;
    return value;
  }

  skip(): void {
    if (this.wireType === 0) this.varint();
    else if (this.wireType === 2) this.offset = this.length();
    else if (this.wireType === 1) this.offset += 8;
    else if (this.wireType === 5) this.offset += 4;
    else throw new WireError(`unknown wire type ${this.wireType} in an answer`);
  }
}

const outer = new Reader();
const inner = new Reader();
const innermost = new Reader();

/** Header revision of a Put, Range or Txn answer (field 1 of field 1's field 3 in all of them). */
function readHeaderRevision(message: Uint8Array, from: number, end: number): number {
  let revision = 0;
  inner.open(message, from, end);
  while (inner.next()) {
    if (inner.field === 3) revision = inner.varint();
    else inner.skip();
  }
  return revision;
}

/** PutResponse: the revision of the write. */
export function readPutRevision(message: Uint8Array): number {
  let revision = 0;
  outer.open(message);
  while (outer.next()) {
    if (outer.field !== 1) outer.skip();
    else {
      const end = outer.length();
      revision = readHeaderRevision(message, outer.offset, end);
      outer.offset = end;
    }
  }
  return revision;
}

/** A key as a RangeResponse or an event shows it; the bytes are views. */
export interface KeyValue {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly modRevision: number;
  readonly version: number;
}

/** RangeResponse, in full; for checks, not for the measured path. */
export function readRange(message: Uint8Array): { revision: number; count: number; kvs: KeyValue[] } {
  const kvs: KeyValue[] = [];
  let revision = 0;
  let count = 0;
  outer.open(message);
  while (outer.next()) {
    if (outer.field === 1) {
      const end = outer.length();
      revision = readHeaderRevision(message, outer.offset, end);
      outer.offset = end;
    } else if (outer.field === 2) kvs.push(readKeyValue(outer.bytes()));
    else if (outer.field === 4) count = outer.varint();
    else outer.skip();
  }
  return { revision, count, kvs };
}

/** Number of keys in a RangeResponse, without looking into them: the measured path. */
export function countRange(message: Uint8Array): number {
  let keys = 0;
  outer.open(message);
  while (outer.next()) {
    if (outer.field === 2) keys++;
    outer.skip();
  }
  return keys;
}

function readKeyValue(message: Uint8Array): KeyValue {
  let key = empty;
  let value = empty;
  let modRevision = 0;
  let version = 0;
  inner.open(message);
  while (inner.next()) {
    if (inner.field === 1) key = inner.bytes() as typeof empty;
    else if (inner.field === 3) modRevision = inner.varint();
    else if (inner.field === 4) version = inner.varint();
    else if (inner.field === 5) value = inner.bytes() as typeof empty;
    else inner.skip();
  }
  return { key, value, modRevision, version };
}

/** The answer to an update: whether it was done, and else the key as it is (undefined when it is not there). */
export interface UpdateAnswer {
  readonly succeeded: boolean;
  readonly revision: number;
  readonly current: KeyValue | undefined;
}

/** TxnResponse of encodeUpdate. */
export function readUpdate(message: Uint8Array): UpdateAnswer {
  let succeeded = false;
  let revision = 0;
  let response: Uint8Array = empty;
  outer.open(message);
  while (outer.next()) {
    if (outer.field === 1) {
      const end = outer.length();
      revision = readHeaderRevision(message, outer.offset, end);
      outer.offset = end;
    } else if (outer.field === 2) succeeded = outer.varint() === 1;
    else if (outer.field === 3) response = outer.bytes();
    else outer.skip();
  }
  if (succeeded) return { succeeded, revision, current: undefined };
  innermost.open(response);
  let current: KeyValue | undefined;
  while (innermost.next()) {
    if (innermost.field === 1) current = readRange(innermost.bytes()).kvs[0];
    else innermost.skip();
  }
  return { succeeded, revision, current };
}

/** What a WatchResponse says besides its events. */
export interface WatchSummary {
  created: boolean;
  canceled: boolean;
  events: number;
  /** Events that carry the value before. */
  eventsWithPrevious: number;
  headerRevision: number;
}

/**
 * WatchResponse: calls back with the mod revision of every event, in order. Fills and returns `summary`, which the
 * caller reuses: hundreds of thousands of events a second pass here.
 */
export function readWatch(
  message: Uint8Array,
  summary: WatchSummary,
  onEvent: (modRevision: number) => void,
): WatchSummary {
  summary.created = false;
  summary.canceled = false;
  summary.events = 0;
  summary.eventsWithPrevious = 0;
  outer.open(message);
  while (outer.next()) {
    if (outer.field === 11) {
      const end = outer.length();
      inner.open(message, outer.offset, end);
      while (inner.next()) {
        if (inner.field === 2) onEvent(readModRevision(message));
        else if (inner.field === 3) {
          summary.eventsWithPrevious++;
          inner.skip();
        } else inner.skip();
      }
      summary.events++;
      outer.offset = end;
    } else if (outer.field === 1) {
      const end = outer.length();
      summary.headerRevision = readHeaderRevision(message, outer.offset, end);
      outer.offset = end;
    } else if (outer.field === 3) summary.created = outer.varint() === 1;
    else if (outer.field === 4) summary.canceled = outer.varint() === 1;
    else outer.skip();
  }
  return summary;
}

/** Of the event's kv that `inner` stands on; moves `inner` behind it. */
function readModRevision(message: Uint8Array): number {
  const end = inner.length();
  innermost.open(message, inner.offset, end);
  inner.offset = end;
  let modRevision = 0;
  while (innermost.next()) {
    if (innermost.field !== 3) innermost.skip();
    else {
      modRevision = innermost.varint();
      break;
    }
  }
  return modRevision;
}

/** Maintenance.Status: who answers and who leads. */
export interface MemberStatus {
  readonly memberId: bigint;
  /** 0n when the member knows of no leader. */
  readonly leaderId: bigint;
  readonly revision: number;
  readonly version: string;
  readonly dbSizeBytes: number;
}

/** StatusResponse. */
export function readStatus(message: Uint8Array): MemberStatus {
  let memberId = 0n;
  let leaderId = 0n;
  let revision = 0;
  let version = "";
  let dbSizeBytes = 0;
  outer.open(message);
  while (outer.next()) {
    if (outer.field === 1) {
      inner.open(outer.bytes());
      while (inner.next()) {
        if (inner.field === 2) memberId = inner.varintExact();
        else if (inner.field === 3) revision = inner.varint();
        else inner.skip();
      }
    } else if (outer.field === 2) version = Buffer.from(outer.bytes()).toString("utf8");
    else if (outer.field === 3) dbSizeBytes = outer.varint();
    else if (outer.field === 4) leaderId = outer.varintExact();
    else outer.skip();
  }
  return { memberId, leaderId, revision, version, dbSizeBytes };
}
