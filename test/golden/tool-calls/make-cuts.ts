// Kind 11: max_tokens in the middle of a name, a string, an escape, a tag.
import type { Case, Expected } from './make-corpus.ts';
import { type Call, type Format, write } from './writers.ts';

const CALL: Call = { name: 'write_file', args: [['path', '"a"'], ['content', '"it\'s\\n😀 \\"x\\""']] };
const MADE: Expected = { call: { name: 'write_file', arguments: '{"path":"a","content":"it\'s\\n😀 \\"x\\""}' } };

type Cut = { name: string; behind: string; expected: 'text' | 'invalid' | 'started' | 'whole' };

const STRING: Cut = { name: 'in a string', behind: "it'", expected: 'started' };
const ESCAPE: Cut = { name: 'in an escape', behind: "it's\\", expected: 'started' };

const CUTS: Record<Format, Cut[]> = {
  hermes: [
    { name: 'in the open tag', behind: '<tool_', expected: 'text' },
    { name: 'behind the open tag', behind: '<tool_call>\n', expected: 'text' },
    { name: 'in the name', behind: 'write', expected: 'invalid' },
    STRING,
    ESCAPE,
    { name: 'before the outer brace', behind: '\\"x\\""}', expected: 'started' },
    { name: 'behind the call', behind: '"}}', expected: 'whole' },
    { name: 'in the close tag', behind: '\n</tool', expected: 'whole' },
  ],
  'qwen3-coder': [
    { name: 'in the function tag', behind: '<tool_call>\n<func', expected: 'text' },
    { name: 'in the name', behind: 'write', expected: 'invalid' },
    { name: 'in a value', behind: "it's", expected: 'started' },
    { name: 'in a close tag', behind: '"x"\n</param', expected: 'started' },
    { name: 'in the function\'s close tag', behind: '"x"\n</parameter>\n</func', expected: 'started' },
    { name: 'in the last close tag', behind: '</function>\n</tool', expected: 'whole' },
  ],
  'llama3-json': [
    { name: 'in the name', behind: 'write', expected: 'text' },
    STRING,
    ESCAPE,
    { name: 'before the outer brace', behind: '\\"x\\""}', expected: 'started' },
  ],
  'llama-pythonic': [
    { name: 'in the name', behind: '[write', expected: 'text' },
    { name: 'in a keyword', behind: '(pa', expected: 'text' },
    { name: 'in a string', behind: "'it", expected: 'started' },
    { name: 'in an escape', behind: 'it\\', expected: 'started' },
    { name: 'before the bracket', behind: '"x"\')', expected: 'whole' },
  ],
  'deepseek-v3': [
    { name: 'in the open tag', behind: '<｜tool▁calls▁begin｜><｜tool▁ca', expected: 'text' },
    { name: 'in the name', behind: 'write', expected: 'invalid' },
    { name: 'in the fence', behind: '``', expected: 'invalid' },
    STRING,
    ESCAPE,
    { name: 'in the last tag', behind: '\n```<｜tool▁call▁', expected: 'whole' },
  ],
  'deepseek-v3.1': [
    { name: 'in the open tag', behind: '<｜tool▁calls▁beg', expected: 'text' },
    { name: 'in the name', behind: 'write', expected: 'invalid' },
    STRING,
    ESCAPE,
    { name: 'in the last tag', behind: '"}<｜tool▁call▁', expected: 'whole' },
  ],
  'mistral-list': [
    { name: 'in the open tag', behind: '[TOOL_', expected: 'text' },
    { name: 'in the name', behind: 'write', expected: 'invalid' },
    STRING,
    ESCAPE,
    { name: 'before the bracket', behind: '"}}', expected: 'whole' },
  ],
  mistral: [
    { name: 'in the open tag', behind: '[TOOL_', expected: 'text' },
    { name: 'in the name', behind: 'write', expected: 'invalid' },
    STRING,
    ESCAPE,
    { name: 'behind the call', behind: '"}', expected: 'whole' },
  ],
};

export function cutCases(format: Format): Case[] {
  const whole = write(format, [CALL]);
  return CUTS[format].map(({ name, behind, expected }) => {
    const at = whole.indexOf(behind);
    if (at < 0) throw new Error(`${format}: ${JSON.stringify(behind)} is not in ${whole}`);
    const output = whole.slice(0, at + behind.length);
    const made: Expected =
      expected === 'whole' ? MADE : expected === 'text' ? { text: output } : { invalid: output, started: expected === 'started' };
    return { name: `cut ${name}`, kind: 11, output, expected: [made] };
  });
}
