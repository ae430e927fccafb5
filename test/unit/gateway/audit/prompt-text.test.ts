import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ParseSpecial, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { HOLE, promptText } from '../../../../services/gateway/audit/prompt-text.ts';

test('each kind of prompt reads as its author wrote it', () => {
  const parseSpecial = ParseSpecial.PARSE_SPECIAL_NONE;
  assert.equal(promptText({ kind: 'text', text: 'def f():', parseSpecial, addBos: true }), 'def f():');
  assert.equal(promptText({ kind: 'token_ids', tokenIds: [1, 22, 3] }), 'token ids: 1 22 3');
  const infill = { kind: 'infill', prefix: 'a', suffix: 'b', repository: 'r' } as const;
  assert.equal(promptText({ ...infill, path: '', chunks: [] }), `a${HOLE}b`);
  assert.equal(
    promptText({ ...infill, path: 'x.py', chunks: [{ path: 'y.py', text: 'y = 1' }] }),
    `y.py\ny = 1\nx.py\na${HOLE}b`,
  );
});

test('a chat shows who said what, tool calls too', () => {
  const blank = { reasoningContent: '', name: '', toolCallId: '', toolCalls: [] };
  const call = { id: '1', name: 'run', argumentsJson: '{"a":1}' };
  const text = promptText({
    kind: 'chat',
    messages: [
      { ...blank, role: Role.ROLE_USER, content: 'hello' },
      { ...blank, role: Role.ROLE_ASSISTANT, content: '', toolCalls: [call] },
    ],
    tools: [],
    enableThinking: undefined,
    templateVariables: undefined,
    addGenerationPrompt: true,
    continueFinalMessage: false,
  });
  assert.equal(text, 'user: hello\nassistant: \nrun({"a":1})');
});
