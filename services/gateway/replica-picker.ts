// Chooses the engine for a prompt: rendezvous hashing (Thaler & Ravishankar 1998) on the prompt's head, so that equal
// heads meet in one prefix cache, with bounded load (Mirrokni et al. 2016), so that one hot head does not pile up.
import { AFFINITY_BLOCK, AFFINITY_LOAD_FACTOR, AFFINITY_TOKENS } from './limits.ts';

export type Replica = {
  /** Stable over restarts: the address. */
  readonly name: string;
  readonly ready: boolean;
  /** Requests this gateway has there. */
  readonly inFlight: number;
};

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

function mix(hash: number, value: number): number {
  let h = hash;
  for (let shift = 0; shift < 32; shift += 8) h = Math.imul(h ^ ((value >>> shift) & 0xff), FNV_PRIME);
  return h >>> 0;
}

function mixText(hash: number, text: string): number {
  let h = hash;
  for (let i = 0; i < text.length; i += 1) h = mix(h, text.charCodeAt(i));
  return h;
}

/** FNV-1a alone leaves the high bits weak; this is murmur3's finalizer. */
function finish(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** What prompts with one prefix-cache region and the same head share. Whole blocks only: typing on changes nothing. */
export function affinityKey(cacheSalt: string, tokenIds: readonly number[]): number {
  const whole = Math.floor(Math.min(tokenIds.length, AFFINITY_TOKENS) / AFFINITY_BLOCK) * AFFINITY_BLOCK;
  let hash = mixText(FNV_OFFSET, cacheSalt);
  for (let i = 0; i < whole; i += 1) hash = mix(hash, tokenIds[i] as number);
  return hash;
}

/** The ready replica with the highest weight for `key` among those below the load bound; null when none is ready. */
export function pickReplica<R extends Replica>(replicas: readonly R[], key: number): R | null {
  let ready = 0;
  let load = 0;
  for (const replica of replicas) {
    if (!replica.ready) continue;
    ready += 1;
    load += replica.inFlight;
  }
  if (ready === 0) return null;
  const bound = Math.ceil(((load + 1) / ready) * AFFINITY_LOAD_FACTOR);
  let best: R | null = null;
  let bestWeight = -1;
  for (const replica of replicas) {
    if (!replica.ready || replica.inFlight >= bound) continue; // some replica is at or below the mean, so one passes
    const weight = finish(mixText(key, replica.name));
    if (weight > bestWeight) {
      best = replica;
      bestWeight = weight;
    }
  }
  return best;
}
