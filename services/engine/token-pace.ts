// How evenly the tokens of one request came: a histogram with four buckets per octave, so that a trace can say p50, p95 and
// the worst pause without a span per token.

const BUCKETS = 80;
const FIRST_MS = 0.05;
const PER_OCTAVE = 4;

export type PaceSummary = { p50Ms: number; p95Ms: number; maxMs: number; batchAvg: number; batchMax: number };

export class TokenPace {
  readonly #counts = new Uint32Array(BUCKETS);
  #gaps = 0;
  #maxMs = 0;
  #lastMs: number | null = null;
  #steps = 0;
  #batchSum = 0;
  #batchMax = 0;

  /** A step that computed prompt: the pause before the second token is measured from the last of them. */
  prefilled(atMs: number): void {
    if (this.#steps === 0) this.#lastMs = atMs;
  }

  /** A step that made a token of this request, at a time in milliseconds, with this many sequences in its batch. */
  note(atMs: number, batchSize: number): void {
    if (atMs === this.#lastMs) return; // another choice of the same request
    this.#steps += 1;
    this.#batchSum += batchSize;
    if (batchSize > this.#batchMax) this.#batchMax = batchSize;
    if (this.#lastMs !== null) this.#add(atMs - this.#lastMs);
    this.#lastMs = atMs;
  }

  #add(gapMs: number): void {
    const bucket = Math.floor(Math.log2(Math.max(gapMs, FIRST_MS) / FIRST_MS) * PER_OCTAVE);
    this.#counts[Math.min(bucket, BUCKETS - 1)]! += 1;
    this.#gaps += 1;
    if (gapMs > this.#maxMs) this.#maxMs = gapMs;
  }

  /** Upper bound of the bucket that holds the share, at most the largest gap. */
  #quantile(share: number): number {
    const wanted = Math.ceil(this.#gaps * share);
    let seen = 0;
    for (let i = 0; i < BUCKETS; i += 1) {
      seen += this.#counts[i]!;
      if (seen >= wanted) return Math.min(this.#maxMs, FIRST_MS * 2 ** ((i + 1) / PER_OCTAVE));
    }
    return this.#maxMs;
  }

  /** Null before the second token. */
  summary(): PaceSummary | null {
    if (this.#gaps === 0) return null;
    return {
      p50Ms: this.#quantile(0.5),
      p95Ms: this.#quantile(0.95),
      maxMs: this.#maxMs,
      batchAvg: this.#batchSum / this.#steps,
      batchMax: this.#batchMax,
    };
  }
}
