// What a tool gets that starts runs through the API itself: which run it belongs to and what that run has left, sealed with a
// key of the server. Whoever holds it can start runs below that run and nothing else; nobody can make or change one.
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { QuernError } from '#kit/errors.ts';
import type { Principal } from '#kit/principal.ts';
import { NESTED_CONTEXT_CHARS_MAX } from './limits.ts';

export type NestedContext = {
  runId: string;
  /** Tells two runs of one id apart. */
  instance: string;
  tenant: string;
  user: string;
  /** W3C traceparent of the tool call. */
  trace: string;
  /** Of the run that the tool is called by. */
  depth: number;
  depthMax: number;
  turnsLeft: number;
  callsLeft: number;
  tokensLeft: number;
  resultBytesLeft: number;
  /** Bits: read_untrusted 1, has_private 2, can_exfiltrate 4. */
  taint: number;
  /** When the run must have ended, and what is below it. */
  expiresUnixMs: number;
};

const VERSION = 'q1';
const NUMBERS = [
  'depth',
  'depthMax',
  'turnsLeft',
  'callsLeft',
  'tokensLeft',
  'resultBytesLeft',
  'taint',
  'expiresUnixMs',
] as const;
const TEXTS = ['runId', 'instance', 'tenant', 'user', 'trace'] as const;

/** The sealing key out of a gateway's secret (HKDF-SHA-256, RFC 5869): no other use of the secret shares it. */
export function nestedContextKey(secret: string | Uint8Array): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, new Uint8Array(0), 'quern.nested-context.v1', 32));
}

function macOf(key: Uint8Array, payload: string): Buffer {
  return createHmac('sha256', key).update(`${VERSION}.${payload}`).digest();
}

/** HMAC-SHA-256 over the context (RFC 2104). Text of [A-Za-z0-9._-]. */
export function sealNested(key: Uint8Array, context: NestedContext): string {
  const payload = Buffer.from(JSON.stringify(context)).toString('base64url');
  return `${VERSION}.${payload}.${macOf(key, payload).toString('base64url')}`;
}

function refuse(what: string, reason: string): never {
  const message = `nested_context: ${what}; hand on the one that the server gave to this tool call, unchanged`;
  throw new QuernError('PERMISSION_DENIED', message, { reason });
}

/** Throws PERMISSION_DENIED for what this server has not sealed, what is too old, and what is another tenant's. */
export function openNested(key: Uint8Array, sealed: string, principal: Principal, nowMs = Date.now()): NestedContext {
  const [version, payload = '', mac = '', ...more] = sealed.slice(0, NESTED_CONTEXT_CHARS_MAX + 1).split('.');
  const given = Buffer.from(mac, 'base64url');
  const expected = macOf(key, payload);
  const isOurs =
    sealed.length <= NESTED_CONTEXT_CHARS_MAX &&
    version === VERSION &&
    more.length === 0 &&
    given.length === expected.length &&
    timingSafeEqual(given, expected);
  if (!isOurs) return refuse('expected one that this server sealed, got another', 'NESTED_CONTEXT_FORGED');
  const context = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as NestedContext;
  const isWhole =
    NUMBERS.every((name) => Number.isSafeInteger(context[name])) &&
    TEXTS.every((name) => typeof context[name] === 'string');
  if (!isWhole) return refuse('expected one of this version', 'NESTED_CONTEXT_FORGED');
  if (context.tenant !== principal.tenant) {
    return refuse("expected one of the caller's own tenant, got another's", 'NESTED_CONTEXT_FOREIGN');
  }
  if (nowMs >= context.expiresUnixMs) return refuse('it has expired', 'NESTED_CONTEXT_EXPIRED');
  return context;
}
