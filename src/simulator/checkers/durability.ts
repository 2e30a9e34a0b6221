/**
 * Checks, at the end of a run and after the restarts in it, that every acknowledged write is in the history
 * of every correct member: all stores hold exactly the model's state at their revision, and none is behind an
 * acknowledged revision.
 */
import type { MemberIndex } from "../../replica/contract.ts";
import type { KeyValue } from "../../store/types.ts";
import type { ClientRecord, Report } from "../history.ts";
import { answeredRevision, describeRecord } from "./linearizability.ts";
import { type StoreModel, sameKeyValue } from "./model.ts";

/** All that a store holds, and at which revision. */
export interface FinalState {
  readonly member: MemberIndex;
  readonly revision: number;
  readonly kvs: readonly KeyValue[];
}

export function checkDurability(
  states: readonly FinalState[],
  records: readonly ClientRecord[],
  model: StoreModel,
  report: Report,
): void {
  const violation = (message: string) => report({ checker: "durability", message });
  let acknowledged: ClientRecord | undefined;
  let highest = 0;
  for (const record of records) {
    const revision = record.trusted ? answeredRevision(record) : undefined;
    if (revision === undefined || revision <= highest) continue;
    highest = revision;
    acknowledged = record;
  }
  for (const { member, revision, kvs } of states) {
    if (revision < highest) {
      violation(
        `member ${member} ends at revision ${revision}, but ${describeRecord(acknowledged!)} got ${highest}`,
      );
    }
    if (revision > model.lastRevision)
      violation(`member ${member} ends at ${revision}, beyond all changes seen`);
    if (!model.knows(revision)) continue;
    const expected = model.range("", "\0", revision);
    if (expected.length !== kvs.length) {
      violation(
        `member ${member} holds ${kvs.length} keys at revision ${revision} instead of ${expected.length}`,
      );
      continue;
    }
    const wrong = expected.findIndex((kv, index) => !sameKeyValue(kv, kvs[index]));
    if (wrong >= 0)
      violation(`member ${member} holds another ${expected[wrong]!.key} at revision ${revision}`);
  }
}
