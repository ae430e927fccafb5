import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as library from '@huggingface/tokenizers';
import { byteLevelPreTokenizer } from '../../../services/tokenizer/pretokenizer.ts';
import { createDigitsSplitter, knownSplitter, splitGpt2 } from '../../../services/tokenizer/splitters.ts';
import { createWordEnds, type Splitter } from '../../../services/tokenizer/word-ends.ts';
import { createRandom, fuzzStrings, mixedSource } from './support/corpus.ts';
import { CL100K_PATTERN, LLAMA3_PATTERN, PRETOKENIZERS, QWEN_PATTERN, QWEN35_PATTERN } from './support/vocabularies.ts';

type Words = { pre_tokenize_text(text: string): string[]; pattern: RegExp };
const classes = library as unknown as Record<string, new (config: object) => Words>;

function wordsOf(splitter: Splitter, text: string): string[] {
  const units = Uint16Array.from(text, () => 0);
  for (let i = 0; i < text.length; i += 1) units[i] = text.charCodeAt(i);
  const ends = createWordEnds();
  ends.ends = new Int32Array(text.length + 1);
  splitter(
    text,
    Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
    0,
    text.length,
    ends,
  );
  let from = 0;
  return Array.from(ends.ends.subarray(0, ends.count), (end) => {
    const word = text.slice(from, end);
    from = end;
    return word;
  });
}

const splitReference = (pattern: string) => {
  const config = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
  const reference = new classes.SplitPreTokenizer!(config);
  return (text: string) => reference.pre_tokenize_text(text);
};

const gpt2Pattern = new classes.ByteLevelPreTokenizer!({ type: 'ByteLevel' }).pattern;
const digits = (individual: boolean) => {
  const reference = new classes.DigitsPreTokenizer!({ type: 'Digits', individual_digits: individual });
  return (text: string) => reference.pre_tokenize_text(text);
};

const CASES: Record<string, { splitter: Splitter; reference: (text: string) => string[] }> = {
  'GPT-2': { splitter: splitGpt2, reference: (text) => text.match(gpt2Pattern) ?? [] },
  'digits one by one': { splitter: createDigitsSplitter(true), reference: digits(true) },
  'digits in runs': { splitter: createDigitsSplitter(false), reference: digits(false) },
};
const PATTERNS = {
  'Qwen 2': QWEN_PATTERN,
  'Llama 3': LLAMA3_PATTERN,
  cl100k: CL100K_PATTERN,
  'Qwen 3.5': QWEN35_PATTERN,
};
for (const [name, pattern] of Object.entries(PATTERNS)) {
  const splitter = knownSplitter(pattern);
  assert(splitter, `${name}: expected a hand-written splitter for ${pattern}`);
  CASES[name] = { splitter, reference: splitReference(pattern) };
}

/** Every unit of the BMP beside characters of each class, and code points above it. */
function* everyCharacter(): Generator<string> {
  const neighbours = ['a', '1', ' ', '.', '\n', "'", '\t', ''];
  let text = '';
  for (let unit = 0; unit < 0x10000; unit += 1) {
    const char = String.fromCharCode(unit);
    text += `${neighbours[unit % 8]}${char}${neighbours[(unit >> 3) % 8]}${char}${char}${neighbours[(unit >> 6) % 8]}`;
    if (unit % 512 === 511) {
      yield text;
      text = '';
    }
  }
  const random = createRandom(7);
  for (let i = 0; i < 40; i += 1) {
    let astral = '';
    for (let k = 0; k < 200; k += 1) {
      astral += `${neighbours[k % 8]}${String.fromCodePoint(0x10000 + Math.floor(random() * 0x20000))}${k % 5 ? '' : 's'}`;
    }
    yield astral;
  }
}

for (const [name, { splitter, reference }] of Object.entries(CASES)) {
  test(`${name}: the splitter equals the library's pattern on every character, on source and on fuzz`, () => {
    for (const text of [...everyCharacter(), mixedSource(120_000), ...fuzzStrings(3000, 11)]) {
      const expected = reference(text);
      const actual = wordsOf(splitter, text);
      if (actual.length === expected.length && actual.every((word, index) => word === expected[index])) continue;
      const at = expected.findIndex((word, index) => word !== actual[index]);
      assert.fail(`word ${at}: expected ${JSON.stringify(expected[at])}, got ${JSON.stringify(actual[at])}`);
    }
  });
}

test('every case of a contraction', () => {
  const pieces = ["'", 's', 'S', 't', 'r', 'R', 'e', 'E', 'v', 'm', 'l', 'L', 'd', 'D', ' ', 'x', '\u017f', '\u212a'];
  for (const { splitter, reference } of [CASES['GPT-2']!, CASES['Qwen 2']!, CASES.cl100k!]) {
    for (const a of pieces) {
      for (const b of pieces) {
        for (const c of pieces) {
          const text = `x'${a}${b}${c}`;
          assert.deepEqual(wordsOf(splitter, text), reference(text), JSON.stringify(text));
        }
      }
    }
  }
});

test('a pattern that is not well known has no hand-written splitter', () => {
  assert.equal(knownSplitter('\\w+|\\s+'), null);
  assert.equal(knownSplitter(QWEN_PATTERN.replace('\\p{L}+', '\\p{Lu}+')), null);
});

test('pretokenizers that need the whole library are left to it', () => {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
  const merged = { type: 'Split', pattern: { Regex: '\\s' }, behavior: 'MergedWithNext', invert: false };
  assert.equal(byteLevelPreTokenizer(null), null);
  assert.equal(byteLevelPreTokenizer({ type: 'Metaspace' }), null);
  assert.equal(byteLevelPreTokenizer({ type: 'Sequence', pretokenizers: [merged, byteLevel] }), null);
  assert.equal(byteLevelPreTokenizer({ type: 'Sequence', pretokenizers: [byteLevel, { type: 'Digits' }] }), null);
  assert.equal(byteLevelPreTokenizer(PRETOKENIZERS['deepseek-v3']!)?.splitters.length, 3);
});
