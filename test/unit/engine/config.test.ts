import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { readConfig } from '../../../services/engine/config.ts';

const NEEDED = {
  QUERN_ENGINE_MODEL_NAME: 'quern-mini',
  QUERN_ENGINE_MODEL_DIR: '/models/mini',
  QUERN_INTERNAL_TOKEN: 'mesh-token',
};

test('the model and a token suffice; the rest has defaults', () => {
  const config = readConfig(NEEDED);
  assert.equal(config.modelName, 'quern-mini');
  assert.equal(config.listen, '127.0.0.1:50053');
  assert.equal(config.dtype, 'auto');
  assert.equal(config.threads, null);
  assert.equal(config.maxNumSeqs, 16);
  assert.equal(config.metricsListen, null);
  assert.deepEqual(config.internal, { token: 'mesh-token', tls: null });
  assert.match(config.addonPath, /engine-native\/build\/engine_addon\.node$/);
});

test('values are read with their units', () => {
  const config = readConfig({
    ...NEEDED,
    QUERN_ENGINE_KV_BYTES: '2GiB',
    QUERN_ENGINE_METRICS_LISTEN: '127.0.0.1:9153',
    QUERN_ENGINE_PREFIX_CACHE: 'off',
    QUERN_ENGINE_STALL: '5s',
  });
  assert.equal(config.kvBytes, 2 ** 31);
  assert.deepEqual(config.metricsListen, { host: '127.0.0.1', port: 9153 });
  assert.equal(config.prefixCache, false);
  assert.equal(config.stallMs, 5_000);
});

test('every mistake is named at once, TCP without a token or mutual TLS among them', () => {
  const env = { QUERN_ENGINE_MODEL_NAME: 'has space', QUERN_ENGINE_DTYPE: 'int3', QUERN_ENGINE_MAX_NUM_SEQS: '0' };
  assert.throws(
    () => readConfig(env),
    (error) => {
      assert.ok(error instanceof QuernError);
      const fields = error.details.fields?.map(({ field }) => field).sort();
      assert.deepEqual(fields, [
        'QUERN_ENGINE_DTYPE',
        'QUERN_ENGINE_MAX_NUM_SEQS',
        'QUERN_ENGINE_MODEL_DIR',
        'QUERN_ENGINE_MODEL_NAME',
        'QUERN_INTERNAL_TOKEN',
      ]);
      return true;
    },
  );
});
