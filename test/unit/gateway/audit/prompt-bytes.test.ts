import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ParseSpecial, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { promptBytes, promptSize } from '../../../../services/gateway/audit/prompt-bytes.ts';
import type { Prompt } from '../../../../services/gateway/typed-request.ts';

const text = (content: string): Prompt => ({
  kind: 'text',
  text: content,
  parseSpecial: ParseSpecial.PARSE_SPECIAL_ALL,
  addBos: true,
});
const infill = (over: object = {}): Prompt => ({
  kind: 'infill',
  prefix: '',
  suffix: '',
  path: '',
  repository: '',
  chunks: [],
  ...over,
});
const message = (content: string, over: object = {}) => ({
  role: Role.ROLE_USER,
  content,
  reasoningContent: '',
  name: '',
  toolCalls: [],
  toolCallId: '',
  ...over,
});
const chat = (messages: ReturnType<typeof message>[], over: object = {}): Prompt => ({
  kind: 'chat',
  messages,
  tools: [],
  enableThinking: undefined,
  templateVariables: undefined,
  addGenerationPrompt: true,
  continueFinalMessage: false,
  ...over,
});
const tool = (name: string, description: string) => ({ name, description, parametersSchemaJson: '', strict: false });

test('the form is fixed: length and bytes of each part', () => {
  assert.equal(promptBytes(text('é')).toString('hex'), '0400000074657874' + '02000000c3a9');
  assert.equal(
    promptBytes({ kind: 'token_ids', tokenIds: [1, 258] }).toString('hex'),
    '09000000746f6b656e5f696473' + '08000000' + '0100000002010000',
  );
});

test('no two prompts share a form, however their parts are cut', () => {
  const call = { id: 'a', name: 'b', argumentsJson: '{}' };
  const prompts: Prompt[] = [
    text(''),
    text('ab'),
    { kind: 'token_ids', tokenIds: [] },
    infill(),
    infill({ prefix: 'ab' }),
    infill({ prefix: 'a', suffix: 'b' }),
    infill({ suffix: 'ab' }),
    infill({ path: 'ab' }),
    infill({ repository: 'ab' }),
    infill({ chunks: [{ path: 'a', text: 'b' }] }),
    infill({ chunks: [{ path: '', text: 'ab' }] }),
    chat([]),
    chat([message('ab')]),
    chat([message('a'), message('b')]),
    chat([message('ab', { role: Role.ROLE_SYSTEM })]),
    chat([message('ab', { name: 'x' })]),
    chat([message('ab', { toolCallId: 'x' })]),
    chat([message('ab', { reasoningContent: 'x' })]),
    chat([message('ab', { toolCalls: [call] })]),
    chat([message('ab', { toolCalls: [{ ...call, id: '', name: 'ab' }] })]),
    chat([message('ab')], { tools: [tool('a', 'b')] }),
    chat([message('ab')], { tools: [tool('ab', '')] }),
  ];
  const forms = prompts.map((prompt) => promptBytes(prompt).toString('hex'));
  assert.equal(new Set(forms).size, prompts.length);
});

test('the size of a prompt is that of what its author wrote', () => {
  assert.equal(promptSize(text('é = 1')), 6);
  assert.equal(promptSize({ kind: 'token_ids', tokenIds: [1, 2, 3] }), 12);
  assert.equal(promptSize(infill({ prefix: 'ab', suffix: 'c', path: 'x.py', chunks: [{ path: 'y', text: 'de' }] })), 5);
});
