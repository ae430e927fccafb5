// Requests that must be refused, each with the code and the field that the refusal names.
import type { CompleteRequest } from '#gen/quern/gateway/v1/gateway.ts';
import type { Code } from '#kit/errors.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';

export type Refusal = { code: Code; field: string | null };

export type BadCall = { name: string; expect: Refusal } & (
  | { http: { path: string; body: string; headers?: Record<string, string> } }
  | { grpc: CompleteRequest; stream: boolean }
);

const BASE: CompleteRequest = {
  model: '',
  prompt: { $case: 'text', value: 'x' },
  suffix: undefined,
  sampling: { ...emptySampling(), maxTokens: 4 },
  stop: [],
  options: undefined,
  echo: false,
  parseSpecial: undefined,
};

type Make = (contextLength: number) => BadCall;

function http(
  name: string,
  body: object | string,
  expect: Refusal,
  more: { path?: string; headers?: Record<string, string> } = {},
): Make {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return () => ({ name, expect, http: { path: '/v1/completions', body: text, ...more } });
}

function grpc(name: string, over: Partial<CompleteRequest>, expect: Refusal, stream = false): Make {
  return () => ({ name: `${name} over gRPC`, expect, grpc: { ...BASE, ...over }, stream });
}

const invalid = (field: string | null): Refusal => ({ code: 'INVALID_ARGUMENT', field });
const sampling = (over: Partial<ReturnType<typeof emptySampling>>) => ({ sampling: { ...emptySampling(), ...over } });
const ids = (...list: number[]) => ({ prompt: { $case: 'tokenIds' as const, value: { ids: list } } });

export const BAD_CALLS: readonly Make[] = [
  http('temperature 9', { prompt: 'x', temperature: 9 }, invalid('temperature')),
  http('a number as prompt', { prompt: 5 }, invalid('prompt')),
  http('an unknown model', { prompt: 'x', model: 'nope' }, { code: 'NOT_FOUND', field: 'model' }),
  http('an empty stop string', { prompt: 'x', stop: ['', 'a'] }, invalid('stop[0]')),
  http('half a body', '{"prompt": "x', invalid(null)),
  http('a list as body', '[1]', invalid('body')),
  http('an id outside the vocabulary', { prompt: [1, 4_000_000] }, invalid('prompt[1]')),
  http('a negative length', { prompt: 'x', max_tokens: -1 }, invalid('max_tokens')),
  http('a bad request in a stream', { prompt: 'x', top_p: 0, stream: true }, invalid('top_p')),
  http('one bad prompt of two', { prompt: ['x', ''] }, invalid('prompt')),
  http('no time', { prompt: 'x' }, invalid('x-request-timeout-ms'), { headers: { 'x-request-timeout-ms': '0' } }),
  http('no messages', { messages: [] }, invalid('messages'), { path: '/v1/chat/completions' }),
  http('an unknown path', {}, { code: 'NOT_FOUND', field: null }, { path: '/v2/completions' }),
  http('a deep body', `{"prompt":"x","user":${'['.repeat(500)}${']'.repeat(500)}}`, invalid(null)),
  (contextLength) => http('too long', { prompt: 'x, '.repeat(contextLength) }, invalid('prompt'))(contextLength),
  grpc('temperature 9', sampling({ temperature: 9 }), invalid('sampling.temperature')),
  grpc('top_p 1.5', sampling({ topP: 1.5 }), invalid('sampling.top_p'), true),
  grpc('no prompt', { prompt: undefined }, invalid('prompt')),
  grpc('an unknown model', { model: 'nope' }, { code: 'NOT_FOUND', field: 'model' }, true),
  grpc('an id outside the vocabulary', ids(1, 4_000_000), invalid('prompt[1]')),
  grpc('five stop strings', { stop: ['a', 'b', 'c', 'd', 'e'] }, invalid('stop'), true),
  grpc('min_tokens above max_tokens', sampling({ maxTokens: 2, minTokens: 3 }), invalid('sampling.min_tokens')),
  (contextLength) => grpc('too long', ids(...Array(contextLength + 1).fill(1)), invalid('prompt'))(contextLength),
];
