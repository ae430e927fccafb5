// How many calls one principal may cancel. It stands in the place of Node's limit per connection, which punishes the
// bystanders of a caller: here only the caller is refused.
import { RPC_RESET_PRINCIPALS_MAX, RPC_RESETS_BURST, RPC_RESETS_PER_SECOND } from '#kit/limits.ts';

type Bucket = { tokens: number; atMs: number };

export type ResetMeter = {
  /** One cancelled or expired call of `key`. */
  charge(key: string): void;
  /** Milliseconds until `key` may call again; 0 when it may now. */
  waitMs(key: string): number;
};

/** A token bucket per key. Charging goes below zero, so a caller that goes on cancelling waits longer, at most a minute. */
export function createResetMeter(
  options: { burst?: number; perSecond?: number; keysMax?: number; now?: () => number } = {},
): ResetMeter {
  const {
    burst = RPC_RESETS_BURST,
    perSecond = RPC_RESETS_PER_SECOND,
    keysMax = RPC_RESET_PRINCIPALS_MAX,
    now = () => performance.now(),
  } = options;
  const floor = -60 * perSecond;
  const buckets = new Map<string, Bucket>(); // insertion order = order of the last charge

  function refill(bucket: Bucket): void {
    const atMs = now();
    bucket.tokens = Math.min(burst, bucket.tokens + ((atMs - bucket.atMs) * perSecond) / 1000);
    bucket.atMs = atMs;
  }

  return {
    charge(key) {
      const bucket = buckets.get(key) ?? { tokens: burst, atMs: now() };
      refill(bucket);
      bucket.tokens = Math.max(floor, bucket.tokens - 1);
      buckets.delete(key);
      buckets.set(key, bucket);
      if (buckets.size > keysMax) buckets.delete(buckets.keys().next().value as string);
    },
    waitMs(key) {
      const bucket = buckets.get(key);
      if (!bucket) return 0;
      refill(bucket);
      return bucket.tokens > 0 ? 0 : Math.ceil(((1 - bucket.tokens) * 1000) / perSecond);
    },
  };
}
