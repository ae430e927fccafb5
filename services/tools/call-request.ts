// A call as it is taken, and what all calls share.
import { hash } from 'node:crypto';
import type { Log } from '#kit/log.ts';
import type { Taint } from '#kit/taint.ts';
import type { SpanSink, TraceContext } from '#kit/trace.ts';
import type { Admission } from './admission.ts';
import type { Approvals } from './approvals.ts';
import type { CallJournal } from './call-journal.ts';
import type { ToolCatalog, Verdict, WorkspaceDoor } from './call-ports.ts';
import type { Jail, SandboxLimits } from './jail/sandbox.ts';
import type { Tool } from './tool.ts';
import type { AuditedCaller, ToolAudit } from './tool-audit.ts';
import type { ToolsMetrics } from './tools-metrics.ts';

/** What calls share. */
export type ExecutionParts = {
  jail: Jail;
  catalog: ToolCatalog;
  workspaces: WorkspaceDoor;
  audit: ToolAudit;
  journal: CallJournal;
  admission: Admission;
  approvals: Approvals;
  metrics: ToolsMetrics;
  spans: SpanSink;
  log: Log;
  approvalWaitMs: number;
};

/** A call whose fields are checked. */
export type CallRequest = {
  caller: AuditedCaller;
  callId: string;
  /** Hex digest of tenant, user and idempotency key; "" = no key. */
  key: string;
  /** Hex digest of what a key stands for. */
  requestSha: string;
  tool: Tool;
  verdict: Verdict;
  argumentsJson: string;
  stdin: Uint8Array | null;
  limits: SandboxLimits;
  modelOutputBytes: number;
  /** When it must have ended, so that the caller is still told. */
  endUnixMs: number;
  depth: number;
  taint: Taint;
  trace: TraceContext;
};

/** Who a call belongs to, in the journal: hex SHA-256 of tenant and user. */
export function ownerDigest({ tenant, user }: { tenant: string; user: string }): string {
  return hash('sha256', JSON.stringify([tenant, user]), 'hex');
}
