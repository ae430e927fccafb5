// http_fetch: the one built-in that reaches the outside, by the egress guard's process.
import { QuernError } from '#kit/errors.ts';
import type { Egress } from '../egress/egress.ts';
import type { FetchAnswer } from '../egress/guarded-fetch.ts';
import type { Tool, ToolAnswer } from '../tool.ts';
import { FETCH_BODY_BYTES_MAX, FETCH_URL_CHARS_MAX, FETCH_WALL_MS } from '../tool-limits.ts';
import { builtinTool, failed, numberArgument, textArgument } from './builtin-tool.ts';

function answerOf({ status, url, headers, body, cut }: FetchAnswer): ToolAnswer {
  const type = headers['content-type'] ?? '';
  const isText = type === '' || /^(?:text\/|application\/(?:[\w.+-]*\+)?(?:json|xml|javascript|yaml))/.test(type);
  const text = isText ? new TextDecoder('utf-8').decode(body) : `[${body.length} bytes of ${type}]`;
  const lines = [
    `HTTP ${status} ${url}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    '',
    text,
  ];
  return {
    ok: status >= 200 && status < 400,
    message: status >= 200 && status < 400 ? '' : `the server answered ${status}`,
    content: lines.join('\n') + (cut ? '\n[cut]' : ''),
    structured: { status, url, headers: { ...headers }, bytes: body.length, cut },
    artifacts: [],
  };
}

/** `egress` null: there is no way out. */
export function httpFetchTool(egress: Egress | null): Tool {
  const allowed = egress?.settings.allow ?? [];
  return builtinTool({
    name: 'http_fetch',
    description: 'Fetches a page or file by HTTP from one of the hosts that the operator allows.',
    properties: {
      url: { type: 'string', minLength: 1, maxLength: FETCH_URL_CHARS_MAX },
      method: { enum: ['GET', 'HEAD'] },
      accept: {
        type: 'string',
        maxLength: 200,
        pattern: '^[\\x20-\\x7e]*$',
        description: 'Media types, such as application/json',
      },
      bytes: {
        type: 'integer',
        minimum: 1,
        maximum: FETCH_BODY_BYTES_MAX,
        description: 'Of the body at most; default 262144',
      },
    },
    required: ['url'],
    annotations: { readOnly: true, destructive: false, idempotent: true, openWorld: true },
    taint: { readUntrusted: true, canExfiltrate: true },
    limits: { wallMs: FETCH_WALL_MS },
    runs: { allow: allowed, ports: egress?.settings.ports ?? [] },
    unset:
      allowed.length === 0 ? 'not configured: set QUERN_TOOLS_HTTP_ALLOW to the hosts that may be fetched from' : null,
    async prepare(args, call) {
      const accept = textArgument(args, 'accept', '*/*');
      const request = {
        url: textArgument(args, 'url', ''),
        method: textArgument(args, 'method', 'GET') === 'HEAD' ? ('HEAD' as const) : ('GET' as const),
        headers: { accept },
        bytesMax: numberArgument(args, 'bytes', 256 * 1024),
      };
      return {
        kind: 'function',
        tier: 'host',
        async run({ signal }) {
          if (!egress) return failed('there is no way out');
          const limit = AbortSignal.any([signal, AbortSignal.timeout(call.limits.wallMs)]);
          try {
            return answerOf(await egress.fetch(request, { signal: limit }));
          } catch (error) {
            if (signal.aborted) throw error;
            if (limit.aborted) return failed(`no answer within ${call.limits.wallMs} ms`);
            if (
              error instanceof QuernError &&
              ['PERMISSION_DENIED', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED'].includes(error.code)
            )
              return failed(error.message);
            throw error;
          }
        },
      };
    },
  });
}
