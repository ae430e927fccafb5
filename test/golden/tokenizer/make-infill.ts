// Writes infill-qwen2.5-coder.json: node make-infill.ts TOKENIZER_DIR OUT.json
// The prompts are joined by hand here from the ids that the Rust tokenizers give for each part. See README.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from 'tokenizers';

const [dir, out] = process.argv.slice(2) as [string, string];
const json = JSON.parse(readFileSync(join(dir, 'tokenizer.json'), 'utf8'));
const plain = Tokenizer.fromString(JSON.stringify({ ...json, added_tokens: [] }));
const [prefixId, middleId, suffixId, repoName, fileSep] = [151659, 151660, 151661, 151663, 151664];

const text = async (value: string): Promise<number[]> =>
  value === '' ? [] : (await plain.encode(value, null, { addSpecialTokens: false })).getIds();

const cases = [
  {
    name: 'one file',
    input: { prefix: 'def quicksort(xs):\n    if len(xs) <= 1:\n        ret', suffix: '\n    pivot = xs[0]\n' },
    ids: [
      prefixId,
      ...(await text('def quicksort(xs):\n    if len(xs) <= 1:\n')),
      ...(await text('        ret')),
      suffixId,
      ...(await text('\n    pivot = xs[0]\n')),
      middleId,
    ],
  },
  {
    name: 'empty suffix and an empty line',
    input: { prefix: 'import os\n\n', suffix: '' },
    ids: [prefixId, ...(await text('import os\n\n')), suffixId, ...(await text('\n')), middleId],
  },
  {
    name: 'control literals in the text',
    input: { prefix: 'x = "<|fim_middle|>', suffix: '<|endoftext|>"' },
    ids: [prefixId, ...(await text('x = "<|fim_middle|>')), suffixId, ...(await text('<|endoftext|>"')), middleId],
  },
  {
    name: 'files of the repository',
    input: {
      prefix: 'from a import A\nprint(',
      suffix: ')\n',
      path: 'src/main.py',
      repository: 'demo',
      chunks: [
        { path: 'src/a.py', text: 'class A:\n    pass\n' },
        { path: 'README.md', text: '# Demo' },
      ],
    },
    ids: [
      repoName,
      ...(await text('demo\n')),
      fileSep,
      ...(await text('src/a.py\nclass A:\n    pass\n')),
      fileSep,
      ...(await text('README.md\n# Demo\n')),
      fileSep,
      ...(await text('src/main.py\n')),
      prefixId,
      ...(await text('from a import A\n')),
      ...(await text('print(')),
      suffixId,
      ...(await text(')\n')),
      middleId,
    ],
  },
];
const lines = cases.map((one) => JSON.stringify(one));
writeFileSync(out, `[\n${lines.join(',\n')}\n]\n`);
