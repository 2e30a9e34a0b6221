/**
 * Planted bugs of the core, each of which the simulator has to find: the proof that its checkers bite. The
 * core looks up the name in its options; see `ConsensusOptions.mutation`.
 */
import type { AmbushKind } from "./ambush.ts";
import type { BehaviourName } from "./byzantine/catalogue.ts";

export interface Mutant {
  readonly name: string;
  /** The rule that it breaks. */
  readonly rule: string;
  /**
   * What the seeds of this mutant have more of than others. All of it is drawn by ordinary seeds too, only
   * more rarely: a bug that shows in one seed of a thousand is found sooner where it hurts.
   */
  readonly focus: Focus;
}

export interface Focus {
  /** Behaviours of the Byzantine member; empty: none is Byzantine. */
  readonly behaviours: readonly BehaviourName[];
  readonly ambushes: readonly AmbushKind[];
  /** More leases, tighter clocks. */
  readonly leases?: boolean;
  /** More crashes, of all members at once too. */
  readonly crashes?: boolean;
  /** One member is away until the others' logs are cut. */
  readonly transfer?: boolean;
  /** Members that are paused, links that are slow, and more reads. */
  readonly slow?: boolean;
}

const NONE: readonly BehaviourName[] = [];

export const MUTANTS: readonly Mutant[] = [
  {
    name: "quorumOneTooSmall",
    rule: "two quorums share a correct member",
    focus: { behaviours: ["equivocate"], ambushes: [] },
  },
  {
    name: "liveRegencyZero",
    rule: "a claim of the first regency is a claim (W1)",
    focus: { behaviours: NONE, ambushes: ["acceptsToOne"] },
  },
  {
    name: "acceptNotSynced",
    rule: "an ACCEPT is on disk before it leaves (W12)",
    focus: { behaviours: NONE, ambushes: ["forget", "crashAfterDecision"] },
  },
  {
    name: "ballotNotBurned",
    rule: "a restarted member does not vote in its last ballot again",
    focus: { behaviours: ["secondProposal"], ambushes: ["forget"] },
  },
  {
    name: "claimNotChecked",
    rule: "a claim needs f+1 valid WRITE signatures",
    focus: { behaviours: ["ghostClaim"], ambushes: ["acceptsToOne", "narrow"], leases: true },
  },
  {
    name: "dedupNotReplicated",
    rule: "deduplication is part of the state (W8, W14)",
    focus: { behaviours: ["replayBundles"], ambushes: [], crashes: true },
  },
  {
    name: "writeBeforePreviousDurable",
    rule: "WRITE waits until the instance before is on disk",
    focus: { behaviours: ["secondProposal"], ambushes: ["forget"] },
  },
  {
    name: "stopDataBeforeDurable",
    rule: "a regency is on disk before STOPDATA leaves",
    focus: { behaviours: NONE, ambushes: ["forget", "narrow"] },
  },
  {
    name: "selectionUnbacked",
    rule: "a claim is bound only when a quorum of reports allows it",
    focus: { behaviours: ["splitClaim"], ambushes: ["acceptsToOne"] },
  },
  {
    name: "selectionOneFewer",
    rule: "a quorum of reports, and not one fewer",
    focus: { behaviours: ["splitClaim"], ambushes: ["acceptsToOne"] },
  },
  {
    name: "certificateAnySigner",
    rule: "a certificate's signers are distinct (W3, W5)",
    focus: { behaviours: ["forgedCertificates"], ambushes: [] },
  },
  {
    name: "regencyNotBound",
    rule: "STOPDATA is bound to its regency (W2)",
    focus: { behaviours: ["staleSync"], ambushes: ["acceptsToOne"] },
  },
  {
    name: "timestampNotChecked",
    rule: "a batch time is near the voter's clock",
    focus: { behaviours: ["wrongTimestamp"], ambushes: [], leases: true },
  },
  {
    name: "proposeContentNotChecked",
    rule: "a proposal is checked before WRITE (W7)",
    focus: { behaviours: ["wrongContent", "proposeAgain"], ambushes: [] },
  },
  {
    name: "loggedNotSynced",
    rule: "a logged WRITE is on disk before it leaves",
    focus: { behaviours: NONE, ambushes: ["forget", "writesToOne"] },
  },
  {
    name: "loggedForgotten",
    rule: "a logged WRITE is reported after a restart, too",
    focus: { behaviours: NONE, ambushes: ["writesToOne"], crashes: true },
  },
  {
    name: "loggedWritesIgnored",
    rule: "what all may have decided by logged WRITEs is bound",
    focus: { behaviours: NONE, ambushes: ["writesToOne"] },
  },
  {
    name: "fastOneTooFew",
    rule: "a fast instance is decided by all members, and not one fewer",
    focus: { behaviours: ["hideHistory"], ambushes: ["writesToOne"] },
  },
  {
    name: "sizeNotChecked",
    rule: "a value has no more bytes than a log record and a message can hold",
    focus: { behaviours: ["oversizedValue"], ambushes: [] },
  },
  {
    name: "leaseExpiryByLocalClock",
    rule: "leases expire by agreed time",
    focus: { behaviours: NONE, ambushes: [], leases: true },
  },
  {
    name: "leaseEarly",
    rule: "a lease lasts for its time by agreed time",
    focus: { behaviours: NONE, ambushes: [], leases: true },
  },
  {
    name: "keepAliveWithoutTime",
    rule: "a live lease is not said to be gone",
    focus: { behaviours: NONE, ambushes: [], leases: true },
  },
  {
    name: "putDoneAndRefused",
    rule: "what was refused was not executed",
    focus: { behaviours: NONE, ambushes: [], leases: true },
  },
  {
    name: "compactedTooSoon",
    rule: "history is there until somebody compacts it",
    focus: { behaviours: NONE, ambushes: [] },
  },
  {
    name: "checkpointNotChecked",
    rule: "a checkpoint certificate is checked",
    focus: { behaviours: ["forgedCheckpoint"], ambushes: [], transfer: true },
  },
  {
    name: "checkpointRootOneFewer",
    rule: "a root needs f+1 signers",
    focus: { behaviours: ["forgedCheckpoint"], ambushes: [], transfer: true },
  },
  {
    name: "chunkNotChecked",
    rule: "a chunk of a transferred state has the hash of its leaf",
    focus: { behaviours: ["falseChunks"], ambushes: [], transfer: true },
  },
  {
    name: "decisionClaimOneFewer",
    rule: "a decision is believed on the word of f+1 members",
    focus: { behaviours: ["falseDecisionClaim"], ambushes: ["narrow"] },
  },
  {
    name: "decisionOneSignerShort",
    rule: "a decision certificate has a quorum of signers",
    focus: { behaviours: ["shortCertificate"], ambushes: ["narrow"], transfer: true },
  },
  {
    name: "runNotChecked",
    rule: "the certificate of a run of decisions is checked",
    focus: { behaviours: ["forgedCertificates"], ambushes: [] },
  },
  {
    name: "loggedOneFewer",
    rule: "logged WRITEs bind when all but f reports name them",
    focus: { behaviours: ["ghostLogged"], ambushes: ["writesToOne", "narrow"] },
  },
  {
    name: "loggedAtBoundCounted",
    rule: "logged WRITEs count above the bound claim only",
    focus: { behaviours: ["lateLogged"], ambushes: ["acceptsOfNextToOne"] },
  },
  {
    name: "fenceOneFewer",
    rule: "a fence waits for a quorum of answers",
    focus: { behaviours: ["falseFence"], ambushes: [], slow: true },
  },
];

/** Where the seeds of a mutant look; undefined for no mutant. */
export function focusOf(mutation: string): Focus | undefined {
  return MUTANTS.find(({ name }) => name === mutation)?.focus;
}
