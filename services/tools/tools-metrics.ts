// What the tool service counts. No label holds a tool's name or a tenant: both are other people's words; an MCP
// server's name is the operator's.
import type { CounterMetric, HistogramMetric, Metrics } from '#kit/metrics.ts';
import type { TraceContext } from '#kit/trace.ts';
import type { Capabilities } from './jail/sandbox.ts';
import type { OutcomeWord } from './outcome.ts';
import type { ToolKind } from './tool.ts';
import type { ToolsStatus } from './tools-status.ts';

/** A sandbox takes about ten milliseconds; a busy machine ten times that. */
const SETUP_BUCKETS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const RUN_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const QUEUE_BUCKETS_SECONDS = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** In the order of their worth; the metric has 1 for the one that holds. */
const TIERS = ['A', 'A-', 'none'] as const;

const SERVER_STATES = ['unknown', 'listed', 'quarantined', 'failed'] as const;

export type WatchedTools = {
  running: number;
  queued: number;
  approvals: number;
  eventBytes: number;
  journalBytes: number;
  tools: number;
  capabilities: Capabilities;
  status: ToolsStatus;
};

export type ToolsMetrics = {
  ended(kind: ToolKind, outcome: OutcomeWord): void;
  replayed(): void;
  queued(seconds: number): void;
  setup(seconds: number, trace: TraceContext): void;
  run(kind: ToolKind, seconds: number, trace: TraceContext): void;
  output(bytes: number): void;
};

function gauges(metrics: Metrics, read: () => WatchedTools): void {
  const gauge = (name: string, help: string, value: (now: WatchedTools) => number): void => {
    metrics.gauge({ name, help, collect: (set) => set(value(read())) });
  };
  gauge('quern_tools_running', 'Tool calls that have a place now', ({ running }) => running);
  gauge('quern_tools_queued', 'Tool calls that wait for a place', ({ queued }) => queued);
  gauge('quern_tools_approvals_pending', 'Tool calls that wait for a person', ({ approvals }) => approvals);
  gauge('quern_tools_event_bytes', 'Bytes of events kept for Attach', ({ eventBytes }) => eventBytes);
  gauge('quern_tools_journal_bytes', 'Bytes of the journal of calls', ({ journalBytes }) => journalBytes);
  gauge('quern_tools_registered', 'Tools in the registry', ({ tools }) => tools);
  metrics.gauge({
    name: 'quern_tools_sandbox_tier',
    help: '1 for the tier of the sandbox: A (all layers), A- (without cgroups) or none (nothing runs)',
    labels: ['tier'],
    collect: (set) => {
      const tier = read().capabilities.tier ?? 'none';
      for (const one of TIERS) set(one === tier ? 1 : 0, { tier: one });
    },
  });
  metrics.gauge({
    name: 'quern_tools_sandbox_capability',
    help: '1 for a layer of the sandbox that passed its last test, 0 for one that did not',
    labels: ['capability'],
    collect: (set) => {
      for (const { name, available } of read().capabilities.list) set(available ? 1 : 0, { capability: name });
    },
  });
  metrics.gauge({
    name: 'quern_tools_mcp_server_state',
    help: '1 for the state of an MCP server: unknown (not asked yet), listed, quarantined (it has a changed tool) or failed',
    labels: ['server', 'state'],
    collect: (set) => {
      for (const { name, state } of read().status.servers)
        for (const one of SERVER_STATES) set(one === state ? 1 : 0, { server: name, state: one });
    },
  });
  gauge('quern_tools_settings_problems', 'Mistakes in tool packs and policy', ({ status }) => status.problems.length);
  metrics.gauge({
    name: 'quern_tools_sandbox_probe_age_seconds',
    help: 'Seconds since the sandbox was last tested',
    collect: (set) => set(Math.max(0, (Date.now() - read().capabilities.probedUnixMs) / 1000)),
  });
}

/** Adds quern_tools_*. `read` is called at each scrape. */
export function watchTools(metrics: Metrics, read: () => WatchedTools): ToolsMetrics {
  gauges(metrics, read);
  const executions: CounterMetric = metrics.counter({
    name: 'quern_tools_executions_total',
    help: 'Tool calls by kind of the tool and how they ended',
    labels: ['kind', 'outcome'],
  });
  const replays = metrics.counter({
    name: 'quern_tools_replayed_total',
    help: 'Calls that were given the kept result of an earlier one with their idempotency key',
  });
  const output = metrics.counter({
    name: 'quern_tools_output_bytes_total',
    help: 'Bytes that tools wrote to stdout and stderr',
  });
  const histogram = (name: string, help: string, buckets: readonly number[], labels?: string[]): HistogramMetric =>
    metrics.histogram({ name, help, buckets, ...(labels && { labels }) });
  const queue = histogram('quern_tools_queue_seconds', 'Time that calls waited for a place', QUEUE_BUCKETS_SECONDS);
  const setup = histogram(
    'quern_tools_setup_seconds',
    "Time from a place to the tool's first instruction",
    SETUP_BUCKETS_SECONDS,
  );
  const run = histogram(
    'quern_tools_run_seconds',
    "Time from the tool's first instruction until nothing of it is left",
    RUN_BUCKETS_SECONDS,
    ['kind'],
  );
  return {
    ended: (kind, outcome) => executions.inc({ kind, outcome }),
    replayed: () => replays.inc(),
    queued: (seconds) => queue.observe(seconds),
    setup: (seconds, trace) => setup.observe(seconds, {}, trace),
    run: (kind, seconds, trace) => run.observe(seconds, { kind }, trace),
    output: (bytes) => output.inc({}, bytes),
  };
}
