// What agent runs of this gateway share, there when a tool service is configured.
import { QuernError } from '#kit/errors.ts';
import type { AgentMetrics } from './agent-metrics.ts';
import type { AgentRuns } from './agent-runs.ts';
import type { ToolService } from './seams.ts';

export type Agents = {
  readonly runs: AgentRuns;
  readonly tools: ToolService;
  readonly metrics: AgentMetrics;
  /** Of nested contexts. */
  readonly sealingKey: Uint8Array;
  /** Other gateways seal with the same key: a context may be of a run that is not here. */
  readonly sharedKey: boolean;
};

/** Throws FAILED_PRECONDITION without a tool service. */
export function requireAgents({ agents }: { agents: Agents | null }): Agents {
  if (agents) return agents;
  const message =
    'agent runs and server-side tools need the tool service, and this gateway has none; set QUERN_TOOLS_ADDRESS to its ' +
    'address and start the gateway again (quern up does both)';
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'TOOLS_NOT_CONFIGURED' });
}
