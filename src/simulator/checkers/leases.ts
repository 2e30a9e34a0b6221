/**
 * Checks that no lease expires early. Leases run by agreed time; a batch timestamp is believed only within a
 * bound of a correct member's clock, so a lease that was granted or kept alive at true time t is there until
 * t + TTL, less that bound twice (once at each end).
 */
import type { ClientRecord, Report } from "../history.ts";
import type { Change } from "./changes.ts";
import { LEASED_PREFIX } from "./exactly-once.ts";

export interface LeaseRules {
  /** Largest distance between a believed batch timestamp and true time. */
  readonly slackMs: number;
}

interface LeaseHistory {
  /** Requests that promised the lease a life of `ttlMs` from their invocation. */
  readonly promises: { readonly fromMs: number; readonly ttlMs: number }[];
  /** A client may have revoked it from this time on. */
  revokedMs: number;
}

export function checkLeases(
  changes: readonly Change[],
  records: readonly ClientRecord[],
  rules: LeaseRules,
  report: Report,
): void {
  const leases = collectLeases(records);
  const attached = new Map<string, bigint>();
  for (const change of changes) {
    for (const { type, kv } of change.events) {
      if (!kv.key.startsWith(LEASED_PREFIX)) continue;
      if (type === "put") {
        attached.set(kv.key, kv.lease);
        continue;
      }
      const lease = leases.get(attached.get(kv.key) ?? 0n);
      attached.delete(kv.key);
      if (lease === undefined) {
        report({
          checker: "leases",
          message: `revision ${change.revision} deletes ${kv.key}, which no lease holds`,
        });
      } else if (lease.revokedMs > change.seenMs) {
        checkNotEarly(lease, change, kv.key, rules, report);
      }
    }
  }
}

function checkNotEarly(
  lease: LeaseHistory,
  change: Change,
  key: string,
  rules: LeaseRules,
  report: Report,
): void {
  for (const { fromMs, ttlMs } of lease.promises) {
    const earliestMs = fromMs + ttlMs - 2 * rules.slackMs;
    if (change.seenMs >= earliestMs) continue;
    report({
      checker: "leases",
      message:
        `revision ${change.revision} deletes ${key} at ${change.seenMs.toFixed(1)} ms: its lease was promised ` +
        `${ttlMs} ms at ${fromMs.toFixed(1)} ms, and clocks explain no more than ${rules.slackMs} ms at each end`,
    });
  }
}

function collectLeases(records: readonly ClientRecord[]): Map<bigint, LeaseHistory> {
  const leases = new Map<bigint, LeaseHistory>();
  const of = (id: bigint) => {
    let lease = leases.get(id);
    if (lease === undefined) leases.set(id, (lease = { promises: [], revokedMs: Number.POSITIVE_INFINITY }));
    return lease;
  };
  for (const record of records) {
    if (record.request.type !== "write") continue;
    const { operation } = record.request;
    const result = record.trusted && record.outcome?.type === "written" ? record.outcome.result : undefined;
    if (operation.type === "leaseRevoke") {
      const lease = of(operation.id);
      lease.revokedMs = Math.min(lease.revokedMs, record.invokedMs);
    }
    if (operation.type === "leaseGrant") of(operation.id);
    if (result?.type === "leaseGrant" || (result?.type === "leaseKeepAlive" && result.ttlSeconds > 0)) {
      of(result.id).promises.push({ fromMs: record.invokedMs, ttlMs: result.ttlSeconds * 1000 });
    }
  }
  return leases;
}
