import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { type ReadyEvent, textReporter } from '../../../services/cli/up/reporter.ts';

const READY: ReadyEvent = {
  event: 'ready',
  http: '127.0.0.1:8000',
  grpc: '127.0.0.1:50051',
  tls: false,
  seconds: 1.94,
  parts: [{ name: 'gateway', pid: 7, where: 'http://127.0.0.1:8000', what: 'quern-mini' }],
  models: ['quern-mini'],
  keys: null,
};

function said(event: ReadyEvent): string {
  const out = new PassThrough();
  textReporter(out as unknown as NodeJS.WriteStream)(event);
  return String(out.read());
}

test('without keys, the three commands can be copied as they are', () => {
  const text = said(READY);
  assert.match(text, /^Ready in 1\.9 s\. Ctrl-C drains and stops\. To try:$/m);
  assert.match(text, /^ {2}npx quern complete "def add\(a, b\):"$/m);
  assert.match(text, /^ {2}npx quern chat$/m);
  assert.match(
    text,
    /^ {2}curl -s http:\/\/127\.0\.0\.1:8000\/v1\/completions -H 'content-type: application\/json' -d '\{/m,
  );
  assert.doesNotMatch(text, /KEY|authorization/);
});

test('the table of a whole mesh fits a hundred columns', () => {
  const run = '/run/user/1000/quern-0123456789ab';
  const row = (name: string, where: string, what: string) => ({ name, pid: 1_234_567, where, what });
  const parts = [
    row('jaeger', 'http://127.0.0.1:16686, OTLP http://127.0.0.1:4318', 'traces, in memory'),
    row(
      'audit',
      `unix://${run}/audit.sock, metrics http://127.0.0.1:9155/metrics`,
      'ledger in /srv/somebody/.local/state/quern/audit',
    ),
    row(
      'engine',
      `unix://${run}/engine-0.sock, metrics http://127.0.0.1:9153/metrics`,
      'quern-mini on cpu avx2, bf16, context 2048',
    ),
    row('gateway', 'http://127.0.0.1:8000, 127.0.0.1:50051', 'quern-mini'),
    {
      ...row(
        'nats-server',
        '',
        'no nats-server on PATH or in the cache folders; "node scripts/get-nats.mjs" builds one (about a minute), then start again',
      ),
      pid: null,
    },
  ];
  const table = said({ ...READY, parts }).split('\nReady in')[0] ?? '';
  for (const line of table.split('\n')) assert.ok(line.length <= 100, `${line.length}: ${line}`);
  const shown = parts.flatMap(({ where }) => where.replaceAll(`unix://${run}/`, '').split(', '));
  for (const address of shown) assert.ok(table.includes(address), address);
  assert.match(table, /\nSockets lie in \/run\/user\/1000\/quern-0123456789ab\/\.\n/);
});

test('with keys, they say where the key comes from', () => {
  const text = said({ ...READY, keys: '/etc/quern/keys.json' });
  assert.match(text, /^ {2}npx quern keys create --file \/etc\/quern\/keys\.json --tenant T --user U$/m);
  assert.match(text, /^ {2}export QUERN_API_KEY=qk_\.\.\.$/m);
  assert.match(text, /curl .* -H "authorization: Bearer \$QUERN_API_KEY" /);
});

test('other addresses and several models are part of the commands', () => {
  const text = said({ ...READY, grpc: '127.0.0.1:7', models: ['a', 'b'] });
  assert.match(text, /npx quern chat --gateway 127\.0\.0\.1:7 --model a$/m);
});

test('with TLS, addresses begin with https://', () => {
  const text = said({ ...READY, tls: true });
  assert.match(text, /npx quern chat --gateway https:\/\/127\.0\.0\.1:50051$/m);
  assert.match(text, /curl -s https:\/\/127\.0\.0\.1:8000\//);
});

test('a part that ends again and again for one reason is told of once, until it was ready', () => {
  const out = new PassThrough();
  const report = textReporter(out as unknown as NodeJS.WriteStream);
  const exit = (reason: string) => report({ event: 'exited', name: 'tools', reason, restart_in_ms: 200 });
  exit('no');
  exit('no');
  exit('never');
  report({ event: 'part_ready', name: 'tools', seconds: 1 });
  exit('never');
  const lines = String(out.read()).trim().split('\n');
  assert.deepEqual(
    lines.map((line) => line.split(';')[0]),
    ['tools: no', 'tools: never', 'tools: ready in 1.0 s', 'tools: never'],
  );
});
