// The full amount of text, 1 MB of source and 20,000 strings made to break tokenizers, on vocabularies of real size with
// two patterns: that of the bundled model (Qwen's, NFC) and Llama 3's (digits by threes, whole words before merges).
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { type ModelFiles, readModelFiles, type TokenizerJson } from '../../../services/tokenizer/model-files.ts';
import { TextTokenizer } from '../../../services/tokenizer/tokenizer.ts';
import { fuzzStrings, mixedSource } from './support/corpus.ts';
import { libraryOracle, plainLibraryOracle } from './support/oracles.ts';
import { assertIds } from './support/same-ids.ts';
import { byteLevelTokenizer, modelFiles, PRETOKENIZERS, trainMerges } from './support/vocabularies.ts';

const MINI = join(import.meta.dirname, '../../../models/quern-mini');
const SOURCE_UNITS = 1_000_000;
const MERGES = 4000;
/** One merge in so many is taken out of the Llama 3 vocabulary: its word is then made only as a whole. */
const WHOLE_WORD_EVERY = 9;

const LLAMA3_ADDED = [
  '<|begin_of_text|>',
  '<|end_of_text|>',
  '<|start_header_id|>',
  '<|end_header_id|>',
  '<|eot_id|>',
  '<|python_tag|>',
].map((content) => ({ content }));

/** Literals of both vocabularies' added tokens among the fuzz: whole, cut, side by side. */
const LOOKALIKES = [
  '<|eot_id|>',
  '<|eot_id',
  'eot_id|>',
  '<|begin_of_text|>x',
  '<|im_end|><|eot_id|>',
  '<|fim_middle|> ',
];

function llama3Tokenizer(): TokenizerJson {
  const merges = trainMerges(mixedSource(250_000), MERGES);
  assert.equal(merges.length, MERGES);
  const json = byteLevelTokenizer({
    merges,
    preTokenizer: PRETOKENIZERS.llama3!,
    added: LLAMA3_ADDED,
    ignoreMerges: true,
  });
  const left = json.model.merges!.filter((_, rank) => rank % WHOLE_WORD_EVERY !== WHOLE_WORD_EVERY - 1);
  return { ...json, model: { ...json.model, merges: left } };
}

function fuzz(seed: number): string[] {
  return fuzzStrings(20_000, seed).map((text, i) => (i % 10 === 0 ? text + LOOKALIKES[(i / 10) % 6] + text : text));
}

const VOCABULARIES: { name: string; seed: number; load: () => Promise<ModelFiles> | ModelFiles }[] = [
  { name: 'quern-mini', seed: 51, load: () => readModelFiles(MINI) },
  { name: "Llama 3's pattern", seed: 52, load: () => modelFiles(llama3Tokenizer()) },
];

for (const { name, seed, load } of VOCABULARIES) {
  describe(`ids equal the library's: ${name}`, () => {
    let files: ModelFiles;
    let ours: TextTokenizer;

    before(async () => {
      files = await load();
      ours = new TextTokenizer(files);
      assert.equal(ours.isByteLevel, true);
    });

    test('1 MB of mixed source', () => {
      const text = mixedSource(SOURCE_UNITS);
      const ids = ours.encode(text, 'none');
      assertIds(ids, plainLibraryOracle(files.tokenizer).encode(text), text);
      const normalized = files.tokenizer.normalizer === null ? text : text.normalize('NFC');
      assert(ours.decode([...ids], { skipSpecial: false }) === normalized, 'decoding does not give the text back');
    });

    test(`20,000 fuzz strings, seed ${seed}, trusted and not`, () => {
      const trusted = libraryOracle(files.tokenizer);
      const plain = plainLibraryOracle(files.tokenizer);
      const added = new Set(files.tokenizer.added_tokens.map(({ id }) => id));
      let special = 0;
      for (const text of fuzz(seed)) {
        const ids = ours.encode(text, 'all');
        assertIds(ids, trusted.encode(text), text);
        special += ids.some((id) => added.has(id)) ? 1 : 0;
        assertIds(ours.encode(text, 'none'), plain.encode(text), text);
      }
      assert(special > 500, `only ${special} strings hold an added token`);
    });
  });
}
