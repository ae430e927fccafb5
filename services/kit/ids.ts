// Request ids: UUID version 7 (RFC 9562 §5.7): sortable by time, unguessable in 62 bits.
import { randomFillSync } from 'node:crypto';

const POOL_BYTES = 4096;
const pool = Buffer.alloc(POOL_BYTES);
let used = POOL_BYTES;

/**
 * Takes random bytes from a pool that is refilled at once: a call of the generator costs microseconds whatever it gives. `read`
 * copies them out of the pool, which does not keep what was given.
 */
function takeRandom<T>(count: number, read: (from: number, to: number) => T): T {
  if (used + count > POOL_BYTES) {
    randomFillSync(pool);
    used = 0;
  }
  const taken = read(used, used + count);
  pool.fill(0, used, used + count);
  used += count;
  return taken;
}

const asBytes = (from: number, to: number): Buffer => Buffer.from(pool.subarray(from, to));
const asHex = (from: number, to: number): string => pool.toString('hex', from, to);

/** `count` random bytes as lower-case hex, not all zero. For ids, not for keys. */
export function randomHex(count: number): string {
  while (true) {
    const hex = takeRandom(count, asHex);
    if (/[1-9a-f]/.test(hex)) return hex;
  }
}

let lastMs = 0;
let counter = 0;

/** A new UUIDv7. Ids made by one process in one millisecond are in order (12-bit counter, RFC 9562 §6.2 method 1). */
export function uuidv7(now: number = Date.now()): string {
  const id = takeRandom(16, asBytes);
  if (now > lastMs) {
    lastMs = now;
    counter = id.readUInt16BE(6) & 0x7ff; // starts in the lower half: room to count up
  } else {
    counter += 1;
    if (counter > 0xfff) {
      counter = 0;
      lastMs += 1; // borrow from the next millisecond rather than break the order
    }
  }
  id.writeUIntBE(lastMs, 0, 6);
  id.writeUInt16BE(0x7000 | counter, 6);
  id[8] = (id[8]! & 0x3f) | 0x80;
  const hex = id.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
