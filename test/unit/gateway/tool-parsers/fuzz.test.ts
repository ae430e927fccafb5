// No input throws, loses a character, depends on how it was cut, or takes more than linear time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ToolEvent } from '../../../../services/gateway/tool-parsers/events.ts';
import { corpus, FILES, parse, parserOf } from './support/corpus.ts';

const PIECES = [
  '<tool_call>',
  '</tool_call>',
  '<tool_call',
  '<function=get_weather>',
  '<function=',
  '</function>',
  '<parameter=city>',
  '<parameter=',
  '</parameter>',
  '<|python_tag|>',
  '<|python_start|>',
  '<|python_end|>',
  '[TOOL_CALLS]',
  '[ARGS]',
  '[CALL_ID]',
  '<｜tool▁calls▁begin｜>',
  '<｜tool▁call▁begin｜>',
  '<｜tool▁sep｜>',
  '<｜tool▁call▁end｜>',
  '<｜tool▁calls▁end｜>',
  '<think>',
  '</think>',
  'function',
  'get_weather',
  'now',
  '```json',
  '```',
  '{"name": "now"',
  '"name"',
  '"arguments"',
  '"parameters"',
  ': ',
  '{',
  '}',
  '[',
  ']',
  '(',
  ')',
  'city=',
  '"',
  "'",
  '\\',
  '\\u',
  'd83d',
  '\\n',
  '\n',
  ' ',
  ',',
  ';',
  '1',
  '-',
  'true',
  'null',
  'None',
  '😀',
  'é',
  '\r\n',
  '{"name": "get_weather", "arguments": {"city": "Paris"}}',
  '[get_weather(city="x")]',
  'x',
];

const soup = fc.array(
  fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...PIECES) }, { weight: 1, arbitrary: fc.string() }),
  { maxLength: 30 },
);

/** All the input that went out as text, in order, must be in the input in that order; without a call nothing is missing. */
function checkNothingLost(file: string, pieces: readonly string[]): void {
  const output = pieces.join('');
  const { parts } = parse(file, pieces);
  const shown = parts.flatMap((part) => ('text' in part ? [part.text] : 'invalid' in part ? [part.invalid] : []));
  const hasMore = parts.some((part) => 'call' in part || 'reasoning' in part) || output.includes('think>');
  if (!hasMore) assert.equal(shown.join(''), output);
  let at = 0;
  for (const text of shown) {
    const found = output.indexOf(text, at);
    assert(found >= 0, `${JSON.stringify(text)} is not in the output behind ${at}`);
    at = found + text.length;
  }
  for (const part of parts) if ('call' in part) assert(JSON.parse(part.call.arguments) instanceof Object);
}

for (const file of Object.keys(FILES)) {
  test(`${file}: no soup of tags throws, loses a character or depends on its cuts`, () => {
    fc.assert(
      fc.property(soup, fc.boolean(), (pieces, inside) => {
        const whole = parse(file, [pieces.join('')], inside);
        assert.deepEqual(parse(file, pieces, inside), whole);
        assert.deepEqual(parse(file, pieces.join('').split(''), inside), whole);
        checkNothingLost(file, pieces);
      }),
      { numRuns: 500 },
    );
  });

  test(`${file}: a fixture with one character changed, taken or doubled`, () => {
    const cases = corpus.find(({ format }) => format === file)!.cases;
    const change = fc.record({
      at: fc.nat(cases.length - 1),
      place: fc.nat(),
      how: fc.nat(2),
      by: fc.constantFrom(...PIECES),
    });
    fc.assert(
      fc.property(change, ({ at, place, how, by }) => {
        const output = cases[at]!.output;
        const i = place % (output.length + 1);
        const changed =
          how === 0 ? output.slice(0, i) + by + output.slice(i) : output.slice(0, i) + output.slice(i + how);
        checkNothingLost(file, [changed]);
        assert.deepEqual(parse(file, [...changed]), parse(file, [changed]));
      }),
      { numRuns: 500 },
    );
  });
}

/** Outputs that make a careless parser look back again and again. */
const HEAVY: Readonly<Record<string, (count: number) => string>> = {
  'open tags': (count) => '<tool_call><｜tool▁call▁begin｜>[TOOL_CALLS]<|python_tag|>'.repeat(count),
  'open calls': (count) => '<tool_call>{"name": "f", "arguments": {"a": '.repeat(count),
  'half tags': (count) => '<tool_cal<func<|pyth[TOOL_CALL'.repeat(count),
  'blanks behind a close tag': (count) =>
    `<tool_call><function=now><parameter=a>${`</parameter>${' '.repeat(200)}`.repeat(count / 8)}`,
  'functions without an end': (count) => '\n<function=now'.repeat(count),
  'parameters without an end': (count) => `<tool_call><function=now><parameter=a>${'\n<parameter=b'.repeat(count)}`,
  'only blanks': (count) => ' \n'.repeat(10 * count),
  'open brackets': (count) => `<tool_call>{"name": "f", "arguments": {"a": ${'['.repeat(10 * count)}`,
  'a long string': (count) =>
    `<tool_call>{"name": "f", "arguments": {"a": "${'x\\n'.repeat(10 * count)}"}}</tool_call>`,
  'arguments first': (count) => `<tool_call>{"arguments": {"a": "${'x'.repeat(20 * count)}"}, "name": "f"}</tool_call>`,
  'broken, never closed': (count) => `<tool_call>{]${'x'.repeat(20 * count)}`,
  'bare JSON': (count) => `{"id": "${'x'.repeat(20 * count)}"}`,
};

function milliseconds(file: string, output: string, size: number): number {
  // Of this thread alone: on a busy machine the clock on the wall says little.
  const began = process.threadCpuUsage();
  const parser = parserOf(file);
  const events: ToolEvent[] = [];
  for (let at = 0; at < output.length; at += size)
    for (const event of parser.push(output.slice(at, at + size))) events.push(event);
  parser.finish();
  const { user, system } = process.threadCpuUsage(began);
  return (user + system) / 1_000;
}

test('time grows with the length, not with its square', () => {
  for (const file of Object.keys(FILES)) {
    for (const [name, make] of Object.entries(HEAVY)) {
      for (const size of [3, 1 << 30]) {
        const [short, long] = [milliseconds(file, make(500), size), milliseconds(file, make(4_000), size)];
        // 8 times the input: linear takes 8 times as long, square 64 times, which is seconds here. The clock ticks in 4 ms.
        assert(long < 20 * short + 200, `${file}, ${name}, pieces of ${size}: ${short} ms, then ${long} ms`);
      }
    }
  }
});
