/**
 * One run: a safety phase with faults, a liveness phase on a healed quorum, and the judgement of the checkers.
 */
import { Prng } from "../base/prng.ts";
import type { MemberIndex, TraceEvent } from "../replica/contract.ts";
import { checkAgreedLeases, type LeaseSighting } from "./checkers/agreed-leases.ts";
import { AgreementChecker } from "./checkers/agreement.ts";
import { BlameChecker } from "./checkers/blame.ts";
import { ChangeHistory } from "./checkers/changes.ts";
import { DecidedLog } from "./checkers/decided-log.ts";
import { checkDurability } from "./checkers/durability.ts";
import { EvidenceChecker } from "./checkers/evidence.ts";
import { checkExactlyOnce, LEASED_PREFIX } from "./checkers/exactly-once.ts";
import { ExecutionChecker } from "./checkers/execution.ts";
import { checkLeases } from "./checkers/leases.ts";
import { checkLinearizability } from "./checkers/linearizability.ts";
import { checkLiveness } from "./checkers/liveness.ts";
import { StoreModel } from "./checkers/model.ts";
import { PromiseChecker } from "./checkers/promises.ts";
import { checkRefusals } from "./checkers/refusals.ts";
import { checkValidity } from "./checkers/validity.ts";
import { Cluster } from "./cluster.ts";
import { describeTrace, shortStack } from "./describe.ts";
import { Faults } from "./faults.ts";
import type { Violation } from "./history.ts";
import type { Host, HostObserver } from "./host.ts";
import { CALM_NETWORK } from "./network.ts";
import type { SimulationOptions } from "./options.ts";
import { wholeState } from "./store-view.ts";
import type { Verdict } from "./verdict.ts";

export interface SimulationHooks {
  /** Called with each line of the trace, when set. */
  readonly line?: (text: string) => void;
}

/** Violations after which a run ends: the first ones tell the story. */
const VIOLATIONS_MAX = 3;
/** Time for all correct members to reach the last instance after clients have stopped. */
const CONVERGENCE_MS = 30_000;
/** A fenced read at a member that works has its answer within this, whatever the others name. */
const READ_BOUND_MS = 20_000;
/** A member's leases are looked at after every instance that this divides. */
const SIGHTING_INSTANCES = 4;

export class Simulation implements HostObserver {
  readonly #options: SimulationOptions;
  readonly #hooks: SimulationHooks;
  readonly #violations: Violation[] = [];
  readonly #report = (violation: Violation): void => {
    this.#violations.push(violation);
    this.#write(() => `VIOLATION ${violation.checker}: ${violation.message}`);
  };
  readonly #cluster: Cluster;
  readonly #faults: Faults;
  readonly #agreement = new AgreementChecker(this.#report);
  readonly #execution = new ExecutionChecker(this.#report);
  readonly #changes = new ChangeHistory(this.#report);
  readonly #promises: PromiseChecker;
  readonly #blame: BlameChecker;
  readonly #evidence: EvidenceChecker;
  readonly #log: DecidedLog;
  readonly #sightings: LeaseSighting[] = [];
  /** Last revision whose events were read from each member. */
  readonly #readUpTo: number[];
  #regency = 1;
  #leader = 0;
  #starts = 0;
  #transfers = 0;
  #fingerprint = 0;
  #healedMs = -1;

  constructor(options: SimulationOptions, hooks: SimulationHooks = {}) {
    this.#options = options;
    this.#hooks = hooks;
    this.#readUpTo = new Array<number>(options.n).fill(1);
    const prng = new Prng(options.seed + 0x5eed);
    this.#cluster = new Cluster(options, prng, this, (to, from, bytes) => this.#mix(to, from, bytes));
    // A member whose clock is beyond every bound may propose times that no correct member proposes.
    const liars = options.faulty.filter(({ kind }) => kind !== "disk").map(({ member }) => member);
    this.#blame = new BlameChecker(new Set(liars), this.#report);
    const forgetful = options.faulty.filter(({ kind }) => kind !== "clock").map(({ member }) => member);
    this.#promises = new PromiseChecker(new Set(forgetful), this.#report);
    const { scheduler, hosts, clocks, network, membership, byzantine } = this.#cluster;
    this.#evidence = new EvidenceChecker(options.n, membership.quorum, byzantine, this.#report);
    this.#log = new DecidedLog(membership.digest);
    this.#faults = new Faults({
      scheduler,
      prng: prng.fork(),
      hosts,
      clocks,
      network,
      options,
      leader: () => this.#leader,
      regency: () => this.#regency,
    });
  }

  run(): Verdict {
    const { scheduler, hosts, clients } = this.#cluster;
    for (const host of hosts) host.start();
    for (const client of clients) client.start();
    this.#faults.start();
    scheduler.run(this.#options.safetyMs, this.#stop);
    if (!this.#stop()) this.#heal();
    if (!this.#stop()) this.#judge();
    return this.#verdict();
  }

  readonly #stop = (): boolean => this.#violations.length >= VIOLATIONS_MAX;

  /** Members that have to work in the liveness phase. */
  #core(): Host[] {
    const { faulty, leftDead } = this.#options;
    return this.#cluster.hosts.filter(
      ({ member }) => !leftDead.includes(member) && !faulty.some((f) => f.member === member),
    );
  }

  #heal(): void {
    const { scheduler, hosts, network, clients } = this.#cluster;
    this.#write(() => "the liveness phase begins");
    this.#faults.stop();
    network.setOptions(CALM_NETWORK);
    network.heal();
    for (const host of hosts) {
      host.log.calm();
      host.spare();
      if (this.#options.leftDead.includes(host.member)) host.crash();
      else host.start();
    }
    const core = this.#core();
    const waiting = clients.filter(({ host }) => core.includes(host));
    for (const client of clients) client.probe();
    const startMs = scheduler.nowMs;
    const served = () => waiting.every((client) => client.served);
    scheduler.run(startMs + this.#options.livenessMs, () => this.#stop() || served());
    this.#healedMs = scheduler.nowMs - startMs;
    for (const client of clients) client.stop();
    const together = () => {
      const highest = this.#execution.highest;
      return core.every(({ lastExecuted }) => lastExecuted >= highest);
    };
    scheduler.run(scheduler.nowMs + CONVERGENCE_MS, () => this.#stop() || (together() && this.#isQuiet()));
    checkLiveness(
      {
        boundMs: this.#options.livenessMs,
        unserved: waiting
          .filter((client) => !client.served)
          .map(({ id, host }) => ({ client: id, member: host.member })),
        hangingReads: waiting
          .filter(({ readWaitedMs }) => readWaitedMs > READ_BOUND_MS)
          .map(({ id, host }) => ({ client: id, member: host.member })),
        positions: core.map(({ member, running, lastExecuted }) => ({
          member,
          running,
          position: lastExecuted,
        })),
        highest: this.#execution.highest,
      },
      this.#report,
    );
    if (!this.#stop()) this.#awaitExpiry(core);
  }

  /** No client of a core member waits any more. */
  #isQuiet(): boolean {
    return this.#core().every((host) => host.waiting === 0);
  }

  /** Leases that nobody keeps alive any more have to go, though nobody asks for anything. */
  #awaitExpiry(core: readonly Host[]): void {
    const { scheduler } = this.#cluster;
    const { workload, consensus, clock } = this.#options;
    if (core.every((host) => host.store === undefined || host.store.leases().length === 0)) return;
    const slackMs = consensus.clockBoundMs + clock.skewMaxMs;
    const waitMs = Math.max(2, workload.leaseTtlSecondsMax) * 1000 + 2 * slackMs + 5_000;
    const gone = () => core.every((host) => host.store === undefined || host.store.leases().length === 0);
    scheduler.run(scheduler.nowMs + waitMs, () => this.#stop() || gone());
    if (gone()) return;
    const left = core.map((host) => `member ${host.member}: ${host.store?.leases().length ?? 0}`).join(", ");
    this.#report({
      checker: "leases",
      message: `leases are left ${waitMs} ms after the last request: ${left}`,
    });
  }

  #judge(): void {
    const { records, byzantine } = this.#cluster;
    const model = new StoreModel(this.#changes, this.#report);
    const changes = this.#changes.all();
    checkValidity(changes, records, byzantine, this.#report);
    checkExactlyOnce(changes, records, this.#report);
    checkLinearizability(records, model, this.#report);
    const slackMs = this.#options.consensus.clockBoundMs + this.#options.clock.skewMaxMs + 1;
    checkLeases(changes, records, { slackMs }, this.#report);
    checkRefusals(records, this.#report);
    for (const { member } of this.#core()) this.#sightLeases(member);
    checkAgreedLeases(
      {
        batch: (cid) => this.#log.batch(cid),
        lastCid: this.#execution.highest,
        records,
        sightings: this.#sightings,
        deletedIn: (cid) => this.#leasedKeysDeletedIn(cid),
      },
      this.#report,
    );
    const states = this.#core().flatMap(({ member, store }) =>
      store === undefined ? [] : [{ member, revision: store.revision, kvs: wholeState(store) }],
    );
    checkDurability(states, records, model, this.#report);
  }

  /** Undefined when not all changes of the instance are known. */
  #leasedKeysDeletedIn(cid: number): readonly string[] | undefined {
    const revisions = this.#execution.revisionsOf(cid);
    if (revisions === undefined) return undefined;
    const keys: string[] = [];
    for (let revision = revisions[0]; revision <= revisions[1]; revision++) {
      const change = this.#changes.change(revision);
      if (change === undefined) return undefined;
      for (const { type, kv } of change.events) {
        if (type === "delete" && kv.key.startsWith(LEASED_PREFIX)) keys.push(kv.key);
      }
    }
    return keys;
  }

  #sightLeases(member: MemberIndex): void {
    const { store, lastExecuted: cid } = this.#cluster.hosts[member]!;
    if (store === undefined) return;
    const leases = new Map(store.leases().map((id) => [id, store.leaseTimeToLive(id)!.expiresAtMs]));
    this.#sightings.push({ member, cid, leases });
  }

  #verdict(): Verdict {
    const { scheduler, records } = this.#cluster;
    return {
      seed: this.#options.seed,
      violations: this.#violations,
      fingerprint: this.#fingerprint >>> 0,
      counts: {
        virtualMs: Math.round(scheduler.nowMs),
        events: scheduler.handled,
        decided: this.#agreement.instances,
        revision: this.#changes.lastRevision,
        asked: records.length,
        answered: records.filter(({ outcome }) => outcome !== undefined).length,
        regency: this.#regency,
        starts: this.#starts,
        transfers: this.#transfers,
        healedMs: Math.round(this.#healedMs),
        faults: Object.fromEntries(this.#faults.counts),
        caught: Object.fromEntries(this.#blame.caught),
        acted: Object.fromEntries(this.#cluster.acted),
      },
    };
  }

  // What members do

  #isTrusted(member: MemberIndex): boolean {
    return !this.#cluster.byzantine.has(member);
  }

  started(member: MemberIndex, incarnation: number): void {
    this.#starts++;
    this.#cluster.answered[member]!.length = 0;
    this.#execution.restarted(member);
    this.#readUpTo[member] = 1;
    this.line(member, () => `START ${incarnation}`);
  }

  stopped(member: MemberIndex, why: string): void {
    this.line(member, () => `STOP (${why})`);
  }

  invariant(member: MemberIndex, error: Error): void {
    if (!this.#isTrusted(member)) return;
    this.#report({ checker: "invariant", message: `member ${member}: ${shortStack(error)}` });
  }

  changed(member: MemberIndex): void {
    const store = this.#cluster.hosts[member]!.store;
    if (store === undefined || !this.#isTrusted(member)) return;
    const from = Math.max(this.#readUpTo[member]! + 1, store.compactRevision + 1);
    if (from > store.revision) return;
    this.#changes.observe(
      member,
      store.events(from, store.revision, Number.MAX_SAFE_INTEGER),
      this.#cluster.scheduler.nowMs,
    );
    this.#readUpTo[member] = store.revision;
  }

  trace(member: MemberIndex, event: TraceEvent): void {
    this.line(member, () => describeTrace(event));
    if (!this.#isTrusted(member)) return;
    switch (event.kind) {
      case "decided":
        this.#agreement.decided(member, event.cid, event.regency, event.digest);
        this.#promises.decided(member, event.cid, event.digest);
        this.#evidence.decided(member, event.cid, event.digest);
        this.#log.decided(event.cid, event.digest);
        this.#faults.decided(member);
        break;
      case "executed":
        this.#execution.executed(member, event.cid, event.revision, event.executionHash);
        this.#promises.executed(member, event.cid);
        this.#tieAnswers(member, event.cid);
        break;
      case "checkpoint":
        this.#execution.checkpoint(member, event.cid, event.root);
        break;
      case "transfer":
        if (event.phase !== "done") break;
        this.#transfers++;
        this.#readUpTo[member] = 1;
        this.#execution.transferred(member, event.cid);
        break;
      case "regency":
        if (event.regency >= this.#regency) this.#leader = event.leader;
        this.#regency = Math.max(this.#regency, event.regency);
        break;
      case "diverged":
        this.#blame.diverged(member, event.cid);
        break;
      case "misbehaviour":
        this.#blame.blamed(member, event.member, event.what);
        break;
      case "stop":
        break;
    }
  }

  /** The replica hands out the answers of an instance, and then says that it has executed it. */
  #tieAnswers(member: MemberIndex, cid: number): void {
    const answered = this.#cluster.answered[member]!;
    for (const record of answered) record.executedIn = cid;
    answered.length = 0;
    // Where one step executed several instances, the store is ahead of all but the last.
    if (cid % SIGHTING_INSTANCES !== 0 || this.#cluster.hosts[member]!.lastExecuted !== cid) return;
    this.#sightLeases(member);
  }

  sent(member: MemberIndex, bytes: Uint8Array): void {
    this.#promises.sent(member, bytes);
    this.#evidence.sent(member, bytes);
    this.#log.sent(bytes);
  }

  line(member: MemberIndex, text: () => string): void {
    this.#write(() => `${member} ${text()}`);
  }

  #write(text: () => string): void {
    const { line } = this.#hooks;
    if (line !== undefined) line(`${this.#cluster.scheduler.nowMs.toFixed(3).padStart(11)} ${text()}`);
  }

  #mix(to: MemberIndex, from: MemberIndex, bytes: Uint8Array): void {
    let hash = this.#fingerprint;
    const at = Math.floor(this.#cluster.scheduler.nowMs * 1000);
    for (const word of [
      at,
      to,
      from,
      bytes.length,
      bytes[bytes.length - 1] ?? 0,
      bytes[bytes.length >> 1] ?? 0,
    ]) {
      hash = Math.imul(hash ^ word, 0x01000193) ^ (hash >>> 15);
    }
    this.#fingerprint = hash;
  }
}
