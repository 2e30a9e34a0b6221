/**
 * Fast instances: decided in two steps instead of three, by the WRITEs of all members (docs/protocol.md, "Fast
 * instances"). The leader offers it while every member takes part; each member then has its WRITE on disk before
 * it leaves, and n of those for one digest in one ballot decide as a quorum of ACCEPTs does. Where one is missing
 * the instance goes on as any other after a short wait, so that safety and liveness never hang on it.
 */
import { executionFor } from "./agreement.ts";
import type { Core } from "./core.ts";
import type { Ballot, KeptValue, OwnLogged } from "./instance.ts";
import { writeStatement } from "./statements.ts";

/**
 * Longest average wait for the last member, once a quorum has voted: beyond it the leader offers nothing for a
 * while. It is all the delay that a slow or Byzantine member can cause by this path.
 */
const WAIT_LIMIT_MS = 2;
/** Weight of the newest instance in that average. */
const WAIT_WEIGHT = 1 / 16;
const BACK_OFF_MIN_MS = 250;
const BACK_OFF_MAX_MS = 64_000;
/** So many instances without another back-off halve it. */
const INSTANCES_TO_RELAX = 256;

/** When the leader offers fast instances: not soon again after members kept the others waiting. */
export class FastPolicy {
  #fromMs = 0;
  #backOffMs = BACK_OFF_MIN_MS;
  #waitMs = 0;
  #good = 0;

  allows(nowMs: number): boolean {
    return nowMs >= this.#fromMs;
  }

  /** An instance that was offered as fast is decided, so long after a quorum had voted. */
  note(waitedMs: number, nowMs: number): void {
    this.#waitMs += (waitedMs - this.#waitMs) * WAIT_WEIGHT;
    if (this.#waitMs > WAIT_LIMIT_MS) {
      this.#waitMs = 0;
      this.#good = 0;
      this.#fromMs = nowMs + this.#backOffMs;
      this.#backOffMs = Math.min(2 * this.#backOffMs, BACK_OFF_MAX_MS);
    } else if (++this.#good >= INSTANCES_TO_RELAX) {
      this.#good = 0;
      this.#backOffMs = Math.max(this.#backOffMs / 2, BACK_OFF_MIN_MS);
    }
  }
}

/** Whether to offer the next instance as a fast one: every member is linked and took part in the one before. */
export function mayOfferFast(core: Core): boolean {
  const { cid } = core.instance;
  if (isCertifying(core, cid)) return false;
  if (core.sync?.bindings.has(cid) || !core.fastPolicy.allows(core.monotonicMs)) return false;
  for (let member = 0; member < core.membership.n; member++) {
    if (member === core.self) continue;
    if (!core.linked[member] || core.peerDecided[member]! < core.lastDecided - 1) return false;
  }
  return true;
}

/** Whether a WRITE in this ballot is to be logged. */
export function isFast(core: Core, ballot: Ballot): boolean {
  return ballot.proposal?.message.fast === true && !isCertifying(core, core.instance.cid);
}

/** Whether this instance is never fast, whatever its leader says: its ACCEPTs certify those before it. */
function isCertifying(core: Core, cid: number): boolean {
  return cid % core.options.certifyInstances === 0;
}

/**
 * Appends the own WRITE with value and bodies, and sends it when that is on disk. From here on it is reported in
 * every leader change until a certificate covers the instance.
 *
 * @param signature where the WRITE is signed already, as the leader's is in its PROPOSE
 */
export function logWrite(core: Core, ballot: Ballot, kept: KeptValue, signature?: Uint8Array): void {
  const { instance } = core;
  const { cid } = instance;
  const { regency } = ballot;
  const { digest, digestKey } = kept;
  const body =
    instance.bodyLogged === digestKey
      ? undefined
      : {
          value: kept.encoded,
          bundles: core.bodiesOf(kept.value)!.map((bundle) => bundle.encoded),
        };
  const unsynced = core.mutated("loggedNotSynced");
  const sequence = core.append({ type: "write", cid, regency, digest, body }, !unsynced);
  core.noteRecord(cid, sequence);
  instance.bodyLogged = digestKey;
  const logged: OwnLogged = { regency, digest, digestKey, sequence, durable: false, signature };
  instance.logged = logged;
  const send = () => {
    logged.durable = true;
    sendLogged(core, cid, logged);
  };
  if (unsynced) send();
  else core.whenDurable(sequence, send);
}

function sendLogged(core: Core, cid: number, own: OwnLogged): void {
  const { regency, digest } = own;
  const signature = signatureOf(core, cid, own);
  const logged = executionFor(core, cid);
  const bytes = core.broadcast({ type: "write", regency, cid, digest, signature, logged });
  // Decided meanwhile by others' ACCEPTs: it may still be what another member waits for.
  if (cid !== core.instance.cid) return;
  if (regency === core.regency) core.ownVotes.write = bytes;
  const ballot = core.instance.ballot(regency);
  ballot.writes.add(digest, { member: core.self, signature });
  ballot.logged.add(digest, { member: core.self, signature });
}

function signatureOf(core: Core, cid: number, own: OwnLogged): Uint8Array {
  own.signature ??= core.signer.sign(writeStatement(core.membership.digest, own.regency, cid, own.digest));
  return own.signature;
}

/** Signs the WRITE that waits for the disk, so that signing and syncing overlap. */
export function presignLogged(core: Core): void {
  const { logged, cid } = core.instance;
  if (logged !== undefined && !logged.durable) signatureOf(core, cid, logged);
}

/**
 * Whether a member with a quorum of WRITEs holds its ACCEPT back, for those of all may come. Not when another
 * member has given up waiting, nor when this one has no logged WRITE itself.
 */
export function waitsForAll(core: Core, ballot: Ballot, digestKey: string): boolean {
  const { instance, monotonicMs: now } = core;
  if (!isFast(core, ballot) || instance.logged?.regency !== ballot.regency) return false;
  if (ballot.quorumSeenAtMs === 0) ballot.quorumSeenAtMs = now;
  return ballot.accepts.count(digestKey) === 0 && now - ballot.quorumSeenAtMs < core.options.fastWaitMs;
}

/** The digest that all members have logged WRITEs for. */
export function decidedByAll(
  core: Core,
  ballot: Ballot,
): { readonly digest: Uint8Array; readonly digestKey: string } | undefined {
  const { n } = core.membership;
  return ballot.logged.winner(core.mutated("fastOneTooFew") ? n - 1 : n);
}

/** When the instance is decided: how the leader's offer turned out. */
export function noteOutcome(core: Core): void {
  const { monotonicMs: now } = core;
  const offered = core.instance.find(core.regency);
  if (!core.isLeader || offered === undefined || !isFast(core, offered)) return;
  const waitedMs = offered.quorumSeenAtMs === 0 ? 0 : now - offered.quorumSeenAtMs;
  // One member that pauses for long once is no reason to give up.
  core.fastPolicy.note(Math.min(waitedMs, core.options.fastWaitMs), now);
}
