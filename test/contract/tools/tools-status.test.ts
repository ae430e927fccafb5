// What operators are told of tools that cannot run, of their files and of MCP servers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unary } from '#kit/rpc/client.ts';
import { caller, fakeTool, outcomeOf, resultOf, run, setUp } from './support/service.ts';

test('a tool that nobody configured says what to set, in the list and as the outcome of a call', async (t) => {
  const unavailable = 'not configured: set QUERN_TOOLS_TEST_COMMAND';
  const tools = [
    fakeTool({ name: 'absent', unavailable: 'no node in the toolchain; install it' }),
    fakeTool({ name: 'unset', unavailable, isUnset: true }),
  ];
  const { client, jail } = await setUp(t, { tools });
  const { tools: listed } = await unary(client, 'listTools', { caller });
  const shown = listed.map(({ name, notConfigured, unavailable: why }) => [name, notConfigured, why]);
  assert.deepEqual(shown, [
    ['absent', false, 'no node in the toolchain; install it'],
    ['unset', true, unavailable],
  ]);
  const events = await run(client, { tool: 'unset' });
  assert.equal(outcomeOf(events), 'not_configured');
  assert.equal(resultOf(events).message, unavailable);
  assert.equal(outcomeOf(await run(client, { tool: 'absent' })), 'sandbox_unavailable');
  assert.equal(jail.ran.length, 0);
});
