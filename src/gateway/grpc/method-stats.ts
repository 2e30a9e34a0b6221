/** Counters of one method, plain numbers on the hot path; metrics.ts exports them when asked. */
import { GRPC_CODE_NAMES, type GrpcCode } from "./status.ts";

/** Upper bounds of the buckets of the handling time, in seconds (go-grpc-prometheus' defaults). */
export const HANDLING_BUCKETS_SECONDS: readonly number[] = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

export class MethodStats {
  readonly service: string;
  readonly method: string;
  readonly kind: "unary" | "stream";
  started = 0;
  readonly handled: number[] = GRPC_CODE_NAMES.map(() => 0);
  /** Calls by bucket (not cumulative); the last is for what is slower than all bounds. */
  readonly buckets: number[] = [...HANDLING_BUCKETS_SECONDS, 0].map(() => 0);
  sumSeconds = 0;

  /** `path`: "/package.Service/Method". */
  constructor(path: string, kind: "unary" | "stream") {
    const [, service = "", method = ""] = path.split("/");
    this.service = service;
    this.method = method;
    this.kind = kind;
  }

  /** Counts a call that ended. */
  end(code: GrpcCode, durationMs: number): void {
    this.handled[code] = this.handled[code]! + 1;
    const seconds = durationMs / 1000;
    this.sumSeconds += seconds;
    let bucket = 0;
    while (bucket < HANDLING_BUCKETS_SECONDS.length && seconds > HANDLING_BUCKETS_SECONDS[bucket]!) bucket++;
    this.buckets[bucket] = this.buckets[bucket]! + 1;
  }
}
