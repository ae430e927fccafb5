import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { PositionLogprobs } from '#gen/quern/common/v1/common.ts';
import { type ChoicePart, ParsedAssembler, type ParsedOptions } from '../../../services/gateway/parsed-assembler.ts';
import type { ToolEvent } from '../../../services/gateway/tool-parsers/events.ts';
import { tagsOf } from '../../../services/gateway/tool-parsers/parsers.ts';
import { tagMarks } from '../../../services/gateway/tool-parsers/tag-marks.ts';
import { Vocabulary } from '../../../services/gateway/vocabulary.ts';
import { corpus, FILES, parserOf, resultOf } from './tool-parsers/support/corpus.ts';

/** Ids 0..255 are single bytes; then every tag, special or not by turns; the last one ends the output. */
const TAGS = [...new Set(Object.values(FILES).flatMap((tool) => tagsOf({ tool, reasoning: 'think' })))];
const pieces = [
  ...Array.from({ length: 256 }, (_, i) => ({ bytes: Buffer.from([i]), special: false, added: false, unused: false })),
  ...TAGS.map((tag, i) => ({ bytes: Buffer.from(tag), special: i % 2 === 0, added: true, unused: false })),
  { bytes: Buffer.from('<|end|>'), special: true, added: true, unused: false },
];
const END = pieces.length - 1;
const header = { contentHash: 'x', size: pieces.length, eosTokenIds: [END], chatTemplateHash: '', fimFamily: '' };
const vocabulary = new Vocabulary(header, pieces);

const bytesOf = (text: string): number[] => [...Buffer.from(text)];
/** The ids of an output whose tags, those of its format, are one id each. */
function withTags(output: string, file = 'hermes'): number[] {
  const tags = tagsOf({ tool: FILES[file]!, reasoning: 'think' });
  const pattern = new RegExp(`(${tags.map((tag) => tag.replace(/[|[\]]/g, '\\$&')).join('|')})`);
  return output.split(pattern).flatMap((part) => (tags.includes(part) ? [256 + TAGS.indexOf(part)] : bytesOf(part)));
}

type Options = Partial<ParsedOptions> & { file: string; inside?: boolean; knowsTags?: boolean };

function assembler({ file, inside = false, knowsTags = true, ...more }: Options): ParsedAssembler {
  const literals = knowsTags ? tagsOf({ tool: FILES[file]!, reasoning: 'think' }) : [];
  const tags = tagMarks(vocabulary, literals);
  return new ParsedAssembler({
    vocabulary,
    stopStrings: [],
    stopTokenIds: new Set([END]),
    minTokens: 0,
    logprobs: false,
    tokenIds: false,
    textOffset: 0,
    parser: parserOf(file, inside, tags),
    marks: tags.byId,
    parallelCalls: true,
    ...more,
  });
}

const position = (tokenId: number): PositionLogprobs => ({ chosen: { tokenId, logprob: -1, rank: 1 }, top: [] });

/** Everything that a client gets of `ids`, which come in steps of these sizes. */
function run(ids: readonly number[], sizes: readonly number[], options: Options) {
  const one = assembler(options);
  const parts: ChoicePart[] = [];
  const out = { ids: [] as number[], tokens: [] as number[] };
  const take = (): void => {
    parts.push(...one.parts);
    out.ids.push(...one.tokenIds);
    out.tokens.push(...one.logprobs.map((entry) => entry.tokenId));
    one.clear();
  };
  for (let at = 0, i = 0; at < ids.length; i += 1) {
    const step = ids.slice(at, at + sizes[i % sizes.length]!);
    one.push(step, options.logprobs ? step.map(position) : []);
    take();
    at += step.length;
  }
  one.end();
  take();
  const { reasoningTokens, tokenCount, stop } = one;
  return { ...resultOf(parts as ToolEvent[]), ...out, reasoningTokens, tokenCount, stop: stop?.stopString ?? null };
}

const steps = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 20 });

for (const { format: file, cases } of corpus) {
  test(`${file}: tags as ids, in steps of one token, of several, and all at once`, () => {
    for (const { name, kind, output, starts_inside: inside = false, expected } of cases) {
      const ids = withTags(output, file);
      const options = { file, inside };
      const whole = run(ids, [ids.length], options);
      assert.deepEqual(run(ids, [1], options), whole, name);
      assert.deepEqual(run(ids, [3, 1, 7], options), whole, name);
      // As one id the close tag ends a value of this format; and no id is cut.
      const differs = (file === 'qwen3-coder' && kind === 15) || (kind === 11 && name.includes('tag'));
      if (!differs) assert.deepEqual(whole.parts, expected, name);
    }
  });

  test(`${file}: random steps over bytes, with ids, log probabilities and stop strings`, () => {
    const stops = fc.subarray(['e', 'Paris', '\n\n', 'T', '😀', 'x'], { maxLength: 4 });
    const one = fc.tuple(fc.nat(cases.length - 1), steps, stops, fc.boolean());
    fc.assert(
      fc.property(one, ([at, sizes, stopStrings, logprobs]) => {
        const { output, starts_inside: inside = false } = cases[at]!;
        const ids = [...bytesOf(output), END];
        const options = { file, inside, stopStrings, logprobs, tokenIds: true, knowsTags: false };
        const whole = run(ids, [ids.length], options);
        assert.deepEqual(run(ids, sizes, options), whole);
        assert.deepEqual(whole.ids, ids.slice(0, whole.ids.length));
        if (whole.stop === null) assert.deepEqual([whole.ids.length, whole.tokenCount], [ids.length, ids.length]);
        if (logprobs)
          assert.deepEqual(
            whole.tokens,
            whole.ids.filter((id) => id !== END),
          );
        for (const part of whole.parts) {
          if ('text' in part) assert(stopStrings.every((text) => !part.text.includes(text)));
        }
      }),
      { numRuns: 150 },
    );
  });
}

test('where a tag is one id, the same characters in other tokens are text', () => {
  const call = '<tool_call>{"name": "now"}</tool_call>';
  assert.deepEqual(run(bytesOf(call), [5], { file: 'hermes' }).parts, [{ text: call }]);
  const mixed = [
    ...bytesOf('Write <tool_call>. '),
    ...withTags('<tool_call>{"name": "get_weather", "arguments": {"city": "'),
  ];
  const rest = [...bytesOf('a</tool_call>b'), ...withTags('<tool_call>"}}</tool_call>')];
  assert.deepEqual(run([...mixed, ...rest], [4], { file: 'hermes' }).parts, [
    { text: 'Write <tool_call>. ' },
    { call: { name: 'get_weather', arguments: '{"city":"a</tool_call>b<tool_call>"}' } },
  ]);
});

test('a cut character in front of a tag is U+FFFD, and the tag stays a tag', () => {
  const ids = [0x61, 0xf0, 0x9f, ...withTags('<tool_call>{"name": "now"}</tool_call>')];
  assert.deepEqual(run(ids, [1], { file: 'hermes' }).parts, [
    { text: 'a\uFFFD' },
    { call: { name: 'now', arguments: '{}' } },
  ]);
});

test('stop strings match in content only', () => {
  const output =
    '<think>stop</think>So: <tool_call>{"name": "write_file", "arguments": {"path": "stop"}}</tool_call> and stop here';
  const got = run([...bytesOf(output), END], [6], {
    file: 'hermes',
    stopStrings: ['stop'],
    knowsTags: false,
    tokenIds: true,
  });
  assert.deepEqual(got.parts, [
    { reasoning: 'stop' },
    { text: 'So: ' },
    { call: { name: 'write_file', arguments: '{"path":"stop"}' } },
    { text: ' and ' },
  ]);
  assert.equal(got.stop, 'stop');
  assert.equal(got.tokenCount, output.length - ' here'.length);
  assert.deepEqual(got.ids, bytesOf(output).slice(0, output.lastIndexOf('stop')));
});

test('a stop string does not match across a call', () => {
  const output = 'ab<tool_call>{"name": "now"}</tool_call>cd';
  const got = run(bytesOf(output), [2], { file: 'hermes', stopStrings: ['bc', 'bcd'], knowsTags: false });
  assert.equal(got.stop, null);
  assert.deepEqual(got.parts, [{ text: 'ab' }, { call: { name: 'now', arguments: '{}' } }, { text: 'cd' }]);
});

test('stop strings count from min_tokens on', () => {
  const got = run(bytesOf('xxaxxa'), [1], { file: 'hermes', stopStrings: ['a'], minTokens: 4, knowsTags: false });
  assert.deepEqual([got.parts, got.stop, got.tokenCount], [[{ text: 'xxaxx' }], 'a', 6]);
});

test('tokens of the reasoning are counted with its tags', () => {
  const ids = [...withTags('<think>'), ...bytesOf('abc'), ...withTags('</think>'), ...bytesOf('\n\nSo.'), END];
  assert.equal(run(ids, [2], { file: 'hermes' }).reasoningTokens, 5);
  assert.equal(run(ids.slice(1), [2], { file: 'hermes', inside: true }).reasoningTokens, 4);
  assert.equal(run(bytesOf('So.'), [1], { file: 'hermes' }).reasoningTokens, 0);
});

test('whole calls and invalid ones are counted', () => {
  const one = assembler({ file: 'hermes', knowsTags: false });
  one.push(
    bytesOf('<tool_call>{"name": "now"}</tool_call><tool_call>{]</tool_call><tool_call>{"name": "now", "arguments"'),
    [],
  );
  one.end();
  assert.deepEqual(one.calls, { made: 1, invalid: 2 });
});

test('without parallel calls the first one is kept', () => {
  const output = 'a<tool_call>{"name": "now"}</tool_call>b<tool_call>{"name": "nobody"}</tool_call>c';
  const got = run(bytesOf(output), [3], { file: 'hermes', knowsTags: false, parallelCalls: false });
  assert.deepEqual(got.parts, [{ text: 'a' }, { call: { name: 'now', arguments: '{}' } }, { text: 'bc' }]);
});
