import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { localPrincipal } from '#kit/principal.ts';
import {
  effectiveClass,
  engineRequest,
  fitSampling,
  refuseInfillRoom,
} from '../../../services/gateway/engine-request.ts';
import { lowerParseSpecial } from '../../../services/gateway/prompt-rendering.ts';
import { emptySampling, type TypedRequest } from '../../../services/gateway/typed-request.ts';

function request(over: Partial<TypedRequest> = {}): TypedRequest {
  return {
    method: 'complete',
    model: '',
    prompt: { kind: 'token_ids', tokenIds: [1] },
    sampling: emptySampling(),
    stop: [],
    modeStop: [],
    echo: false,
    requestId: '',
    priorityClass: 0,
    priority: 0,
    supersedeKey: '',
    coalesceMs: 0,
    returnTokenIds: false,
    timeoutMs: null,
    softDeadlineMs: null,
    ...over,
  };
}

const rendered = (size: number) => ({
  tokenIds: Array.from({ length: size }, (_, i) => i),
  publicPrefixTokens: 0,
  stopTokenIds: [7],
  stopStrings: [],
  infill: null,
});

test('the class is the asked one or the method’s, never above the key’s ceiling; prefill only is WARM', () => {
  const {
    PRIORITY_CLASS_INVOKED: invoked,
    PRIORITY_CLASS_AUTOMATIC: automatic,
    PRIORITY_CLASS_CHAT: chat,
  } = PriorityClass;
  const { PRIORITY_CLASS_BATCH: batch, PRIORITY_CLASS_WARM: warm } = PriorityClass;
  const capped = { ...localPrincipal, priorityCeiling: chat };
  assert.equal(effectiveClass(request(), localPrincipal), automatic);
  assert.equal(effectiveClass(request({ method: 'chat' }), localPrincipal), chat);
  assert.equal(effectiveClass(request({ priorityClass: invoked }), localPrincipal), invoked);
  assert.equal(effectiveClass(request({ priorityClass: invoked }), capped), chat);
  assert.equal(effectiveClass(request({ priorityClass: batch }), capped), batch);
  assert.equal(effectiveClass(request({ sampling: { ...emptySampling(), maxTokens: 0 } }), localPrincipal), warm);
});

test('absent max_tokens is what fits; what does not fit is CONTEXT_LENGTH_EXCEEDED', () => {
  const fit = (maxTokens: number | undefined, size: number) =>
    fitSampling(request({ sampling: { ...emptySampling(), maxTokens } }), rendered(size), { contextLength: 100 });
  assert.equal(fit(undefined, 90).maxTokens, 10);
  assert.equal(fit(10, 90).maxTokens, 10);
  assert.equal(fit(0, 100).maxTokens, 0);
  for (const [maxTokens, size] of [
    [11, 90],
    [undefined, 100],
    [1, 100],
    [0, 101],
  ] as const) {
    assert.throws(() => fit(maxTokens, size), { code: 'INVALID_ARGUMENT' }, `${maxTokens} ${size}`);
  }
  assert.throws(() => fit(1, 0), /expected at least one token/);
  assert.deepEqual(fit(1, 1).stopTokenIds, [7]);
  assert.equal(typeof fit(1, 1).seed, 'bigint');
  assert.notEqual(fit(1, 1).seed, fit(1, 1).seed);
});

test('echo with log probabilities asks for those of the prompt', () => {
  const sampling = { ...emptySampling(), maxTokens: 1, logprobs: 2 };
  assert.equal(fitSampling(request({ sampling, echo: true }), rendered(3), { contextLength: 100 }).promptLogprobs, 2);
  assert.equal(fitSampling(request({ sampling }), rendered(3), { contextLength: 100 }).promptLogprobs, undefined);
});

test('the time left is relative and never 0', () => {
  const trace = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: true };
  const submission = {
    requestId: 'r',
    principal: localPrincipal,
    trace,
    prompt: rendered(1),
    sampling: emptySampling(),
    cacheSalt: 's',
    n: 1,
    resumeTokenIds: [4],
    promptLogprobs: false,
  };
  const timeout = (timeoutMs: number | null, elapsedMs: number) =>
    engineRequest({ ...submission, request: request({ timeoutMs }), elapsedMs }).timeoutMs;
  assert.equal(timeout(null, 5), undefined);
  assert.equal(timeout(100, 30.5), 69);
  assert.equal(timeout(100, 300), 1);
  assert.equal(
    engineRequest({ ...submission, request: request(), elapsedMs: 0 }).traceparent,
    `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
  );
});

test('a key lowers what raw prompts may hold', () => {
  const {
    PARSE_SPECIAL_ALL: all,
    PARSE_SPECIAL_FIM: fim,
    PARSE_SPECIAL_NONE: none,
    PARSE_SPECIAL_UNSPECIFIED: unset,
  } = ParseSpecial;
  const lower = (asked: ParseSpecial, ceiling: 'none' | 'fim' | 'all') =>
    lowerParseSpecial(asked, { ...localPrincipal, parseSpecialCeiling: ceiling });
  assert.deepEqual([lower(all, 'all'), lower(all, 'fim'), lower(all, 'none')], [all, fim, none]);
  assert.deepEqual([lower(none, 'all'), lower(fim, 'all'), lower(unset, 'all')], [none, fim, none]);
});

test('what a request leaves open is sampled as the model wants it; what it says counts, zero too', () => {
  const defaults = { ...emptySampling(), temperature: 0.7, topP: 0.8, topK: 20, minP: 0.1, repetitionPenalty: 1.1 };
  const fit = (over: Partial<ReturnType<typeof emptySampling>>) =>
    fitSampling(request({ sampling: { ...emptySampling(), ...over } }), rendered(3), { contextLength: 100, defaults });
  const { temperature, topP, topK, minP, repetitionPenalty } = fit({});
  assert.deepEqual([temperature, topP, topK, minP, repetitionPenalty], [0.7, 0.8, 20, 0.1, 1.1]);
  const own = fit({ temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 });
  assert.deepEqual([own.temperature, own.topP, own.topK, own.minP, own.repetitionPenalty], [0, 1, 0, 0, 1]);
});

test('an infill whose max_tokens leaves its prompt no room hears of max_tokens, not of the tokenizer', () => {
  const told = new QuernError('INVALID_ARGUMENT', 'max_prompt_tokens: expected room', { reason: 'BUDGET_TOO_SMALL' });
  const asked = (maxTokens: number | undefined) => request({ sampling: { ...emptySampling(), maxTokens } });
  const explain = (thrown: unknown, maxTokens: number | undefined) =>
    refuseInfillRoom(thrown, asked(maxTokens), { contextLength: 512, samplingPrefix: 'sampling.' });
  const refused = explain(told, 510);
  assert(refused instanceof QuernError);
  assert.equal(refused.details.reason, 'CONTEXT_LENGTH_EXCEEDED');
  assert.equal(refused.details.fields?.[0]?.field, 'sampling.max_tokens');
  assert.match(refused.message, /context length is 512 tokens, of which max_tokens \(510\) leaves 2 for the prompt/);
  assert.match((explain(told, 9_000) as QuernError).message, /max_tokens \(9000\) leaves 0 .*; lower max_tokens$/);
  assert.equal(explain(told, undefined), told, 'the context itself is too short');
  const other = new QuernError('UNAVAILABLE', 'gone');
  assert.equal(explain(other, 510), other);
});
