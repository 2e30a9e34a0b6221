/**
 * Checks that all correct members make the same changes in the same order, event by event, and keeps the one
 * history of changes that the other checkers use.
 */
import { toHex } from "../../base/bytes.ts";
import type { MemberIndex } from "../../replica/contract.ts";
import type { WatchEvent } from "../../store/types.ts";
import type { Report } from "../history.ts";

/** All events of one revision, as the first correct member that executed it showed them. */
export interface Change {
  readonly revision: number;
  readonly events: readonly WatchEvent[];
  /** True time at which a correct member was first seen to have executed it. */
  readonly seenMs: number;
  readonly seenAt: MemberIndex;
}

export class ChangeHistory {
  readonly #report: Report;
  readonly #changes = new Map<number, Change>();
  #last = 1;

  constructor(report: Report) {
    this.#report = report;
  }

  /** Highest revision that any correct member showed. A store begins at revision 1, with nothing in it. */
  get lastRevision(): number {
    return this.#last;
  }

  /** Undefined for a revision that was compacted before anyone read it. */
  change(revision: number): Change | undefined {
    return this.#changes.get(revision);
  }

  /** In the order of revisions. */
  all(): Change[] {
    return [...this.#changes.values()].sort((a, b) => a.revision - b.revision);
  }

  /** A correct member shows events, in its order, some of them perhaps again. */
  observe(member: MemberIndex, events: readonly WatchEvent[], nowMs: number): void {
    let start = 0;
    while (start < events.length) {
      const revision = events[start]!.kv.modRevision;
      let end = start + 1;
      while (end < events.length && events[end]!.kv.modRevision === revision) end++;
      this.#observeRevision(member, revision, events.slice(start, end), nowMs);
      start = end;
    }
  }

  #observeRevision(
    member: MemberIndex,
    revision: number,
    events: readonly WatchEvent[],
    nowMs: number,
  ): void {
    const known = this.#changes.get(revision);
    if (known === undefined) {
      this.#changes.set(revision, { revision, events, seenMs: nowMs, seenAt: member });
      if (revision > this.#last) this.#last = revision;
      return;
    }
    if (known.events.length === events.length && known.events.every((e, i) => sameEvent(e, events[i]!)))
      return;
    this.#report({
      checker: "changes",
      message:
        `revision ${revision} is [${known.events.map(describeEvent).join(", ")}] at member ${known.seenAt} ` +
        `but [${events.map(describeEvent).join(", ")}] at member ${member}`,
    });
  }
}

function sameEvent(a: WatchEvent, b: WatchEvent): boolean {
  if (a === b) return true;
  return (
    a.type === b.type &&
    a.kv.key === b.kv.key &&
    a.kv.modRevision === b.kv.modRevision &&
    a.kv.createRevision === b.kv.createRevision &&
    a.kv.version === b.kv.version &&
    a.kv.lease === b.kv.lease &&
    sameValue(a.kv.value, b.kv.value)
  );
}

function sameValue(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** One event in a line, for a violation's text. */
export function describeEvent(event: WatchEvent): string {
  const { kv } = event;
  if (event.type === "delete") return `delete ${kv.key}@${kv.modRevision}`;
  const value = toHex(kv.value.subarray(0, 12));
  return `put ${kv.key}@${kv.modRevision}=${value} created ${kv.createRevision} version ${kv.version} lease ${kv.lease}`;
}
