/**
 * The state that the sub-protocols of one member share: who and where it is, what is durable, what it sends.
 * The protocols themselves are functions over it: agreement.ts (normal case), leader-change.ts, catch-up.ts,
 * progress.ts (timers).
 */
import { assert } from "../base/assert.ts";
import { toByteString } from "../base/bytes.ts";
import type { Hasher, Signer, Verifier } from "../base/crypto.ts";
import type { Bundle } from "./bundle.ts";
import { BundlePool } from "./bundle-pool.ts";
import { CertificateChecker } from "./certificates.ts";
import { type DecidedEntry, DecisionHistory } from "./decision-history.ts";
import type { ConsensusEffect } from "./effects.ts";
import { FastPolicy } from "./fast-policy.ts";
import { Instance, type KeptValue } from "./instance.ts";
import { encodeLogEntry, type LogEntry } from "./log-records.ts";
import type { Membership } from "./membership.ts";
import {
  type AcceptClaim,
  type AuthorityCertificate,
  type CertifiedCheckpoint,
  type CheckpointCertificate,
  type Collect,
  type DecisionCertificate,
  encodeMessage,
  type LoggedWrite,
  MAX_BODIES_SIZE_BYTES,
  MAX_CLAIMS,
  type Message,
  type StopDataBody,
} from "./messages.ts";
import type { ConsensusOptions } from "./options.ts";
import { OriginTable } from "./origin-table.ts";
import type { BallotClaim } from "./selection.ts";
import { bundleStatement } from "./statements.ts";
import { decodeValue, type Value, valueDigest } from "./value.ts";
import { WorkBudget } from "./work-budget.ts";

/** What the core asks of, and tells, the replica around it. */
export interface Application {
  /**
   * The next instance is decided; executed later, in order. `proposedAtMs` is when its proposal was seen, 0 when it
   * was not.
   */
  decided(entry: DecidedEntry, proposedAtMs: number): void;
  /** Chained hash of the execution up to `cid`, or undefined when it is not executed (any more known). */
  executionHash(cid: number): Uint8Array | undefined;
  /** A member's ACCEPT says that its execution up to `cid` has this hash. */
  executionReported(member: number, cid: number, hash: Uint8Array): void;
  /** Whether agreed time should move on (a lease is due) though nobody asks for anything. */
  timeIsDue(wallMs: number): boolean;
}

export interface CoreConfig {
  readonly membership: Membership;
  /** Index of this member. */
  readonly self: number;
  readonly hasher: Hasher;
  readonly signer: Signer;
  readonly verifier: Verifier;
  /** Of this start of the process; larger than that of any start before. */
  readonly incarnation: number;
  readonly options: ConsensusOptions;
  readonly application: Application;
}

/** What the SYNC of the current regency settles. */
export interface SyncState {
  /** The SYNC message, for members that missed it. */
  readonly message: Uint8Array;
  /** Highest certified decision among the collects. */
  readonly highest: DecisionCertificate | undefined;
  /** Instances after it for which a claim binds the value. */
  readonly bindings: ReadonlyMap<number, BallotClaim>;
  /** The highest of those instances; 0 for none. */
  readonly lastBound: number;
}

/** A member that may have forgotten promises stays silent until they cannot matter any more. */
export interface Probation {
  /** Undefined until enough members have told how far promises may reach. */
  limit: { readonly cid: number; readonly regency: number } | undefined;
}

/** A quarter of what the log itself holds in memory before it gives up. */
const UNDURABLE_SIZE_BYTES_MAX = 32 << 20;

const COSTS_NOTHING: ReadonlySet<Message["type"]> = new Set([
  "propose",
  "write",
  "accept",
  "heartbeat",
  "fence",
  "fenceReply",
]);
/** Messages that make this member read what it holds: about as much work as a signature check, and more for long answers. */
const ANSWERED: ReadonlySet<Message["type"]> = new Set([
  "stateRequest",
  "bundleRequest",
  "valueRequest",
  "decisionsRequest",
]);
/** An answer costs one unit more for so many bytes: a part of a state (256 KiB and a little) is one. */
const ANSWER_BYTES_PER_UNIT = 300_000;

export class Core {
  readonly membership: Membership;
  readonly self: number;
  readonly hasher: Hasher;
  readonly signer: Signer;
  readonly checker: CertificateChecker;
  readonly incarnation: number;
  readonly options: ConsensusOptions;
  readonly application: Application;
  readonly table: OriginTable;
  readonly pool: BundlePool;
  readonly history: DecisionHistory;
  /** What peers may make this member do. */
  readonly budget: WorkBudget;

  /** Clocks of the step in progress. */
  monotonicMs = 0;
  wallMs = 0;
  /** Effects of the step in progress, in the order in which they must be carried out. */
  effects: ConsensusEffect[] = [];
  /** Bytes of all messages to one member so far, answers among them. */
  sentSizeBytes = 0;

  // What is decided.
  lastDecided = 0;
  lastDigest: Uint8Array;
  lastTimestampMs = 0;
  instance: Instance;
  /** Messages for the instances after the one in progress. */
  readonly future = new Map<number, { readonly from: number; readonly message: Message }[]>();

  // Regency.
  regency = 1;
  authority: AuthorityCertificate | undefined;
  authorityHash: Uint8Array;
  /** Syncing: the regency is installed and its SYNC not there yet. Regency 1 needs none. */
  phase: "normal" | "syncing" = "normal";
  sync: SyncState | undefined;
  installedAtMs = 0;
  /** When the leader of this regency could begin. */
  readyAtMs = 0;
  /** Highest regency for which this member has signed a STOP. */
  stopTarget = 0;
  /** Log record of that STOP: it does not leave, nor is it sent again, before that is on disk. */
  stopSequence = 0;
  /** Valid STOPs for regency + 1 by member. */
  readonly stops = new Map<number, Uint8Array>();
  /** At the leader of a regency: valid STOPDATAs by member, with what they report. */
  readonly collects = new Map<number, { readonly collect: Collect; readonly report: StopDataBody }>();
  ownStopData:
    | { readonly regency: number; readonly body: Uint8Array; readonly signature: Uint8Array }
    | undefined;
  /** Why this member wants the leader replaced; acted on at the end of the step. */
  accusation = "";
  isolated: ReadonlySet<number> = new Set();

  // Durability.
  nextSequence = 1;
  durableSequence = 0;
  /** Bytes of each record that is not on disk yet, oldest first, and of all of them. */
  readonly #undurableSizes: number[] = [];
  #undurableSizeBytes = 0;
  readonly #waiting: { readonly sequence: number; readonly action: () => void }[] = [];
  /** Record of the current regency: no vote in it before that is on disk. */
  regencySequence = 0;
  /**
   * Record of the decision before, or of the own ACCEPT or logged WRITE for it: no WRITE or PROPOSE before that is
   * on disk.
   */
  previousSequence = 0;
  /** Ballots in which a WRITE or PROPOSE of before the restart may be forgotten. */
  burned = { regency: 0, upToCid: 0 };
  probation: Probation | undefined;
  /**
   * Highest instance that the log at start knew of, decided or accepted. The executed state may begin below it:
   * one that came by transfer is not in the log.
   */
  knownAtStart = 0;

  /** Own ACCEPTs of before a restart that belong to no instance at hand; reported until a certificate covers them. */
  readonly looseClaims = new Map<number, AcceptClaim>();
  /** Own logged WRITEs of before a restart, likewise. */
  readonly looseLogged = new Map<number, LoggedWrite>();
  /** First log record of each instance above the last stable checkpoint but one. */
  readonly #firstRecords = new Map<number, number>();

  // Progress.
  timeoutFactor = 1;
  relaxedAtMs = 0;
  /** Since when agreed time lags behind what a lease waits for; now while none does. */
  timeDueSinceMs = 0;
  leaderHeardAtMs = 0;
  lastDecidedAtMs = 0;
  decidedInRegency = false;
  /** Moving average of how long this leader lets requests wait between batches. */
  turnaroundMs = 0;
  turnaroundSamples = 0;
  readonly fastPolicy = new FastPolicy();
  readonly peerDecided: number[];
  readonly peerHeardAtMs: number[];
  readonly linked: boolean[];
  readonly unlinkedAtMs: number[];
  /** Members caught with a bad signature: theirs are checked before they count. */
  readonly suspects = new Set<number>();
  /** Bundles that came from their origin itself, so that a bad signature in one is its fault. */
  readonly direct = new WeakSet<Bundle>();
  /** Digests of bodies that a value at hand names and that are not here yet, with the first such value. */
  readonly wanted = new Map<string, KeptValue>();

  // Checkpoints.
  checkpoint: CheckpointCertificate | undefined;
  checkpointDecision: DecisionCertificate | undefined;
  /**
   * The newest certificate that this member knows of beside those of its history: from the log, where that has a
   * gap, or shown with a run of decisions that ends before it.
   */
  knownDecision: DecisionCertificate | undefined;
  /** Instance of the newest certificate that is in the log as such, checked. */
  loggedCertificate = 0;
  /** The one whose state this member can hand out: the same, or an older one where a crash took the newest. */
  offered: CertifiedCheckpoint | undefined;

  /** Own bundles until they are decided, by seq. */
  readonly outbox = new Map<number, { readonly message: Uint8Array; sentAtMs: number; waitMs: number }>();
  nextSeq = 1;
  /**
   * Own messages of the instance in progress, for sending again; before them those for the decision before it,
   * where this member proposed that once more.
   */
  ownVotes: {
    again?: readonly Uint8Array[];
    propose?: Uint8Array;
    write?: Uint8Array;
    accept?: Uint8Array;
  } = {};
  resentAtMs = 0;
  stopSentAtMs = 0;
  heartbeatAtMs = 0;
  decisionsAskedAtMs = 0;
  behindSinceMs = 0;
  catchUpTurn = 0;
  certificateAskedAtMs = 0;
  readonly #answeredAtMs = new Map<string, number>();

  constructor(config: CoreConfig) {
    this.membership = config.membership;
    this.self = config.self;
    this.hasher = config.hasher;
    this.signer = config.signer;
    this.incarnation = config.incarnation;
    this.options = config.options;
    this.application = config.application;
    const { n } = config.membership;
    assert(config.self >= 0 && config.self < n, "a member of the cluster");
    this.checker = new CertificateChecker(config.membership, config.verifier, config.options.mutation);
    this.table = new OriginTable(n);
    this.pool = new BundlePool(n, this.table, config.options.poolSizeBytesPerOrigin);
    this.history = new DecisionHistory(config.membership, this.checker, (member) => {
      this.suspect(member, "bad signature on a counted ACCEPT");
    });
    this.budget = new WorkBudget(n);
    this.lastDigest = config.membership.digest;
    this.authorityHash = config.membership.digest;
    this.instance = new Instance(1, n);
    this.peerDecided = new Array(n).fill(0);
    this.peerHeardAtMs = new Array(n).fill(0);
    this.linked = new Array(n).fill(false);
    this.unlinkedAtMs = new Array(n).fill(0);
  }

  get leader(): number {
    return this.membership.leaderOf(this.regency, this.isolated);
  }

  get isLeader(): boolean {
    return this.leader === this.self;
  }

  mutated(name: string): boolean {
    return this.options.mutation === name;
  }

  /** Votes that decide; see Membership.quorum. */
  get quorum(): number {
    return this.mutated("quorumOneTooSmall") ? this.membership.quorum - 1 : this.membership.quorum;
  }

  // ---- effects

  send(to: number, message: Message, lane: "vote" | "bulk" = "vote"): void {
    const bytes = encodeMessage(message);
    this.sentSizeBytes += bytes.length;
    this.effects.push({ type: "send", to, lane, bytes });
  }

  sendBytes(to: number, bytes: Uint8Array, lane: "vote" | "bulk" = "vote"): void {
    this.effects.push({ type: "send", to, lane, bytes });
  }

  /** To every other member, encoded once; to `first` first, for whom most waits. Returns the bytes. */
  broadcast(message: Message, lane: "vote" | "bulk" = "vote", first = 0): Uint8Array {
    const bytes = encodeMessage(message);
    this.broadcastBytes(bytes, lane, first);
    return bytes;
  }

  broadcastBytes(bytes: Uint8Array, lane: "vote" | "bulk" = "vote", first = 0): void {
    const { n } = this.membership;
    for (let i = 0; i < n; i++) {
      const to = (first + i) % n;
      if (to !== this.self) this.effects.push({ type: "send", to, lane, bytes });
    }
  }

  /** Appends to the log; with `sync` the host makes it durable soon. Returns the record's sequence. */
  append(entry: LogEntry, sync: boolean): number {
    const sequence = this.nextSequence++;
    const record = encodeLogEntry(entry);
    this.effects.push({ type: "append", sequence, record, sync });
    this.#undurableSizes.push(record.length);
    this.#undurableSizeBytes += record.length;
    return sequence;
  }

  /**
   * Whether this member takes over no further decision before the disk has caught up: the others go on at their own
   * pace, and what they decide must not pile up here.
   */
  get diskIsBehind(): boolean {
    return this.#undurableSizeBytes > UNDURABLE_SIZE_BYTES_MAX;
  }

  /** Appends the record that stands for all that the log before it says, but for open instances. */
  appendState(): number {
    const { authority, stopTarget: stopped, checkpoint, checkpointDecision: decision } = this;
    // What an earlier log knew of and this one does not hold must not be forgotten at the restart after next.
    const lastDecided = Math.max(this.lastDecided, this.knownAtStart);
    const onProbation = this.probation !== undefined;
    return this.append(
      { type: "state", lastDecided, authority, stopped, onProbation, checkpoint, decision },
      true,
    );
  }

  /** Puts the newest certificate into the log, unless it is there. A decision's own record has its ACCEPTs unchecked. */
  logCertificate(): void {
    const certificate = this.history.newestCertificate();
    if (certificate === undefined || certificate.cid <= this.loggedCertificate) return;
    this.loggedCertificate = certificate.cid;
    this.append({ type: "decision", certificate, body: undefined }, false);
  }

  /** Notes that the record with this sequence concerns the instance. */
  noteRecord(cid: number, sequence: number): void {
    if (!this.#firstRecords.has(cid)) this.#firstRecords.set(cid, sequence);
  }

  /** Forgets the records of instances up to `cid`; returns the first sequence that is still needed. */
  forgetRecords(cid: number): number {
    let needed = this.nextSequence;
    for (const [known, sequence] of this.#firstRecords) {
      if (known <= cid) this.#firstRecords.delete(known);
      else needed = Math.min(needed, sequence);
    }
    return needed;
  }

  /** Runs the action once the record is on disk. */
  whenDurable(sequence: number, action: () => void): void {
    if (sequence <= this.durableSequence) action();
    else this.#waiting.push({ sequence, action });
  }

  /** The host says that all records up to `sequence` are on disk. */
  durable(sequence: number): void {
    if (sequence <= this.durableSequence) return;
    while (this.durableSequence < sequence) {
      this.durableSequence += 1;
      this.#undurableSizeBytes -= this.#undurableSizes.shift() ?? 0;
    }
    while (this.#waiting.length > 0 && this.#waiting[0]!.sequence <= sequence)
      this.#waiting.shift()!.action();
  }

  misbehaviour(member: number, what: string): void {
    this.effects.push({ type: "trace", event: { kind: "misbehaviour", member, what } });
  }

  /**
   * A member was caught with a bad signature: from now on its signatures are checked before they count, and
   * what was taken from it unchecked is checked now.
   */
  suspect(member: number, what: string): void {
    this.misbehaviour(member, what);
    if (this.suspects.has(member)) return;
    this.suspects.add(member);
    this.pool.keepOnly(member, (bundle) => this.validBundle(bundle));
  }

  /** Whether the origin signed this bundle. */
  validBundle(bundle: Bundle): boolean {
    return this.checker.signedBy(bundle.origin, this.bundleStatement(bundle.digest), bundle.signature);
  }

  /** Asks for another leader at the end of this step. */
  accuse(reason: string): void {
    if (this.accusation === "") this.accusation = reason;
  }

  /**
   * Whether an answer of this kind may go to this peer now: one per resend interval, so that no peer can make
   * this member busy with answers.
   */
  mayAnswer(kind: string, peer: number, intervalMs = this.options.resendIntervalMs / 2): boolean {
    const key = `${kind}:${peer}`;
    const before = this.#answeredAtMs.get(key);
    if (before !== undefined && this.monotonicMs - before < intervalMs) return false;
    this.#answeredAtMs.set(key, this.monotonicMs);
    return true;
  }

  /**
   * Whether to look at a message: not when the peer has caused more work than it may. Votes of members that were
   * never caught with a bad signature are always taken, for they cost next to nothing.
   */
  admits(from: number, { type }: Message): boolean {
    if (COSTS_NOTHING.has(type) && !this.suspects.has(from)) return true;
    if (this.budget.allows(from, this.monotonicMs)) return true;
    if (this.mayAnswer("overspent", from, 1000)) this.misbehaviour(from, "causes too much work");
    return false;
  }

  /** Notes what a message that was looked at has cost: signatures checked, and an answer of so many bytes. */
  charge(from: number, { type }: Message, signatures: number, answeredSizeBytes: number): void {
    const answer = ANSWERED.has(type) ? 1 + Math.floor(answeredSizeBytes / ANSWER_BYTES_PER_UNIT) : 0;
    this.budget.charge(from, signatures + answer);
  }

  // ---- voting rights

  /** Whether forgotten promises still forbid votes at this instance. */
  get onProbation(): boolean {
    if (this.probation === undefined) return false;
    const { limit } = this.probation;
    // Under a certificate, for it is what a leader change then goes by: this member cannot report the logged WRITE
    // that one of those decisions may hang on.
    if (limit === undefined || this.history.covered < limit.cid || this.regency < limit.regency) return true;
    this.probation = undefined;
    // Said in the log too, or it would be on probation again after its next restart; and by what certificate, for
    // that must not be forgotten either.
    this.logCertificate();
    this.appendState();
    return false;
  }

  /**
   * Whether this member may WRITE (and, as leader, PROPOSE) in the instance in progress: the regency is on
   * disk and synchronised, the decision before (or the own ACCEPT for it) is on disk, and the ballot is not
   * one in which it may have voted unknowingly before a restart (design 4, rules a and b).
   */
  get mayWrite(): boolean {
    if (this.phase !== "normal" || this.durableSequence < this.regencySequence) return false;
    if (this.previousSequence > this.durableSequence && !this.mutated("writeBeforePreviousDurable"))
      return false;
    if (
      this.burned.regency === this.regency &&
      this.instance.cid <= this.burned.upToCid &&
      !this.mutated("ballotNotBurned")
    ) {
      return false;
    }
    if (this.lastDecided - this.history.certified >= MAX_CLAIMS - 2) return false;
    // An instance at or below the SYNC's decision is decided: it is learned, not voted on.
    if (this.sync?.highest !== undefined && this.instance.cid <= this.sync.highest.cid) return false;
    // So is one below a bound one: a correct member has voted there, which decided all before.
    if (
      this.sync !== undefined &&
      this.instance.cid < this.sync.lastBound &&
      !this.sync.bindings.has(this.instance.cid)
    ) {
      return false;
    }
    return !this.onProbation;
  }

  bundleStatement(digest: Uint8Array): Uint8Array {
    return bundleStatement(this.membership.digest, digest);
  }

  // ---- values and bodies

  /** Keeps a value of the instance in progress; undefined when the bytes are none. */
  keepEncodedValue(encoded: Uint8Array): KeptValue | undefined {
    let value: Value;
    try {
      value = decodeValue(encoded);
    } catch {
      return undefined;
    }
    return this.keepValue(encoded, value);
  }

  /** Keeps a value of the instance in progress. */
  keepValue(encoded: Uint8Array, value: Value): KeptValue {
    const digest = valueDigest(this.hasher, encoded);
    const digestKey = toByteString(digest);
    const before = this.instance.values.get(digestKey);
    if (before !== undefined) return before;
    const kept: KeptValue = { encoded, value, digest, digestKey, fetchedSizeBytes: 0 };
    this.instance.values.set(digestKey, kept);
    for (const reference of value.bundles) {
      const key = toByteString(reference.digest);
      if (this.instance.bodies.has(key)) continue;
      const pooled = this.pool.get(key);
      if (pooled !== undefined) this.instance.bodies.set(key, pooled);
      else if (!this.wanted.has(key)) this.wanted.set(key, kept);
    }
    return kept;
  }

  /** Keeps a bundle for the value at hand that names it, and for values to come. */
  keepBundle(bundle: Bundle): boolean {
    const key = toByteString(bundle.digest);
    const value = this.wanted.get(key);
    if (value !== undefined) {
      value.fetchedSizeBytes += bundle.encoded.length;
      // No correct member votes for a value of more, and a leader must not fill memory with what none may decide.
      if (value.fetchedSizeBytes > MAX_BODIES_SIZE_BYTES && !this.mutated("sizeNotChecked")) return false;
      this.wanted.delete(key);
      this.instance.bodies.set(key, bundle);
    }
    return this.pool.add(bundle, this.monotonicMs) || value !== undefined;
  }

  /**
   * Digests of values of the instance in progress that at least one correct member found right: a leader
   * change bound them, or a quorum voted for them.
   */
  endorsedValues(): Set<string> {
    const endorsed = new Set<string>();
    const binding = this.sync?.bindings.get(this.instance.cid);
    if (binding !== undefined) endorsed.add(binding.digestKey);
    if (this.instance.learned !== undefined) endorsed.add(this.instance.learned.digestKey);
    for (const ballot of this.instance.ballots()) {
      const decided = ballot.accepts.winner(this.quorum);
      if (decided !== undefined) endorsed.add(decided.digestKey);
      const written = ballot.writes.winner(this.quorum);
      if (written !== undefined) endorsed.add(written.digestKey);
    }
    return endorsed;
  }

  /** Whether an endorsed value names this body: its digest then stands for it, whoever forwards it. */
  isEndorsed(bundleKey: string): boolean {
    if (!this.wanted.has(bundleKey)) return false;
    for (const digestKey of this.endorsedValues()) {
      const bundles = this.instance.values.get(digestKey)?.value.bundles ?? [];
      if (bundles.some((reference) => toByteString(reference.digest) === bundleKey)) return true;
    }
    return false;
  }

  /** The bodies that a value names, in its order, or undefined while one is missing. */
  bodiesOf(value: Value): Bundle[] | undefined {
    const bundles: Bundle[] = [];
    for (const reference of value.bundles) {
      const bundle = this.instance.bodies.get(toByteString(reference.digest));
      if (bundle === undefined) return undefined;
      bundles.push(bundle);
    }
    return bundles;
  }

  /** Starts the next instance. */
  nextInstance(): void {
    this.instance = new Instance(this.lastDecided + 1, this.membership.n);
    this.wanted.clear();
    this.ownVotes = {};
  }
}
