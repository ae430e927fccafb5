/** The traces of a real mesh, as a collector inside the test receives them; test/jaeger reads the same from a real Jaeger. */
import { test } from 'node:test';
import { checkTraces, startTraced } from '../support/mesh-traces.ts';
import { startCollector } from '../support/otlp-collector.ts';

test('one trace over the services of a mesh, for every way in which a request ends', async (t) => {
  await checkTraces(t, await startTraced(t, await startCollector(t)));
});
