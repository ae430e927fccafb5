/** Which fields of a body are told of: those that look like a mistake, in a header of bounded length. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { z } from 'zod';
import { chatSchema } from '../../../../services/gateway/http/chat-schema.ts';
import { infillSchema } from '../../../../services/gateway/http/infill-request.ts';
import { readFields, unknownFields } from '../../../../services/gateway/http/unknown-fields.ts';

const CHAT = Object.keys(chatSchema.shape);

function told(names: readonly string[], known = CHAT): string {
  return unknownFields(Object.fromEntries(names.map((name) => [name, 1])), known);
}

test('a name that is one or two edits away, or written in another style, comes with the field that was meant', () => {
  const meant = { max_token: 'max_tokens', temperatur: 'temperature', steam: 'stream', tool: 'tools', sotp: 'stop' };
  for (const [name, field] of Object.entries(meant)) assert.equal(told([name]), `${name}=${field}`);
  assert.equal(
    told(['maxTokens', 'top-p', 'supersede_ke']),
    'maxTokens=max_tokens, top-p=top_p, supersede_ke=supersede_key',
  );
});

test('what is known, and what OpenAI’s and other servers’ clients send beside it, is not told', () => {
  assert.equal(told(CHAT), '');
  const openai = [
    'metadata',
    'store',
    'service_tier',
    'functions',
    'function_call',
    'modalities',
    'audio',
    'prediction',
  ];
  const more = [
    'reasoning_effort',
    'verbosity',
    'web_search_options',
    'prompt_cache_key',
    'safety_identifier',
    'input',
  ];
  const others = [
    'best_of',
    'length_penalty',
    'guided_json',
    'truncate_prompt_tokens',
    'options',
    'keep_alive',
    'id',
    'k',
  ];
  assert.equal(told([...openai, ...more, ...others]), '');
  const infill = Object.keys(infillSchema.shape);
  const llama = [
    'samplers',
    'id_slot',
    'cache_prompt',
    'n_indent',
    't_max_prompt_ms',
    'top_n_sigma',
    'n_probs',
    'grammar',
  ];
  assert.equal(told(llama, infill), '');
});

test('a field that another path takes is told by its name alone', () => {
  assert.equal(told(['soft_deadline_ms', 'n_predict']), 'soft_deadline_ms, n_predict');
  assert.equal(told(['max_tokens'], ['prompt', 'max_length']), 'max_tokens');
});

test('the header is bounded, whatever came, and holds no character that a header may not', () => {
  const many = told(
    Array.from({ length: 500 }, (_, i) => `max_token${i % 2 === 0 ? '' : 'z'}${String.fromCharCode(0x4e00 + i)}`),
  );
  assert.equal(many.split(', ').length, 9);
  assert.match(many, /^(?:max_tokenz?\?=max_tokens, ){8}\.\.\.$/);
  assert.equal(told(['max\r\ntokens']), 'max??tokens=max_tokens');
  assert.equal(told([`max_tokens${'s'.repeat(100)}`]), '');
  for (const body of [null, 5, 'max_token', ['max_token']]) assert.equal(unknownFields(body, CHAT), '');
});

test('a refused body is told of too', () => {
  const headers = new Map<string, unknown>();
  const response = {
    setHeader: (name: string, value: unknown) => headers.set(name, value),
  } as unknown as ServerResponse;
  const schema = z.looseObject({ prompt: z.string() });
  assert.throws(() => readFields(schema, { body: { promt: 'x' }, response }), /^QuernError: prompt: /);
  assert.deepEqual([...headers], [['x-quern-unknown-fields', 'promt=prompt']]);
  headers.clear();
  assert.deepEqual(readFields(schema, { body: { prompt: 'x', more: 1 }, response }), { prompt: 'x', more: 1 });
  assert.equal(headers.size, 0);
});
