/** Results of MCP tools as text for the model. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createArgumentChecker } from '../../../../services/tools/argument-check.ts';
import { callAnswer } from '../../../../services/tools/mcp/call-answer.ts';
import { callSchema, readCallResult } from '../../../../services/tools/mcp/server-answers.ts';

const checker = createArgumentChecker();
after(() => checker.close());
const { signal } = new AbortController();
const answer = (said: object) => {
  const result = readCallResult(callSchema.parse(said));
  assert(result);
  return callAnswer(result, { outputSchema: null, checker, signal });
};

test('text stands as it is; of anything else the model is told what there was', async () => {
  const { ok, content, artifacts } = await answer({
    content: [
      { type: 'text', text: 'one' },
      { type: 'image', data: 'AAAA', mimeType: 'image/png' },
      { type: 'audio', data: 'AAAAAA==', mimeType: 'audio/wav' },
      { type: 'resource_link', uri: 'file:///a', name: 'a' },
      { type: 'resource', resource: { uri: 'file:///b', text: 'bee' } },
      { type: 'resource', resource: { uri: 'file:///c', blob: 'AAAA' } },
    ],
  });
  assert(ok);
  assert.deepEqual(content.split('\n'), [
    'one',
    '[image image/png, 3 bytes, kept as image-1.png]',
    '[audio audio/wav, 4 bytes, kept as audio-2.wav]',
    '[resource a: file:///a]',
    '[resource file:///b]',
    'bee',
    '[resource file:///c, unknown type, 3 bytes, kept as resource-3]',
  ]);
  assert.deepEqual(artifacts, [
    { path: 'image-1.png', mediaType: 'image/png', data: Buffer.alloc(3) },
    { path: 'audio-2.wav', mediaType: 'audio/wav', data: Buffer.alloc(4) },
    { path: 'resource-3', mediaType: '', data: Buffer.alloc(3) },
  ]);
});

test('bytes are bounded one by one and together, and a type that is none is not passed on', async () => {
  const image = (bytes: number, mimeType = 'image/png') => {
    return { type: 'image', data: Buffer.alloc(bytes).toString('base64'), mimeType };
  };
  const kib = 1024;
  const { content, artifacts } = await answer({
    content: [image(513 * kib), image(500 * kib), image(500 * kib), image(200 * kib), image(1, 'a\r\nb: c')],
  });
  assert.deepEqual(
    artifacts.map(({ path, mediaType }) => [path, mediaType]),
    [
      ['image-1.png', 'image/png'],
      ['image-2.png', 'image/png'],
      ['image-3', ''],
    ],
  );
  assert.equal(content.match(/too large to be kept/g)?.length, 2);
});

test('many parts are counted', async () => {
  const content = Array.from({ length: 300 }, () => ({ type: 'text' as const, text: 'x' }));
  assert.match((await answer({ content })).content, /x\n\[44 further parts left out\]$/);
});

test('a failure that the tool tells is one, with its first line as the reason', async () => {
  const failed = await answer({ content: [{ type: 'text', text: 'no \u001b[31mdisk\nmore' }], isError: true });
  assert.deepEqual([failed.ok, failed.message], [false, 'the tool says that it failed: no disk']);
  assert.match(failed.content, /more/);
  const silent = await answer({ content: [], isError: true });
  assert.equal(silent.content, 'the tool says that it failed: without a reason');
});

test('a structured result without a schema is bounded in depth and keys', async () => {
  const kept = await answer({ content: [], structuredContent: { a: [1] } });
  assert.deepEqual([kept.ok, kept.structured, kept.content], [true, { a: [1] }, '{"a":[1]}']);
  const deep = JSON.parse(`${'{"a":'.repeat(100)}1${'}'.repeat(100)}`);
  const refused = await answer({ content: [], structuredContent: deep });
  assert.deepEqual([refused.ok, refused.structured], [false, null]);
});
