import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { noAudit } from '../../../services/gateway/audit/gateway-audit.ts';
import type { GatewayContext } from '../../../services/gateway/context.ts';
import type { Exchange } from '../../../services/gateway/http/exchange.ts';
import { health } from '../../../services/gateway/http/health.ts';

test('one ready model is enough, each is listed, and draining is not ready', async (t) => {
  const ready = new Map([
    ['small', true],
    ['large', false],
  ]);
  let draining = false;
  const models = {
    all: () => [...ready.keys()].map((name) => ({ name, replicas: [] })),
    ready: ({ name }: { name: string }) => ready.get(name) ?? false,
  };
  const handler = health({ models, audit: noAudit, draining: () => draining } as unknown as GatewayContext);
  const server = createServer((_request, response) => void handler({ response } as unknown as Exchange));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const ask = async () => {
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/health`);
    return [response.status, await response.json()];
  };
  const listed = (small: boolean) => [
    { model: 'small', ready: small },
    { model: 'large', ready: false },
  ];
  assert.deepEqual(await ask(), [200, { status: 'ok', models: listed(true) }]);
  ready.set('small', false);
  assert.deepEqual(await ask(), [503, { status: 'not ready', models: listed(false) }]);
  ready.set('small', true);
  draining = true;
  assert.deepEqual(await ask(), [503, { status: 'draining', models: listed(true) }]);
});
