import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { createLog } from '#kit/log.ts';
import { noAudit } from '../../../services/gateway/audit/gateway-audit.ts';
import type { GatewayContext } from '../../../services/gateway/context.ts';
import type { Exchange } from '../../../services/gateway/http/exchange.ts';
import { health } from '../../../services/gateway/http/health.ts';
import { noTools, watchTools } from '../../../services/gateway/tools-watch.ts';
import { eventually } from '../../contract/gateway/fakes/mesh.ts';

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
  const tools = { state: 'off', tier: null };
  const handler = health({
    models,
    audit: noAudit,
    toolsWatch: noTools,
    draining: () => draining,
  } as unknown as GatewayContext);
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
  assert.deepEqual(await ask(), [200, { status: 'ok', models: listed(true), tools }]);
  ready.set('small', false);
  assert.deepEqual(await ask(), [503, { status: 'not ready', models: listed(false), tools }]);
  ready.set('small', true);
  draining = true;
  assert.deepEqual(await ask(), [503, { status: 'draining', models: listed(true), tools }]);
});

test('how the tool service is: as it answered last, and that it does not', async (t) => {
  let answer: () => Promise<string> = () => new Promise(() => {});
  let asked = 0;
  const log = createLog({ service: 'test', level: 'silent' });
  const watch = watchTools(
    () => {
      asked += 1;
      return answer();
    },
    { log, lookMs: 1 },
  );
  assert.deepEqual(watch.report, { state: 'starting', tier: null });
  watch.close();
  const cases: [() => Promise<string>, object][] = [
    [async () => 'A', { state: 'ok', tier: 'A' }],
    [async () => '', { state: 'no sandbox', tier: null }],
    [() => Promise.reject(new Error('gone')), { state: 'unreachable', tier: null }],
    [async () => 'B', { state: 'ok', tier: 'B' }],
  ];
  const other = watchTools(() => answer(), { log, lookMs: 1 });
  t.after(() => other.close());
  answer = async () => 'A';
  const followed = watchTools(() => answer(), { log, lookMs: 1 });
  t.after(() => followed.close());
  for (const [next, expected] of cases) {
    answer = next;
    await eventually(() => isDeepStrictEqual(followed.report, expected), JSON.stringify(expected));
  }
  assert.equal(asked, 1);
  assert.deepEqual(other.report, { state: 'starting', tier: null }); // its first question is not answered
});
