import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { ModelFiles, TokenizerJson } from '../../../services/tokenizer/model-files.ts';
import { eosTokenIds, leadingIds } from '../../../services/tokenizer/special-tokens.ts';
import {
  ADDED,
  bytesOfId,
  createVocabulary,
  joinBytes,
  modelIds,
  SPECIAL,
  UNUSED,
  type Vocabulary,
} from '../../../services/tokenizer/vocabulary.ts';
import { byteLevelTokenizer, modelFiles, PRETOKENIZERS, sentencePieceTokenizer } from './support/vocabularies.ts';

const byteLevel = byteLevelTokenizer({
  merges: [
    ['Ġ', 'a'],
    ['Ã', '©'],
  ],
  preTokenizer: PRETOKENIZERS.gpt2!,
  added: [{ content: '<|end|>' }, { content: '<tool_call>', special: false }],
});

const vocabularyOf = (json: TokenizerJson, files: Partial<ModelFiles> = {}): Vocabulary =>
  createVocabulary(modelFiles(json, files), modelIds(json));
const text = (vocabulary: Vocabulary, id: number): string => Buffer.from(bytesOfId(vocabulary, id)).toString();

test('byte-level: every id writes its bytes', () => {
  const vocabulary = vocabularyOf(byteLevel);
  assert.equal(vocabulary.kind, 'byte-level');
  assert.equal(vocabulary.size, 260);
  for (let byte = 0; byte < 256; byte += 1) assert.deepEqual([...bytesOfId(vocabulary, byte)], [byte]);
  assert.equal(text(vocabulary, 256), ' a');
  assert.equal(text(vocabulary, 257), 'é');
  assert.equal(text(vocabulary, 258), '<|end|>');
  assert.deepEqual([...vocabulary.flags.slice(256)], [0, 0, ADDED | SPECIAL, ADDED]);
});

test('holes and padded ids are unused and write nothing', () => {
  const added = [{ id: 262, content: '<far>', special: true, normalized: false }];
  const vocabulary = vocabularyOf({ ...byteLevel, added_tokens: added }, { modelConfig: { vocab_size: 264 } });
  assert.equal(vocabulary.size, 264);
  assert.deepEqual([...vocabulary.flags.slice(257)], [0, UNUSED, UNUSED, UNUSED, UNUSED, ADDED | SPECIAL, UNUSED]);
  assert.equal(bytesOfId(vocabulary, 260).length, 0);
  const nested = vocabularyOf(byteLevel, { modelConfig: { text_config: { vocab_size: 300 } } });
  assert.equal(nested.size, 300);
});

test('byte fallback: pieces write their bytes, U+2581 a blank', () => {
  const json = sentencePieceTokenizer('a cat and a hat and a bat', 4, ['▁<PRE>']);
  const vocabulary = vocabularyOf(json);
  assert.equal(vocabulary.kind, 'sentencepiece');
  const id = (piece: string): number => vocabulary.idOf.get(piece)!;
  assert.deepEqual([...bytesOfId(vocabulary, id('<0x0A>'))], [10]);
  assert.deepEqual([...bytesOfId(vocabulary, id('<0xFF>'))], [255]);
  assert.equal(text(vocabulary, id('▁a')), ' a');
  assert.equal(text(vocabulary, id('▁<PRE>')), '▁<PRE>');
  assert.equal(vocabulary.flags[id('<s>')], ADDED | SPECIAL);
});

test('the content hash covers bytes, order and flags', () => {
  const vocabulary = vocabularyOf(byteLevel);
  const hash = createHash('sha256');
  for (let id = 0; id < vocabulary.size; id += 1) {
    const bytes = bytesOfId(vocabulary, id);
    const head = Buffer.alloc(5);
    head[0] = vocabulary.flags[id]!;
    head.writeUInt32LE(bytes.length, 1);
    hash.update(head).update(bytes);
  }
  assert.equal(vocabulary.contentHash, hash.digest('hex'));
  const others = [
    { ...byteLevel, added_tokens: byteLevel.added_tokens.toReversed().map((token, i) => ({ ...token, id: 258 + i })) },
    { ...byteLevel, added_tokens: byteLevel.added_tokens.map((token) => ({ ...token, special: true })) },
    { ...byteLevel, added_tokens: byteLevel.added_tokens.slice(1) },
  ];
  const hashes = others.map((json) => vocabularyOf(json).contentHash);
  assert.equal(new Set([vocabulary.contentHash, ...hashes]).size, 4);
  assert.equal(vocabularyOf(structuredClone(byteLevel)).contentHash, vocabulary.contentHash);
});

test('bytes are joined, control tokens left out on demand', () => {
  const vocabulary = vocabularyOf(byteLevel);
  assert.equal(Buffer.from(joinBytes(vocabulary, [256, 258, 257, 259], false)).toString(), ' a<|end|>é<tool_call>');
  assert.equal(Buffer.from(joinBytes(vocabulary, [256, 258, 257, 259], true)).toString(), ' aé<tool_call>');
});

test('ids that make no sense are a load error', () => {
  const added = [{ id: 2 ** 30, content: '<x>' }];
  assert.throws(() => vocabularyOf({ ...byteLevel, added_tokens: added }), {
    code: 'FAILED_PRECONDITION',
    message: /expected token ids 0\.\.1048575, got 1073741824 for "<x>"; the tokenizer.json is damaged/,
  });
});

test('EOS of the tokenizer and of the generation configuration', () => {
  const vocabulary = vocabularyOf(byteLevel);
  const eos = (files: Partial<ModelFiles>): number[] => eosTokenIds(modelFiles(byteLevel, files), vocabulary);
  assert.deepEqual(eos({}), []);
  assert.deepEqual(eos({ tokenizerConfig: { eos_token: '<|end|>' } }), [258]);
  assert.deepEqual(
    eos({ tokenizerConfig: { eos_token: { content: '<|end|>' } }, generationConfig: { eos_token_id: [259, 258, 3] } }),
    [3, 258, 259],
  );
  assert.deepEqual(eos({ modelConfig: { eos_token_id: 7 } }), [7]);
  assert.deepEqual(eos({ modelConfig: { eos_token_id: 7 }, generationConfig: { eos_token_id: 8 } }), [8]);
  assert.deepEqual(eos({ generationConfig: { eos_token_id: [99_999, null] } }), []);
});

test('BOS as the post-processor puts it, or as the configuration asks', () => {
  const vocabulary = vocabularyOf(byteLevel);
  const bos = (json: Partial<TokenizerJson>, tokenizerConfig = {}): number[] =>
    leadingIds(modelFiles({ ...byteLevel, ...json }, { tokenizerConfig }), vocabulary);
  const template = {
    type: 'TemplateProcessing',
    single: [
      { SpecialToken: { id: '<|end|>', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { SpecialToken: { id: '<tool_call>' } },
    ],
  };
  assert.deepEqual(bos({}), []);
  assert.deepEqual(bos({ post_processor: template }), [258]);
  assert.deepEqual(bos({ post_processor: { type: 'Sequence', processors: [{ type: 'ByteLevel' }, template] } }), [258]);
  assert.deepEqual(bos({}, { bos_token: '<|end|>', add_bos_token: true }), [258]);
  assert.deepEqual(bos({}, { bos_token: '<|end|>', add_bos_token: false }), []);
  assert.deepEqual(bos({}, { bos_token: null, add_bos_token: true }), []);
});
