import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FIM_FAMILIES, FIM_LITERALS } from '../../../services/tokenizer/fim-families.ts';
import type { InfillInput } from '../../../services/tokenizer/infill-prompt.ts';
import { loadModel } from '../../../services/tokenizer/loaded-model.ts';
import { readModelFiles } from '../../../services/tokenizer/model-files.ts';
import { byteLevelModel, FILES, input, QWEN, qwen, shown, source } from './support/infill-models.ts';
import { assertIds } from './support/same-ids.ts';
import { modelFiles, sentencePieceTokenizer } from './support/vocabularies.ts';

/** [tokens a model of the family has, tokens of the file-level prompt, the same with two files in front] */
const SHAPES: Record<string, { added: string[]; file: string; files: string; config?: Record<string, unknown> }> = {
  'qwen2.5-coder': {
    added: QWEN,
    file: '<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>',
    files:
      '<|repo_name|>demo\n<|file_sep|>a.py\nA = 1\n<|file_sep|>b.py\nB = 2\n<|file_sep|>src/main.py\n' +
      '<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>',
  },
  starcoder2: {
    added: ['<|endoftext|>', '<fim_prefix>', '<fim_middle>', '<fim_suffix>', '<fim_pad>', '<repo_name>', '<file_sep>'],
    file: '<fim_prefix>P<fim_suffix>S<fim_middle>',
    files:
      '<repo_name>demo\n<file_sep>a.py\nA = 1\n<file_sep>b.py\nB = 2<file_sep>src/main.py\n<fim_prefix>P<fim_suffix>S<fim_middle>',
  },
  'granite-code': {
    added: ['<|endoftext|>', '<fim_prefix>', '<fim_middle>', '<fim_suffix>', '<fim_pad>', '<filename>', '<reponame>'],
    file: '<fim_prefix>P<fim_suffix>S<fim_middle>',
    files:
      '<reponame>demo<filename>a.py\nA = 1\n<filename>b.py\nB = 2\n<filename>src/main.py\n<fim_prefix>P<fim_suffix>S<fim_middle>',
  },
  granite: {
    added: ['<|end_of_text|>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>', '<|fim_pad|>'],
    file: '<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>',
    files: '# a.py\nA = 1\n# b.py\nB = 2\n# src/main.py\n<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>',
  },
  codegemma: {
    added: [
      '<bos>',
      '<eos>',
      '<|fim_prefix|>',
      '<|fim_middle|>',
      '<|fim_suffix|>',
      '<|file_separator|>',
      '<end_of_turn>',
    ],
    file: '<bos><|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>',
    files:
      '<bos>a.py\nA = 1\n<|file_separator|>b.py\nB = 2<|file_separator|>src/main.py\n<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>',
    config: { add_bos_token: true, bos_token: '<bos>' },
  },
  'deepseek-coder': {
    added: [
      '<｜begin▁of▁sentence｜>',
      '<｜end▁of▁sentence｜>',
      '<｜fim▁begin｜>',
      '<｜fim▁hole｜>',
      '<｜fim▁end｜>',
      '<|EOT|>',
    ],
    file: '<｜begin▁of▁sentence｜><｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>',
    files:
      '<｜begin▁of▁sentence｜><｜fim▁begin｜>#a.py\nA = 1\n#b.py\nB = 2\n#src/main.py\nP<｜fim▁hole｜>S<｜fim▁end｜>',
    config: { add_bos_token: true, bos_token: { content: '<｜begin▁of▁sentence｜>' } },
  },
  codestral: {
    added: ['<s>', '</s>', '[PREFIX]', '[MIDDLE]', '[SUFFIX]'],
    file: '<s>[SUFFIX]S[PREFIX]P',
    files: '<s>[SUFFIX]S[PREFIX]+++++ a.py\nA = 1\n\n+++++ b.py\nB = 2\n\n+++++ src/main.py\nP',
    config: { add_bos_token: true, bos_token: '<s>' },
  },
};

const filled = (shape: string): string =>
  shape.replaceAll('P', 'def f(a):\n    ret').replaceAll('S', '\n\nprint(f(1))\n');
// The shapes write P and S for the texts, and literals hold these letters too.
const fill = (shape: string): string =>
  shape
    .split(/(\[PREFIX\]|\[SUFFIX\])/)
    .map((part) => (part.startsWith('[') ? part : filled(part)))
    .join('');

for (const [name, { added, file, files, config }] of Object.entries(SHAPES)) {
  test(`${name}: chosen by its tokens, alone and with files of the repository`, () => {
    const model = byteLevelModel(added, { tokenizerConfig: config ?? {} });
    assert.equal(model.infill?.family.name, name);
    assert.equal(shown(model), fill(file));
    assert.equal(shown(model, FILES), fill(files));
    const ids = new Set(model.tokenizer.added.map(({ id }) => id));
    assert(model.infill.stopTokenIds.length > 1 && model.infill.stopTokenIds.every((id) => ids.has(id)));
  });
}

test('codellama: ids around text that is encoded without blanks of its own, and BOS once', () => {
  const added = ['▁<PRE>', '▁<MID>', '▁<SUF>', '▁<EOT>'];
  const model = loadModel('m', modelFiles(sentencePieceTokenizer(source.slice(0, 8000), 120, added)));
  assert.equal(model.infill?.family.name, 'codellama');
  assert.equal(shown(model), '<s>▁<PRE> def f(a):\n    ret▁<SUF>\n\nprint(f(1))\n▁<MID>');
  const eot = model.tokenizer.vocabulary.idOf.get('▁<EOT>');
  assert(model.infill.stopTokenIds.includes(eot!));
});

test('qwen2.5-coder-spm: only quern.json puts the suffix first, and typing keeps every id before the current line', () => {
  const model = byteLevelModel(QWEN, { quern: { fim_family: 'qwen2.5-coder-spm' } });
  const texts = { prefix: 'P', suffix: 'S' };
  assert.equal(shown(model, texts), '<|fim_prefix|><|fim_suffix|>S<|fim_middle|>P');
  assert.equal(
    shown(model, { ...FILES, ...texts }),
    '<|repo_name|>demo\n<|file_sep|>a.py\nA = 1\n<|file_sep|>b.py\nB = 2\n<|file_sep|>src/main.py\n' +
      '<|fim_prefix|><|fim_suffix|>S<|fim_middle|>P',
  );
  const line = (typed: string): Uint32Array => model.infill!.render(input({ prefix: `def f(a):\n${typed}` })).ids;
  const head = line('').length;
  for (const typed of ['    r', '    return', '    return a + 1']) {
    assert.deepEqual(line(typed).subarray(0, head), line(''), JSON.stringify(typed));
  }
});

test('qwen3-coder: only quern.json chooses the chat form', () => {
  const model = byteLevelModel(QWEN, { quern: { fim_family: 'qwen3-coder' } });
  assert.equal(
    shown(model),
    fill(
      '<|im_start|>system\nYou are a code completion assistant.<|im_end|>\n<|im_start|>user\n' +
        '<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|><|im_end|>\n<|im_start|>assistant\n',
    ),
  );
});

test('quern.json wins over the tokens, and what it names must exist', () => {
  assert.equal(byteLevelModel(QWEN, { quern: { fim_family: 'none' } }).infill, null);
  assert.equal(byteLevelModel(QWEN, { quern: { fim_family: 'granite' } }).infill?.family.name, 'granite');
  assert.throws(() => byteLevelModel(QWEN, { quern: { fim_family: 'starcoder2' } }), {
    code: 'FAILED_PRECONDITION',
    message: /fim_family starcoder2 needs <fim_prefix> .* as one token each, but the vocabulary lacks them; correct/,
  });
  assert.throws(() => byteLevelModel(QWEN, { quern: { fim_family: 'qwen' } }), {
    message: /expected fim_family to be none or one of qwen2.5-coder, .*, got "qwen"; correct it/,
  });
});

test('a model without the tokens of a family has no FIM, whatever its name', () => {
  assert.equal(byteLevelModel(['<|im_end|>', '<|fim_prefix|>', '<|fim_suffix|>']).infill, null);
});

test('ids of the parts, joined: no token spans a seam', () => {
  const { tokenizer, infill } = qwen;
  const id = (literal: string): number => tokenizer.vocabulary.idOf.get(literal)!;
  const prefix = 'x = 1\n\n    if a';
  const expected = [
    id('<|fim_prefix|>'),
    ...tokenizer.encode('x = 1\n\n', 'none'),
    ...tokenizer.encode('    if a', 'none'),
    id('<|fim_suffix|>'),
    ...tokenizer.encode('b\n', 'none'),
    id('<|fim_middle|>'),
  ];
  assertIds(infill!.render(input({ prefix, suffix: 'b\n' })).ids, expected, prefix);
});

test('control literals in what the caller sends stay text', () => {
  const poison = QWEN.join('');
  const text = {
    prefix: `${poison}\n${poison}`,
    suffix: poison,
    path: poison,
    repository: poison,
    chunks: [{ path: poison, text: poison }],
  };
  const ids = [...qwen.infill!.render(input(text)).ids];
  const added = new Map(qwen.tokenizer.added.map((token) => [token.id, token.content]));
  assert.deepEqual(
    ids.filter((id) => added.has(id)).map((id) => added.get(id)),
    ['<|repo_name|>', '<|file_sep|>', '<|file_sep|>', '<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>'],
  );
});

test('CRLF is read as LF, also with the cursor between the two', () => {
  const unix = qwen.infill!.render(input({ prefix: 'a\nb', suffix: '\nc\n', chunks: [{ path: 'p', text: 'x\ny\n' }] }));
  const dos = qwen.infill!.render(
    input({ prefix: 'a\r\nb\r', suffix: '\nc\r\n', chunks: [{ path: 'p', text: 'x\r\ny\r\n' }] }),
  );
  assertIds(dos.ids, unix.ids, 'CRLF');
});

test('an empty suffix is a newline, an empty prefix is nothing, names are one line', () => {
  assert.equal(shown(qwen, { suffix: '' }), '<|fim_prefix|>def f(a):\n    ret<|fim_suffix|>\n<|fim_middle|>');
  assert.equal(shown(qwen, { prefix: '', suffix: 'x' }), '<|fim_prefix|><|fim_suffix|>x<|fim_middle|>');
  const named = shown(qwen, { path: 'a\nb', chunks: [{ path: '', text: '' }], prefix: '', suffix: 'x' });
  assert.equal(
    named,
    '<|repo_name|>repository\n<|file_sep|>untitled\n\n<|file_sep|>a b\n<|fim_prefix|><|fim_suffix|>x<|fim_middle|>',
  );
});

test('every family names its tokens, and tokens of one family never choose two', () => {
  const names = FIM_FAMILIES.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const family of FIM_FAMILIES) {
    for (const literal of family.required) assert(FIM_LITERALS.has(literal) || family.onlyByName, literal);
  }
});

const dir = process.env.QUERN_TEST_TOKENIZER_DIR;
describe('a real tokenizer', {
  skip: dir ? false : 'QUERN_TEST_TOKENIZER_DIR names no folder with a real tokenizer',
}, () => {
  test('golden ids of Qwen2.5-Coder', async (t) => {
    const real = loadModel('real', await readModelFiles(dir!));
    const path = join(import.meta.dirname, '../../golden/tokenizer/infill-qwen2.5-coder.json');
    const golden = JSON.parse(readFileSync(path, 'utf8')) as {
      name: string;
      input: Partial<InfillInput>;
      ids: number[];
    }[];
    if (real.tokenizer.vocabulary.idOf.get('<|fim_suffix|>') !== 151661) {
      t.skip('QUERN_TEST_TOKENIZER_DIR holds another model than the golden file');
      return;
    }
    assert(golden.length >= 4);
    for (const one of golden) assertIds(real.infill!.render(input(one.input)).ids, one.ids, one.name);
  });
});
