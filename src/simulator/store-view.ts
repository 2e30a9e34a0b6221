/** What the simulator reads of a member's store. */
import type { KeyValue, LeaseInfo, RangeRequest, RangeResult, WatchEvent } from "../store/types.ts";

export interface StoreView {
  readonly revision: number;
  readonly compactRevision: number;
  /** Throws StoreError. */
  range(request: RangeRequest): RangeResult;
  /** Events of the revisions from `from` to `to`, in order, about `countMax` of them. Throws StoreError. */
  events(fromRevision: number, toRevision: number, countMax: number): readonly WatchEvent[];
  leases(): bigint[];
  leaseTimeToLive(id: bigint): LeaseInfo | undefined;
}

/** A request for a range with all options at their defaults. */
export function plainRange(key: string, rangeEnd: string, revision = 0, limit = 0): RangeRequest {
  return {
    key,
    rangeEnd,
    limit,
    revision,
    sortOrder: 0,
    sortTarget: 0,
    serializable: false,
    keysOnly: false,
    countOnly: false,
    minModRevision: 0,
    maxModRevision: 0,
    minCreateRevision: 0,
    maxCreateRevision: 0,
  };
}

/** Everything that a store holds now. */
export function wholeState(store: StoreView): readonly KeyValue[] {
  return store.range(plainRange("\0", "\0")).kvs;
}
