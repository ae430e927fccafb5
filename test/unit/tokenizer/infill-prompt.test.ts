import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { FIM_FAMILIES, FIM_LITERALS } from '../../../services/tokenizer/fim-families.ts';
import type { InfillInput } from '../../../services/tokenizer/infill-prompt.ts';
import { type LoadedModel, loadModel } from '../../../services/tokenizer/loaded-model.ts';
import { type ModelFiles, readModelFiles } from '../../../services/tokenizer/model-files.ts';
import { bytesOfId } from '../../../services/tokenizer/vocabulary.ts';
import { mixedSource } from './support/corpus.ts';
import { assertIds } from './support/same-ids.ts';
import {
  byteLevelTokenizer,
  modelFiles,
  PRETOKENIZERS,
  sentencePieceTokenizer,
  trainMerges,
} from './support/vocabularies.ts';

const source = mixedSource(40_000);
const merges = trainMerges(source, 300);

function byteLevelModel(added: readonly string[], files: Partial<ModelFiles> = {}): LoadedModel {
  const json = byteLevelTokenizer({
    merges,
    preTokenizer: PRETOKENIZERS.qwen2!,
    added: added.map((content) => ({ content })),
  });
  return loadModel('m', modelFiles(json, files));
}

const QWEN = [
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  '<|fim_prefix|>',
  '<|fim_middle|>',
  '<|fim_suffix|>',
  '<|fim_pad|>',
  '<|repo_name|>',
  '<|file_sep|>',
];
const qwen = byteLevelModel(QWEN);

const input = (over: Partial<InfillInput> = {}): InfillInput => ({
  prefix: 'def f(a):\n    ret',
  suffix: '\n\nprint(f(1))\n',
  path: '',
  repository: '',
  chunks: [],
  maxPromptTokens: null,
  ...over,
});

/** The prompt with control tokens as their literals and text as it reads. */
function shown(model: LoadedModel, over: Partial<InfillInput> = {}): string {
  const { vocabulary } = model.tokenizer;
  const { ids } = model.infill!.render(input(over));
  return Buffer.concat([...ids].map((id) => bytesOfId(vocabulary, id))).toString();
}

const FILES = {
  path: 'src/main.py',
  repository: 'demo',
  chunks: [
    { path: 'a.py', text: 'A = 1\n' },
    { path: 'b.py', text: 'B = 2' },
  ],
};

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

const LINES = Array.from({ length: 1000 }, (_, i) => `line ${i} = call(${i * 7});\n`);

/** First line of the prefix window of a prompt. */
function firstLine(prefix: string, maxPromptTokens: number, suffix = 'end\n'): number {
  const text = shown(qwen, { prefix, suffix, maxPromptTokens });
  return Number(/<\|fim_prefix\|>line (\d+)/.exec(text)![1]);
}

test('over budget the prefix starts on a grid of 64 lines that typing does not move', () => {
  const starts = new Set<number>();
  let moved = 0;
  let last = -1;
  for (let line = 600; line < 760; line += 1) {
    const start = firstLine(`${LINES.slice(0, line).join('')}    x.y`, 2000);
    assert.equal(start % 64, 0);
    starts.add(start);
    if (start !== last && last >= 0) moved += 1;
    last = start;
  }
  assert(moved <= 3 && starts.size === moved + 1, `the window moved ${moved} times in 160 lines`);
});

test('typing changes no earlier token of the prompt', () => {
  const head = LINES.slice(0, 40).join('');
  const typed = '    const total = rows.map((row) => row.price).sum();';
  let before: number[] = [];
  const headIds = qwen.tokenizer.encode(head, 'none').length;
  for (let end = 0; end <= typed.length; end += 1) {
    const ids = [...qwen.infill!.render(input({ prefix: head + typed.slice(0, end), ...FILES })).ids];
    const at = ids.indexOf(qwen.tokenizer.vocabulary.idOf.get('<|fim_prefix|>')!) + headIds;
    if (before.length > 0) assert.deepEqual(ids.slice(0, at), before.slice(0, at));
    before = ids;
  }
});

test('the budget is kept: chunks go first, then prefix and suffix at 3:1, and what went is told', () => {
  const prefix = LINES.slice(0, 500).join('');
  const suffix = LINES.slice(500).join('');
  const chunks = Array.from({ length: 10 }, (_, i) => ({ path: `c${i}.ts`, text: LINES.slice(i, i + 12).join('') }));
  const whole = qwen.infill!.render(input({ prefix, suffix, chunks }));
  assert.deepEqual([whole.droppedChunks, whole.droppedPrefixTokens, whole.droppedSuffixTokens], [0, 0, 0]);
  for (const max of [whole.ids.length, whole.ids.length - 1, whole.ids.length - 500, 9000, 5000, 2000, 600, 200, 90]) {
    const prompt = qwen.infill!.render(input({ prefix, suffix, chunks, maxPromptTokens: max }));
    assert(prompt.ids.length <= max, `${prompt.ids.length} > ${max}`);
    if (prompt.droppedPrefixTokens + prompt.droppedSuffixTokens > 0) assert.equal(prompt.droppedChunks, 10);
    if (max === whole.ids.length) assert.equal(prompt.droppedChunks, 0);
    if (max < 5000) assert(prompt.droppedPrefixTokens > 0 && prompt.droppedSuffixTokens > 0);
    const cut = prompt.ids.indexOf(qwen.tokenizer.vocabulary.idOf.get('<|fim_suffix|>')!);
    if (max === 2000) assert(prompt.ids.length - cut < 0.3 * max, 'the suffix has a quarter');
  }
  const some = qwen.infill!.render(input({ prefix, suffix, chunks, maxPromptTokens: whole.ids.length - 500 }));
  assert(some.droppedChunks > 0 && some.droppedChunks < 10);
  const text = shown(qwen, { prefix, suffix, chunks, maxPromptTokens: whole.ids.length - 500 });
  assert(!text.includes('c0.ts') && text.includes('c9.ts'), 'the oldest chunks go first');
});

test('declarations are dropped when nothing else is left to drop, and stand where they stood', () => {
  const chunks = ['d0', 'd1', 'r0', 'r1', 'r2'].map((name, i) => ({
    path: `${name}.ts`,
    text: LINES.slice(80 * i, 80 * i + 80).join(''),
    ...(name.startsWith('d') && { kind: ChunkKind.CHUNK_KIND_DECLARATION }),
  }));
  const around = { prefix: 'x', suffix: 'y', chunks };
  const whole = qwen.infill!.render(input(around)).ids.length;
  const keptOf = (max: number): string => {
    const text = shown(qwen, { ...around, maxPromptTokens: max });
    return (text.match(/[dr]\d(?=\.ts)/g) ?? []).join(' ');
  };
  const seen = new Set<string>();
  for (let max = whole; max > 64; max -= 20) seen.add(keptOf(max));
  assert.deepEqual([...seen], ['d0 d1 r0 r1 r2', 'd0 d1 r1 r2', 'd0 d1 r2', 'd0 d1', 'd1', '']);
});

test('what prefix or suffix does not need the other gets', () => {
  const long = LINES.join('');
  const prompt = qwen.infill!.render(input({ prefix: 'x', suffix: long, maxPromptTokens: 1000 }));
  assert.equal(prompt.droppedPrefixTokens, 0);
  assert.equal(prompt.ids.length, 1000);
  const other = qwen.infill!.render(input({ prefix: 'y '.repeat(5000), suffix: 'x', maxPromptTokens: 1000 }));
  assert.equal(other.droppedSuffixTokens, 0);
  assert(other.ids.length > 750 && other.ids.length <= 1000, 'one line without a grid is cut by tokens, in steps');
});

const spm = byteLevelModel(QWEN, { quern: { fim_family: 'qwen2.5-coder-spm', infill_prompt_tokens: 448 } });

/** How often something before the end of the longest common beginning changed, over prompts that typing makes. */
function changes(prompts: readonly Uint32Array[]): number {
  // The line that is typed may be tokenized anew with each key; a code line of the test is no longer than this.
  const line = 40;
  return prompts.filter((ids, i) => {
    const before = prompts[i - 1];
    return before !== undefined && !before.slice(0, -line).every((id, at) => ids[at] === id);
  }).length;
}

test('a small window has a small grid: typing moves it once in some lines, and most of the budget is used', () => {
  const suffix = LINES.slice(0, 60).join('');
  const typed = LINES.slice(300, 332).join('');
  const prompts: Uint32Array[] = [];
  for (let end = 0; end < typed.length; end += 7) {
    const prefix = LINES.slice(0, 300).join('') + typed.slice(0, end);
    prompts.push(spm.infill!.render(input({ prefix, suffix, maxPromptTokens: 448 })).ids);
  }
  const moved = changes(prompts);
  assert(prompts.length > 80 && moved >= 1 && moved <= 8, `it moved ${moved} times in 32 lines`);
  for (const { length } of prompts) assert(length <= 448 && length > 0.7 * 448, `${length} tokens`);
});

test('with the suffix first a short prefix leaves it what it needs in steps', () => {
  const suffix = LINES.slice(0, 200).join('');
  const typed = LINES.slice(300, 320).join('');
  const prompts: Uint32Array[] = [];
  for (let end = 0; end < typed.length; end += 3)
    prompts.push(spm.infill!.render(input({ prefix: typed.slice(0, end), suffix, maxPromptTokens: 448 })).ids);
  const moved = changes(prompts);
  assert(moved >= 3 && moved <= 8, `the suffix moved ${moved} times while the prefix grew to its share`);
  assert(prompts.every(({ length }) => length <= 448));
});

test('a line that is longer than the window is cut in steps too', () => {
  const prompts: Uint32Array[] = [];
  for (let words = 600; words < 700; words += 1)
    prompts.push(spm.infill!.render(input({ prefix: 'y '.repeat(words), suffix: 'x', maxPromptTokens: 200 })).ids);
  const moved = changes(prompts);
  assert(moved >= 1 && moved <= 5, `it moved ${moved} times`);
});

test('what quern.json advises is told of a model that can fill in, and must be a number of tokens', () => {
  assert.equal(spm.infillPromptTokens, 448);
  assert.equal(qwen.infillPromptTokens, null);
  for (const given of [63, 1.5, '448', -1, 1 << 21, {}])
    assert.throws(() => byteLevelModel(QWEN, { quern: { infill_prompt_tokens: given } }), {
      code: 'FAILED_PRECONDITION',
      message: /quern\.json: expected infill_prompt_tokens to be a whole number from 64 to 1048576, got .*; correct it/,
    });
  assert.equal(byteLevelModel(QWEN, { quern: { infill_prompt_tokens: null } }).infillPromptTokens, null);
});

test('a cut inside a line begins with a whole character', () => {
  const text = shown(qwen, { prefix: '漢字仮名'.repeat(500), suffix: 'x', maxPromptTokens: 101 });
  assert(!text.includes('\ufffd'), text.slice(0, 40));
});

test('a budget without room for any text is refused with the numbers', () => {
  assert.throws(() => qwen.infill!.render(input({ maxPromptTokens: 10 })), {
    code: 'INVALID_ARGUMENT',
    message: "max_prompt_tokens: expected room for the format's own 3 tokens and 16 of text, got 10; raise it",
  });
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
