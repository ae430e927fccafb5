import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type AuthFailures, AuthFailureWindow } from '../../../../services/gateway/audit/auth-failures.ts';
import { AUTH_FAILURES_CLIENTS_MAX } from '../../../../services/gateway/limits.ts';

function setUp(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const told: AuthFailures[] = [];
  return { told, window: new AuthFailureWindow((failures) => void told.push(failures), 1_000) };
}

test('the first is told at once, a flood once per window, and a quiet window ends it', (t) => {
  const { told, window } = setUp(t);
  window.add({ clientIp: '192.0.2.1', keyId: '' });
  assert.deepEqual(
    told.map(({ attempts }) => attempts),
    [1],
  );
  for (let i = 0; i < 10_000; i += 1) window.add({ clientIp: '192.0.2.2', keyId: 'abc' });
  assert.equal(told.length, 1);
  t.mock.timers.tick(1_000);
  assert.deepEqual(
    told.map(({ attempts }) => attempts),
    [1, 10_000],
  );
  assert.deepEqual([...told[1]!.clients], [['192.0.2.2', 10_000]]);
  assert.deepEqual([...told[1]!.keys], [['abc', 10_000]]);
  window.add({ clientIp: '', keyId: '' });
  assert.equal(told.length, 2, 'the flood goes on in the next window');
  t.mock.timers.tick(1_000);
  t.mock.timers.tick(1_000);
  assert.equal(told.length, 3);
  window.add({ clientIp: '', keyId: '' });
  assert.equal(told.length, 4, 'after a quiet window the next is told at once');
  window.close();
});

test('it names a bounded number of clients and counts all attempts; what is left is told at the end', (t) => {
  const { told, window } = setUp(t);
  for (let i = 0; i < 1_000; i += 1) window.add({ clientIp: `client ${i}`, keyId: `key ${i}` });
  window.close();
  window.close();
  assert.deepEqual(
    told.map(({ attempts, clients, keys }) => [attempts, clients.size, keys.size]),
    [
      [1, 1, 1],
      [999, AUTH_FAILURES_CLIENTS_MAX, AUTH_FAILURES_CLIENTS_MAX],
    ],
  );
});
