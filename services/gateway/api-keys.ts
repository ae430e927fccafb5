// From a bearer token to its principal. The keys file is looked at again at most every KEYS_RECHECK_MS, when a call
// comes: a revoked key fails within a second, on connections that were open before too.
import { readFileSync, statSync } from 'node:fs';
import { QuernError } from '#kit/errors.ts';
import { findPrincipal, type KeySet, parseKeysFile } from '#kit/keys-file.ts';
import type { Log } from '#kit/log.ts';
import { localPrincipal, type Principal } from '#kit/principal.ts';
import { KEYS_RECHECK_MS } from './limits.ts';

/** `client`: the caller's address, for the record of a failure. */
export type Authenticate = (token: string | null, client?: string) => Principal;

function unauthenticated(message: string): QuernError {
  return new QuernError('UNAUTHENTICATED', message, { reason: 'INVALID_API_KEY' });
}

/** Everyone is the person at this machine: only for loopback. A token that came along is ignored. */
export const authenticateLocal: Authenticate = () => localPrincipal;

/**
 * Reads `path` now (throws when it is missing or wrong) and returns the check. A file that becomes unreadable later
 * keeps the last good keys; a file that is gone lets nobody in.
 */
export function createAuthenticate(
  path: string,
  log: Log,
  now: () => number = performance.now.bind(performance),
  onChanged: (before: KeySet, after: KeySet) => void = () => {},
): Authenticate {
  let version = fileVersion(path);
  let keys: KeySet = parseKeysFile(readFileSync(path, 'utf8'), path);
  let checkedAt = now();

  function recheck(): void {
    checkedAt = now();
    try {
      const current = fileVersion(path);
      if (current === version) return;
      const before = keys;
      keys = parseKeysFile(readFileSync(path, 'utf8'), path);
      version = current;
      onChanged(before, keys);
      log.info({ keys: keys.size }, 'API keys read again');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && version !== '') {
        const before = keys;
        keys = new Map();
        version = '';
        onChanged(before, keys);
      }
      log.error({ err: error, path }, 'the keys file cannot be read');
    }
  }

  return (token) => {
    if (now() - checkedAt >= KEYS_RECHECK_MS) recheck();
    if (token === null) {
      throw unauthenticated(
        'expected an API key in "authorization: Bearer qk_..."; create one with "quern keys create"',
      );
    }
    const principal = findPrincipal(keys, token);
    if (!principal) throw unauthenticated('the API key is unknown or revoked; create one with "quern keys create"');
    return principal;
  };
}

function fileVersion(path: string): string {
  const { ino, mtimeNs, size } = statSync(path, { bigint: true });
  return `${ino}:${mtimeNs}:${size}`;
}

/** The token of an Authorization header's value, null when it holds none. */
export function bearerToken(authorization: string | undefined): string | null {
  const match = authorization === undefined ? null : /^Bearer\s+(\S+)\s*$/i.exec(authorization);
  return match?.[1] ?? null;
}
