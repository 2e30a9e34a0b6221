/**
 * Checks that every refusal has its reason: `compacted` a compaction that somebody asked for, `futureRevision` a
 * revision that nobody had been told of, `leaseNotFound` a lease in the request (agreed-leases.ts says whether it was
 * there). Nothing else of what the simulated clients ask may be refused at all.
 */
import type { ClientRecord, Report } from "../history.ts";
import { answeredRevision, describeRecord } from "./linearizability.ts";

export function checkRefusals(records: readonly ClientRecord[], report: Report): void {
  const known = new KnownRevisions(records);
  const compactions = records.filter(mayHaveCompacted);
  for (const record of records) {
    const code = record.trusted ? refusalOf(record) : undefined;
    if (code === undefined) continue;
    const wrong = checkRefusal(record, code, known, compactions);
    if (wrong !== undefined) {
      report({ checker: "refusals", message: `${describeRecord(record)}: refused as ${code}, ${wrong}` });
    }
  }
}

/** Why a request was refused; undefined when it was not. */
export function refusalOf({ outcome }: ClientRecord): string | undefined {
  if (outcome?.type === "refused") return outcome.code;
  return outcome?.type === "written" && outcome.result.type === "error" ? outcome.result.error : undefined;
}

function compactedAt({ request }: ClientRecord): number | undefined {
  return request.type === "write" && request.operation.type === "compact"
    ? request.operation.revision
    : undefined;
}

function mayHaveCompacted(record: ClientRecord): boolean {
  return (
    compactedAt(record) !== undefined &&
    record.outcome?.type !== "notTaken" &&
    refusalOf(record) === undefined
  );
}

function checkRefusal(
  record: ClientRecord,
  code: string,
  known: KnownRevisions,
  compactions: readonly ClientRecord[],
): string | undefined {
  const { request, invokedMs, returnedMs } = record;
  const own = compactedAt(record);
  const asked = own ?? (request.type === "read" ? request.range.revision : undefined);
  if (code === "compacted" && asked !== undefined) {
    // A read at the compacted revision itself is served; a second compaction there is refused.
    const least = own === undefined ? asked + 1 : asked;
    const reason = compactions.some(
      (other) => other !== record && other.invokedMs <= returnedMs && compactedAt(other)! >= least,
    );
    return reason ? undefined : `though no compaction from ${least} on was asked for`;
  }
  if (code === "futureRevision" && asked !== undefined) {
    const fenced = request.type === "write" || request.fenced;
    const floor = known.before(invokedMs);
    return !fenced || asked > floor ? undefined : `though ${floor} was known before`;
  }
  if (code === "leaseNotFound" && request.type === "write") {
    const { operation } = request;
    if (operation.type === "leaseRevoke") return undefined;
    if (operation.type === "put" && operation.put.lease !== 0n) return undefined;
  }
  return "for which there is no reason";
}

/** The highest revision that anybody had been told of before a time. */
class KnownRevisions {
  readonly #timesMs: number[] = [];
  readonly #highest: number[] = [];

  constructor(records: readonly ClientRecord[]) {
    const told = records
      .filter(({ trusted }) => trusted)
      .map((record) => ({ atMs: record.returnedMs, revision: answeredRevision(record) }))
      .sort((a, b) => a.atMs - b.atMs);
    let highest = 1;
    for (const { atMs, revision } of told) {
      if (revision === undefined || revision <= highest) continue;
      highest = revision;
      this.#timesMs.push(atMs);
      this.#highest.push(highest);
    }
  }

  before(atMs: number): number {
    const after = this.#timesMs.findIndex((told) => told >= atMs);
    const index = (after < 0 ? this.#timesMs.length : after) - 1;
    return this.#highest[index] ?? 1;
  }
}
