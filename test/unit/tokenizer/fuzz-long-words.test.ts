// A megabyte without a blank: the work grows with the length and not with its square. Work is counted, not timed: pairs
// looked up in the merge table, and those found, each of which is one key through the heap of a long word.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ByteLevelEncoder } from '../../../services/tokenizer/byte-level-encoder.ts';
import { byteLevelModel } from '../../../services/tokenizer/byte-level-model.ts';
import { IdBuffer } from '../../../services/tokenizer/id-buffer.ts';
import { MARK_RUN_UNITS_MAX } from '../../../services/tokenizer/limits.ts';
import { MergeTable, NO_MERGE } from '../../../services/tokenizer/merge-table.ts';
import { type ModelFiles, readModelFiles } from '../../../services/tokenizer/model-files.ts';
import { checkTexts, longestMarkRun } from '../../../services/tokenizer/text-limits.ts';
import { TextTokenizer } from '../../../services/tokenizer/tokenizer.ts';
import { modelIds } from '../../../services/tokenizer/vocabulary.ts';
import { createRandom, mixedSource } from './support/corpus.ts';
import { byteLevelTokenizer, modelFiles, PRETOKENIZERS, trainMerges } from './support/vocabularies.ts';

const MIB = 2 ** 20;
/** A hang check only: each of these texts takes well under a second of a processor's time, which no other load changes. */
const HANG_MS = 5_000;

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

const merges = trainMerges(mixedSource(60_000), 700);
const ADDED = [{ content: '<|im_start|>' }, { content: '<|im_end|>' }, { content: '<|eot_id|>' }];

/** Vocabularies with hand-written splitters, with the library's patterns, and with normalization. */
const VOCABULARIES: { name: string; load: () => Promise<ModelFiles> | ModelFiles }[] = [
  { name: 'quern-mini', load: () => readModelFiles(join(import.meta.dirname, '../../../models/quern-mini')) },
  ...['llama3', 'deepseek-v3'].map((name) => ({
    name,
    load: () => {
      const preTokenizer = PRETOKENIZERS[name]!;
      return modelFiles(byteLevelTokenizer({ merges, preTokenizer, added: ADDED, ignoreMerges: name === 'llama3' }));
    },
  })),
];

function randomOf(items: string, seed: number): (bytes: number) => string {
  const all = [...items];
  return (bytes) => {
    const random = createRandom(seed);
    const size = Buffer.byteLength(items) / all.length;
    return Array.from({ length: Math.floor(bytes / size) }, () => all[Math.floor(random() * all.length)]).join('');
  };
}

const repeated =
  (text: string) =>
  (bytes: number): string =>
    text.repeat(Math.floor(bytes / Buffer.byteLength(text)));

/** About `bytes` of UTF-8 each, without a blank. */
const TEXTS: Record<string, (bytes: number) => string> = {
  letters: randomOf('abcdefghijklmnopqrstuvwxyz', 1),
  'camel case': randomOf('getSetValueOfIndexAtEnd', 2),
  punctuation: randomOf('(){}[];:,.<>=+-*/&|!?', 3),
  digits: randomOf('0123456789', 4),
  emoji: randomOf('😀🎉👍🏽🚀❤', 5),
  'one letter': repeated('a'),
  'one sign': repeated('='),
  'one emoji': repeated('😀'),
  'letters and digits': repeated('a1'),
  'Chinese characters': repeated('漢字'),
};

/** Texts of which only the time counts. */
const TIMED: Record<string, (bytes: number) => string> = {
  ...TEXTS,
  'blanks only': repeated(' '),
  'line ends': repeated('\r\n'),
  apostrophes: repeated("'"),
  'half a literal': repeated('<|im_start'),
  'opening signs': repeated('<|'),
  literals: repeated('<|im_end|>'),
  'lone surrogates': repeated('\ud83d'),
  'letters that normalize': repeated('A\u030a'),
  'marks in the wrong order': (bytes) => repeated(`e${'\u0301\u0316'.repeat(MARK_RUN_UNITS_MAX / 2)}`)(bytes),
};

class CountingTable extends MergeTable {
  lookups = 0;
  found = 0;

  override rank(left: number, right: number): number {
    const rank = super.rank(left, right);
    this.lookups += 1;
    if (rank !== NO_MERGE) this.found += 1;
    return rank;
  }
}

/** The encoder of a model over a table that counts. */
function countingEncoder(files: ModelFiles): { encoder: ByteLevelEncoder; table: CountingTable } {
  const idOf = modelIds(files.tokenizer);
  const model = byteLevelModel(files, 'byte-level', idOf);
  assert(model !== null);
  const table = new CountingTable(
    files.tokenizer.model.merges!.map((merge) => {
      const [left, right] = merge as [string, string];
      return { left: idOf.get(left)!, right: idOf.get(right)!, product: idOf.get(left + right)! };
    }),
  );
  return { encoder: new ByteLevelEncoder({ ...model, merges: table }), table };
}

for (const { name, load } of VOCABULARIES) {
  describe(`without a blank: ${name}`, async () => {
    const files = await load();

    for (const [what, make] of Object.entries(TEXTS)) {
      test(`${what}: twice the text is at most twice the work`, () => {
        const work = [1, 2, 4].map((times) => {
          const text = make((times * MIB) / 64);
          const { encoder, table } = countingEncoder(files);
          encoder.encode(text, new IdBuffer());
          const bytes = Buffer.byteLength(text);
          // n - 1 pairs at first, two more for each of at most n - 1 merges; a word of the cache is merged once.
          assert(table.lookups <= 3 * bytes, `${table.lookups} look-ups for ${bytes} bytes`);
          assert(table.found <= table.lookups);
          return table;
        });
        for (const [smaller, larger] of [
          [work[0]!, work[1]!],
          [work[1]!, work[2]!],
        ] as const) {
          for (const count of ['lookups', 'found'] as const) {
            const least = 4096; // below it the words that the cache learns are most of the work
            const growth = larger[count] / Math.max(least, smaller[count]);
            assert(growth < 2.1, `${count}: ${smaller[count]}, then ${larger[count]} for twice the text`);
          }
        }
      });
    }

    test('1 MB of each kind of text is encoded', () => {
      const tokenizer = new TextTokenizer(files);
      for (const [what, make] of Object.entries(TIMED)) {
        const text = make(MIB);
        checkTexts([text], { field: 'text', maxBytes: 4 * MIB, isByteLevel: true });
        const startedAt = cpuMs();
        const ids = tokenizer.encode(text, 'all');
        const took = cpuMs() - startedAt;
        assert(ids.length > 0);
        assert(took < HANG_MS, `${what}: ${Math.round(took)} ms`);
      }
    });
  });
}

test('a longer run of combining marks is refused: its normalization would take the square of its length', () => {
  const options = { field: 'text', maxBytes: 4 * MIB, isByteLevel: true };
  const marks = (count: number): string => `e${'\u0301\u0316'.repeat(count / 2)} e${'\u0301'.repeat(10)}`;
  assert.equal(checkTexts([marks(MARK_RUN_UNITS_MAX)], options), 2 * MARK_RUN_UNITS_MAX + 23);
  assert.throws(
    () => checkTexts([marks(MARK_RUN_UNITS_MAX + 2)], options),
    /^QuernError: text: expected at most 512 combining marks in a row, got 514; send text$/,
  );
  const startedAt = cpuMs();
  assert.throws(() => checkTexts([marks(MIB)], options), { code: 'INVALID_ARGUMENT' });
  assert(cpuMs() - startedAt < HANG_MS);
  // Also above the basic plane, where a mark is two units, and broken by half a pair.
  assert.equal(longestMarkRun('x\u{1d165}\u{1d166}\u{1d167}y\u0301'), 6);
  assert.equal(longestMarkRun('\u0301\ud834\u0301\u0301\ud834'), 2);
  assert.equal(longestMarkRun('abc'), 0);
  assert.equal(longestMarkRun('日本語 한국어'), 0);
});
