import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readModelFiles } from '../../../services/tokenizer/model-files.ts';

async function folder(t: TestContext, files: Record<string, string>): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-model-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'tokenizer'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  return dir;
}

const TOKENIZER = JSON.stringify({ model: { type: 'BPE', vocab: { a: 0 }, merges: [] }, added_tokens: [] });

test('the folder is read, then its tokenizer/ subfolder for what it lacks', async (t) => {
  const dir = await folder(t, {
    'tokenizer/tokenizer.json': TOKENIZER,
    'tokenizer/tokenizer_config.json': '{"eos_token": "x"}',
    'tokenizer/chat_template.jinja': 'inner',
    'config.json': '{"vocab_size": 5}',
    'chat_template.jinja': 'outer',
    'quern.json': '{"fim_family": "none"}',
  });
  const files = await readModelFiles(dir);
  assert.deepEqual(files.tokenizer.model.vocab, { a: 0 });
  assert.equal(files.tokenizerConfig.eos_token, 'x');
  assert.equal(files.modelConfig.vocab_size, 5);
  assert.equal(files.chatTemplate, 'outer');
  assert.equal(files.quern.fim_family, 'none');
  assert.deepEqual(files.generationConfig, {});
});

test('quern.json may name another chat template beside it', async (t) => {
  const files = { 'tokenizer.json': TOKENIZER, 'chat_template.jinja': 'a', 'other.jinja': 'b' };
  const dir = await folder(t, { ...files, 'quern.json': '{"chat_template": "other.jinja"}' });
  assert.equal((await readModelFiles(dir)).chatTemplate, 'b');
  const outside = await folder(t, { ...files, 'quern.json': '{"chat_template": "../other.jinja"}' });
  await assert.rejects(readModelFiles(outside), /expected chat_template to be the name of a file beside it/);
});

const REFUSED: [string, Record<string, string>, RegExp][] = [
  ['no tokenizer.json', {}, /^expected tokenizer\.json in .* or its tokenizer\/ folder, but there is none; save/],
  [
    'broken JSON',
    { 'tokenizer.json': '{"model": ' },
    /tokenizer\.json: expected JSON, got text that does not parse \(.*\); get the file again$/,
  ],
  ['a list', { 'tokenizer.json': '[]' }, /tokenizer\.json: expected a JSON object, got a list; get the file again$/],
  ['no model', { 'tokenizer.json': '{}' }, /tokenizer\.json: expected "model" with "vocab", got none; save it/],
  [
    'wrong added tokens',
    { 'tokenizer.json': '{"model": {"vocab": {}}, "added_tokens": [{"id": 1}]}' },
    /expected "added_tokens" to be a list of \{id, content\}/,
  ],
  [
    'broken tokenizer_config.json',
    { 'tokenizer.json': TOKENIZER, 'tokenizer_config.json': 'x' },
    /tokenizer_config\.json: expected JSON/,
  ],
];

for (const [name, files, expected] of REFUSED) {
  test(`one sentence for ${name}`, async (t) => {
    const dir = await folder(t, files);
    await assert.rejects(
      readModelFiles(dir),
      (error: { code: string; message: string; details: { reason: string } }) => {
        assert.equal(error.code, 'FAILED_PRECONDITION');
        assert.equal(error.details.reason, 'MODEL_LOAD_FAILED');
        assert.match(error.message, expected);
        return true;
      },
    );
  });
}

test('one sentence for a folder that is none', async (t) => {
  const dir = await folder(t, { file: '' });
  await assert.rejects(
    readModelFiles(join(dir, 'nowhere')),
    /^QuernError: expected a model folder at .*nowhere, but there is none; correct the path$/,
  );
  await assert.rejects(readModelFiles(join(dir, 'file')), /but it is a file; name the folder that holds it$/);
});
