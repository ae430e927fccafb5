/** What editors ask for beside infills: warming the cache, reporting what became of suggestions, what a model can do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import {
  CompleteRequest,
  InfillMode,
  InfillRequest,
  SuggestionEvent,
  SuggestionEventKind,
} from '#gen/quern/gateway/v1/gateway.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import { refusal } from './fakes/grpc-calls.ts';
import { startMesh } from './fakes/mesh.ts';

const EMPTY = new Uint8Array();

function event(over: Partial<SuggestionEvent>): SuggestionEvent {
  return { ...SuggestionEvent.decode(EMPTY), kind: SuggestionEventKind.SUGGESTION_EVENT_KIND_SHOWN, ...over };
}

test('Warm reads the prompt of the infill that follows, in the class that is shed first, and generates nothing', async (t) => {
  const mesh = await startMesh(t);
  const infill = {
    ...InfillRequest.decode(EMPTY),
    prefix: 'def f():\n    ',
    suffix: '\n',
    stop: ['x'],
    softDeadlineMs: 1,
  };
  const { end } = await unary(mesh.completion, 'warm', { infill }, {});
  assert.equal(end?.usage?.completionTokens, 0);
  const [request] = mesh.engine.requests;
  assert.equal(request?.sampling?.maxTokens, 0);
  assert.equal(request?.priorityClass, PriorityClass.PRIORITY_CLASS_WARM);
  assert.equal(end?.usage?.promptTokens, request?.tokenIds.length);
  assert.equal(mesh.engine.live, 0);
  const missing = await refusal(unary(mesh.completion, 'warm', { infill: undefined }, {}));
  assert.match(missing.message, /infill: expected/);
});

test('ReportEvents counts events by kind, reason and language, never by what a caller may choose freely', async (t) => {
  const mesh = await startMesh(t);
  const { SUGGESTION_EVENT_KIND_ACCEPTED: ACCEPTED, SUGGESTION_EVENT_KIND_NOT_SHOWN: NOT_SHOWN } = SuggestionEventKind;
  const events = [
    event({ elapsedMs: 120, languageId: 'python' }),
    event({ elapsedMs: 2, languageId: 'python', fromCache: true }),
    event({ kind: ACCEPTED, characters: 40, languageId: 'python', requestId: 'r-1' }),
    event({ kind: NOT_SHOWN, reason: 'STALE', languageId: 'brainfuck' }),
    event({ kind: NOT_SHOWN }),
  ];
  assert.deepEqual(await unary(mesh.completion, 'reportEvents', { events }, {}), { counted: 5 });
  const text = await (await fetch(`${mesh.url}/metrics`)).text();
  const has = (line: string): void =>
    assert(text.includes(line), `${line} in ${text.match(/quern_suggestion.*/g)?.join('\n')}`);
  has('quern_suggestion_events_total{event="shown",language="python",service="gateway"} 2');
  has('quern_suggestion_events_total{event="not_shown",reason="STALE",language="other",service="gateway"} 1');
  has('quern_suggestion_events_total{event="not_shown",reason="OTHER",language="other",service="gateway"} 1');
  has('quern_suggestion_characters_total{event="accepted",language="python",service="gateway"} 40');
  has('quern_suggestion_shown_seconds_count{cache="hit",service="gateway"} 1');
  assert(!text.includes('brainfuck'));
});

test('ReportEvents refuses a report with a mistake in it whole, and names the mistake', async (t) => {
  const mesh = await startMesh(t);
  const bad: [Partial<SuggestionEvent>, RegExp][] = [
    [{ kind: 99 as SuggestionEventKind }, /events\[1\]\.kind/],
    [{ reason: 'because' }, /events\[1\]\.reason: expected one of DISABLED/],
    [{ elapsedMs: 86_400_001 }, /events\[1\]\.elapsed_ms/],
    [{ characters: (1 << 20) + 1 }, /events\[1\]\.characters/],
    [{ languageId: 'x'.repeat(65) }, /events\[1\]\.language_id/],
    [{ requestId: 'a b' }, /events\[1\]\.request_id/],
  ];
  for (const [over, message] of bad) {
    const refused = await refusal(unary(mesh.completion, 'reportEvents', { events: [event({}), event(over)] }, {}));
    assert.equal(refused.code, 'INVALID_ARGUMENT');
    assert.match(refused.message, message);
  }
  for (const events of [[], Array.from({ length: 257 }, () => event({}))]) {
    assert.match(
      (await refusal(unary(mesh.completion, 'reportEvents', { events }, {}))).message,
      /events: expected 1\.\.256/,
    );
  }
  assert(!(await (await fetch(`${mesh.url}/metrics`)).text()).includes('quern_suggestion_events_total{'));
});

test('GetCapabilities tells what an infill may hold; an unknown model is named', async (t) => {
  const mesh = await startMesh(t);
  const { tokenizerHash, modes, ...rest } = await unary(mesh.completion, 'getCapabilities', { model: '' }, {});
  assert.deepEqual(rest, {
    model: 'mock',
    infill: true,
    fimFamily: 'mock-fim',
    promptOrder: 'psm',
    contextLength: 4096,
    chunksMax: 256,
    maxTokensDefault: 64,
    ready: true,
    infillPromptTokens: 0,
    modelHash: '0'.repeat(32),
  });
  assert.match(tokenizerHash, /^[0-9a-f]{64}$/);
  assert(modes.includes(InfillMode.INFILL_MODE_AUTO) && !modes.includes(InfillMode.INFILL_MODE_UNSPECIFIED));
  assert.equal(
    (await refusal(unary(mesh.completion, 'getCapabilities', { model: 'no' }, {}))).details.reason,
    'MODEL_NOT_FOUND',
  );
});

test('Infill and Warm keep to what the model is best given where the caller leaves it open; it is told beforehand', async (t) => {
  const mesh = await startMesh(t, { engine: { contextLength: 400 }, model: { infillPromptTokens: 100 } });
  const known = await unary(mesh.completion, 'getCapabilities', { model: '' }, {});
  const { model } = await unary(mesh.model, 'getModel', { model: '' }, {});
  assert.deepEqual([known.infillPromptTokens, model?.infillPromptTokens], [100, 100]);
  assert.deepEqual([known.modelHash, model?.modelHash], ['0'.repeat(32), '0'.repeat(32)]);
  const request = { ...InfillRequest.decode(EMPTY), prefix: 'p'.repeat(300), suffix: 's' };
  const sizes: (number | undefined)[][] = [];
  for (const maxPromptTokens of [undefined, 50, 5_000]) {
    for await (const { event } of serverStream(mesh.completion, 'infill', { ...request, maxPromptTokens }, {})) {
      if (event?.$case !== 'end') continue;
      const { end, maxPromptTokens: most, droppedPrefixTokens } = event.value;
      sizes.push([end?.usage?.promptTokens, most, droppedPrefixTokens]);
    }
  }
  assert.deepEqual(sizes, [
    [100, 100, 204],
    [50, 50, 254],
    [304, 336, 0],
  ]);
  const warmed = await unary(mesh.completion, 'warm', { infill: request }, {});
  assert.equal(warmed.end?.usage?.promptTokens, 100, 'the same prompt as will be asked');
  const suffixed = { ...CompleteRequest.decode(EMPTY), prompt: { $case: 'text' as const, value: request.prefix } };
  await unary(mesh.completion, 'complete', { ...suffixed, suffix: 's' }, {});
  assert.equal(mesh.engine.requests.at(-1)?.tokenIds.length, 100, 'a completion with a suffix is an infill too');
});
