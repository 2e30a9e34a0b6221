/**
 * Faults that wait for the moment at which they hurt: a member that dies between a vote and its sync, ACCEPTs
 * or WRITEs that reach one member only, which decides and vanishes, messages of one kind that reach some,
 * everyone's death right after a decision. Chance alone meets such moments once in thousands of runs.
 */
import type { MemberIndex } from "../replica/contract.ts";
import type { FaultParts } from "./faults.ts";
import type { Host } from "./host.ts";
import { type AimedKind, kindOf, regencyOf } from "./message-kinds.ts";
import type { LinkFilter } from "./network.ts";

export const AMBUSHES = [
  "acceptsToOne",
  "acceptsOfNextToOne",
  "writesToOne",
  "narrow",
  "forget",
  "crashAfterDecision",
] as const;
export type AmbushKind = (typeof AMBUSHES)[number];

/** How often an ambush looks whether its moment has come. */
const LOOK_INTERVAL_MS = 5;

export class Ambushes {
  readonly #parts: FaultParts;
  readonly #over: () => boolean;
  /** Called at the next decision of any member. */
  #onDecision: ((member: MemberIndex) => void)[] = [];

  constructor(parts: FaultParts, over: () => boolean) {
    this.#parts = parts;
    this.#over = over;
  }

  /** Lays one ambush of this kind. */
  lay(kind: AmbushKind): void {
    if (kind === "acceptsToOne") this.#votesToOne("accept", 0);
    else if (kind === "acceptsOfNextToOne") this.#votesToOne("accept", 1);
    else if (kind === "writesToOne") this.#votesToOne("write", 0);
    else if (kind === "narrow") this.#narrow();
    else if (kind === "forget") this.#forget();
    else this.#crashAfterDecision();
  }

  /** A correct member has decided an instance. */
  decided(member: MemberIndex): void {
    if (this.#onDecision.length === 0) return;
    const waiting = this.#onDecision;
    this.#onDecision = [];
    for (const act of waiting) act(member);
  }

  #leader(): Host {
    return this.#parts.hosts[this.#parts.leader()] ?? this.#parts.prng.pick(this.#parts.hosts);
  }

  #isByzantine(member: MemberIndex): boolean {
    return this.#parts.options.faulty.some((f) => f.member === member && f.kind === "byzantine");
  }

  /** Time in which a leader is replaced, more or less. */
  #replacementMs(): number {
    const { consensus } = this.#parts.options;
    return consensus.leaderTimeoutMs + consensus.syncTimeoutMs / 2;
  }

  #holdFor(durationMs: number, filter: LinkFilter): void {
    const { network, scheduler } = this.#parts;
    network.filters.add(filter);
    scheduler.after(durationMs, () => network.filters.delete(filter));
  }

  #isolate(member: MemberIndex, durationMs: number): void {
    this.#holdFor(durationMs, (from, to) => from === member || to === member);
  }

  /** The host comes back after a while, unless the faults are over: then the healing starts it. */
  #crash(host: Host, downMs: number): void {
    host.crash();
    this.#parts.scheduler.after(downMs, () => {
      if (!this.#over()) host.start();
    });
  }

  #strike(host: Host, durationMs: number): void {
    const how = this.#parts.prng.below(3);
    if (how === 0) this.#crash(host, durationMs);
    else if (how === 1) host.pause(durationMs);
    else this.#isolate(host.member, durationMs);
  }

  /**
   * The ACCEPTs, or the WRITEs of fast instances, of this regency reach one member only; as soon as it has decided
   * it vanishes, and the others must find out in a leader change what it knows. One of them may not even have
   * seen what was proposed. One regency ahead it meets what is decided right after a leader change.
   */
  #votesToOne(vote: "accept" | "write", ahead: 0 | 1): void {
    const { prng, hosts, network, scheduler } = this.#parts;
    const { consensus } = this.#parts.options;
    const correct = hosts.filter(({ member }) => !this.#isByzantine(member));
    const leader = this.#leader();
    const chosen = prng.chance(0.5) && correct.includes(leader) ? leader : prng.pick(correct);
    const regency = this.#parts.regency() + ahead;
    const values = prng.chance(0.5);
    const blind = vote === "write" && prng.chance(0.5) ? prng.below(hosts.length) : -1;
    const filter: LinkFilter = (_, to, bytes) => {
      if (to === chosen.member) return false;
      const kind = kindOf(bytes);
      if (kind === "propose" && to === blind) return true;
      return (kind === vote && regencyOf(bytes) <= regency) || (values && kind === "value");
    };
    network.filters.add(filter);
    let struck = false;
    const holdMs = (this.#replacementMs() + consensus.requestTimeoutMs) * (0.5 + prng.below(4));
    const onDecision = (member: MemberIndex) => {
      if (struck || !network.filters.has(filter)) return;
      if (member !== chosen.member) {
        this.#onDecision.push(onDecision);
        return;
      }
      struck = true;
      // Not from within the decision itself: what it says at that moment is still on its way out.
      scheduler.after(0, () => {
        if (this.#over()) return;
        if (prng.chance(0.3)) this.#crash(chosen, holdMs);
        else this.#isolate(chosen.member, holdMs);
        // A Byzantine leader is left alone: it has a story to tell.
        const next = this.#leader();
        const spared = chosen === next || this.#isByzantine(next.member);
        if (!spared && prng.chance(0.6)) this.#strike(next, holdMs / 2);
      });
      scheduler.after(holdMs, () => network.filters.delete(filter));
    };
    this.#onDecision.push(onDecision);
    scheduler.after(this.#replacementMs() * (1 + 2 * ahead), () => {
      if (!struck) network.filters.delete(filter);
    });
  }

  /** Messages of one kind reach some of the members only, and perhaps the leader is struck meanwhile. */
  #narrow(): void {
    const { prng, hosts, scheduler } = this.#parts;
    const kind = prng.pick(["propose", "write", "accept", "accept", "stopData", "sync", "bundle"] as const);
    const reached = new Set(hosts.filter(() => prng.chance(0.4)).map(({ member }) => member));
    const durationMs = this.#replacementMs() * (0.3 + prng.below(100) / 50);
    this.#holdFor(durationMs, (_, to, bytes) => !reached.has(to) && kindOf(bytes) === kind);
    if (prng.chance(0.5)) {
      scheduler.after(durationMs * (prng.below(100) / 100), () => {
        if (!this.#over()) this.#strike(this.#leader(), durationMs);
      });
    }
  }

  /** A member whose disk stalls says something and dies before that is on disk; it is soon back. */
  #forget(): void {
    const { prng, hosts, scheduler } = this.#parts;
    const aims = ["write", "write", "accept", "propose", "stop", "stopData", "stopData"] as const;
    const message: AimedKind = prng.pick(aims);
    const host = message === "propose" ? this.#leader() : prng.pick(hosts);
    if (!host.running) return;
    const durationMs = this.#replacementMs() * (0.5 + prng.below(100) / 50);
    host.log.stall(scheduler.nowMs + durationMs);
    host.crashAt({ output: "send", message, when: "after", skip: prng.below(3 * hosts.length) });
    if (message === "stop" || message === "stopData") {
      const leader = this.#leader();
      if (leader !== host) this.#strike(leader, durationMs);
    }
    const untilMs = scheduler.nowMs + durationMs;
    const downMs = prng.pick([1, 10, 50, 200]);
    const look = () => {
      if (this.#over()) return;
      if (!host.running) scheduler.after(downMs, () => !this.#over() && host.start());
      else if (scheduler.nowMs < untilMs) scheduler.after(LOOK_INTERVAL_MS, look);
      else host.spare();
    };
    look();
  }

  /** Right after a decision most members die at once. */
  #crashAfterDecision(): void {
    const { prng, hosts, scheduler } = this.#parts;
    this.#onDecision.push((member) => {
      const delayMs = prng.pick([0, 0, 0.5, 2, 5]);
      scheduler.after(delayMs, () => {
        if (this.#over()) return;
        const spared = prng.chance(0.5) ? member : -1;
        for (const host of hosts) {
          if (host.member !== spared && prng.chance(0.9)) this.#crash(host, 1 + prng.below(300));
        }
        // Whoever knows more than the others keeps it to itself for a while.
        if (spared >= 0) this.#isolate(spared, this.#replacementMs() * (1 + prng.below(4)));
      });
    });
  }
}
