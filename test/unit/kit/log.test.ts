import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { createLog } from '#kit/log.ts';

function capture(level: 'info' | 'debug' = 'info') {
  const lines: Record<string, unknown>[] = [];
  const log = createLog({ service: 't', level, destination: { write: (line) => void lines.push(JSON.parse(line)) } });
  return { log, lines };
}

test('one JSON object per line with level, service, time and message', () => {
  const { log, lines } = capture();
  log.info({ n: 1 }, 'hello');
  log.debug({ n: 2 }, 'not shown');
  log.child({ part: 'x' }).warn('plain');
  assert.equal(lines.length, 2);
  const [first, second] = lines as [Record<string, unknown>, Record<string, unknown>];
  assert.deepEqual([first.level, first.service, first.n, first.msg], ['info', 't', 1, 'hello']);
  assert.ok(!Number.isNaN(Date.parse(String(first.time))));
  assert.deepEqual([second.level, second.part, second.msg], ['warn', 'x', 'plain']);
});

test('secrets are redacted at any depth, by whole names and by endings', () => {
  const { log, lines } = capture();
  const secrets = {
    authorization: 'S3',
    token: 'S3',
    key: 'S3',
    api_key: 'S3',
    apiKey: 'S3',
    sharedToken: 'S3',
    shared_token: 'S3',
    client_secret: 'S3',
    nested: { headers: { Authorization: 'Bearer S3' }, list: [{ password: 'S3' }] },
    map: new Map([['cookie', 'S3']]),
  };
  log.info(secrets, 'm');
  log.child({ token: 'S3' }).info('m');
  assert.doesNotMatch(JSON.stringify(lines), /S3/);
});

test('what counts tokens or names a key stays readable', () => {
  const { log, lines } = capture();
  log.info({ prompt_tokens: 5, max_tokens: 9, keyId: 'k1', key_id: 'k1', tokens_total: 3, token: 4 }, 'm');
  const [line] = lines as [Record<string, unknown>];
  assert.deepEqual(
    [line.prompt_tokens, line.max_tokens, line.keyId, line.key_id, line.tokens_total],
    [5, 9, 'k1', 'k1', 3],
  );
});

test('prompt text never reaches a line', () => {
  const { log, lines } = capture();
  log.info(
    { prompt: 'CODE', request: { suffix: 'CODE', messages: [{ content: 'CODE' }], raw: Buffer.from('CODE') } },
    'm',
  );
  assert.doesNotMatch(JSON.stringify(lines), /CODE/);
  assert.equal((lines[0] as { prompt: string }).prompt, '[4 chars]');
});

test('errors keep their stack and cause, bigints do not break a line', () => {
  const { log, lines } = capture();
  log.error({ err: new QuernError('INTERNAL', 'm', {}, { cause: new Error('inner') }), n: 2n ** 63n }, 'failed');
  const text = JSON.stringify(lines[0]);
  assert.match(text, /inner/);
  assert.match(text, /9223372036854775808/);
});
