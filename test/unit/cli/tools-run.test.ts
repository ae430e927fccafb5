/** What stands behind `quern tools run`: a name and one JSON object; other words are told what was meant. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toolAndArguments } from '../../../services/cli/tools/run.ts';

const EXAMPLE = `quern tools run f '{"name": "value"}'`;

test('the arguments stand behind the name or behind --json; without any they are empty', () => {
  assert.deepEqual(toolAndArguments(['f'], undefined), { tool: 'f', argumentsJson: '{}' });
  assert.deepEqual(toolAndArguments(['f'], '{"a": 1}'), { tool: 'f', argumentsJson: '{"a": 1}' });
  assert.deepEqual(toolAndArguments(['f', ' {"a": 1}'], undefined), { tool: 'f', argumentsJson: ' {"a": 1}' });
});

test('other words are refused with what to type', () => {
  const refused = (words: string[], message: string, json?: string): void =>
    assert.throws(() => toolAndArguments(words, json), {
      code: 'INVALID_ARGUMENT',
      message: `quern tools run: ${message}`,
    });
  refused([], "expected a tool's name, got nothing; quern tools list names them");
  refused(['{"a": 1}'], `expected a tool's name before its arguments, got {"a": 1}`);
  refused(['f', 'a=1', 'b'], `expected the arguments of f as one JSON object, got "a=1 b"; as in ${EXAMPLE}`);
  refused(['f', '{a:', '1}'], `expected one JSON object, got 2 words; quote it for the shell, as in ${EXAMPLE}`);
  refused(['f', '{}'], 'expected the arguments once, got them behind f and behind --json', '{}');
});
