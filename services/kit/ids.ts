// Request ids: UUID version 7 (RFC 9562 §5.7): sortable by time, unguessable in 62 bits.
import { randomFillSync } from 'node:crypto';

const random = Buffer.alloc(16 * 256);
let used = random.length;
let lastMs = 0;
let counter = 0;

/** A new UUIDv7. Ids made by one process in one millisecond are in order (12-bit counter, RFC 9562 §6.2 method 1). */
export function uuidv7(now: number = Date.now()): string {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  const id = Buffer.from(random.subarray(used, used + 16));
  used += 16;
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
