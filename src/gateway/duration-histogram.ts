/** A histogram of durations: plain numbers on the hot path, Prometheus' form when somebody asks. */

/** One line of a metric. */
export interface Sample {
  /** Where it is another than the metric's (a histogram's `_bucket`). */
  readonly metricName?: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

export class DurationHistogram {
  readonly #boundsS: readonly number[];
  /** Not cumulative; the last is for what is slower than all bounds. */
  readonly #counts: number[];
  #sumS = 0;

  /** `boundsS`: upper bounds of the buckets in seconds, ascending. */
  constructor(boundsS: readonly number[]) {
    this.#boundsS = boundsS;
    this.#counts = [...boundsS, 0].map(() => 0);
  }

  observe(durationMs: number): void {
    const seconds = durationMs / 1000;
    this.#sumS += seconds;
    const bounds = this.#boundsS;
    let bucket = 0;
    while (bucket < bounds.length && seconds > bounds[bucket]!) bucket++;
    this.#counts[bucket]! += 1;
  }

  /** Buckets, sum and count of the metric with this name. */
  samples(name: string, labels: Record<string, string> = {}): Sample[] {
    let count = 0;
    const samples: Sample[] = this.#counts.map((inBucket, i) => {
      count += inBucket;
      const le = this.#boundsS[i] ?? "+Inf";
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
    });
    samples.push({ metricName: `${name}_sum`, labels, value: this.#sumS });
    samples.push({ metricName: `${name}_count`, labels, value: count });
    return samples;
  }
}
