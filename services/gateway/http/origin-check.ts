// Against DNS rebinding: a page in the user's browser may name this server by any host name that resolves to it, but it
// cannot make the browser send another Host or Origin than its own.
import { HttpFailure } from './failure.ts';

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]', '::1']);

function hostName(host: string): string {
  const match = /^(\[[^\]]*\]|[^:]*)(?::\d+)?$/.exec(host.trim().toLowerCase());
  return match?.[1] ?? '';
}

function originHost(origin: string): string {
  try {
    return new URL(origin).hostname.toLowerCase();
  } catch {
    return '';
  }
}

export type OriginPolicy = {
  /** Host names (without port) a caller may use; null: any. */
  hosts: ReadonlySet<string> | null;
  /** Host names of pages that may call; requests without Origin always may. */
  origins: ReadonlySet<string>;
  /** Pages, as scheme, host and port, that may also read the answers. */
  readers: ReadonlySet<string>;
};

/** `allowed` is the configured list; without it a loopback listener takes loopback names only, another one any Host. */
export function originPolicy(
  allowed: ReadonlySet<string> | null,
  loopbackOnly: boolean,
  readers: ReadonlySet<string> = new Set(),
): OriginPolicy {
  const named = new Set([...(allowed ?? []), ...LOOPBACK]);
  return { hosts: allowed || loopbackOnly ? named : null, origins: named, readers };
}

/** Throws 403 for a Host or Origin that is not on the list. */
export function checkOrigin(
  policy: OriginPolicy,
  headers: { host?: string | undefined; origin?: string | undefined },
): void {
  const { host, origin } = headers;
  if (policy.hosts && !policy.hosts.has(hostName(host ?? ''))) {
    const message = `Host "${host ?? ''}" is not allowed; add it to QUERN_GATEWAY_ALLOWED_HOSTS`;
    throw new HttpFailure(403, 'host_not_allowed', message);
  }
  if (origin !== undefined && !policy.readers.has(origin) && !policy.origins.has(originHost(origin))) {
    const message = `Origin "${origin}" is not allowed; add it to QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS`;
    throw new HttpFailure(403, 'origin_not_allowed', message);
  }
}
