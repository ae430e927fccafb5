// ULIDs (github.com/ulid/spec): 48 bits of time and 80 random ones as 26 characters of Crockford's base 32, sortable by time.
import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const TIME_CHARS = 10;
const RANDOM_BYTES = 10;

/** A new one. 80 random bits: nobody guesses another's. */
export function ulid(now: number = Date.now()): string {
  let time = '';
  let rest = now;
  for (let i = 0; i < TIME_CHARS; i++) {
    time = ALPHABET[rest % 32]! + time;
    rest = Math.floor(rest / 32);
  }
  let bits = BigInt(`0x${randomBytes(RANDOM_BYTES).toString('hex')}`);
  let random = '';
  for (let i = 0; i < (RANDOM_BYTES * 8) / 5; i++) {
    random = ALPHABET[Number(bits & 31n)]! + random;
    bits >>= 5n;
  }
  return time + random;
}
