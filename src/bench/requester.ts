/**
 * The kinds of requests a workload is made of. A requester has one request in flight at a time and is reused for the
 * next: the measured path allocates little.
 */
import type { Prng } from "../base/prng.ts";
import { methodHeaders } from "./connect.ts";
import type { CallStatus, Http2Connection, StreamListener } from "./http2-connection.ts";
import { type Keyspace, namespaceKeys } from "./keyspace.ts";
import {
  countRange,
  encodePut,
  encodeRange,
  encodeUpdate,
  prefixEnd,
  readPutRevision,
  readUpdate,
} from "./wire.ts";

/** How a request ended: undefined when well, else why not. */
export type Outcome = string | undefined;

/** Sends one request at a time. */
export interface Requester {
  /** Sends over the connection; `done` is called exactly once, never before `send` returns. */
  send(connection: Http2Connection, done: (outcome: Outcome) => void): void;
}

/** Told of each acknowledged write and when it was sent. */
export type WriteListener = (revision: number, sentMs: number) => void;

const ignoreDone = (): void => {};

function outcomeOf(status: CallStatus): Outcome {
  return status.code === 0 ? undefined : `${status.text} (gRPC code ${status.code})`;
}

/** Puts random keys, or each key once in order while loading. */
export class PutRequester implements Requester, StreamListener {
  private readonly keyspace: Keyspace;
  private readonly onWrite: WriteListener | undefined;
  private readonly nextKey: () => number;
  private key = 0;
  private revision = 0;
  private sentMs = 0;
  private done: (outcome: Outcome) => void = ignoreDone;

  constructor(
    keyspace: Keyspace,
    onWrite?: WriteListener,
    nextKey: () => number = () => keyspace.pickForWrite(),
  ) {
    this.keyspace = keyspace;
    this.onWrite = onWrite;
    this.nextKey = nextKey;
  }

  send(connection: Http2Connection, done: (outcome: Outcome) => void): void {
    this.key = this.nextKey();
    if (this.key < 0) {
      setImmediate(done, "every key has a write in flight; use more keys");
      return;
    }
    this.done = done;
    this.sentMs = performance.now();
    this.revision = 0;
    const value = this.keyspace.valueOf(this.key);
    connection.unary(methodHeaders.put, encodePut(this.keyspace.keys[this.key]!, value), this);
  }

  message(bytes: Buffer): void {
    this.revision = readPutRevision(bytes);
  }

  end(status: CallStatus): void {
    if (status.code === 0) {
      this.keyspace.acknowledge(this.key, this.revision);
      this.onWrite?.(this.revision, this.sentMs);
    } else this.keyspace.lose(this.key);
    this.done(outcomeOf(status));
  }
}

/** Reads random keys, or lists a namespace. */
export class RangeRequester implements Requester, StreamListener {
  private readonly keyspace: Keyspace;
  private readonly serializable: boolean;
  private readonly list: boolean;
  private found = 0;
  private done: (outcome: Outcome) => void = ignoreDone;

  constructor(keyspace: Keyspace, options: { readonly serializable: boolean; readonly list: boolean }) {
    this.keyspace = keyspace;
    this.serializable = options.serializable;
    this.list = options.list;
  }

  send(connection: Http2Connection, done: (outcome: Outcome) => void): void {
    this.done = done;
    this.found = 0;
    connection.unary(methodHeaders.range, this.encode(), this);
  }

  private encode(): Buffer {
    if (!this.list) {
      const key = this.keyspace.keys[this.keyspace.pick()]!;
      return encodeRange({ key, limit: 1, serializable: this.serializable });
    }
    const key = this.keyspace.pickNamespace();
    return encodeRange({
      key,
      rangeEnd: prefixEnd(key),
      limit: namespaceKeys,
      serializable: this.serializable,
    });
  }

  message(bytes: Buffer): void {
    this.found = countRange(bytes);
  }

  end(status: CallStatus): void {
    const wanted = this.list ? namespaceKeys : 1;
    const wrong = status.code === 0 && this.found !== wanted;
    this.done(wrong ? `range answered ${this.found} keys where ${wanted} are` : outcomeOf(status));
  }
}

/** A kube-apiserver's update: put if the key is as it was last seen. */
class UpdateRequester implements Requester, StreamListener {
  private readonly keyspace: Keyspace;
  private readonly onWrite: WriteListener | undefined;
  private key = 0;
  private outcome: Outcome;
  private sentMs = 0;
  private done: (outcome: Outcome) => void = ignoreDone;

  constructor(keyspace: Keyspace, onWrite: WriteListener | undefined) {
    this.keyspace = keyspace;
    this.onWrite = onWrite;
  }

  send(connection: Http2Connection, done: (outcome: Outcome) => void): void {
    this.key = this.keyspace.pickForWrite();
    if (this.key < 0) {
      setImmediate(done, "every key has a write in flight; use more keys");
      return;
    }
    this.done = done;
    this.sentMs = performance.now();
    this.outcome = "update answered without a message";
    const { keys, modRevisions } = this.keyspace;
    const value = this.keyspace.valueOf(this.key);
    connection.unary(methodHeaders.txn, encodeUpdate(keys[this.key]!, modRevisions[this.key]!, value), this);
  }

  message(bytes: Buffer): void {
    const answer = readUpdate(bytes);
    if (answer.succeeded) {
      this.outcome = undefined;
      this.keyspace.acknowledge(this.key, answer.revision);
      this.onWrite?.(answer.revision, this.sentMs);
    } else {
      const found = answer.current?.modRevision ?? 0;
      const wanted = this.keyspace.modRevisions[this.key]!;
      this.outcome = `update refused: mod revision ${found} where the last acknowledged write has ${wanted}`;
    }
  }

  end(status: CallStatus): void {
    const outcome = outcomeOf(status) ?? this.outcome;
    if (outcome !== undefined) this.keyspace.lose(this.key);
    this.done(outcome);
  }
}

const updateShare = 0.8;
const getShare = 0.18;

/** A Kubernetes-like mix: 80 % updates, 18 % reads of one key, 2 % lists of 500. */
export class MixRequester implements Requester {
  private readonly update: UpdateRequester;
  private readonly get: RangeRequester;
  private readonly list: RangeRequester;
  private readonly prng: Prng;

  constructor(keyspace: Keyspace, prng: Prng, onWrite: WriteListener | undefined) {
    this.prng = prng;
    this.update = new UpdateRequester(keyspace, onWrite);
    this.get = new RangeRequester(keyspace, { serializable: false, list: false });
    this.list = new RangeRequester(keyspace, { serializable: false, list: true });
  }

  send(connection: Http2Connection, done: (outcome: Outcome) => void): void {
    const draw = this.prng.below(1000) / 1000;
    const chosen = draw < updateShare ? this.update : draw < updateShare + getShare ? this.get : this.list;
    chosen.send(connection, done);
  }
}
