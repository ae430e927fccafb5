// The settings of the socket on which coverage alone is answered.
import { parseAddress } from '#kit/rpc/address.ts';

export type CoverageSocket = { path: string; group: number };

/** What is wrong with the settings, for the `check` of readEnv. */
export function coverageProblems(listen: string | null | undefined, group: number | null | undefined): string[] {
  if (listen === undefined || group === undefined) return [];
  if ((listen === null) !== (group === null)) {
    const names = ['QUERN_AUDIT_COVERAGE_LISTEN', 'QUERN_AUDIT_COVERAGE_GROUP'] as const;
    const [set, missing] = listen === null ? [names[1], names[0]] : names;
    return [`${missing}: expected it beside ${set}, got nothing; set both or none`];
  }
  return listen === null || socketPath(listen) !== null
    ? []
    : [
        `QUERN_AUDIT_COVERAGE_LISTEN: expected unix:///path, got "${listen}"; producers elsewhere use QUERN_AUDIT_LISTEN`,
      ];
}

/** Null: it is no address of a socket. */
export function socketPath(listen: string): string | null {
  try {
    const address = parseAddress(listen);
    return address.kind === 'unix' ? address.path : null;
  } catch {
    return null;
  }
}
