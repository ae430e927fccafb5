// What the gateway counts of agent runs.
import { LATENCY_BUCKETS_SECONDS, type Metrics } from '#kit/metrics.ts';

export type AgentMetrics = {
  /** A run is over, its nested runs with it. */
  runEnded(run: { mode: 'loop' | 'plan'; outcome: string; seconds: number; turns: number }): void;
  /** `tool`: of the tool service's list, or "unknown". */
  callEnded(call: { tool: string; outcome: string; seconds: number }): void;
  watch(running: () => number): void;
};

export function createAgentMetrics(metrics: Metrics): AgentMetrics {
  const runs = metrics.counter({
    name: 'quern_agent_runs_total',
    help: 'Agent runs by how they ended',
    labels: ['mode', 'outcome'],
  });
  const turns = metrics.counter({
    name: 'quern_agent_turns_total',
    help: 'Model turns of agent runs',
    labels: ['mode'],
  });
  const calls = metrics.counter({
    name: 'quern_agent_tool_calls_total',
    help: 'Tool calls of agent runs by how they ended',
    labels: ['tool', 'outcome'],
  });
  const runSeconds = metrics.histogram({
    name: 'quern_agent_run_seconds',
    help: 'From the start of an agent run to its end',
    labels: ['mode'],
    buckets: LATENCY_BUCKETS_SECONDS,
  });
  const callSeconds = metrics.histogram({
    name: 'quern_agent_tool_call_seconds',
    help: 'From a tool call of an agent run to its end, waiting for approval included',
    labels: ['tool'],
    buckets: LATENCY_BUCKETS_SECONDS,
  });
  return {
    runEnded({ mode, outcome, seconds, turns: count }) {
      runs.inc({ mode, outcome });
      turns.inc({ mode }, count);
      runSeconds.observe(seconds, { mode });
    },
    callEnded({ tool, outcome, seconds }) {
      calls.inc({ tool, outcome });
      callSeconds.observe(seconds, { tool });
    },
    watch(running) {
      metrics.gauge({
        name: 'quern_agent_runs_kept',
        help: 'Agent runs that run or can still be read',
        collect: (set) => set(running()),
      });
    },
  };
}
