/**
 * What clients asked and what they were told, and what members were seen to change: all that the checkers
 * judge by.
 */
import type { MemberIndex } from "../replica/contract.ts";
import type {
  Operation,
  OperationResult,
  RangeRequest,
  RangeResult,
  StoreErrorCode,
} from "../store/types.ts";

export type ClientRequest =
  | { readonly type: "write"; readonly operation: Operation }
  /** `fenced`: linearizable; else answered at once from what the member has executed. */
  | { readonly type: "read"; readonly range: RangeRequest; readonly fenced: boolean };

export type Outcome =
  | { readonly type: "written"; readonly result: OperationResult }
  | { readonly type: "read"; readonly result: RangeResult }
  | { readonly type: "refused"; readonly code: StoreErrorCode }
  /** The member said that it did not take the operation: it must never be executed. */
  | { readonly type: "notTaken" };

/** One request of one client. `outcome` stays undefined when nobody knows. */
export interface ClientRecord {
  readonly client: number;
  readonly member: MemberIndex;
  readonly request: ClientRequest;
  readonly invokedMs: number;
  returnedMs: number;
  outcome: Outcome | undefined;
  /** The instance in which its member executed it, when it was seen to. */
  executedIn?: number;
  /** False when its member is Byzantine: its answers and its use of the operation prove nothing. */
  readonly trusted: boolean;
}

/** A rule that was broken. */
export interface Violation {
  /** File of the checker that found it, without its ending. */
  readonly checker: string;
  readonly message: string;
}

/** How checkers tell of what they find. */
export type Report = (violation: Violation) => void;
