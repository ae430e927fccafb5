/** Starts mcp-host.ts with packs and talks to it: calls of MCP tools whose servers run in real sandboxes. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SandboxLimits } from '../../services/tools/jail/sandbox.ts';
import type { ServerStatus } from '../../services/tools/mcp/server-state.ts';
import type { SessionBounds } from '../../services/tools/mcp/session-pool.ts';
import type { ToolDefinition } from '../../services/tools/tool.ts';
import type { RunResult } from '../../services/tools/tool-run.ts';
import type { Cleanup } from './jail-client.ts';

export type McpHostConfig = {
  stateDir: string;
  packDir: string;
  bounds?: SessionBounds | undefined;
  /** Tier A-. */
  withoutCgroup?: boolean;
};
export type McpCall = {
  tool: string;
  args?: Record<string, unknown>;
  tenant?: string;
  sessionId?: string;
  abortAfterMs?: number;
  /** Aborts when this file is in the workspace; it is removed. */
  abortWhen?: string;
  limits?: Partial<SandboxLimits>;
  /** It has the workspace for itself, as a call that was approved. */
  alone?: boolean;
};
export type McpToolView = ToolDefinition & { unavailable: string | null };
export type McpCensus = { running: number; sessions: number; fds: number; rssBytes: number };

export type McpHostRequest =
  | { id: number; kind: 'start'; config: McpHostConfig }
  | { id: number; kind: 'call'; call: McpCall }
  | { id: number; kind: 'endSession'; session: { tenant: string; sessionId: string } }
  | { id: number; kind: 'reload' | 'tools' | 'status' | 'census' | 'close' };

type Reply = { id: number; ok: true; value: unknown } | { id: number; ok: false; message: string };

export type McpHost = {
  readonly process: ChildProcess;
  readonly folder: string;
  /** Puts the pack's servers in place of those before, and waits until they are known. */
  setServers(servers: Record<string, unknown>): Promise<void>;
  tools(): Promise<McpToolView[]>;
  status(): Promise<ServerStatus[]>;
  call(call: McpCall): Promise<RunResult>;
  endSession(session: { tenant: string; sessionId: string }): Promise<void>;
  census(): Promise<McpCensus>;
  /** Ends the process and starts another one with the same folders. */
  restart(): Promise<void>;
};

/** A Python server inside: what `program` defines as handle(message) answers, see FAKE. */
export function fakeServer(program: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { command: 'python', args: ['-c', `${FAKE}\n${program}\nmain()`], ...more };
}

/** One tool, "go"; a test's program replaces what it does, and may define further ones. */
const FAKE = `
import json, os, sys, time
def out(value): sys.stdout.write(value if isinstance(value, str) else json.dumps(value) + "\\n"); sys.stdout.flush()
def reply(m, result): out({"jsonrpc": "2.0", "id": m["id"], "result": result})
def text(*parts, **more): return {"content": [{"type": "text", "text": p} for p in parts], **more}
SCHEMA = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 100}}, "additionalProperties": False}
TOOLS = [{"name": "go", "description": "Goes", "inputSchema": SCHEMA}]
def tools(): return TOOLS
INFO = {"serverInfo": {"name": "fake", "version": "1"}, "capabilities": {"tools": {"listChanged": True}}}
def start(m): return {"protocolVersion": "2025-06-18", **INFO}
def go(m): reply(m, text("gone"))
def other(m): pass
def handle(m):
  method = m.get("method")
  if method == "initialize": reply(m, start(m))
  elif method == "tools/list": reply(m, {"tools": tools()})
  elif method == "tools/call": go(m)
  else: other(m)
def main():
  for line in sys.stdin: handle(json.loads(line))
`;

async function startProcess(config: McpHostConfig) {
  const process = fork(join(import.meta.dirname, 'mcp-host.ts'), [], { serialization: 'advanced' });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let last = 0;
  process.on('message', (reply: Reply) => {
    const entry = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.ok) entry?.resolve(reply.value);
    else entry?.reject(new Error(reply.message));
  });
  process.on('exit', (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`the host ended: ${signal ?? code}`));
  });
  function send<T>(request: Record<string, unknown>): Promise<T> {
    const id = ++last;
    return new Promise<T>((resolve, reject) => {
      waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      process.send({ ...request, id }, (error) => error && reject(error));
    });
  }
  const exited = once(process, 'exit');
  async function end(): Promise<void> {
    if (process.exitCode !== null || process.signalCode !== null) return;
    await send({ kind: 'close' }).catch(() => {});
    process.kill('SIGKILL');
    await exited;
  }
  await send({ kind: 'start', config });
  return { process, send, end };
}

/** Everything is gone after the test. */
export async function startMcpHost(
  t: Cleanup,
  servers: Record<string, unknown>,
  options: { bounds?: SessionBounds; withoutCgroup?: boolean } = {},
): Promise<McpHost> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-mcp-'));
  chmodSync(folder, 0o755); // the host gives root up and must get in
  const config = { stateDir: join(folder, 'state'), packDir: join(folder, 'packs'), ...options };
  mkdirSync(config.packDir);
  const write = (wanted: Record<string, unknown>): void =>
    writeFileSync(join(config.packDir, 'servers.json'), JSON.stringify({ mcp_servers: wanted }));
  write(servers);
  let host = await startProcess(config);
  t.after(async () => {
    await host.end();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    get process() {
      return host.process;
    },
    folder,
    async setServers(wanted) {
      write(wanted);
      await host.send({ kind: 'reload' });
    },
    tools: () => host.send({ kind: 'tools' }),
    status: () => host.send({ kind: 'status' }),
    call: (call) => host.send({ kind: 'call', call }),
    endSession: (session) => host.send({ kind: 'endSession', session }),
    census: () => host.send({ kind: 'census' }),
    async restart() {
      await host.end();
      host = await startProcess(config);
    },
  };
}

/** The packages of a server from npm, in a folder that the sandbox's account may enter. */
export function copyPackages(t: Cleanup, names: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'quern-mcp-packages-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  const from = join(import.meta.dirname, '../../node_modules');
  for (const name of names) cpSync(join(from, name), join(folder, 'node_modules', name), { recursive: true });
  return folder;
}
