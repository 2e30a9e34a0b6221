/** What happens to the cluster in the safety phase: crashes, partitions, pauses, slow links, damaged disks. */
import type { Prng } from "../base/prng.ts";
import { Ambushes } from "./ambush.ts";
import type { SimulatedClock } from "./clock.ts";
import type { CrashPoint, Host } from "./host.ts";
import type { Network } from "./network.ts";
import type { SimulationOptions } from "./options.ts";
import type { Scheduler } from "./scheduler.ts";

export interface FaultParts {
  readonly scheduler: Scheduler;
  readonly prng: Prng;
  readonly hosts: readonly Host[];
  readonly clocks: readonly SimulatedClock[];
  readonly network: Network;
  readonly options: SimulationOptions;
  /** The leader as far as anyone can tell. */
  readonly leader: () => number;
  readonly regency: () => number;
}

export class Faults {
  readonly #parts: FaultParts;
  readonly #ambushes: Ambushes;
  #over = false;
  /** What happened, by kind. */
  readonly counts = new Map<string, number>();

  constructor(parts: FaultParts) {
    this.#parts = parts;
    this.#ambushes = new Ambushes(parts, () => this.#over);
  }

  start(): void {
    const { faults, safetyMs, faulty } = this.#parts.options;
    this.#repeat("crash", faults.crashMeanMs, () => this.#crash(this.#victim()));
    this.#repeat("crashAll", faults.crashAllMeanMs, () => this.#crashAll());
    this.#repeat("partition", faults.partitionMeanMs, () => this.#partition());
    this.#repeat("oneWayCut", faults.oneWayCutMeanMs, () => this.#oneWayCut());
    this.#repeat("pause", faults.pauseMeanMs, () =>
      this.#victim().pause(this.#about(faults.pauseLengthMeanMs)),
    );
    this.#repeat("slowMember", faults.slowMemberMeanMs, () => this.#slowMember());
    this.#repeat("ambush", faults.ambushMeanMs, () => {
      const kind = this.#parts.prng.pick(faults.ambushes);
      this.#count(kind);
      this.#ambushes.lay(kind);
    });
    if (this.#parts.options.faults.absenceMs > 0) this.#absences(this.#parts.options.faults.absenceMs);
    this.#repeat("clockStep", 1_000, () => {
      for (const clock of this.#parts.clocks) clock.maybeStep();
    });
    for (const member of faulty) {
      const at = this.#parts.prng.below(Math.floor(safetyMs * 0.8)) + 200;
      if (member.kind === "disk") {
        this.#parts.scheduler.after(at, () => {
          this.#count(`disk ${member.damage}`);
          this.#damage(this.#parts.hosts[member.member]!, member.damage);
        });
      } else if (member.kind === "clock") {
        this.#parts.scheduler.after(at, () => this.#parts.clocks[member.member]!.breakBy(member.offsetMs));
      }
    }
  }

  /** A correct member has decided. */
  decided(member: number): void {
    if (!this.#over) this.#ambushes.decided(member);
  }

  /** No more faults. Links and clocks are healed by the caller, members restarted. */
  stop(): void {
    this.#over = true;
  }

  #count(kind: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }

  #about(meanMs: number): number {
    return -Math.log((this.#parts.prng.u32() + 1) / 0x1_0000_0001) * meanMs;
  }

  #repeat(kind: string, meanMs: number, run: () => void): void {
    if (meanMs <= 0) return;
    this.#parts.scheduler.after(this.#about(meanMs), () => {
      if (this.#over) return;
      this.#count(kind);
      run();
      this.#repeat(kind, meanMs, run);
    });
  }

  #victim(): Host {
    const { prng, hosts, options, leader } = this.#parts;
    if (options.faults.aimAtLeader && prng.chance(0.7)) return hosts[leader()] ?? prng.pick(hosts);
    return prng.pick(hosts);
  }

  #crash(host: Host): void {
    const { prng } = this.#parts;
    if (prng.chance(0.4)) {
      host.crash();
    } else {
      const point: CrashPoint = {
        output: prng.pick(["send", "append", "append", "result", "any"] as const),
        when: prng.pick(["before", "after"] as const),
        skip: prng.below(6),
      };
      host.crashAt(point);
    }
    this.#restartLater(host);
  }

  #restartLater(host: Host): void {
    const { scheduler, options } = this.#parts;
    scheduler.after(this.#about(options.faults.downMeanMs) + 1, () => {
      if (this.#over) return;
      // A crash point that was not met yet stays armed: whoever still runs is looked at again later.
      if (host.running) this.#restartLater(host);
      else host.start();
    });
  }

  #crashAll(): void {
    for (const host of this.#parts.hosts) {
      host.crash();
      this.#restartLater(host);
    }
  }

  #partition(): void {
    const { prng, hosts, network, scheduler, options } = this.#parts;
    const groups: number[][] = [[], []];
    for (const host of hosts) groups[prng.below(2)]!.push(host.member);
    if (prng.chance(0.3)) groups.splice(0, 2, [prng.below(hosts.length)]);
    network.partition(
      groups.length === 1 ? [hosts.map((h) => h.member).filter((m) => m !== groups[0]![0])] : groups,
    );
    scheduler.after(this.#about(options.faults.partitionLengthMeanMs), () => {
      if (!this.#over) network.partition([hosts.map((host) => host.member)]);
    });
  }

  #oneWayCut(): void {
    const { prng, hosts, network, scheduler, options } = this.#parts;
    const from = prng.pick(hosts).member;
    const to = prng.pick(hosts).member;
    if (from === to) return;
    network.setCut(from, to, true);
    scheduler.after(this.#about(options.faults.partitionLengthMeanMs), () => network.setCut(from, to, false));
  }

  #slowMember(): void {
    const { prng, network, scheduler } = this.#parts;
    const { member } = this.#victim();
    network.setFactor(member, prng.pick([3, 10, 100]));
    scheduler.after(this.#about(2_000), () => network.setFactor(member, 1));
  }

  /** One correct member is down, or cut off, for about that long, is back for a moment, and goes again. */
  #absences(meanMs: number): void {
    const { prng, hosts, network, scheduler, options } = this.#parts;
    const sound = hosts.filter(({ member }) => !options.faulty.some((faulty) => faulty.member === member));
    const host = prng.pick(sound);
    const leave = () => {
      if (this.#over) return;
      this.#count("absence");
      const filter = (from: number, to: number) => from === host.member || to === host.member;
      const cut = prng.chance(0.4);
      if (cut) network.filters.add(filter);
      else host.crash();
      scheduler.after(meanMs * (0.5 + prng.below(100) / 100), () => {
        network.filters.delete(filter);
        if (this.#over) return;
        if (!cut) host.start();
        scheduler.after(prng.between(300, 1_200), leave);
      });
    };
    scheduler.after(prng.between(200, 800), leave);
  }

  #damage(host: Host, damage: "tail" | "middle" | "wiped"): void {
    host.crash();
    host.log.damage(damage);
    this.#restartLater(host);
  }
}
