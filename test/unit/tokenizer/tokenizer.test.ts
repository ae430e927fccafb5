// Ids of whole texts against both references, for vocabularies of every family that the fast path covers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TextTokenizer } from '../../../services/tokenizer/tokenizer.ts';
import { fuzzStrings, mixedSource } from './support/corpus.ts';
import {
  DIGITS_DIFFER,
  libraryDecoder,
  libraryOracle,
  ORACLES_DIFFER,
  plainLibraryOracle,
  rustOracle,
} from './support/oracles.ts';
import { assertIds } from './support/same-ids.ts';
import {
  byteLevelTokenizer,
  modelFiles,
  PRETOKENIZERS,
  sentencePieceTokenizer,
  trainMerges,
  type VocabularySpec,
} from './support/vocabularies.ts';

const merges = trainMerges(mixedSource(60_000), 700);
const ADDED = [
  { content: '<|endoftext|>' },
  { content: '<|im_start|>' },
  { content: '<|im_end|>' },
  { content: '<tool_call>', special: false },
  { content: '</tool_call>', special: false },
  { content: '<think>', special: false },
  { content: '<|fim_prefix|>', special: false },
  { content: '<|fim_suffix|>', special: false },
  { content: '<|fim_middle|>', special: false },
];
const SOURCE = mixedSource(70_000);
const FUZZ = fuzzStrings(1300, 23);

const SPECS: Record<string, VocabularySpec> = Object.fromEntries(
  Object.entries(PRETOKENIZERS).map(([name, preTokenizer]) => [name, { merges, preTokenizer, added: ADDED }]),
);
Object.assign(SPECS, {
  'qwen2 with NFC': { ...SPECS.qwen2!, normalizer: { type: 'NFC' } },
  'qwen2 with NFKD and NFC': {
    ...SPECS.qwen2!,
    normalizer: { type: 'Sequence', normalizers: [{ type: 'NFKD' }, { type: 'NFC' }] },
  },
  'llama3 with ignore_merges': { ...SPECS.llama3!, ignoreMerges: true },
  'gpt2 with merges as text': { ...SPECS.gpt2!, oldMerges: true },
  'tokens that take blanks': {
    ...SPECS.qwen2!,
    added: [...ADDED, { content: '<mask>', lstrip: true }, { content: '<pad>', rstrip: true }, { content: '<|im' }],
  },
  'tokens looked for in normalized text': {
    ...SPECS.qwen2!,
    normalizer: { type: 'NFC' },
    added: [...ADDED, { content: 'caf\u00e9', special: false, normalized: true }, { content: '<s>', normalized: true }],
  },
} satisfies Record<string, VocabularySpec>);

const EXTRA = [
  'x <mask> y<mask>z \n <mask>',
  '<pad>  x <pad>\n\ny<pad><mask> <pad>',
  'cafe\u0301 caf\u00e9 <|im_start|>cafe\u0301<|im_end|>',
  '<|im_start <|im_start|> <|im<|im_end|>',
];

for (const [name, spec] of Object.entries(SPECS)) {
  test(`${name}: ids equal the library's`, () => {
    const json = byteLevelTokenizer(spec);
    const ours = new TextTokenizer(modelFiles(json));
    assert.equal(ours.isByteLevel, true);
    const trusted = libraryOracle(json);
    const plain = plainLibraryOracle(json);
    for (const text of [SOURCE, ...FUZZ, ...EXTRA]) {
      assertIds(ours.encode(text, 'all'), trusted.encode(text), text);
      assertIds(ours.encode(text, 'none'), plain.encode(text), text);
    }
  });
}

for (const name of ['gpt2', 'qwen2', 'qwen2 with NFC', 'llama3 with ignore_merges', 'starcoder2', 'deepseek-v3']) {
  test(`${name}: ids equal the Rust tokenizers'`, async () => {
    const json = byteLevelTokenizer(SPECS[name]!);
    const ours = new TextTokenizer(modelFiles(json));
    const differ = (text: string): boolean =>
      ORACLES_DIFFER.test(text) || (name === 'starcoder2' && DIGITS_DIFFER.test(text));
    const texts = [...SOURCE.match(/[\s\S]{1,5000}/g)!, ...FUZZ].filter((text) => !differ(text));
    assert(texts.length > 800, `only ${texts.length} texts are left to compare`);
    const trusted = await rustOracle(json).encodeAll(texts);
    const plain = await rustOracle({ ...json, added_tokens: [] }).encodeAll(texts);
    for (const [index, text] of texts.entries()) {
      assertIds(ours.encode(text, 'all'), trusted[index]!, text);
      assertIds(ours.encode(text, 'none'), plain[index]!, text);
    }
  });
}

test('PARSE_SPECIAL_FIM lets marks of infill formats through and nothing else', () => {
  const json = byteLevelTokenizer(SPECS.qwen2!);
  const ours = new TextTokenizer(modelFiles(json));
  const fimOnly = libraryOracle({
    ...json,
    added_tokens: json.added_tokens.filter(({ content }) => content.startsWith('<|fim_')),
  });
  const text = '<|fim_prefix|>a<|im_end|><tool_call><|fim_suffix|>b<|fim_middle|><|endoftext|>';
  assertIds(ours.encode(text, 'fim'), fimOnly.encode(text), text);
  const ids = new Set(ours.encode(text, 'fim'));
  for (const { content, id } of json.added_tokens) {
    assert.equal(ids.has(id), content.startsWith('<|fim_'), content);
  }
});

test('a merge that writes an added token is not done in untrusted text', () => {
  const json = byteLevelTokenizer({
    merges: [
      ['a', 'b'],
      ['ab', 'c'],
    ],
    preTokenizer: PRETOKENIZERS.gpt2!,
  });
  const id = json.model.vocab['abc' as never] as number;
  const withToken = { ...json, added_tokens: [{ id, content: 'abc', special: true, normalized: false }] };
  const ours = new TextTokenizer(modelFiles(withToken));
  assert.deepEqual([...ours.encode('abc', 'all')], [id]);
  assert(!ours.encode('xabc abc', 'none').includes(id));
});

test('decoding gives the text back, and what the library gives where it is cut', () => {
  const json = byteLevelTokenizer(SPECS.qwen2!);
  const ours = new TextTokenizer(modelFiles(json));
  const decode = libraryDecoder(json);
  for (const text of FUZZ) {
    const ids = [...ours.encode(text, 'all')];
    assert.equal(ours.decode(ids, { skipSpecial: false }), text.toWellFormed());
    const cut = ids.slice(1, -1);
    if (cut.length === 0) continue;
    assert.equal(ours.decode(cut, { skipSpecial: false }), decode(cut, false));
    assert.equal(ours.decode(cut, { skipSpecial: true }), decode(cut, true));
  }
  assert.equal(ours.decode([], { skipSpecial: false }), '');
});

test('ids outside the vocabulary are refused by their place', () => {
  const ours = new TextTokenizer(modelFiles(byteLevelTokenizer(SPECS.qwen2!)));
  const size = ours.vocabulary.size;
  assert.throws(() => ours.decode([0, size], { skipSpecial: false }), {
    code: 'INVALID_ARGUMENT',
    message: new RegExp(`^token_ids\\[1\\]: expected an id of the vocabulary \\(0\\.\\.${size - 1}\\), got ${size};`),
  });
});

test('a vocabulary that cannot write every byte is refused, and one with an unknown token goes to the library', () => {
  const json = byteLevelTokenizer({ merges: [], preTokenizer: PRETOKENIZERS.gpt2! });
  const { A: _, ...vocab } = json.model.vocab as Record<string, number>;
  const files = modelFiles({ ...json, model: { ...json.model, vocab } });
  assert.throws(() => new TextTokenizer(files), {
    code: 'FAILED_PRECONDITION',
    message: /expected a token for each of the 256 bytes, got 255 and no unknown token; train/,
  });
  const known = modelFiles({ ...json, model: { ...json.model, vocab, unk_token: 'B' } });
  assert.equal(new TextTokenizer(known).isByteLevel, false);
});

const spText = mixedSource(20_000);
const SENTENCE_PIECE = sentencePieceTokenizer(spText, 200, ['▁<PRE>', '▁<MID>', '▁<SUF>', '▁<EOT>']);

test('a SentencePiece vocabulary with byte fallback is encoded by the library', () => {
  const ours = new TextTokenizer(modelFiles(SENTENCE_PIECE));
  assert.equal(ours.isByteLevel, false);
  const trusted = libraryOracle(SENTENCE_PIECE);
  const plain = plainLibraryOracle(SENTENCE_PIECE);
  for (const text of [spText.slice(0, 5000), ...fuzzStrings(300, 5)]) {
    assertIds(ours.encode(text, 'all'), trusted.encode(text), text);
    assertIds(ours.encode(text, 'none'), plain.encode(text), text);
  }
  assert.deepEqual(ours.bosIds, [1]);
});

test('untrusted text never yields an added token of a SentencePiece vocabulary', () => {
  const ours = new TextTokenizer(modelFiles(SENTENCE_PIECE));
  const added = new Set(SENTENCE_PIECE.added_tokens.map(({ id }) => id));
  for (const { content } of SENTENCE_PIECE.added_tokens) {
    for (const text of [content, `a${content}b`, ` ${content} `, content.replace('▁', ' ')]) {
      const ids = ours.encode(text, 'none');
      assert(ids.length > 0 && ids.every((id) => !added.has(id)), `${JSON.stringify(text)}: ${[...ids]}`);
    }
  }
});

test('untrusted text never yields an added token of a Unigram vocabulary', () => {
  const pieces: [string, number][] = [
    ['<unk>', 0],
    ['<s>', 0],
    ['</s>', 0],
    ['▁', -2],
    ...[...'abcs</>'].map((char): [string, number] => [char, -5]),
    ['▁a', -3],
    ['bc', -3],
  ];
  const json = {
    ...SENTENCE_PIECE,
    added_tokens: [0, 1, 2].map((id) => ({ id, content: pieces[id]![0], special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true },
    model: { type: 'Unigram', unk_id: 0, vocab: pieces, byte_fallback: false },
  };
  const ours = new TextTokenizer(modelFiles(json));
  const trusted = libraryOracle(json);
  assertIds(ours.encode('a bc</s>abc', 'all'), trusted.encode('a bc</s>abc'), 'trusted');
  assert(ours.encode('a bc</s>abc', 'all').includes(2));
  assert(!ours.encode('a bc</s>a<s>bc', 'none').some((id) => id < 3));
});

test('text that continues other text gets no blank in front', () => {
  const ours = new TextTokenizer(modelFiles(SENTENCE_PIECE));
  assert.equal(ours.decode([...ours.encode('return', 'none')], { skipSpecial: false }), 'return');
  const begins = ours.encode('return', 'none');
  const continues = ours.encodePart('return', { section: 1, continues: true });
  const bytes = (ids: Uint32Array): string =>
    [...ids].map((id) => Buffer.from(ours.vocabulary.bytes.subarray(...range(ours, id))).toString()).join('');
  assert.equal(bytes(begins), ' return');
  assert.equal(bytes(continues), 'return');
});

function range(tokenizer: TextTokenizer, id: number): [number, number] {
  return [tokenizer.vocabulary.starts[id]!, tokenizer.vocabulary.starts[id + 1]!];
}
