// Comparing secrets and deriving values from them.
import { createHash, hkdfSync, timingSafeEqual } from 'node:crypto';

/** SHA-256 of the bytes, 32 bytes. */
export function sha256(data: string | Uint8Array): Buffer {
  return createHash('sha256').update(data).digest();
}

/** SHA-256 as 64 lower-case hex digits. */
export function sha256Hex(data: string | Uint8Array): string {
  return sha256(data).toString('hex');
}

/** Equality in time that depends on neither value: both are hashed first, so lengths do not leak either. */
export function constantTimeEqual(a: string | Uint8Array, b: string | Uint8Array): boolean {
  return timingSafeEqual(sha256(a), sha256(b));
}

/**
 * The prefix-cache salt of a tenant: HKDF-SHA-256 (RFC 5869) of the server's secret, 32 hex digits. Without the secret
 * nobody can name another tenant's region, and timing of cache hits tells nothing across tenants.
 */
export function deriveSalt(secret: string | Uint8Array, tenant: string): string {
  const derived = hkdfSync('sha256', secret, new Uint8Array(0), `quern.cache-salt.v1:${tenant}`, 16);
  return Buffer.from(derived).toString('hex');
}
