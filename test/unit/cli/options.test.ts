/** Options and addresses that are wrong: what is said names the option, what was given and what is right. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Io } from '../../../services/cli/command.ts';
import { keys } from '../../../services/cli/commands/keys.ts';
import { up } from '../../../services/cli/commands/up.ts';
import { gatewayAddress } from '../../../services/cli/gateway-client.ts';
import { parseOptions } from '../../../services/cli/options.ts';
import { splitAddress } from '../../../services/cli/up/ports.ts';

const OPTIONS = { 'max-tokens': { type: 'string' }, quiet: { type: 'boolean' } } as const;
const KNOWN = '(known options: --max-tokens, --quiet)';

test('values and words behind each other', () => {
  const { values, positionals } = parseOptions(['--max-tokens=-4', 'a', '--quiet', 'b'], OPTIONS);
  assert.deepEqual([values['max-tokens'], values.quiet, positionals], ['-4', true, ['a', 'b']]);
});

test('an unknown option comes with the nearest one, or with what it is called here', () => {
  const said = (...args: string[]) => {
    parseOptions(args, OPTIONS, { '--n-predict': '--max-tokens', '-n': '--max-tokens' });
  };
  const refused = (args: string[], message: string): void =>
    assert.throws(() => said(...args), { code: 'INVALID_ARGUMENT', message });
  refused(['--max-token', '4'], `Unknown option '--max-token'; did you mean --max-tokens? ${KNOWN}`);
  refused(['--n-predict=4'], `Unknown option '--n-predict'; here it is --max-tokens ${KNOWN}`);
  refused(['-n', '4'], `Unknown option '-n'; here it is --max-tokens ${KNOWN}`);
  refused(['--toString'], `Unknown option '--toString' ${KNOWN}`);
});

test('a value that looks like an option is refused in one line, with how it is written', () => {
  assert.throws(() => parseOptions(['--max-tokens', '-4'], OPTIONS), {
    message: `--max-tokens: expected a value, got "-4"; one that begins with "-" is written --max-tokens=-4 ${KNOWN}`,
  });
  assert.throws(
    () => parseOptions(['--max-tokens'], OPTIONS),
    /^QuernError: Option '--max-tokens <value>' argument missing/,
  );
});

test('quern up says what options of other servers are here, and what npm does to options', async () => {
  const io = {} as Io;
  await assert.rejects(up.run(['--port', '8001'], io), /Unknown option '--port'; here it is --http HOST:PORT \(/);
  await assert.rejects(up.run(['--max-model-len', '8'], io), /'--max-model-len'; here it is --context-length \(/);
  await assert.rejects(
    up.run(['127.0.0.1:8001'], io),
    /^QuernError: quern up takes options only, got "127\.0\.0\.1:8001"; npm wants "--" before them: npm start -- --http HOST:PORT$/,
  );
});

test('an address to listen on: a port alone is told what it may have meant', () => {
  assert.deepEqual(splitAddress('[::1]:80', '--http'), { host: '::1', port: 80 });
  const refused = (address: string, message: string): void =>
    assert.throws(() => splitAddress(address, '--http'), { code: 'INVALID_ARGUMENT', message });
  refused('8001', '--http: expected HOST:PORT, got "8001"; did you mean 127.0.0.1:8001?');
  refused(':8001', '--http: expected HOST:PORT, got ":8001"; did you mean 127.0.0.1:8001?');
  refused('localhost', '--http: expected HOST:PORT, got "localhost"');
});

test('an address of a mesh that is none: the option or variable it came from is named', () => {
  const io = { config: { gateway: 'here' } } as Io;
  const expected = 'expected HOST:PORT, https://HOST:PORT or unix:///PATH';
  const refused = (gateway: string | undefined, message: string, option?: string): void =>
    assert.throws(() => gatewayAddress({ gateway }, io, option), { code: 'INVALID_ARGUMENT', message });
  refused(undefined, `QUERN_GATEWAY: ${expected}, got "here"`);
  refused('127.0.0.1', `--gateway: ${expected}, got "127.0.0.1"`);
  refused('127.0.0.1', `--address: ${expected}, got "127.0.0.1"`, '--address');
  assert.equal(gatewayAddress({ gateway: 'http://127.0.0.1:1/' }, io).address, '127.0.0.1:1');
  assert.equal(gatewayAddress({ gateway: 'unix:///run/q.sock' }, io).address, 'unix:///run/q.sock');
});

test('quern keys without a word says so', async () => {
  const io = { config: { stateDir: '/nowhere', keysFile: undefined } } as Io;
  await assert.rejects(async () => keys.run([], io), /expected "create", "list" or "revoke ID", got nothing;/);
  await assert.rejects(async () => keys.run(['list', 'all'], io), /got "list all";/);
});
