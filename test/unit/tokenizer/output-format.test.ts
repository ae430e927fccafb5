import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ChatTemplate } from '../../../services/tokenizer/chat-template.ts';
import type { JsonObject, ModelFiles } from '../../../services/tokenizer/model-files.ts';
import { chooseOutputFormat } from '../../../services/tokenizer/output-format.ts';

const choose = (source: string, quern: JsonObject = {}) =>
  chooseOutputFormat({ dir: '/m', quern } as ModelFiles, { source } as ChatTemplate);

test('the template shows the format', () => {
  const cases: [string, string | null, string | null][] = [
    ["{{ '<tool_call>' }} {{ '</tool_call>' }}", 'hermes', null],
    ['<tool_call>\n<function=x>\n<parameter=y>\n</tool_call>', 'qwen3-coder', null],
    ['<｜tool▁call▁begin｜>function ```json', 'deepseek-v3', null],
    ["<｜tool▁call▁begin｜> content.split('</think>')", 'deepseek-v3.1', 'think'],
    ['[TOOL_CALLS] [THINK]', 'mistral', 'mistral-think'],
    ['<|python_tag|> {"name": function name, "parameters": dictionary}', 'llama3-json', null],
    ['[func_name1(params_name1=params_value1)] <|python_tag|> "parameters"', 'llama-pythonic', null],
    ['[func_name1(param1=value1, param2=value2), func_name2(...)]', 'llama-pythonic', null],
    ['<tool_call>{name}\n<arg_key>k</arg_key></tool_call>', null, null],
    ['<|im_start|>', null, null],
  ];
  for (const [source, toolParser, reasoningParser] of cases) {
    assert.deepEqual(choose(source), { toolParser, reasoningParser }, source);
  }
});

test('quern.json wins, and may say none', () => {
  const source = '<tool_call></tool_call><think>';
  assert.deepEqual(choose(source, { tool_parser: 'mistral', reasoning_parser: 'none' }), {
    toolParser: 'mistral',
    reasoningParser: null,
  });
  assert.throws(() => choose(source, { tool_parser: 'qwen' }), {
    code: 'FAILED_PRECONDITION',
    message: /expected tool_parser to be none or one of hermes, .*, got "qwen"; correct it/,
  });
  assert.throws(() => choose(source, { reasoning_parser: 7 }), {
    message: /expected reasoning_parser to be none or one/,
  });
});

test('a template of our own with calls and reasoning is read as such', () => {
  const source = readFileSync(join(import.meta.dirname, '../../golden/tokenizer/chatml.jinja'), 'utf8');
  assert.deepEqual(choose(source), { toolParser: 'hermes', reasoningParser: 'think' });
});
