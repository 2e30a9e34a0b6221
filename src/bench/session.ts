/**
 * The bench's side of one cluster: connections to every member, and what must be stored in it.
 */
import { Prng } from "../base/prng.ts";
import { call, connectTo, methodHeaders } from "./connect.ts";
import type { Http2Connection } from "./http2-connection.ts";
import { Keyspace, keyPrefix, keyPrefixEnd } from "./keyspace.ts";
import { type Outcome, PutRequester } from "./requester.ts";
import type { Target } from "./target.ts";
import { encodeRange, readRange } from "./wire.ts";

/** How the load is made, the same for every cluster. */
export interface SessionOptions {
  readonly keys: number;
  readonly valueBytes: number;
  readonly connectionsPerMember: number;
  readonly seed: number;
}

/** What is stored is not what was acknowledged. */
export class WrongDataError extends Error {
  override name = "WrongDataError";
}

const preloadInFlight = 256;
const sampleKeys = 400;

/** One cluster under load. */
export class Session {
  readonly target: Target;
  readonly keyspace: Keyspace;
  /** By member. */
  readonly connections: readonly (readonly Http2Connection[])[];
  readonly prng: Prng;

  private constructor(target: Target, connections: Http2Connection[][], options: SessionOptions) {
    this.target = target;
    this.connections = connections;
    this.prng = new Prng(options.seed);
    this.keyspace = new Keyspace(options.keys, options.valueBytes, this.prng.fork());
  }

  static async open(target: Target, options: SessionOptions): Promise<Session> {
    const connections = await Promise.all(
      target.members.map((member) =>
        Promise.all(
          Array.from({ length: options.connectionsPerMember }, () => connectTo(member.clientUrl, target.tls)),
        ),
      ),
    );
    return new Session(target, connections, options);
  }

  /** Writes every key once. `onProgress` gets the number done, now and then. */
  async preload(onProgress: (done: number) => void): Promise<void> {
    const { keyspace } = this;
    const total = keyspace.keys.length;
    let next = 0;
    let done = 0;
    const takeKey = (): number => keyspace.startWrite(next++);
    await new Promise<void>((resolve, reject) => {
      for (let slot = 0; slot < Math.min(preloadInFlight, total); slot++) {
        const requester = new PutRequester(keyspace, undefined, takeKey);
        const ofMember = this.connections[slot % this.connections.length]!;
        const connection = ofMember[Math.floor(slot / this.connections.length) % ofMember.length]!;
        const finished = (outcome: Outcome): void => {
          if (outcome !== undefined) {
            reject(new Error(`loading the keys into ${this.target.name} failed: ${outcome}`));
            return;
          }
          done++;
          if (done % 10_000 === 0) onProgress(done);
          if (next < total) requester.send(connection, finished);
          else if (done === total) resolve();
        };
        requester.send(connection, finished);
      }
    });
  }

  /** The current revision, by a linearizable read. Throws WrongDataError when keys are missing or too many. */
  async revision(): Promise<number> {
    const request = encodeRange({ key: keyPrefix, rangeEnd: keyPrefixEnd, limit: 1 });
    const answer = readRange(await call(this.connections[0]![0]!, methodHeaders.range, request));
    if (answer.count !== this.keyspace.keys.length)
      throw new WrongDataError(
        `${this.target.name} holds ${answer.count} keys where ${this.keyspace.keys.length} were acknowledged`,
      );
    return answer.revision;
  }

  /** Reads a sample back, each key through another member, and compares. Returns how many; throws WrongDataError. */
  async verify(): Promise<number> {
    const { keyspace } = this;
    let checked = 0;
    for (let sample = 0; sample < sampleKeys; sample++) {
      const index = keyspace.pick();
      if (!keyspace.isCertain(index)) continue;
      const connection = this.connections[sample % this.connections.length]![0]!;
      const key = keyspace.keys[index]!;
      const found = readRange(await call(connection, methodHeaders.range, encodeRange({ key }))).kvs[0];
      const wanted = keyspace.modRevisions[index]!;
      if (found === undefined)
        throw new WrongDataError(
          `${this.target.name}: ${key.toString()} is missing; revision ${wanted} was acknowledged`,
        );
      if (found.modRevision !== wanted || Buffer.compare(found.value, keyspace.valueOf(index)) !== 0)
        throw new WrongDataError(
          `${this.target.name}: ${key.toString()} has revision ${found.modRevision}; the last acknowledged write has ` +
            `${wanted}, or its value differs`,
        );
      checked++;
    }
    return checked;
  }

  close(): void {
    for (const connection of this.connections.flat()) connection.close();
  }
}
