/**
 * What a leader change makes of the ACCEPT claims for one instance (design, section 5; Mod-SMaRt's
 * sound/binds/unbound predicates, with regencies from 1 so that "claims nothing" is no live ballot: W1).
 */

/** A claim as selection sees it; `digestKey` is the digest as a byte string. */
export interface BallotClaim {
  readonly regency: number;
  readonly digestKey: string;
}

export type Selection =
  /** Only this value may be proposed. */
  | { readonly kind: "bound"; readonly claim: BallotClaim }
  /** Any valid value may be proposed: nothing can have been decided. */
  | { readonly kind: "free" }
  /** These reports do not tell yet; more are needed. */
  | { readonly kind: "wait" };

/**
 * The rule: over the reports of at least a quorum, a claim (b, v) is bound when a quorum of them claim
 * nothing, or a ballot lower than b, or exactly (b, v); the highest bound one is taken. If a quorum claim
 * nothing, anything may be proposed.
 *
 * @param reports one entry per report; undefined when it claims nothing for the instance
 */
export function selectValue(
  quorum: number,
  reports: readonly (BallotClaim | undefined)[],
  mutation = "",
): Selection {
  let best: BallotClaim | undefined;
  let silent = 0;
  for (const claim of reports) {
    if (claim === undefined || (mutation === "liveRegencyZero" && claim.regency <= 1)) {
      silent += 1;
      continue;
    }
    let agreeing = 0;
    for (const other of reports) {
      if (
        other === undefined ||
        other.regency < claim.regency ||
        (other.regency === claim.regency && other.digestKey === claim.digestKey)
      ) {
        agreeing += 1;
      }
    }
    const isBound = agreeing >= quorum || isBoundByMutant(mutation, agreeing, quorum);
    if (isBound && (best === undefined || claim.regency > best.regency)) best = claim;
  }
  if (best !== undefined) return { kind: "bound", claim: best };
  return silent >= quorum ? { kind: "free" } : { kind: "wait" };
}

/** What one report says of one instance. */
export interface InstanceReport {
  readonly accepted: BallotClaim | undefined;
  /** The reporter's last logged WRITE; nothing but its own word stands behind it. */
  readonly logged: BallotClaim | undefined;
}

/**
 * The whole rule for one instance: the ACCEPT claims as above, and then what all members together may have
 * decided by logged WRITEs in a ballot above the bound claim. In that case every correct reporter says so, and
 * at most f of the reporters are not correct. So a value that all but f reports name is bound: more than f, hence
 * a correct member, stand behind it, and no second value can have as many.
 */
export function selectForInstance(
  { quorum, f }: { readonly quorum: number; readonly f: number },
  reports: readonly InstanceReport[],
  mutation = "",
): Selection {
  const selection = selectValue(
    quorum,
    reports.map((report) => report.accepted),
    mutation,
  );
  if (selection.kind === "wait" || mutation === "loggedWritesIgnored") return selection;
  const above = selection.kind === "bound" ? selection.claim.regency : 0;
  const named = new Map<string, { readonly claim: BallotClaim; count: number }>();
  for (const { logged } of reports) {
    if (logged === undefined || (logged.regency <= above && mutation !== "loggedAtBoundCounted")) continue;
    const same = named.get(logged.digestKey);
    if (same === undefined) named.set(logged.digestKey, { claim: logged, count: 1 });
    else same.count += 1;
  }
  for (const { claim, count } of named.values()) {
    const needed = reports.length - f - (mutation === "loggedOneFewer" ? 1 : 0);
    if (count >= needed) return { kind: "bound", claim };
  }
  return selection;
}

/** The planted bugs of the selection: a claim taken though no quorum of reports backs it. */
function isBoundByMutant(mutation: string, agreeing: number, quorum: number): boolean {
  if (mutation === "selectionUnbacked") return true;
  return mutation === "selectionOneFewer" && agreeing === quorum - 1;
}
