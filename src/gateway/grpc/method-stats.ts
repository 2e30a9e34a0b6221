/** Counters of one method, plain numbers on the hot path; metrics.ts exports them when asked. */
import { DurationHistogram } from "../duration-histogram.ts";
import { GRPC_CODE_NAMES, type GrpcCode } from "./status.ts";

/** Upper bounds of the buckets of the handling time, in seconds (go-grpc-prometheus' defaults). */
const HANDLING_BOUNDS_S: readonly number[] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class MethodStats {
  readonly service: string;
  readonly method: string;
  readonly kind: "unary" | "stream";
  started = 0;
  readonly handled: number[] = GRPC_CODE_NAMES.map(() => 0);
  readonly durations = new DurationHistogram(HANDLING_BOUNDS_S);

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
    this.durations.observe(durationMs);
  }
}
