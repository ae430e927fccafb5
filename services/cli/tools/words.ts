/** What the verbs of `quern tools` share: on whose behalf they call. */
import type { Caller } from '#gen/quern/tools/v1/tools.ts';

export const WHO_OPTIONS = { tenant: { type: 'string' }, user: { type: 'string' } } as const;

/** Everyone's, without a keys file. */
const LOCAL = 'local';

export function callerOf(
  { tenant, user }: { tenant?: string | undefined; user?: string | undefined },
  { session, request }: { session: string; request: string },
): Caller {
  return { tenant: tenant ?? LOCAL, user: user ?? LOCAL, keyId: '', sessionId: session, requestId: request };
}
