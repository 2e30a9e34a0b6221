/**
 * What one seed means: size of the cluster, kinds and weights of faults, workload, times. Swarm testing: each
 * feature is often switched off completely, and the weights of the rest differ wildly, so that runs differ in
 * kind and not only in detail.
 */
import { Prng } from "../base/prng.ts";
import { faultsTolerated } from "../consensus/membership.ts";
import { type ConsensusOptions, DEFAULT_OPTIONS } from "../consensus/options.ts";
import { AMBUSHES, type AmbushKind } from "./ambush.ts";
import { BEHAVIOURS, type BehaviourName } from "./byzantine/catalogue.ts";
import type { ClockOptions } from "./clock.ts";
import type { DiskDamage, DiskOptions } from "./disk.ts";
import { type Focus, focusOf } from "./mutants.ts";
import { CALM_NETWORK, type NetworkOptions } from "./network.ts";

export const REQUEST_KINDS = [
  "put",
  "compareAndPut",
  "deleteOne",
  "deleteRange",
  "readOne",
  "readAll",
  "readPast",
  "readLocal",
  "leaseGrant",
  "leasedPut",
  "leaseKeepAlive",
  "leaseRevoke",
  "compact",
  "noop",
] as const;
export type RequestKind = (typeof REQUEST_KINDS)[number];

export interface WorkloadOptions {
  readonly clientsPerMember: number;
  /** Mean pause of a client between an answer and its next request. */
  readonly thinkMeanMs: number;
  /** Keys that all clients fight over. */
  readonly keys: number;
  readonly valueSizeBytesMax: number;
  /** After this long a client gives up on an answer and goes on. */
  readonly patienceMs: number;
  readonly weights: Readonly<Record<RequestKind, number>>;
  readonly leaseTtlSecondsMax: number;
}

/** Mean times between two faults of a kind, over the cluster; 0 switches the kind off. */
export interface FaultOptions {
  readonly crashMeanMs: number;
  /** Mean time that a crashed member stays down. */
  readonly downMeanMs: number;
  readonly crashAllMeanMs: number;
  readonly partitionMeanMs: number;
  readonly partitionLengthMeanMs: number;
  readonly oneWayCutMeanMs: number;
  readonly pauseMeanMs: number;
  readonly pauseLengthMeanMs: number;
  readonly slowMemberMeanMs: number;
  /** Follows the leader with crashes and pauses instead of hitting anyone. */
  readonly aimAtLeader: boolean;
  readonly ambushMeanMs: number;
  readonly ambushes: readonly AmbushKind[];
  /** A correct member, again and again the same, is away for this long, and the others go on; 0: none is. */
  readonly absenceMs: number;
}

/** A member that is faulty beyond crashes; at most f in a run. */
export type FaultyMember =
  | {
      readonly member: number;
      readonly kind: "byzantine";
      readonly behaviours: readonly BehaviourName[];
      /** How often it misbehaves where it could, 0 to 1. */
      readonly zeal: number;
    }
  | { readonly member: number; readonly kind: "disk"; readonly damage: DiskDamage }
  | { readonly member: number; readonly kind: "clock"; readonly offsetMs: number };

export interface SimulationOptions {
  readonly seed: number;
  readonly n: number;
  readonly faulty: readonly FaultyMember[];
  readonly safetyMs: number;
  /** Time within which a healed cluster has to answer everything. */
  readonly livenessMs: number;
  /** Correct members that stay dead in the liveness phase (faulty ones and these are at most f). */
  readonly leftDead: readonly number[];
  readonly tickMs: number;
  readonly workDelayMeanMs: number;
  readonly network: NetworkOptions;
  readonly disk: DiskOptions;
  readonly clock: ClockOptions;
  readonly workload: WorkloadOptions;
  readonly faults: FaultOptions;
  readonly consensus: ConsensusOptions;
}

export interface OptionLimits {
  readonly byzantine: "on" | "off" | "mixed";
  readonly mutation: string;
}

/**
 * Part of the seeds in which a member finds, each time that it comes back, that the others' logs do not reach back to
 * where it was: chance alone makes that, and with it state transfer, rare.
 */
const TRANSFER_SHARE = 0.15;
/** What is told to members that come back. */
const TRANSFER_LIES = [
  "forgedCheckpoint",
  "falseChunks",
  "falseDecisionClaim",
  "shortCertificate",
  "corruptBodies",
  "wrongAnswers",
] as const satisfies readonly BehaviourName[];

/** A mean that is 0 (off) in about a part `off` of the seeds, else between the bounds on a logarithmic scale. */
function meanOrOff(prng: Prng, off: number, low: number, high: number): number {
  const mean = logarithmic(prng, low, high);
  return prng.chance(off) ? 0 : mean;
}

function logarithmic(prng: Prng, low: number, high: number): number {
  const share = prng.u32() / 0x1_0000_0000;
  return Math.round(low * (high / low) ** share * 100) / 100;
}

/** The options that a seed stands for. */
export function optionsOfSeed(seed: number, limits: OptionLimits): SimulationOptions {
  const prng = new Prng(seed);
  // An own stream for each part: a change to one part leaves the others of old seeds as they were.
  const [shape, faulty, network, disk, clock, workload, faults, consensus] = Array.from({ length: 8 }, () =>
    prng.fork(),
  ) as [Prng, Prng, Prng, Prng, Prng, Prng, Prng, Prng];
  const focus = focusOf(limits.mutation);
  const n = drawSize(shape, focus);
  const transfer = focus === undefined ? shape.chance(TRANSFER_SHARE) : focus.transfer === true;
  const faultyMembers = drawFaulty(faulty, n, seed, limits, focus, transfer);
  const members = Array.from({ length: n }, (_, member) => member);
  const correct = members.filter((member) => !faultyMembers.some((f) => f.member === member));
  const spare = faultsTolerated(n) - faultyMembers.length;
  const leftDead =
    spare > 0 && focus === undefined && shape.chance(0.4) ? shuffled(shape, correct).slice(0, spare) : [];
  // Batch times are believed within this bound: the tighter it is, the earlier an early expiry shows.
  const clockBoundMs = clock.pick([400, 1_500, DEFAULT_OPTIONS.clockBoundMs]);
  return {
    seed,
    n,
    faulty: faultyMembers,
    safetyMs: drawSafetyMs(shape, focus, transfer),
    livenessMs: 120_000,
    leftDead,
    tickMs: shape.pick([5, 10, 20, 20, 20, 20]),
    workDelayMeanMs: shape.pick([0.02, 0.1, 1]),
    network: drawNetwork(network),
    disk: drawDisk(disk),
    clock: drawClock(clock, clockBoundMs),
    workload: drawWorkload(workload, n, focus),
    faults: drawFaults(faults, focus, transfer),
    consensus: { ...drawConsensus(consensus, limits.mutation, focus, transfer), clockBoundMs },
  };
}

function drawSafetyMs(prng: Prng, focus: Focus | undefined, transfer: boolean): number {
  if (focus !== undefined) return Math.round(logarithmic(prng, 4_000, 9_000));
  return Math.round(logarithmic(prng, transfer ? 2_500 : 1_500, transfer ? 5_000 : 7_000));
}

function drawSize(prng: Prng, focus: Focus | undefined): number {
  const n = prng.below(1000);
  if (focus !== undefined || n < 800) return 4;
  return n < 870 ? 5 : n < 920 ? 6 : n < 985 ? 7 : 10;
}

function shuffled<T>(prng: Prng, items: readonly T[]): T[] {
  const mixed = [...items];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = prng.below(i + 1);
    const held = mixed[i]!;
    mixed[i] = mixed[j]!;
    mixed[j] = held;
  }
  return mixed;
}

function drawFaulty(
  prng: Prng,
  n: number,
  seed: number,
  limits: OptionLimits,
  focus: Focus | undefined,
  transfer: boolean,
): FaultyMember[] {
  const f = faultsTolerated(n);
  const order = shuffled(
    prng,
    Array.from({ length: n }, (_, member) => member),
  );
  // The first leader is the most rewarding one to corrupt.
  if (prng.chance(0.4)) order.unshift(...order.splice(order.indexOf(0), 1));
  if (focus !== undefined) {
    if (focus.behaviours.length === 0) return [];
    if (prng.chance(0.8)) order.unshift(...order.splice(order.indexOf(0), 1));
    const { behaviours } = focus;
    return order
      .slice(0, f)
      .map((member) => ({ member, kind: "byzantine", behaviours, zeal: prng.pick([0.3, 1, 1]) }));
  }
  const byzantine = limits.byzantine === "on" || (limits.byzantine === "mixed" && seed % 2 === 1);
  if (byzantine) {
    const shared = drawBehaviours(prng, transfer);
    const alike = prng.chance(0.5);
    return order.slice(0, f).map((member) => ({
      member,
      kind: "byzantine",
      behaviours: alike ? shared : drawBehaviours(prng, transfer),
      zeal: prng.pick([0.05, 0.3, 1]),
    }));
  }
  if (prng.chance(0.6)) return [];
  return order.slice(0, prng.between(1, f)).map((member) => {
    if (prng.chance(0.25)) {
      return { member, kind: "clock", offsetMs: prng.pick([-1, 1]) * logarithmic(prng, 6_000, 1e8) };
    }
    return { member, kind: "disk", damage: prng.pick(["tail", "tail", "middle", "wiped"] as const) };
  });
}

function drawBehaviours(prng: Prng, transfer: boolean): BehaviourName[] {
  const count = prng.pick([1, 1, 1, 2, 3, 5]);
  const drawn = shuffled(prng, BEHAVIOURS).slice(0, count);
  if (!transfer || prng.chance(0.4)) return drawn;
  const toTheAbsent = prng.pick(TRANSFER_LIES);
  return [toTheAbsent, ...drawn.filter((name) => name !== toTheAbsent).slice(1)];
}

function drawNetwork(prng: Prng): NetworkOptions {
  const lossy = prng.chance(0.4);
  return {
    delayMinMs: logarithmic(prng, 0.05, 5),
    delayMeanMs: logarithmic(prng, 0.05, 20),
    delayTailChance: prng.chance(0.5) ? 0 : logarithmic(prng, 0.001, 0.1),
    delayTailMs: logarithmic(prng, 20, 2_000),
    lossChance: lossy ? logarithmic(prng, 0.001, 0.2) : 0,
    duplicateChance: prng.chance(0.7) ? 0 : logarithmic(prng, 0.001, 0.2),
    ordered: prng.chance(0.5),
    noticeDelayMs: prng.chance(0.2) ? 0 : logarithmic(prng, 1, 3_000),
    inFlightMax: CALM_NETWORK.inFlightMax,
  };
}

function drawDisk(prng: Prng): DiskOptions {
  return {
    syncMinMs: logarithmic(prng, 0.05, 2),
    syncMeanMs: logarithmic(prng, 0.05, 10),
    stallChance: prng.chance(0.7) ? 0 : logarithmic(prng, 0.001, 0.05),
    stallMs: logarithmic(prng, 50, 2_000),
    flushMeanMs: logarithmic(prng, 20, 5_000),
  };
}

function drawClock(prng: Prng, clockBoundMs: number): ClockOptions {
  return {
    // Two good clocks are never further apart than most of the bound.
    skewMaxMs: prng.chance(0.3) ? 0 : logarithmic(prng, 1, 0.4 * clockBoundMs),
    driftMaxPpm: prng.chance(0.5) ? 0 : logarithmic(prng, 10, 5_000),
    stepChancePerSecond: prng.chance(0.7) ? 0 : logarithmic(prng, 0.01, 0.3),
  };
}

function drawWorkload(prng: Prng, n: number, focus: Focus | undefined): WorkloadOptions {
  const weights = Object.fromEntries(
    REQUEST_KINDS.map((kind) => [kind, prng.chance(0.25) ? 0 : 2 ** prng.between(0, 6)]),
  ) as Record<RequestKind, number>;
  weights.put = Math.max(weights.put, 4);
  if (focus?.leases) {
    for (const kind of ["leaseGrant", "leasedPut", "leaseKeepAlive"] as const) weights[kind] = 32;
  }
  if (focus?.slow) for (const kind of ["put", "readOne", "readAll"] as const) weights[kind] = 64;
  // Compaction hides history from the checkers, so it stays rare.
  weights.compact = Math.min(weights.compact, 2);
  return {
    clientsPerMember: n > 4 ? 1 : prng.between(1, 3),
    // Messages grow with the square of the members.
    thinkMeanMs:
      (focus === undefined ? logarithmic(prng, 15, 400) : logarithmic(prng, 15, 60)) * (n / 4) ** 2,
    keys: Math.round(logarithmic(prng, 1, 40)),
    valueSizeBytesMax: Math.round(logarithmic(prng, 24, 4_000)),
    patienceMs: Math.round(logarithmic(prng, 500, 8_000)),
    weights,
    leaseTtlSecondsMax: prng.between(1, 3),
  };
}

function drawFaults(prng: Prng, focus: Focus | undefined, transfer: boolean): FaultOptions {
  const absenceMs = transfer ? logarithmic(prng, 400, 2_500) : 0;
  if (focus !== undefined) return { ...focusedFaults(prng, focus), absenceMs };
  // Whoever is away is one less already: with more faults the others do not go on.
  const calm = prng.chance(transfer ? 0.7 : 0.08);
  const off = calm ? 1 : 0.4;
  return {
    absenceMs,
    crashMeanMs: meanOrOff(prng, calm ? 1 : 0.25, 150, 4_000),
    downMeanMs: logarithmic(prng, 20, 1_500),
    crashAllMeanMs: meanOrOff(prng, calm ? 1 : 0.7, 600, 6_000),
    partitionMeanMs: meanOrOff(prng, off, 200, 4_000),
    partitionLengthMeanMs: logarithmic(prng, 20, 2_000),
    oneWayCutMeanMs: meanOrOff(prng, off, 200, 4_000),
    pauseMeanMs: meanOrOff(prng, off, 150, 4_000),
    pauseLengthMeanMs: logarithmic(prng, 20, 1_500),
    slowMemberMeanMs: meanOrOff(prng, off, 300, 4_000),
    aimAtLeader: prng.chance(0.4),
    ambushMeanMs: meanOrOff(prng, off, 150, 3_000),
    ambushes: shuffled(prng, AMBUSHES).slice(0, prng.between(1, AMBUSHES.length)),
  };
}

/** Few faults but those of the focus, which would disturb each other. */
function focusedFaults(prng: Prng, focus: Focus): Omit<FaultOptions, "absenceMs"> {
  return {
    crashMeanMs: focus.crashes ? 300 : meanOrOff(prng, 0.5, 500, 4_000),
    downMeanMs: logarithmic(prng, 20, 400),
    crashAllMeanMs: focus.crashes ? 800 : 0,
    partitionMeanMs: 0,
    partitionLengthMeanMs: 0,
    oneWayCutMeanMs: meanOrOff(prng, 0.7, 500, 4_000),
    pauseMeanMs: focus.slow ? 400 : 0,
    pauseLengthMeanMs: 200,
    slowMemberMeanMs: focus.slow ? 300 : 0,
    aimAtLeader: prng.chance(0.4),
    ambushMeanMs: focus.ambushes.length === 0 ? 0 : logarithmic(prng, 150, 600),
    ambushes: focus.ambushes,
  };
}

function drawConsensus(
  prng: Prng,
  mutation: string,
  focus: Focus | undefined,
  transfer: boolean,
): ConsensusOptions {
  // Less patience means more leader changes in the same time.
  const patience = prng.pick(focus === undefined ? [0.2, 0.2, 0.5, 1] : [0.2]);
  const scaled = (ms: number) => Math.round(ms * patience);
  return {
    ...DEFAULT_OPTIONS,
    heartbeatIntervalMs: Math.max(40, scaled(DEFAULT_OPTIONS.heartbeatIntervalMs)),
    leaderTimeoutMs: scaled(DEFAULT_OPTIONS.leaderTimeoutMs),
    leaderUnlinkedTimeoutMs: scaled(DEFAULT_OPTIONS.leaderUnlinkedTimeoutMs),
    requestTimeoutMs: scaled(DEFAULT_OPTIONS.requestTimeoutMs),
    syncTimeoutMs: scaled(DEFAULT_OPTIONS.syncTimeoutMs),
    resendIntervalMs: Math.max(50, scaled(DEFAULT_OPTIONS.resendIntervalMs)),
    checkpointInstances: prng.pick(transfer ? [4] : [4, 16, 64, 256, DEFAULT_OPTIONS.checkpointInstances]),
    checkpointSizeBytes: prng.chance(0.2) ? 20_000 : DEFAULT_OPTIONS.checkpointSizeBytes,
    keptCheckpoints: prng.pick(transfer ? [1] : [1, 1, 2, DEFAULT_OPTIONS.keptCheckpoints]),
    certifyInstances: prng.pick(certifying(focus, transfer)),
    fastWaitMs: prng.pick([5, DEFAULT_OPTIONS.fastWaitMs, 60]),
    batchBundlesMax: prng.pick([1, 4, DEFAULT_OPTIONS.batchBundlesMax]),
    mutation,
  };
}

function certifying(focus: Focus | undefined, transfer: boolean): readonly number[] {
  if (transfer) return [1, 4, 4];
  return focus === undefined ? [1, 4, 4, 16, DEFAULT_OPTIONS.certifyInstances] : [8, 32];
}
