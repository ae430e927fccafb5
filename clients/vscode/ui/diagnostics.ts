/** What helps to find a fault, as text to paste: no source text, no file names, no key. */
import type { Outcome } from './outcome.ts';
import type { State } from './status-bar.ts';

export type Facts = {
  extensionVersion: string;
  editor: string;
  backend: string;
  settings: Record<string, unknown>;
  hasKey: boolean;
  state: State;
  outcomes: readonly Outcome[];
  /** Of the language server; null where it does not answer. */
  statistics: unknown;
};

/** Settings whose value may name a person, a host or a file: only whether they are set. */
const PRIVATE: ReadonlySet<string> = new Set(['gateway', 'gatewayUrl', 'caFile', 'traceUrl', 'serverCommand']);

export function diagnosticsText(facts: Facts): string {
  const { extensionVersion, editor, backend, settings, hasKey, state, outcomes, statistics } = facts;
  const shown = Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [name, PRIVATE.has(name) ? (isSet(value) ? '(set)' : '') : value]),
  );
  const lines = outcomes.map(({ reason, rule, from, invoked, count, traceId }) => {
    const how = `${invoked ? 'asked' : 'typed'}, from ${from}, ${count} shown`;
    return `- ${reason ?? 'shown'}${rule ? ` (${rule})` : ''}: ${how}${traceId ? `, trace ${traceId}` : ''}`;
  });
  return [
    '### Quern diagnostics',
    `extension ${extensionVersion}, ${editor}, ${backend}, API key ${hasKey ? 'stored' : 'not stored'}, status ${state.kind}`,
    `settings: \`${JSON.stringify(shown)}\``,
    `statistics: \`${JSON.stringify(statistics)}\``,
    `last requests, oldest first:${lines.length === 0 ? ' none' : ''}`,
    ...lines,
    '',
  ].join('\n');
}

const isSet = (value: unknown): boolean => (Array.isArray(value) ? value.length > 0 : Boolean(value));
