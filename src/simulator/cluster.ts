/** A whole simulated cluster, put together from its options: members, links, disks, clocks and clients. */
import type { Prng } from "../base/prng.ts";
import { Membership } from "../consensus/membership.ts";
import type { LogRecovery, MemberIndex } from "../replica/contract.ts";
import { Replica } from "../replica/replica.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { ByzantineMind } from "./byzantine/behaviour.ts";
import { ByzantineReplica } from "./byzantine/byzantine-replica.ts";
import { Client } from "./client.ts";
import { SimulatedClock } from "./clock.ts";
import { makeSigners, SimulatedHasher, type SimulatedSigner, SimulatedVerifier } from "./crypto.ts";
import { SimulatedLog } from "./disk.ts";
import type { ClientRecord } from "./history.ts";
import { Host, type HostObserver, type SimulatedReplica } from "./host.ts";
import { Network } from "./network.ts";
import type { FaultyMember, SimulationOptions } from "./options.ts";
import { Scheduler } from "./scheduler.ts";

/** Wraps what arrives, so that the run can be told from another one. */
export type DeliveryWatch = (to: MemberIndex, from: MemberIndex, bytes: Uint8Array) => void;

export class Cluster {
  readonly scheduler = new Scheduler();
  readonly membership: Membership;
  readonly network: Network;
  readonly hosts: readonly Host[];
  readonly clocks: readonly SimulatedClock[];
  readonly clients: readonly Client[];
  readonly records: ClientRecord[] = [];
  /** Writes that each member has answered since it was last seen to have executed an instance. */
  readonly answered: readonly ClientRecord[][];
  readonly byzantine: ReadonlySet<MemberIndex>;
  /** How often each behaviour of a Byzantine member did something. */
  readonly acted = new Map<string, number>();
  readonly #options: SimulationOptions;
  readonly #hasher = new SimulatedHasher();
  readonly #signers: readonly SimulatedSigner[];
  readonly #verifier: SimulatedVerifier;
  readonly #prng: Prng;

  constructor(options: SimulationOptions, prng: Prng, observer: HostObserver, watch: DeliveryWatch) {
    this.#options = options;
    this.#prng = prng.fork();
    this.#signers = makeSigners(options.n, prng.fork());
    this.#verifier = new SimulatedVerifier(this.#signers);
    const members = this.#signers.map(({ publicKey }, index) => ({
      name: `m${index}`,
      id: BigInt(1000 + index),
      publicKey,
    }));
    this.membership = new Membership(7n, 1, members, this.#hasher);
    this.byzantine = new Set(
      options.faulty.filter(({ kind }) => kind === "byzantine").map(({ member }) => member),
    );
    this.answered = members.map(() => []);
    this.clocks = members.map(() => new SimulatedClock(options.clock, prng.fork()));
    this.network = new Network(this.scheduler, prng.fork(), options.n, options.network, {
      deliver: (to, from, bytes) => {
        watch(to, from, bytes);
        this.hosts[to]!.input({ type: "message", from, bytes });
      },
      link: (member, peer, up) => this.hosts[member]!.input({ type: up ? "linkUp" : "linkDown", peer }),
    });
    this.hosts = members.map((_, member) => this.#makeHost(member, prng.fork(), observer));
    this.clients = this.hosts.flatMap((host) => this.#makeClients(host, prng.fork()));
  }

  #makeHost(member: MemberIndex, prng: Prng, observer: HostObserver): Host {
    const options = this.#options;
    const diskPrng = prng.fork();
    return new Host({
      member,
      scheduler: this.scheduler,
      network: this.network,
      clock: this.clocks[member]!,
      makeLog: (onDurable) => new SimulatedLog(this.scheduler, diskPrng, options.disk, onDurable),
      makeReplica: (_, engine, recovery, incarnation) =>
        this.#makeReplica(member, engine, recovery, incarnation),
      prng,
      options: {
        tickMs: options.tickMs,
        workDelayMeanMs: options.workDelayMeanMs,
        flushMeanMs: options.disk.flushMeanMs,
      },
      observer,
    });
  }

  #makeClients(host: Host, prng: Prng): Client[] {
    const { clientsPerMember } = this.#options.workload;
    return Array.from(
      { length: clientsPerMember },
      (_, index) =>
        new Client({
          id: host.member * clientsPerMember + index,
          host,
          scheduler: this.scheduler,
          prng: prng.fork(),
          options: this.#options.workload,
          records: this.records,
          trusted: !this.byzantine.has(host.member),
          answered: (record) => this.answered[host.member]!.push(record),
        }),
    );
  }

  #makeReplica(
    member: MemberIndex,
    engine: MemoryEngine,
    recovery: LogRecovery,
    incarnation: number,
  ): SimulatedReplica {
    const faulty = this.#options.faulty.find((f) => f.member === member);
    if (faulty?.kind !== "byzantine") return this.#makeReal(member, engine, recovery, incarnation);
    return this.#makeByzantine(member, faulty, engine, recovery, incarnation);
  }

  #makeReal(
    member: MemberIndex,
    engine: MemoryEngine,
    recovery: LogRecovery,
    incarnation: number,
    mutation = this.#options.consensus.mutation,
  ): Replica {
    return new Replica({
      membership: this.membership,
      self: member,
      signer: this.#signers[member]!,
      verifier: this.#verifier,
      hasher: this.#hasher,
      engine,
      recovery,
      incarnation,
      options: { ...this.#options.consensus, mutation },
    });
  }

  #makeByzantine(
    member: MemberIndex,
    { behaviours, zeal }: Extract<FaultyMember, { kind: "byzantine" }>,
    engine: MemoryEngine,
    recovery: LogRecovery,
    incarnation: number,
  ): SimulatedReplica {
    const accomplices = new Map([...this.byzantine].map((other) => [other, this.#signers[other]!]));
    const prng = this.#prng.fork();
    const mind = new ByzantineMind(member, this.membership, accomplices, this.#hasher, prng, zeal);
    const faces = [this.#makeReal(member, engine, recovery, incarnation)];
    if (behaviours.includes("twins")) {
      const forgotten: LogRecovery = { records: [], nextSequence: 1, state: "fresh" };
      faces.push(this.#makeReal(member, new MemoryEngine(), forgotten, incarnation));
    }
    return new ByzantineReplica(mind, behaviours, faces, (name) =>
      this.acted.set(name, (this.acted.get(name) ?? 0) + 1),
    );
  }
}
