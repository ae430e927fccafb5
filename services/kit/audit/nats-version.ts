// Which nats-server may carry the audit stream.
import { QuernError } from '#kit/errors.ts';
import { NATS_VERSION_MIN } from './limits.ts';

/** Negative, 0 or positive as dotted version `a` is older than, equal to or newer than `b`. */
function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split('-')[0]!.split('.').map(Number));
  for (let i = 0; i < 3; i += 1) {
    const difference = (left![i] ?? 0) - (right![i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Throws FAILED_PRECONDITION for a server whose stream could lose or rewrite what it acknowledged. */
export function checkServerVersion(version: string): void {
  if (compareVersions(version, NATS_VERSION_MIN) >= 0) return;
  const message =
    `nats-server ${version}: expected ${NATS_VERSION_MIN} or newer, because older ones take a damaged snapshot for an orphaned ` +
    'stream and delete it; install a current release (distribution packages are too old)';
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'NATS_TOO_OLD' });
}
