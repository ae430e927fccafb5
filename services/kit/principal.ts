// Who calls, as decided once at the edge; every service gets it with the call.
import { PriorityClass } from '#gen/quern/common/v1/common.ts';

/**
 * A label that whoever made the key chose. The meter of cancels looks at it (a key of role service stands for many callers
 * and is counted per connection), GET /metrics, which shows the tenants to admin and service only, and approvals of tool calls
 * (agent runs), which an admin and the run's own user may give and a service never.
 */
export type Role = 'user' | 'admin' | 'service';

/** Which control tokens raw prompts may contain, weakest first. */
export type ParseSpecialCeiling = 'none' | 'fim' | 'all';

export type Principal = {
  tenant: string;
  user: string;
  role: Role;
  /** Names the key in logs and audit; never the key itself. */
  keyId: string;
  /** The strongest class this caller may ask for; stronger requests are lowered to it. */
  priorityCeiling: PriorityClass;
  parseSpecialCeiling: ParseSpecialCeiling;
};

/** The person at this machine, when no keys file is given and only loopback is bound. */
export const localPrincipal: Principal = Object.freeze({
  tenant: 'local',
  user: 'local',
  role: 'admin',
  keyId: 'local',
  priorityCeiling: PriorityClass.PRIORITY_CLASS_INVOKED,
  parseSpecialCeiling: 'all',
});

/** Whoever was not recognised, or not asked who they are: no tenant, and the least that anybody may. */
export const strangerPrincipal: Principal = Object.freeze({
  tenant: '',
  user: '',
  role: 'user',
  keyId: '',
  priorityCeiling: PriorityClass.PRIORITY_CLASS_BATCH,
  parseSpecialCeiling: 'none',
});

/** Who holds the operators' token of a service. */
export const operatorPrincipal: Principal = Object.freeze({
  ...localPrincipal,
  user: 'operator',
  keyId: 'operator',
});

/** Another process of this mesh, known by the shared token or its certificate. */
export function servicePrincipal(name: string): Principal {
  return {
    tenant: 'local',
    user: name,
    role: 'service',
    keyId: `service:${name}`,
    priorityCeiling: PriorityClass.PRIORITY_CLASS_INVOKED,
    parseSpecialCeiling: 'all',
  };
}

/** One text per principal, for maps and meters. */
export function principalKey(principal: Principal): string {
  return JSON.stringify([principal.tenant, principal.user, principal.keyId]);
}
