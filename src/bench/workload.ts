/**
 * Workloads by name: `put-64` is a closed loop of puts with 64 in flight, `put@1000` an open loop of 1,000 puts a
 * second.
 */
import type { LoadShape } from "./load.ts";

export const workloadKinds = ["put", "get", "serializable-get", "mix", "watch"] as const;
export type WorkloadKind = (typeof workloadKinds)[number];

/** What to send, how, and who watches. */
export interface Workload {
  readonly name: string;
  readonly kind: WorkloadKind;
  readonly shape: LoadShape;
  /** Watchers with previous values on each member. */
  readonly watchersPerMember: number;
}

const inFlightMax = 10_000;
const rateMax = 1_000_000;
const watchersPerMember = 10;

/** What a run measures unless told otherwise. */
export const defaultWorkloads: readonly string[] = [
  "put-1",
  "put-64",
  "put-512",
  "get-1",
  "get-64",
  "get-512",
  "serializable-get-1",
  "serializable-get-64",
  "serializable-get-512",
  "mix-64",
  "watch@500",
];

/** A name that is no workload; the message says what names look like. */
export class WorkloadNameError extends Error {
  override name = "WorkloadNameError";
}

/** Throws WorkloadNameError. */
export function parseWorkload(name: string): Workload {
  const match = /^(put|get|serializable-get|mix|watch)([-@])([1-9][0-9]*)$/.exec(name);
  const amount = Number(match?.[3]);
  const limit = match?.[2] === "@" ? rateMax : inFlightMax;
  if (match === null || amount > limit)
    throw new WorkloadNameError(
      `unknown workload "${name}": write KIND-N for N requests in flight (at most ${inFlightMax}) or KIND@R for R ` +
        `requests a second, with KIND one of ${workloadKinds.join(", ")}`,
    );
  const kind = match[1] as WorkloadKind;
  return {
    name,
    kind,
    shape: match[2] === "@" ? { ratePerSecond: amount } : { inFlight: amount },
    watchersPerMember: kind === "mix" || kind === "watch" ? watchersPerMember : 0,
  };
}

/** Whether it changes keys. */
export function isWriting(workload: Workload): boolean {
  return workload.kind === "put" || workload.kind === "mix" || workload.kind === "watch";
}
