// Where a process answers GET /metrics: one setting, the same for every service but the gateway, which has its HTTP port.
import { str } from './env.ts';

export type MetricsAddress = { host: string; port: number };

/** The variable; `port` is the one that Quern uses by custom, as deploy/prometheus/prometheus.yml has it. */
export function metricsListenField(name: string, port: number) {
  return str(name, {
    doc: `host:port for GET /metrics, /healthz and /readyz. Absent: none (127.0.0.1:${port} by custom)`,
    default: null,
    pattern: /^[^\s:]+:\d{1,5}$/,
    expected: 'host:port',
  });
}

export function parseMetricsListen(text: string | null): MetricsAddress | null {
  if (text === null) return null;
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}
