/**
 * Checks that no correct member contradicts itself, in all of its lives together: one value for each ballot it
 * WRITEs (a leader by its PROPOSE) or ACCEPTs in, one STOPDATA for a regency, which tells of every ACCEPT that was
 * given and not decided and of every logged WRITE, no ACCEPT and no logged WRITE after it in an older regency that
 * it did not tell of, and in its answers to fences no forgetting of an instance in which it gave one of these, nor of
 * the instance before one in which it gave a WRITE. These are the promises
 * that must be on disk before they leave; breaking one need not do harm in this run, but in some run it does.
 */
import { equalBytes } from "../../base/bytes.ts";
import {
  decodeMessage,
  decodeStopDataBody,
  type LoggedWrite,
  type Message,
  type StopDataBody,
} from "../../consensus/messages.ts";
import { valueDigest } from "../../consensus/value.ts";
import type { MemberIndex } from "../../replica/contract.ts";
import { SimulatedHasher } from "../crypto.ts";
import type { Report } from "../history.ts";
import { type AimedKind, kindOf } from "../message-kinds.ts";

type Vote = Extract<Message, { type: "write" | "accept" }>;

interface Promises {
  /** Digests by kind, instance and regency. */
  readonly votes: Map<string, Uint8Array>;
  /** Newest ACCEPT of each instance. */
  readonly accepts: Map<number, { readonly regency: number; readonly digest: Uint8Array }>;
  /** Newest logged WRITE of each instance. */
  readonly logged: Map<number, { readonly regency: number; readonly digest: Uint8Array }>;
  readonly decided: Map<number, Uint8Array>;
  /** Last instance that it executed. */
  executed: number;
  /** Highest instance in which it gave a WRITE. */
  written: number;
  /** Highest instance in which it gave an ACCEPT or a logged WRITE. */
  promised: number;
  stopData: { readonly bytes: Uint8Array; readonly body: StopDataBody } | undefined;
  /** A broadcast is sent to each member in turn. */
  last: Uint8Array | undefined;
}

const LOOKED_AT: ReadonlySet<AimedKind> = new Set(["propose", "write", "accept", "stopData", "fenceReply"]);

export class PromiseChecker {
  readonly #excused: ReadonlySet<MemberIndex>;
  readonly #report: Report;
  readonly #hasher = new SimulatedHasher();
  readonly #promises = new Map<MemberIndex, Promises>();
  /** What anybody decided: that it is one value is another checker's. */
  readonly #decided = new Map<number, Uint8Array>();

  /** @param excused Byzantine members, and those that lose what their disk had confirmed */
  constructor(excused: ReadonlySet<MemberIndex>, report: Report) {
    this.#excused = excused;
    this.#report = report;
  }

  decided(member: MemberIndex, cid: number, digest: Uint8Array): void {
    this.#decided.set(cid, digest);
    if (!this.#excused.has(member)) this.#of(member).decided.set(cid, digest);
  }

  /** A member that restarts knows decisions from its log, and says so by executing them. */
  executed(member: MemberIndex, cid: number): void {
    if (!this.#excused.has(member)) this.#of(member).executed = cid;
  }

  /** Whether the member has decided the instance with this value, or has executed it and nobody said with which. */
  #hasDecided({ decided, executed }: Promises, cid: number, digest: Uint8Array): boolean {
    const known = decided.get(cid) ?? (cid <= executed ? (this.#decided.get(cid) ?? digest) : undefined);
    return known !== undefined && equalBytes(known, digest);
  }

  /** A member sends a message, as encoded. */
  sent(member: MemberIndex, bytes: Uint8Array): void {
    if (this.#excused.has(member)) return;
    const kind = kindOf(bytes);
    if (kind === undefined || !LOOKED_AT.has(kind)) return;
    const promises = this.#of(member);
    if (promises.last === bytes) return;
    promises.last = bytes;
    const message = decodeMessage(bytes);
    if (message.type === "propose") {
      promises.written = Math.max(promises.written, message.cid);
      const digest = valueDigest(this.#hasher, message.value);
      this.#once(member, promises, "WRITE", message.cid, message.regency, digest);
    } else if (message.type === "write") {
      promises.written = Math.max(promises.written, message.cid);
      this.#once(member, promises, "WRITE", message.cid, message.regency, message.digest);
      if (message.logged !== undefined) this.#logged(member, promises, message);
    } else if (message.type === "accept") {
      this.#accept(member, promises, message);
    } else if (message.type === "stopData") {
      this.#stopData(member, promises, message.body);
    } else if (message.type === "fenceReply") {
      this.#fenceReply(member, promises, message.accepted);
    }
  }

  #fenceReply(member: MemberIndex, { written, promised }: Promises, accepted: number): void {
    if (accepted < written - 1) {
      this.#violation(member, `knows of instance ${accepted} only, after a WRITE in instance ${written}`);
    }
    if (accepted < promised) {
      this.#violation(
        member,
        `knows of instance ${accepted} only, after an ACCEPT or logged WRITE in instance ${promised}`,
      );
    }
  }

  #of(member: MemberIndex): Promises {
    let promises = this.#promises.get(member);
    if (promises === undefined) {
      promises = {
        votes: new Map(),
        accepts: new Map(),
        logged: new Map(),
        decided: new Map(),
        executed: 0,
        written: 0,
        promised: 0,
        stopData: undefined,
        last: undefined,
      };
      this.#promises.set(member, promises);
    }
    return promises;
  }

  /** True when it is said for the first time. */
  #once(
    member: MemberIndex,
    { votes }: Promises,
    kind: "WRITE" | "ACCEPT",
    cid: number,
    regency: number,
    digest: Uint8Array,
  ): boolean {
    const key = `${kind}${cid}/${regency}`;
    const before = votes.get(key);
    if (before === undefined) {
      votes.set(key, digest);
      return true;
    }
    if (!equalBytes(before, digest))
      this.#violation(member, `gives two ${kind}s in ballot (${cid}, ${regency})`);
    return false;
  }

  #accept(member: MemberIndex, promises: Promises, { cid, regency, digest }: Vote): void {
    promises.promised = Math.max(promises.promised, cid);
    if (!this.#once(member, promises, "ACCEPT", cid, regency, digest)) return;
    const newest = promises.accepts.get(cid);
    if (newest === undefined || newest.regency < regency) promises.accepts.set(cid, { regency, digest });
    const told = promises.stopData?.body;
    // What is decided may be accepted at any time: it is the only value that there can be.
    if (told === undefined || regency >= told.regency || this.#hasDecided(promises, cid, digest)) return;
    if (cid <= (told.decided?.cid ?? 0)) return;
    const claimed = told.claims.some((claim) => claim.cid === cid && claim.regency >= regency);
    if (!claimed) {
      this.#violation(
        member,
        `ACCEPTs in ballot (${cid}, ${regency}) after its STOPDATA for regency ${told.regency}, which says nothing of it`,
      );
    }
  }

  #logged(member: MemberIndex, promises: Promises, { cid, regency, digest }: Vote): void {
    promises.promised = Math.max(promises.promised, cid);
    const newest = promises.logged.get(cid);
    if (newest === undefined || newest.regency < regency) promises.logged.set(cid, { regency, digest });
    const told = promises.stopData?.body;
    if (told === undefined || regency >= told.regency || cid <= (told.decided?.cid ?? 0)) return;
    if (!told.logged.some((write) => write.cid === cid && write.regency >= regency)) {
      this.#violation(
        member,
        `sends its logged WRITE in ballot (${cid}, ${regency}) after its STOPDATA for regency ${told.regency}, which says nothing of it`,
      );
    }
  }

  #stopData(member: MemberIndex, promises: Promises, bytes: Uint8Array): void {
    const before = promises.stopData;
    const body = decodeStopDataBody(bytes);
    if (before !== undefined && before.body.regency === body.regency && !equalBytes(before.bytes, bytes)) {
      this.#violation(member, `sends two STOPDATAs for regency ${body.regency}`);
    }
    if (before !== undefined && before.body.regency > body.regency) {
      this.#violation(member, `sends STOPDATA for regency ${body.regency} after ${before.body.regency}`);
    }
    promises.stopData = { bytes, body };
    this.#hidesLogged(member, promises, body);
    for (const [cid, { regency, digest }] of promises.accepts) {
      if (cid <= (body.decided?.cid ?? 0)) promises.accepts.delete(cid);
      if (cid <= (body.decided?.cid ?? 0) || regency >= body.regency) continue;
      if (promises.decided.has(cid) || this.#hasDecided(promises, cid, digest)) continue;
      if (names(body.claims, { cid, regency, digest })) continue;
      this.#violation(
        member,
        `hides its ACCEPT in ballot (${cid}, ${regency}) in its STOPDATA for regency ${body.regency}`,
      );
    }
  }

  /** Decided with the same value or not: others may have nothing but these reports to go by. */
  #hidesLogged(member: MemberIndex, promises: Promises, body: StopDataBody): void {
    for (const [cid, { regency, digest }] of promises.logged) {
      if (cid <= (body.decided?.cid ?? 0)) promises.logged.delete(cid);
      if (cid <= (body.decided?.cid ?? 0) || regency >= body.regency) continue;
      const decided = promises.decided.get(cid);
      // Another value was decided since: this one cannot have been.
      if (decided !== undefined && !equalBytes(decided, digest)) continue;
      if (names(body.logged, { cid, regency, digest })) continue;
      this.#violation(
        member,
        `hides its logged WRITE in ballot (${cid}, ${regency}) in its STOPDATA for regency ${body.regency}`,
      );
    }
  }

  #violation(member: MemberIndex, message: string): void {
    this.#report({ checker: "promises", message: `the correct member ${member} ${message}` });
  }
}

/** Whether a report names this vote of its instance, or a later one. */
function names(reported: readonly LoggedWrite[], { cid, regency, digest }: LoggedWrite): boolean {
  return reported.some(
    (vote) =>
      vote.cid === cid &&
      (vote.regency > regency || (vote.regency === regency && equalBytes(vote.digest, digest))),
  );
}
