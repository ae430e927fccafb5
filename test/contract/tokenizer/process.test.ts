// The tokenizer as a process of its own: it starts, says where, answers and ends on SIGTERM.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { TokenizerServiceClient } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { byteLevelTokenizer, PRETOKENIZERS } from '../../unit/tokenizer/support/vocabularies.ts';

const main = resolve(import.meta.dirname, '../../../services/tokenizer/main.ts');

function start(t: TestContext, env: NodeJS.ProcessEnv): ChildProcess {
  const { PATH, HOME } = process.env;
  const child = fork(main, [], { env: { PATH, HOME, ...env }, silent: true });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

test('it reports ready with its address, serves, and ends with 0 on SIGTERM', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-tokenizer-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const json = byteLevelTokenizer({ merges: [['a', 'b']], preTokenizer: PRETOKENIZERS.gpt2! });
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(json));
  const child = start(t, { QUERN_TOKENIZER_MODELS: `m=${dir}`, QUERN_TOKENIZER_LISTEN: `unix://${dir}/t.sock` });
  const ready = await new Promise<{ type: string; addresses?: string[]; models?: string[] }>((resolve) => {
    // Not `once` in a loop: two messages that arrive together are both told before the loop goes on.
    child.on('message', (message: { type: string }) => message.type === 'ready' && resolve(message));
  });
  assert.deepEqual(ready.models, ['m']);
  const client = openChannel(TokenizerServiceClient, { address: ready.addresses![0]! });
  t.after(() => client.close());
  const { tokenIds } = await unary(client, 'encode', { model: '', text: 'ab', parseSpecial: 0, addBos: false });
  assert.deepEqual(tokenIds, [256]);
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
});

test('a mistake in the settings is one sentence and exit code 1', async (t) => {
  const child = start(t, { QUERN_TOKENIZER_MODELS: 'm=/nowhere', QUERN_TOKENIZER_LISTEN: 'unix:///nowhere/t.sock' });
  let message = '';
  child.stderr!.on('data', (data) => {
    message += data;
  });
  const [code] = await once(child, 'close'); // not `exit`: its last words may still be in the pipe
  assert.equal(code, 1);
  assert.equal(
    message,
    'tokenizer: model "m": expected a model folder at /nowhere, but there is none; correct the path\n',
  );
});
