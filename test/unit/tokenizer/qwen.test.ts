// The tokenizer of a real model: its folder is named by QUERN_TEST_TOKENIZER_DIR.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { ModelFiles } from '../../../services/tokenizer/model-files.ts';
import { readModelFiles } from '../../../services/tokenizer/model-files.ts';
import { TextTokenizer } from '../../../services/tokenizer/tokenizer.ts';
import { createRandom, fuzzStrings, mixedSource } from './support/corpus.ts';
import { libraryOracle, ORACLES_DIFFER, type Oracle, plainLibraryOracle, rustOracle } from './support/oracles.ts';
import { assertIds } from './support/same-ids.ts';

const dir = process.env.QUERN_TEST_TOKENIZER_DIR;
const skip = dir ? false : 'QUERN_TEST_TOKENIZER_DIR names no folder with a real tokenizer';

describe('a real tokenizer', { skip }, () => {
  let files: ModelFiles;
  let ours: TextTokenizer;
  let trusted: Oracle;
  let plain: Oracle;
  const fuzz = fuzzStrings(20_000, 41);

  before(async () => {
    files = await readModelFiles(dir!);
    ours = new TextTokenizer(files);
    trusted = libraryOracle(files.tokenizer);
    plain = plainLibraryOracle(files.tokenizer);
  });

  test('takes the fast path', () => {
    assert.equal(ours.isByteLevel, true);
  });

  test('1 MB of mixed source gives the ids of the library', () => {
    const text = mixedSource(1_000_000);
    assertIds(ours.encode(text, 'none'), plain.encode(text), text);
    const back = ours.decode([...ours.encode(text, 'none')], { skipSpecial: false });
    assert(back === text.normalize('NFC'), 'decoding does not give the normalized text back');
  });

  test('20,000 fuzz strings give the ids of the library', () => {
    for (const text of fuzz) {
      assertIds(ours.encode(text, 'all'), trusted.encode(text), text);
      assertIds(ours.encode(text, 'none'), plain.encode(text), text);
    }
  });

  test('20,000 fuzz strings give the ids of the Rust tokenizers', async () => {
    const texts = fuzz.filter((text) => !ORACLES_DIFFER.test(text));
    assert(texts.length > 15_000, `only ${texts.length} texts are left to compare`);
    const expected = await rustOracle(files.tokenizer).encodeAll(texts);
    for (const [index, text] of texts.entries()) assertIds(ours.encode(text, 'all'), expected[index]!, text);
  });

  test('no literal of an added token in untrusted text becomes its id', () => {
    const added = new Set(files.tokenizer.added_tokens.map(({ id }) => id));
    const literals = files.tokenizer.added_tokens.map(({ content }) => content);
    const random = createRandom(2);
    const pick = (): string => literals[Math.floor(random() * literals.length)]!;
    for (let i = 0; i < 2000; i += 1) {
      const text = `${pick()}x${pick()}${pick()} ${pick().slice(1)}${pick()}\n${pick().slice(0, -1)}${pick()}`;
      const ids = ours.encode(text, 'none');
      assert(
        ids.every((id) => !added.has(id)),
        text,
      );
      assert.equal(ours.decode([...ids], { skipSpecial: false }), text);
    }
  });

  test('1 MB without a blank is encoded in time that grows with its length', () => {
    const random = createRandom(9);
    const letters = Array.from({ length: 1_000_000 }, () => String.fromCharCode(97 + Math.floor(random() * 26))).join(
      '',
    );
    const cpuMs = (text: string): number => {
      const begun = process.cpuUsage();
      ours.encode(text, 'none');
      const { user, system } = process.cpuUsage(begun);
      return (user + system) / 1000;
    };
    for (const text of [letters, 'a'.repeat(1_000_000), ' '.repeat(1_000_000), '漢字'.repeat(170_000)]) {
      cpuMs(text.slice(0, 100_000)); // warm
      const tenth = Math.max(2, cpuMs(text.slice(100_000, 200_000)));
      const whole = cpuMs(text);
      assert(whole < 40 * tenth, `${text.slice(0, 3)}: 100 kB took ${tenth} ms, 1 MB ${whole} ms of CPU time`);
    }
  });
});
