// The fields of requests, checked: who calls, with what, within which bounds.
import { hash } from 'node:crypto';
import type { Caller, ExecuteRequest, Limits } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import type { Taint } from '#kit/taint.ts';
import { canonicalJson } from './canonical.ts';
import type { SandboxLimits } from './jail/sandbox.ts';
import {
  DEADLINE_MARGIN_MS,
  DENY_REASON_CHARS_MAX,
  IDEMPOTENCY_KEY_BYTES_MAX,
  NESTING_DEPTH_MAX,
  STDIN_BYTES_MAX,
  TIMEOUT_MS_MAX,
} from './limits.ts';
import type { ToolPolicy } from './tool.ts';
import type { AuditedCaller } from './tool-audit.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const ID = /^[A-Za-z0-9._:-]{1,128}$/;
const SHA256_BYTES = 32;

export function invalidField(field: string, description: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

function idField(field: string, text: string): string {
  if (ID.test(text)) return text;
  throw invalidField(field, 'expected 1 to 128 of letters, digits and ._:-');
}

/** Tenant and user; who calls for whom the gateway has checked. */
export function ownerField(caller: Caller | undefined): { tenant: string; user: string; keyId: string } {
  const { tenant = '', user = '', keyId = '' } = caller ?? {};
  if (!/^[a-z0-9._-]{1,64}$/.test(tenant)) throw invalidField('caller.tenant', 'expected 1 to 64 of a-z, 0-9 and ._-');
  if (user.length < 1 || user.length > 128) throw invalidField('caller.user', 'expected 1 to 128 characters');
  if (keyId.length > 128) throw invalidField('caller.key_id', 'expected at most 128 characters');
  return { tenant, user, keyId };
}

export function callerField(caller: Caller | undefined): AuditedCaller {
  const owner = ownerField(caller);
  const sessionId = idField('caller.session_id', caller?.sessionId ?? '');
  return { ...owner, sessionId, requestId: idField('caller.request_id', caller?.requestId ?? '') };
}

export function callIdField(callId: string): string {
  return idField('call_id', callId);
}

/** As hex; "" = any. */
export function sha256Field(field: string, bytes: Uint8Array): string {
  if (bytes.length === 0 || bytes.length === SHA256_BYTES) return Buffer.from(bytes).toString('hex');
  throw invalidField(field, `expected ${SHA256_BYTES} bytes, got ${bytes.length}`);
}

export function reasonField(reason: string): string {
  if (reason.length <= DENY_REASON_CHARS_MAX) return reason;
  throw invalidField('reason', `expected at most ${DENY_REASON_CHARS_MAX} characters, got ${reason.length}`);
}

export function taintField(taint: ExecuteRequest['taint']): Taint {
  const { readUntrusted = false, hasPrivate = false, canExfiltrate = false } = taint ?? {};
  return { readUntrusted, hasPrivate, canExfiltrate };
}

type Bound = { name: string; asked: number | undefined; unit: number; least: number; policy: number };

/** A caller may have less than the policy gives, never more. */
function lowered({ name, asked, unit, least, policy }: Bound): number {
  if (asked === undefined) return policy;
  const field = `limits.${name}`;
  if (asked < least) throw invalidField(field, `expected at least ${least}, got ${asked}`);
  if (asked * unit > policy) {
    throw invalidField(
      field,
      `expected at most ${Math.floor(policy / unit)}, which the policy gives this tool, got ${asked}`,
    );
  }
  return asked * unit;
}

/** The policy's bounds, lowered to what the request asks. */
export function limitsField(
  { limits, modelOutputBytes }: ToolPolicy,
  asked: Limits | undefined,
): { limits: SandboxLimits; modelOutputBytes: number } {
  const bound = (name: string, value: number | undefined, unit: number, least: number, policy: number): number =>
    lowered({ name, asked: value, unit, least, policy });
  return {
    limits: {
      ...limits,
      wallMs: bound('wall_ms', asked?.wallMs, 1, 1, limits.wallMs),
      cpuMs: bound('cpu_ms', asked?.cpuMs, 1, 1, limits.cpuMs),
      memoryBytes: bound('memory_mib', asked?.memoryMib, MIB, 16, limits.memoryBytes),
      pids: bound('pids', asked?.pids, 1, 1, limits.pids),
      outputBytes: bound('output_kib', asked?.outputKib, KIB, 1, limits.outputBytes),
    },
    modelOutputBytes: bound('model_output_kib', asked?.modelOutputKib, KIB, 1, modelOutputBytes),
  };
}

/** When the call must have ended: the earlier of what the request and the caller's own deadline leave, less a margin. */
export function endField({ timeoutMs }: Pick<ExecuteRequest, 'timeoutMs'>, deadlineUnixMs: number | null): number {
  if (timeoutMs < 1 || timeoutMs > TIMEOUT_MS_MAX) {
    throw invalidField('timeout_ms', `expected 1 to ${TIMEOUT_MS_MAX}, got ${timeoutMs}`);
  }
  return Math.min(Date.now() + timeoutMs, deadlineUnixMs ?? Number.POSITIVE_INFINITY) - DEADLINE_MARGIN_MS;
}

/** The plain bounds of an ExecuteRequest. */
export function checkExecute({ stdin, idempotencyKey, depth }: ExecuteRequest): void {
  if (stdin.length > STDIN_BYTES_MAX)
    throw invalidField('stdin', `expected at most ${STDIN_BYTES_MAX} bytes, got ${stdin.length}`);
  const keyBytes = Buffer.byteLength(idempotencyKey);
  if (keyBytes > IDEMPOTENCY_KEY_BYTES_MAX) {
    throw invalidField('idempotency_key', `expected at most ${IDEMPOTENCY_KEY_BYTES_MAX} bytes, got ${keyBytes}`);
  }
  if (depth > NESTING_DEPTH_MAX) throw invalidField('depth', `expected 0 to ${NESTING_DEPTH_MAX}, got ${depth}`);
}

/** Hex digest of what an idempotency key stands for. */
export function requestDigest({ tool, argumentsJson, stdin }: ExecuteRequest, { sessionId }: AuditedCaller): string {
  const parts = { tool, args: argumentsJson.toWellFormed(), stdin: hash('sha256', stdin, 'hex'), session: sessionId };
  return hash('sha256', canonicalJson(parts), 'hex');
}
