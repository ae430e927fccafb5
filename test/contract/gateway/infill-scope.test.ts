/** Infill modes: text ends where the code around the cursor does, and the engine stops with it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { InfillMode, InfillRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { serverStream } from '#kit/rpc/client.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import { startMesh } from './fakes/mesh.ts';
import { bytesOf } from './fakes/mock-tokenizer.ts';

const BODY = 'total = 0\n    for x in xs:\n        total += x\n    return total';
const OUTPUT = `${BODY}\n\n\ndef other():\n    pass\n${'# more\n'.repeat(200)}`;

type Finished = { finishReason: FinishReason; scopeEnded?: boolean | undefined };

async function startInfill(t: Parameters<typeof startMesh>[0]) {
  const mesh = await startMesh(t, { engine: { stepMs: 1 } });
  mesh.engine.settings.script = () => bytesOf(OUTPUT);
  const infill = async (over: Partial<InfillRequest>) => {
    const request = { ...InfillRequest.decode(new Uint8Array()), path: 'a.py', ...over };
    const texts: string[] = [];
    const finished: Finished[] = [];
    let completionTokens = 0;
    for await (const { event } of serverStream(mesh.completion, 'infill', request, {})) {
      if (event?.$case === 'delta') texts[event.value.index] = (texts[event.value.index] ?? '') + event.value.text;
      if (event?.$case === 'choiceFinished') finished.push(event.value);
      if (event?.$case === 'end') completionTokens = event.value.end?.usage?.completionTokens ?? 0;
    }
    return { texts, finished, completionTokens };
  };
  return { mesh, infill };
}

const PLACE = { prefix: 'def add(xs):\n    ', suffix: '\n\n\nadd([])\n' };

test('AUTO and MULTI_LINE end with the block around the cursor; the engine makes no more tokens', async (t) => {
  const { mesh, infill } = await startInfill(t);
  const sampling = { ...emptySampling(), maxTokens: 1_000 };
  const modes = [InfillMode.INFILL_MODE_UNSPECIFIED, InfillMode.INFILL_MODE_AUTO, InfillMode.INFILL_MODE_MULTI_LINE];
  for (const mode of modes) {
    const { texts, finished, completionTokens } = await infill({ ...PLACE, sampling, mode });
    assert.deepEqual(texts, [BODY]);
    assert.equal(finished[0]?.finishReason, FinishReason.FINISH_REASON_STOP);
    assert.equal(finished[0]?.scopeEnded, true);
    assert.equal(completionTokens, BODY.length, 'what lies behind the scope is not counted');
  }
  assert.equal(mesh.engine.live, 0);
  assert(
    mesh.engine.steps < 3 * (BODY.length + 60),
    `${mesh.engine.steps} steps for ${3 * OUTPUT.length} tokens that it had`,
  );
});

test('the language says how code is read; where it is not known, the path does', async (t) => {
  const { mesh, infill } = await startInfill(t);
  mesh.engine.settings.script = () => bytesOf('"""\nusage\n"""\n\nother()\n');
  const place = { prefix: 'text = ', suffix: '\n' };
  const whole = '"""\nusage\n"""';
  const cases: [Partial<InfillRequest>, string][] = [
    [{ path: '', languageId: 'python' }, whole],
    [{ path: 'usage', languageId: 'python' }, whole],
    [{ path: 'a.py', languageId: 'my-own' }, whole],
    [{ path: 'a.py' }, whole],
    [{ path: '' }, '"""'],
    [{ path: 'a.py', languageId: 'cpp' }, '"""'],
  ];
  for (const [over, text] of cases) assert.deepEqual((await infill({ ...place, ...over })).texts, [text]);
});

test('every choice of a request ends with the scope by itself', async (t) => {
  const { infill } = await startInfill(t);
  const { texts, finished } = await infill({ ...PLACE, sampling: { ...emptySampling(), maxTokens: 1_000, n: 3 } });
  assert.deepEqual(texts, [BODY, BODY, BODY]);
  assert(finished.every(({ scopeEnded }) => scopeEnded));
});

test('a stop string in front of the end of the scope wins', async (t) => {
  const { infill } = await startInfill(t);
  const { texts, finished } = await infill({ ...PLACE, stop: ['in xs'] });
  assert.deepEqual(texts, ['total = 0\n    for x ']);
  assert.equal(finished[0]?.scopeEnded, undefined);
});

test('AUTO with code behind the cursor is one line; UNBOUNDED and min_tokens go on', async (t) => {
  const { infill } = await startInfill(t);
  const sampling = { ...emptySampling(), maxTokens: 120 };
  assert.deepEqual((await infill({ prefix: 'f(', suffix: ', b)\n', sampling })).texts, ['total = 0']);
  const open = await infill({ ...PLACE, sampling, mode: InfillMode.INFILL_MODE_UNBOUNDED });
  assert.deepEqual(open.texts, [OUTPUT.slice(0, 120)]);
  assert.equal(open.finished[0]?.finishReason, FinishReason.FINISH_REASON_LENGTH);
  const long = await infill({ ...PLACE, sampling: { ...sampling, minTokens: 100 } });
  assert.deepEqual(long.texts, [OUTPUT.slice(0, 120)]);
});
