import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { PositionLogprobs } from '#gen/quern/common/v1/common.ts';
import { findStop } from '../../../services/gateway/stop-strings.ts';
import {
  type AssemblerOptions,
  literalText,
  promptLogprobs,
  TextAssembler,
} from '../../../services/gateway/text-assembler.ts';
import { Vocabulary } from '../../../services/gateway/vocabulary.ts';

/** Ids 0..255 are single bytes, 256.. are longer pieces, some cut inside characters; 300 is a control token. */
const LONG = ['foo', '\n\n', 'ab', 'é', '😀', ' the'].map((s) => Buffer.from(s));
const PARTS = [
  Buffer.from([0xf0, 0x9f]),
  Buffer.from([0x98, 0x80, 0x41]),
  Buffer.from([0x61, 0xc3]),
  Buffer.from([0xa9, 0xc3]),
];
const pieces = [
  ...Array.from({ length: 256 }, (_, i) => ({ bytes: Buffer.from([i]), special: false, added: false, unused: false })),
  ...[...LONG, ...PARTS].map((bytes) => ({ bytes, special: false, added: false, unused: false })),
  { bytes: Buffer.from('<|end|>'), special: true, added: true, unused: false },
];
const CONTROL = pieces.length - 1;
const header = { contentHash: 'x', size: pieces.length, eosTokenIds: [CONTROL], chatTemplateHash: '', fimFamily: '' };
const vocabulary = new Vocabulary(header, pieces);

const defaults: AssemblerOptions = {
  vocabulary,
  stopStrings: [],
  stopTokenIds: new Set(),
  minTokens: 0,
  logprobs: false,
  tokenIds: false,
  textOffset: 0,
};

const id = fc.oneof(
  { weight: 3, arbitrary: fc.nat({ max: pieces.length - 257 }).map((i) => 256 + i) },
  { weight: 2, arbitrary: fc.constantFrom(0x61, 0x62, 0x0a) },
  { weight: 1, arbitrary: fc.nat(255) },
);
const ids = fc.array(id, { maxLength: 30 });
const stops = fc.array(fc.constantFrom('\n', '\n\n', 'ab', 'aba', 'é', '😀A', 'foofoo', '\uFFFD'), { maxLength: 4 });
const cuts = fc.array(fc.nat(30), { maxLength: 10 });

function position(tokenId: number): PositionLogprobs {
  return { chosen: { tokenId, logprob: -1, rank: 1 }, top: [{ tokenId, logprob: -1, rank: 1 }] };
}

function run(tokens: readonly number[], places: readonly number[], options: Partial<AssemblerOptions>) {
  const assembler = new TextAssembler({ ...defaults, ...options });
  const out = { text: '', ids: [] as number[], tokens: [] as string[], offsets: [] as number[] };
  const take = (): void => {
    out.text += assembler.text;
    out.ids.push(...assembler.tokenIds);
    out.tokens.push(...assembler.logprobs.map((l) => l.token));
    out.offsets.push(...assembler.logprobs.map((l) => l.textOffset));
    assembler.clear();
  };
  for (let i = 1; i < places.length; i += 1) {
    const slice = tokens.slice(places[i - 1], places[i]);
    assembler.push(slice, options.logprobs ? slice.map(position) : []);
    take();
  }
  assembler.end();
  take();
  return { ...out, count: assembler.tokenCount, stop: assembler.stop };
}

function sorted(points: readonly number[], length: number): number[] {
  return [0, ...points.map((p) => Math.min(p, length)), length].sort((a, b) => a - b);
}

test('text, ids, logprobs, count and stop string are the same for every cut', () => {
  fc.assert(
    fc.property(ids, stops, cuts, fc.boolean(), (tokens, stopStrings, points, track) => {
      const options = { stopStrings, logprobs: track, tokenIds: track };
      const whole = run(tokens, [0, tokens.length], options);
      assert.deepEqual(run(tokens, sorted(points, tokens.length), options), whole);
      assert.deepEqual(
        run(
          tokens,
          sorted(
            tokens.map((_, i) => i),
            tokens.length,
          ),
          options,
        ),
        whole,
      );
    }),
    { numRuns: 3000 },
  );
});

test('the text is the decoded bytes of shown ids, cut at the stop string', () => {
  fc.assert(
    fc.property(ids, stops, cuts, (tokens, stopStrings, points) => {
      const shown = tokens.filter((t) => t !== CONTROL);
      const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(
        Buffer.concat(shown.map((t) => pieces[t]!.bytes)),
      );
      const match = findStop(text, stopStrings);
      const got = run(tokens, sorted(points, tokens.length), { stopStrings });
      assert.equal(got.text, match ? text.slice(0, match.start) : text);
      assert.equal(got.stop?.stopString, match?.stopString);
      if (!match) assert.equal(got.count, tokens.length);
    }),
    { numRuns: 3000 },
  );
});

test('log probabilities travel with their text', () => {
  const assembler = new TextAssembler({ ...defaults, stopStrings: ['aba'], logprobs: true, tokenIds: true });
  const push = (...tokens: number[]): void => assembler.push(tokens, tokens.map(position));
  push(0x62, 0x61);
  assert.deepEqual([assembler.text, assembler.logprobs.map((l) => l.token), assembler.tokenIds], ['b', ['b'], [0x62]]);
  assembler.clear();
  push(0x62);
  assert.equal(assembler.hasOutput, false);
  push(0x62);
  assert.deepEqual([assembler.text, assembler.logprobs.map((l) => l.textOffset)], ['abb', [1, 2, 3]]);
  assembler.clear();
  push(0x61, 0x62, 0x61, 0x62);
  assert.equal(assembler.stop?.stopString, 'aba');
  assert.deepEqual([assembler.text, assembler.logprobs, assembler.tokenCount], ['', [], 7]);
});

test("ranks are the engine's own, of the token that stands there and of the alternatives", () => {
  const assembler = new TextAssembler({ ...defaults, logprobs: true });
  const at = (tokenId: number, rank: number) => ({ tokenId, logprob: -rank, rank });
  assembler.push([0x61], [{ chosen: at(0x61, 57), top: [at(0x62, 1), at(0x63, 2)] }]);
  const [entry] = assembler.logprobs;
  assert.equal(entry?.rank, 57);
  assert.deepEqual(
    entry?.top.map((one) => [one.token, one.rank]),
    [
      ['b', 1],
      ['c', 2],
    ],
  );
});

test('a token that is cut by a stop string keeps its log probability, those behind it lose theirs', () => {
  const got = run([256, 257, 256], [0, 3], { stopStrings: ['o\n'], logprobs: true });
  assert.deepEqual([got.text, got.tokens, got.count], ['fo', ['foo'], 2]);
});

test('control tokens and stop ids are not shown', () => {
  assert.equal(run([256, CONTROL, 256], [0, 3], {}).text, 'foofoo');
  assert.equal(run([256, 0x61], [0, 2], { stopTokenIds: new Set([0x61]) }).text, 'foo');
  assert.equal(run([256, 0x61], [0, 2], { stopTokenIds: new Set([0x61]) }).count, 2);
});

test('a cut character becomes U+FFFD in the last text', () => {
  assert.equal(run([0x61, 0xf0, 0x9f], [0, 1, 2, 3], {}).text, 'a\uFFFD');
});

test('stop strings are looked for only after min_tokens', () => {
  const got = run([0x61, 0x0a, 0x62, 0x0a, 0x63], [0, 5], { stopStrings: ['\n'], minTokens: 2 });
  assert.deepEqual([got.text, got.count], ['a\nb', 4]);
});

test('an id outside the vocabulary is an error, not silence', () => {
  assert.throws(() => run([999], [0, 1], {}), /token id 999 is outside the vocabulary/);
});

test('prompt log probabilities: the first token has none, offsets follow the text', () => {
  const got = promptLogprobs(vocabulary, [256, 260, CONTROL], [position(260), position(CONTROL)]);
  assert.deepEqual(
    got.map((l) => [l.token, l.logprob, l.textOffset]),
    [
      ['foo', undefined, 0],
      ['😀', -1, 3],
      ['<|end|>', -1, 5],
    ],
  );
  assert.equal(literalText(vocabulary, [256, 260, CONTROL]), 'foo😀<|end|>');
});

test('marks of infill prompts are control tokens too, whatever tokenizer.json calls them; tags of an answer are text', () => {
  const marks = ['<|fim_middle|>', '<fim_pad>', '<|repo_name|>', '<｜fim▁hole｜>', '[SUFFIX]', '<think>', '<|note|>'];
  const own = [
    ...pieces,
    ...marks.map((mark) => ({ bytes: Buffer.from(mark), special: false, added: true, unused: false })),
    { bytes: Buffer.from('<fim_prefix>'), special: false, added: false, unused: false },
  ];
  const withMarks = new Vocabulary({ ...header, size: own.length }, own);
  const all = Array.from({ length: own.length - pieces.length }, (_, i) => pieces.length + i);
  const { text, ids } = run([256, ...all, 256], [0, all.length + 2], { vocabulary: withMarks, tokenIds: true });
  assert.equal(text, 'foo<think><|note|><fim_prefix>foo');
  assert.deepEqual(ids, [256, ...all, 256]);
});

test('control tokens are written out where that is asked for, but not the one that ends the answer', () => {
  const ending = { withControl: true, stopTokenIds: new Set([CONTROL]) };
  assert.equal(run([256, CONTROL, 256], [0, 1, 3], { withControl: true }).text, 'foo<|end|>foo');
  assert.equal(run([256, CONTROL], [0, 2], ending).text, 'foo');
  const told = run([256, CONTROL, 256], [0, 3], { withControl: true, logprobs: true, tokenIds: true });
  assert.deepEqual(
    [told.tokens, told.offsets],
    [
      ['foo', '<|end|>', 'foo'],
      [0, 3, 10],
    ],
  );
});
