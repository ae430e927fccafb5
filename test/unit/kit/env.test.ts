import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import {
  bool,
  bytes,
  describeEnv,
  duration_ms,
  int,
  list,
  namesInExample,
  oneOf,
  path,
  readEnv,
  str,
} from '#kit/env.ts';
import { QuernError } from '#kit/errors.ts';

const spec = {
  port: int('QUERN_T_PORT', { default: 50052, min: 0, max: 65535, doc: 'gRPC port' }),
  model: path('QUERN_T_MODEL', { doc: 'folder of the model' }),
  token: str('QUERN_T_TOKEN', { default: null, pattern: /^\w{8,}$/, doc: 'shared token', secret: true }),
  grace: duration_ms('QUERN_T_GRACE', { default: 10_000, min: 0, max: 3_600_000, doc: 'drain grace' }),
  cache: bytes('QUERN_T_CACHE', { default: 64 * 2 ** 20, min: 2 ** 20, doc: 'cache size' }),
  level: oneOf('QUERN_T_LEVEL', ['info', 'debug'], { default: 'info', doc: 'log level' }),
  sync: bool('QUERN_T_SYNC', { default: true, doc: 'fsync each record' }),
  engines: list('QUERN_T_ENGINES', { default: ['unix:///run/e'], doc: 'engines', pattern: /^\S+$/, max: 2 }),
};

function mistakes(env: NodeJS.ProcessEnv, options = {}): string[] {
  try {
    readEnv(env, spec, options);
  } catch (error) {
    assert.ok(error instanceof QuernError);
    assert.equal(error.code, 'INVALID_ARGUMENT');
    assert.equal(error.details.reason, 'CONFIG_INVALID');
    return error.message.split('\n').slice(1);
  }
  return [];
}

test('defaults, and an empty value is an absent one', () => {
  const values = readEnv({ QUERN_T_MODEL: 'models/mini', QUERN_T_PORT: '  ' }, spec);
  assert.deepEqual(values, {
    port: 50052,
    model: resolve('models/mini'),
    token: null,
    grace: 10_000,
    cache: 64 * 2 ** 20,
    level: 'info',
    sync: true,
    engines: ['unix:///run/e'],
  });
  const port: number = values.port;
  const token: string | null = values.token;
  const level: 'info' | 'debug' = values.level;
  assert.deepEqual([port, token, level], [50052, null, 'info']);
});

test('values are parsed with their units', () => {
  const values = readEnv(
    {
      QUERN_T_MODEL: '/m',
      QUERN_T_PORT: '0',
      QUERN_T_TOKEN: 'abcdefgh',
      QUERN_T_GRACE: '1.5s',
      QUERN_T_CACHE: '2 GiB',
      QUERN_T_LEVEL: 'debug',
      QUERN_T_SYNC: 'off',
      QUERN_T_ENGINES: 'a:1, b:2',
    },
    spec,
  );
  assert.deepEqual(values, {
    port: 0,
    model: '/m',
    token: 'abcdefgh',
    grace: 1500,
    cache: 2 * 2 ** 30,
    level: 'debug',
    sync: false,
    engines: ['a:1', 'b:2'],
  });
  assert.equal(readEnv({ QUERN_T_MODEL: '/m', QUERN_T_GRACE: '250' }, spec).grace, 250);
  assert.equal(readEnv({ QUERN_T_MODEL: '/m', QUERN_T_CACHE: '10MB' }, spec).cache, 1e7);
});

test('every mistake is reported at once, with expected, actual and what to do', () => {
  const found = mistakes({
    QUERN_T_PORT: '70000',
    QUERN_T_TOKEN: 'short',
    QUERN_T_GRACE: '10 parsecs',
    QUERN_T_CACHE: '1KiB',
    QUERN_T_LEVEL: 'loud',
    QUERN_T_SYNC: 'maybe',
    QUERN_T_ENGINES: 'a,,b',
  });
  assert.equal(found.length, 8);
  const text = found.join('\n');
  assert.match(
    text,
    /QUERN_T_PORT: expected an integer 0\.\.65535, got "70000"; correct it, or remove it for the default 50052/,
  );
  assert.match(text, /QUERN_T_MODEL: expected a path, but it is not set; set it \(folder of the model\)/);
  assert.match(text, /QUERN_T_CACHE: expected a size >= 1MiB/);
  assert.match(text, /QUERN_T_LEVEL: expected one of info, debug, got "loud"/);
  assert.doesNotMatch(text, /short/, 'a secret that does not fit is not printed');
});

test('numbers that only look like numbers are refused', () => {
  for (const text of ['1e3', '0x10', '1.0', '1_000', '９', 'NaN', '99999999999999999999']) {
    assert.equal(mistakes({ QUERN_T_MODEL: '/m', QUERN_T_PORT: text }).length, 1, text);
  }
  for (const text of ['-1s', '1.s', 's', '1w', 'Infinity']) {
    assert.equal(mistakes({ QUERN_T_MODEL: '/m', QUERN_T_GRACE: text }).length, 1, text);
  }
});

test('a misspelt variable is met with a suggestion', () => {
  assert.match(
    mistakes({ QUERN_T_MODEL: '/m', QUERN_T_PROT: '1' })[0]!,
    /QUERN_T_PROT: no such variable; did you mean QUERN_T_PORT\?/,
  );
  const both = { QUERN_T_MODEL: '/m', QUERN_T_PORT: '1', QUERN_T_PORTS: '1' };
  assert.deepEqual(mistakes(both), [], 'a neighbour of a set variable belongs to another process');
  assert.deepEqual(mistakes({ QUERN_T_MODEL: '/m', QUERN_GATEWAY_HTTP: '1' }), []);
  assert.deepEqual(
    mistakes({ QUERN_T_MODEL: '/m', QUERN_X_POST: '1' }),
    [],
    'two edits in a short name may be another',
  );
});

test('with the list of all names every other QUERN_ variable is a mistake', () => {
  const options = { known: ['QUERN_GATEWAY_HTTP'] };
  assert.deepEqual(mistakes({ QUERN_T_MODEL: '/m', QUERN_GATEWAY_HTTP: '1' }, options), []);
  assert.match(
    mistakes({ QUERN_T_MODEL: '/m', QUERN_GATEWAY_HTP: '1' }, options)[0]!,
    /did you mean QUERN_GATEWAY_HTTP/,
  );
  assert.match(mistakes({ QUERN_T_MODEL: '/m', QUERN_NONSENSE_X: '1' }, options)[0]!, /no such variable; remove it/);
});

test('describeEnv lists every variable so that namesInExample finds it, and readEnv accepts what it prints', () => {
  const lines = describeEnv(spec);
  const text = lines.join('\n');
  assert.deepEqual(
    namesInExample(text),
    Object.values(spec).map((field) => field.name),
  );
  assert.match(text, /# folder of the model\. Expected: a path\. Required\.\nQUERN_T_MODEL=\n/);
  assert.match(text, /# QUERN_T_CACHE=64MiB/);
  assert.match(text, /# QUERN_T_GRACE=10s/);
  const env: NodeJS.ProcessEnv = { QUERN_T_MODEL: '/m' };
  for (const [, name, value] of text.matchAll(/^# (QUERN_\w+)=(.*)$/gm)) env[name!] = value;
  assert.deepEqual(readEnv(env, spec), readEnv({ QUERN_T_MODEL: '/m' }, spec));
});
