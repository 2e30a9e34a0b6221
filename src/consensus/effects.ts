/** What the core wants done. The replica's outputs contain these; see replica/contract.ts for the host's part. */
export type ConsensusEffect =
  | {
      readonly type: "send";
      readonly to: number;
      readonly lane: "vote" | "bulk";
      readonly bytes: Uint8Array;
    }
  | {
      readonly type: "append";
      readonly sequence: number;
      readonly record: Uint8Array;
      readonly sync: boolean;
    }
  | { readonly type: "trace"; readonly event: ConsensusTrace };

export type ConsensusTrace =
  | {
      readonly kind: "decided";
      readonly cid: number;
      readonly regency: number;
      readonly digest: Uint8Array;
      /** Whether logged WRITEs of all members decided it. */
      readonly fast: boolean;
    }
  | { readonly kind: "regency"; readonly regency: number; readonly leader: number }
  | { readonly kind: "stop"; readonly regency: number; readonly reason: string }
  /** Bytes or votes from a peer that no correct member sends. */
  | { readonly kind: "misbehaviour"; readonly member: number; readonly what: string };
