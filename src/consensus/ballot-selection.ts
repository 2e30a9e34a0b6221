/** The replicas' selection as the ballot model (ballot-model.ts) asks for it, and planted bugs in it. */
import { type BallotClaim, selectForInstance } from "./selection.ts";

/** "`value` in `ballot`", or null for "nothing". */
export type ModelClaim = { readonly ballot: number; readonly value: number } | null;

/** What one report says: the newest ACCEPT, and the newest logged WRITE. */
export interface ModelReport {
  readonly accepted: ModelClaim;
  readonly logged: ModelClaim;
}

/** Which values (1, 2, both or none yet) a set of reports allows a leader to propose. */
export type Selection = (reports: readonly ModelReport[], quorum: number) => readonly number[];

const VALUES = [1, 2] as const;
const FAULTS = 1;

/**
 * The selection that the replicas run, with the model's values for digests.
 *
 * @param faults how many reports the selection takes for wrong; any other number than 1 is a planted bug
 */
export function protocolSelection(mutation = "", faults = FAULTS): Selection {
  return (reports, quorum) => {
    const said = reports.map(({ accepted, logged }) => ({
      accepted: ballotClaim(accepted),
      logged: ballotClaim(logged),
    }));
    const selected = selectForInstance({ quorum, f: faults }, said, mutation);
    if (selected.kind === "bound") return [Number(selected.claim.digestKey)];
    return selected.kind === "free" ? VALUES : [];
  };
}

function ballotClaim(claim: ModelClaim): BallotClaim | undefined {
  return claim === null ? undefined : { regency: claim.ballot, digestKey: String(claim.value) };
}

/**
 * Planted bugs of the selection, by what is wrong with it. Where selection.ts has no such mutation, the bug is in
 * what the model tells it and what it makes of the answer.
 */
export const BROKEN_SELECTIONS = {
  "the first ballot counts as none": protocolSelection("liveRegencyZero"),
  "an ACCEPT is taken though no quorum backs it": protocolSelection("selectionUnbacked"),
  "an ACCEPT is bound by one report fewer": protocolSelection("selectionOneFewer"),
  "logged WRITEs are ignored": protocolSelection("loggedWritesIgnored"),
  "a logged WRITE is bound by one report fewer": protocolSelection("", FAULTS + 1),
  "a logged WRITE is bound by one report more": protocolSelection("", FAULTS - 1),
  "a logged WRITE counts in the ballot of the bound ACCEPT, too": (reports, quorum) =>
    protocolSelection()(reports.map(raised), quorum),
  "a logged WRITE is bound while the ACCEPTs do not tell": (reports, quorum) => {
    const allowed = protocolSelection()(reports, quorum);
    if (allowed.length > 0) return allowed;
    const byLogged = protocolSelection()(
      reports.map(({ logged }) => ({ accepted: null, logged })),
      quorum,
    );
    return byLogged.length === 1 ? byLogged : [];
  },
} as const satisfies Record<string, Selection>;

/** The report with its logged WRITE in the next ballot. */
function raised({ accepted, logged }: ModelReport): ModelReport {
  return { accepted, logged: logged && { ballot: logged.ballot + 1, value: logged.value } };
}
