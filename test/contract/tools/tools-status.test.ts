// What operators are told of tools that cannot run, of their files and of MCP servers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HealthCheckResponse_ServingStatus as Health, HealthClient } from '#gen/grpc/health/v1/health.ts';
import { McpServerState } from '#gen/quern/tools/v1/tools.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { inspectSandbox } from '../../../services/cli/doctor/sandbox.ts';
import type { ToolsStatus } from '../../../services/tools/tools-status.ts';
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

test('mistakes and MCP servers are in the answers, the metrics and the health of the service', async (t) => {
  const status: ToolsStatus = {
    packDir: '/srv/packs',
    policyFile: '/etc/policy.yaml',
    problems: [{ file: 'a.yaml', message: 'has no field "comand"' }],
    servers: [
      { name: 'late', state: 'failed', tools: 0, problems: ['no answer'] },
      { name: 'files', state: 'quarantined', tools: 2, problems: ['it changed'] },
    ],
  };
  const { client, metrics, service } = await setUp(t, { status });
  const expected = {
    packDir: '/srv/packs',
    policyFile: '/etc/policy.yaml',
    problems: [{ file: 'a.yaml', message: 'has no field "comand"' }],
    mcpServers: [
      {
        name: 'files',
        state: McpServerState.MCP_SERVER_STATE_QUARANTINED,
        tools: 2,
        problems: ['it changed'],
      },
      { name: 'late', state: McpServerState.MCP_SERVER_STATE_FAILED, tools: 0, problems: ['no answer'] },
    ],
  };
  assert.deepEqual((await unary(client, 'listTools', { caller })).status, expected);
  assert.deepEqual((await unary(client, 'getCapabilities', { probeNow: false })).status, expected);
  const text = await metrics.render();
  assert.match(text, /quern_tools_mcp_server_state{[^}]*server="late",state="failed"[^}]*} 1\n/);
  assert.match(text, /quern_tools_mcp_server_state{[^}]*server="late",state="listed"[^}]*} 0\n/);
  assert.match(text, /quern_tools_settings_problems(?:{[^}]*})? 1\n/);
  const health = async (name: string) => {
    const channel = openChannel(HealthClient, { address: service.address });
    try {
      return (await unary(channel, 'check', { service: name })).status;
    } finally {
      channel.close();
    }
  };
  const places = { runtimeParents: [], path: '', stateDir: '/nowhere', toolsAddress: service.address, env: {} };
  const found = new Map((await inspectSandbox(places)).map((finding) => [finding.name, finding]));
  assert.match(found.get('sandbox')?.found ?? '', /^tier A, 2 layers tested \(asked unix:/);
  assert.equal(found.get('mcp files')?.found, 'in quarantine, 2 tools: it changed');
  assert.equal(found.get('mcp late')?.found, 'failed, 0 tools: no answer');
  assert.equal(found.get('tools a.yaml')?.found, 'has no field "comand"');
  assert.equal(await health('tools.mcp'), Health.NOT_SERVING);
  assert.equal(await health(''), Health.SERVING);
});

test('only a session that is its request has an end', async (t) => {
  const { client } = await setUp(t);
  const end = async (session: string) => {
    const request = { caller: { ...caller, sessionId: session, requestId: 'run-1' } };
    return (await unary(client, 'endSession', request)).removed;
  };
  assert.deepEqual([await end('run-1'), await end('named')], [true, false]);
});
