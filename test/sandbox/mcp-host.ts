/**
 * A process that is to MCP servers what the tool service is: it gives root up, opens the jail, reads a folder of packs and runs calls
 * as executions do. Tests start it with mcp-client.ts.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '#kit/log.ts';
import { createArgumentChecker } from '../../services/tools/argument-check.ts';
import { CallEvents } from '../../services/tools/call-events.ts';
import { lowestLimits } from '../../services/tools/definition.ts';
import { openJail } from '../../services/tools/jail/jail.ts';
import { giveUpRoot } from '../../services/tools/jail/privileges.ts';
import type { Jail } from '../../services/tools/jail/sandbox.ts';
import { findToolchain } from '../../services/tools/jail/toolchain.ts';
import { type McpServers, openMcpServers } from '../../services/tools/mcp/mcp-servers.ts';
import { freedFromServers } from '../../services/tools/mcp/pack-servers.ts';
import { createRegistry, type Registry } from '../../services/tools/registry.ts';
import { emptyResult, type RunResult, runPrepared } from '../../services/tools/tool-run.ts';
import { openWorkspaces, type WorkspaceFolders } from '../../services/tools/workspaces.ts';
import type { McpCall, McpCensus, McpHostConfig, McpHostRequest, McpToolView } from './mcp-client.ts';

const log = createLog({ service: 'mcp-host', level: 'silent' });
const aborts = new Map<number, AbortController>();
let parts: { jail: Jail; registry: Registry; mcp: McpServers; workspaces: WorkspaceFolders };

async function start({ stateDir, packDir, bounds, withoutCgroup = false }: McpHostConfig): Promise<void> {
  const own = giveUpRoot({ folders: [stateDir, packDir] }).cgroups;
  const cgroups = withoutCgroup ? { ok: false as const, detail: 'left out by the test', remedy: 'none' } : own;
  const toolchain = findToolchain();
  const { signal } = new AbortController();
  const jail = await openJail(
    {
      ...{ log, stateDir: join(stateDir, 'jail'), bwrap: '/usr/bin:/bin', cgroups, toolchain },
      ...{ allowMissingCgroup: withoutCgroup, proxySocket: null },
    },
    { signal },
  );
  const checker = createArgumentChecker();
  const workspaces = await openWorkspaces({ dir: join(stateDir, 'workspaces') });
  const registry = await createRegistry({ builtins: [], packDir, checker });
  const mcp = await openMcpServers({
    ...{ jail, workspaces, checker, registry, log, retryMs: 100 },
    interpreters: toolchain.interpreters,
    pinsPath: join(stateDir, 'mcp-pins.json'),
    ...(bounds && { bounds }),
  });
  parts = { jail, registry, mcp, workspaces };
  await mcp.setServers(registry.mcpServers());
}

async function reload(): Promise<void> {
  await parts.registry.reload();
  await parts.mcp.setServers(parts.registry.mcpServers());
}

function tools(): McpToolView[] {
  return parts.registry.list().map((tool) => ({ ...tool.definition, unavailable: tool.unavailable() }));
}

async function call(id: number, wanted: McpCall): Promise<RunResult> {
  const {
    tool: name,
    args = {},
    tenant = 'acme',
    sessionId = 's1',
    abortAfterMs,
    abortWhen,
    limits: lower = {},
    alone = false,
  } = wanted;
  const { registry, jail, mcp } = parts;
  const tool = registry.get(name);
  const missing = tool.unavailable();
  if (missing !== null) return emptyResult('sandbox_unavailable', missing);
  const abort = new AbortController();
  aborts.set(id, abort);
  const timer = abortAfterMs === undefined ? undefined : setTimeout(() => abort.abort(new Error('stop')), abortAfterMs);
  const checked = await registry.check(tool, JSON.stringify(args), { signal: abort.signal });
  if (!checked.ok) return emptyResult('invalid_args', checked.message);
  const limits = lowestLimits(tool.definition.policy.limits, lower);
  const workspaces = freedFromServers(parts.workspaces, mcp);
  const opened = await workspaces.enter({ tenant, sessionId }, { waits: true });
  try {
    await opened.begin({ hold: alone ? 'alone' : 'none', tool: name, signal: abort.signal });
    const { workspace } = opened;
    if (abortWhen !== undefined) void abortOn(join(workspace.path, abortWhen), abort);
    const prepared = await tool.prepare(checked.args, {
      ...{ tenant, user: 'u', sessionId, workspace, stdin: null, limits },
    });
    return await runPrepared({
      ...{ jail, prepared, limits, log },
      modelOutputBytes: tool.definition.policy.modelOutputBytes,
      events: new CallEvents(),
      signal: abort.signal,
      stopped: () => (abort.signal.aborted ? 'cancelled' : null),
      onStart: () => {},
      onEnd: () => {},
    });
  } finally {
    clearTimeout(timer);
    aborts.delete(id);
    await opened.leave();
  }
}

async function abortOn(file: string, abort: AbortController): Promise<void> {
  while (!existsSync(file)) await sleep(5);
  rmSync(file);
  abort.abort(new Error('stop'));
}

function census(): McpCensus {
  const { jail, mcp } = parts;
  return {
    running: jail.running,
    sessions: mcp.sessions,
    fds: readdirSync('/proc/self/fd').length,
    rssBytes: process.memoryUsage.rss(),
  };
}

async function close(): Promise<void> {
  await parts.mcp.close();
  await parts.registry.close();
  await parts.workspaces.close();
  await parts.jail.close();
}

async function answer(request: McpHostRequest): Promise<unknown> {
  switch (request.kind) {
    case 'start':
      return start(request.config);
    case 'reload':
      return reload();
    case 'tools':
      return tools();
    case 'status':
      return parts.mcp.status();
    case 'call':
      return call(request.id, request.call);
    case 'endSession':
      return parts.mcp.endSession(request.session);
    case 'census':
      return census();
    case 'close':
      return close();
  }
}

process.on('message', (request: McpHostRequest) => {
  answer(request).then(
    (value) => process.send!({ id: request.id, ok: true, value }),
    (error: Error) => process.send!({ id: request.id, ok: false, message: error.stack ?? error.message }),
  );
});
process.on('disconnect', () => process.exit(0));
