// What generation and the front doors share, built once by service.ts and handed down.
import type { Log } from '#kit/log.ts';
import type { SpanSink } from '#kit/trace.ts';
import type { Admission } from './admission.ts';
import type { Agents } from './agent/agents.ts';
import type { Authenticate } from './api-keys.ts';
import type { GatewayAudit } from './audit/gateway-audit.ts';
import type { ExplainRing } from './explain-ring.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import type { Models } from './models.ts';
import type { RequestTable } from './request-table.ts';
import type { TokenizerClient } from './tokenizer-client.ts';
import type { ToolsWatch } from './tools-watch.ts';

export type GatewayContext = {
  readonly log: Log;
  readonly metrics: GatewayMetrics;
  readonly spans: SpanSink;
  readonly models: Models;
  readonly tokenizer: TokenizerClient;
  readonly admission: Admission;
  readonly audit: GatewayAudit;
  readonly requests: RequestTable;
  readonly explain: ExplainRing;
  /** Null: no tool service is configured. */
  readonly agents: Agents | null;
  readonly toolsWatch: ToolsWatch;
  readonly authenticate: Authenticate;
  /** The prefix-cache region of a tenant. */
  cacheSalt(tenant: string): string;
  /** Host and Origin values that HTTP callers may name, lower case; null: loopback names and any own address. */
  readonly allowedHosts: ReadonlySet<string> | null;
  /** Pages that may read answers, as scheme, host and port. */
  readonly allowedOrigins: ReadonlySet<string>;
  /** True once the process has begun to stop. */
  readonly draining: () => boolean;
};
