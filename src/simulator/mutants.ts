/**
 * Planted bugs of the core, each of which the simulator has to find: the proof that its checkers bite. The
 * core looks up the name in its options; see `ConsensusOptions.mutation`.
 */
import type { OptionLimits } from "./options.ts";

export interface Mutant {
  readonly name: string;
  /** The rule that it breaks. */
  readonly rule: string;
  /** Whether a Byzantine member is needed to make it show. */
  readonly byzantine: OptionLimits["byzantine"];
}

export const MUTANTS: readonly Mutant[] = [
  { name: "quorumOneTooSmall", rule: "two quorums share a correct member", byzantine: "mixed" },
  { name: "liveRegencyZero", rule: "a claim of the first regency is a claim (W1)", byzantine: "mixed" },
  { name: "acceptNotSynced", rule: "an ACCEPT is on disk before it leaves (W12)", byzantine: "mixed" },
  {
    name: "ballotNotBurned",
    rule: "a restarted member does not vote in its last ballot again",
    byzantine: "mixed",
  },
  { name: "claimNotChecked", rule: "a claim needs f+1 valid WRITE signatures", byzantine: "on" },
  { name: "dedupNotReplicated", rule: "deduplication is part of the state (W8, W14)", byzantine: "mixed" },
  {
    name: "writeBeforePreviousDurable",
    rule: "WRITE waits for the instance before to be on disk",
    byzantine: "mixed",
  },
  { name: "stopDataBeforeDurable", rule: "a regency is on disk before STOPDATA leaves", byzantine: "mixed" },
  {
    name: "selectionUnbacked",
    rule: "a claim is taken only if a quorum of reports backs it",
    byzantine: "on",
  },
  { name: "selectionOneFewer", rule: "one report fewer than a quorum binds no claim", byzantine: "on" },
  { name: "certificateAnySigner", rule: "a certificate's signers are distinct (W3, W5)", byzantine: "on" },
  { name: "regencyNotBound", rule: "STOPDATA is bound to its regency (W2)", byzantine: "on" },
  { name: "timestampNotChecked", rule: "a batch time is near the voter's clock", byzantine: "on" },
  { name: "proposeContentNotChecked", rule: "a proposal is checked before WRITE (W7)", byzantine: "on" },
  { name: "leaseExpiryByLocalClock", rule: "leases expire by agreed time", byzantine: "mixed" },
];
