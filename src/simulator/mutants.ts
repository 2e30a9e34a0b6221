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
    name: "leaseExpiryByLocalClock",
    rule: "leases expire by agreed time",
    focus: { behaviours: NONE, ambushes: [], leases: true },
  },
];

/** Where the seeds of a mutant look; undefined for no mutant. */
export function focusOf(mutation: string): Focus | undefined {
  return MUTANTS.find(({ name }) => name === mutation)?.focus;
}
