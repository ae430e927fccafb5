/**
 * npm run test:jaeger. What test/e2e/trace.test.ts asserts, against a real Jaeger: what its users see is what was sent. It
 * needs one on PATH or from scripts/get-jaeger.mjs, which takes long to build, so it is no part of npm test.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readCliConfig } from '../../services/cli/config.ts';
import { findJaeger, GET_JAEGER } from '../../services/cli/up/jaeger.ts';
import { startJaeger } from '../support/jaeger-server.ts';
import { checkTraces, startTraced } from '../support/mesh-traces.ts';

test('a real Jaeger shows one trace over the services of a mesh', async (t) => {
  const jaeger = findJaeger(readCliConfig(process.env).places);
  assert.ok(jaeger, `no jaeger on PATH or in the cache folders; "${GET_JAEGER}" builds one`);
  const { reader } = await startJaeger(t, jaeger);
  await checkTraces(t, await startTraced(t, reader));
  await t.test('it knows the services and their operations', async () => {
    const { services } = (await reader.get('/api/v3/services')) as { services: string[] };
    for (const name of ['gateway', 'tokenizer', 'engine']) assert.ok(services.includes(name), services.join(', '));
    const { operations } = (await reader.get('/api/v3/operations?service=engine')) as {
      operations: { name: string }[];
    };
    assert.ok(operations.some(({ name }) => name === 'engine.prefill'));
  });
});
