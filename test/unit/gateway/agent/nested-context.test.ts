// The sealed context of a nested run: only its own server, tenant and time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuernError } from '#kit/errors.ts';
import { localPrincipal } from '#kit/principal.ts';
import {
  type NestedContext,
  nestedContextKey,
  openNested,
  sealNested,
} from '../../../../services/gateway/agent/nested-context.ts';
import { makeRun, play, result, scriptedTools, scriptedTurn, tool } from './scripted.ts';

const key = nestedContextKey('a secret');
const context: NestedContext = {
  runId: 'run-1',
  instance: 'i',
  tenant: 'local',
  user: 'local',
  trace: '',
  depth: 1,
  depthMax: 3,
  turnsLeft: 4,
  callsLeft: 5,
  tokensLeft: 6,
  resultBytesLeft: 7,
  taint: 5,
  expiresUnixMs: 1_000,
};

const reasonOf = (sealed: string, principal = localPrincipal, nowMs = 0): string => {
  try {
    openNested(key, sealed, principal, nowMs);
    return 'OK';
  } catch (error) {
    assert.equal((error as QuernError).code, 'PERMISSION_DENIED');
    return (error as QuernError).details.reason;
  }
};

test('what was sealed is opened', () => {
  const sealed = sealNested(key, context);
  assert.match(sealed, /^[A-Za-z0-9._-]{1,1024}$/);
  assert.deepEqual(openNested(key, sealed, localPrincipal, 0), context);
});

test('what others made, changed or cut is refused, every single character', () => {
  const sealed = sealNested(key, context);
  assert.equal(reasonOf(sealNested(nestedContextKey('another secret'), context)), 'NESTED_CONTEXT_FORGED');
  const deeper = sealNested(key, { ...context, depth: 0 });
  const [version, , mac] = sealed.split('.');
  assert.equal(reasonOf(`${version}.${deeper.split('.')[1]}.${mac}`), 'NESTED_CONTEXT_FORGED');
  for (let at = 0; at < sealed.length - 1; at += 1) {
    const other = sealed[at] === 'A' ? 'B' : 'A';
    assert.equal(reasonOf(sealed.slice(0, at) + other + sealed.slice(at + 1)), 'NESTED_CONTEXT_FORGED', String(at));
  }
  for (const wrong of ['x', 'q1..', '...', sealed.slice(0, -4), `${sealed}.x`, 'A'.repeat(5000)]) {
    assert.equal(reasonOf(wrong), 'NESTED_CONTEXT_FORGED');
  }
});

test('another tenant and another time are refused', () => {
  const sealed = sealNested(key, context);
  assert.equal(reasonOf(sealed, { ...localPrincipal, tenant: 'other' }), 'NESTED_CONTEXT_FOREIGN');
  assert.equal(reasonOf(sealed, localPrincipal, 999), 'OK');
  assert.equal(reasonOf(sealed, localPrincipal, 1_000), 'NESTED_CONTEXT_EXPIRED');
});

test('a run gives each call a context of what it has left', async () => {
  const turn = scriptedTurn(({ name }) => (name === '0' ? { calls: [{ name: 'f', args: {} }] } : 'done'));
  const tools = scriptedTools([tool('f')], () => result({ content: 'x' }));
  const run = await makeRun({ turn, tools, over: { sealingKey: key } });
  await play(run);
  const opened = openNested(key, tools.contexts[0] as string, localPrincipal);
  assert.deepEqual([opened.runId, opened.depth, opened.turnsLeft, opened.callsLeft], ['run-1', 0, 15, 63]);
  assert.equal(opened.instance, run.options.instance);
});
