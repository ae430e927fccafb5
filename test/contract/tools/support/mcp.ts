/** MCP servers over HTTP without a jail: what the tool service has beside it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createLog } from '#kit/log.ts';
import { createArgumentChecker } from '../../../../services/tools/argument-check.ts';
import { CallEvents } from '../../../../services/tools/call-events.ts';
import { lowestLimits } from '../../../../services/tools/definition.ts';
import type { SandboxLimits } from '../../../../services/tools/jail/sandbox.ts';
import { type McpServers, openMcpServers } from '../../../../services/tools/mcp/mcp-servers.ts';
import { parseMcpServers } from '../../../../services/tools/mcp/server-spec.ts';
import { createRegistry, type Registry } from '../../../../services/tools/registry.ts';
import { type RunResult, runPrepared } from '../../../../services/tools/tool-run.ts';
import { createFakeJail } from './fake-jail.ts';

export type McpWorld = {
  readonly folder: string;
  readonly registry: Registry;
  readonly servers: McpServers;
  call(tool: string, args?: Record<string, unknown>, options?: McpCallOptions): Promise<RunResult>;
};

export type McpCallOptions = { tenant?: string; limits?: Partial<SandboxLimits>; signal?: AbortSignal };

/** The servers of a pack, asked for their tools. */
export async function openMcpWorld(
  t: TestContext,
  pack: Record<string, unknown>,
  resolve?: (host: string) => Promise<readonly string[]>,
): Promise<McpWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'quern-mcp-'));
  const log = createLog({ service: 'test', level: 'silent' });
  const checker = createArgumentChecker();
  const registry = await createRegistry({ builtins: [], packDir: null, checker });
  const jail = createFakeJail();
  const servers = await openMcpServers({
    ...{ jail, checker, registry, log, retryMs: 60_000, pinsPath: join(folder, 'pins.json') },
    interpreters: { bash: null, python: null, node: null },
    workspaces: { enter: () => Promise.reject(new Error('no workspace here')) },
    ...(resolve && { resolve }),
  });
  t.after(async () => {
    await servers.close();
    await registry.close();
    await checker.close();
    await rm(folder, { recursive: true });
  });
  await servers.setServers(parseMcpServers(pack, (_, run) => run()));
  return {
    ...{ folder, registry, servers },
    async call(name, args = {}, { tenant = 'acme', limits: lower = {}, signal = new AbortController().signal } = {}) {
      const tool = registry.get(name);
      const limits = lowestLimits(tool.definition.policy.limits, lower);
      const workspace = { path: '/nowhere', protected: [] };
      const prepared = await tool.prepare(args as never, {
        ...{ tenant, user: 'u', sessionId: 's', workspace, stdin: null, limits },
      });
      return runPrepared({
        ...{ jail, prepared, limits, signal, log, modelOutputBytes: 64 * 1024, events: new CallEvents() },
        ...{ stopped: () => (signal.aborted ? 'cancelled' : null), onStart: () => {}, onEnd: () => {} },
      });
    },
  };
}

/** A server on a free port of the loopback interface, gone after the test. */
export async function listenLocal(t: TestContext, listener: RequestListener): Promise<{ server: Server; url: string }> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp` };
}
