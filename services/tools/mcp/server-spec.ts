// What a pack says of an MCP server: how it is reached, what it may do, and which changes of its tools an operator has accepted.
import { z } from 'zod';
import type { Taint } from '#kit/taint.ts';
import type { LimitsPart } from '../definition.ts';
import { lowestLimits } from '../definition.ts';
import type { NetworkMode, ReadOnlyBind, SandboxLimits } from '../jail/sandbox.ts';
import { limitsFrom, limitsShape, shaped } from '../settings-file.ts';
import type { Annotations, Decision } from '../tool.ts';
import { COMMAND_ARG_CHARS_MAX, COMMAND_ARGV_MAX, COMMAND_ENV_MAX, HOST_LIMITS } from '../tool-limits.ts';
import {
  MCP_ACCEPTED_MAX,
  MCP_BINDS_MAX,
  MCP_IDLE_MS,
  MCP_IDLE_MS_MAX,
  MCP_PROCESS_LIMITS,
  MCP_SERVER_NAME_CHARS_MAX,
  MCP_SERVERS_MAX,
  MCP_TOOL_NAME_CHARS_MAX,
  MCP_TOOLS_PER_SERVER_MAX,
} from './limits.ts';
import { isServerName } from './tool-names.ts';

type Common = {
  readonly name: string;
  /** The server's own names of the tools that are offered; null: all. */
  readonly tools: readonly string[] | null;
  /** What the operator says of every tool, whatever the server says. */
  readonly annotations: { readonly [K in keyof Annotations]?: boolean | undefined };
  readonly decision: Decision | undefined;
  /** Of one call. */
  readonly limits: LimitsPart;
  readonly modelOutputBytes: number | undefined;
  readonly taint: Taint;
  /** Hex SHA-256 of changed definitions that an operator has looked at. */
  readonly accept: readonly string[];
  readonly idleMs: number;
};

/** Runs in the sandbox; talks over stdin and stdout. */
export type StdioServer = Common & {
  readonly kind: 'stdio';
  /** An absolute path inside the sandbox, or "node", "python" or "bash" of the toolchain. */
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly binds: readonly ReadOnlyBind[];
  readonly workspace: 'none' | 'read' | 'write';
  readonly network: NetworkMode;
  /** Of the process. */
  readonly processLimits: SandboxLimits;
};

/** Elsewhere; streamable HTTP. */
export type HttpServer = Common & {
  readonly kind: 'http';
  readonly url: URL;
  /** File of the host with headers, "Name: value" per line; credentials stand nowhere else. */
  readonly headersFile: string | null;
  /** Networks that the rules for public addresses would refuse; only this server's host is reached in them. */
  readonly allowPrivate: boolean;
};

export type McpServerSpec = StdioServer | HttpServer;

const text = z
  .string()
  .max(COMMAND_ARG_CHARS_MAX)
  .refine((value) => !value.includes('\0'), { error: 'expected text without NUL' });
const absolute = text.regex(/^\/(?!.*\/\.{1,2}(?:\/|$))/, { error: 'expected an absolute path without "." and ".."' });

const commonShape = {
  tools: z.array(z.string().max(MCP_TOOL_NAME_CHARS_MAX)).max(MCP_TOOLS_PER_SERVER_MAX).optional(),
  annotations: z
    .strictObject({
      read_only: z.boolean().optional(),
      destructive: z.boolean().optional(),
      idempotent: z.boolean().optional(),
      open_world: z.boolean().optional(),
    })
    .default({}),
  policy: z.strictObject({ decision: z.enum(['allow', 'ask', 'deny']).optional(), ...limitsShape }).default({}),
  accept: z
    .array(z.string().regex(/^[0-9a-f]{64}$/, { error: 'expected a SHA-256 in hex, 64 characters' }))
    .max(MCP_ACCEPTED_MAX)
    .default([]),
  idle_ms: z.int().min(1_000).max(MCP_IDLE_MS_MAX).default(MCP_IDLE_MS),
};

const { output_kib: _, model_output_kib: __, ...processLimitsShape } = limitsShape;
const processCpuMs = z.int().min(1_000).max(MCP_PROCESS_LIMITS.cpuMs).optional();

const stdioSchema = z.strictObject({
  ...commonShape,
  command: z.union([z.enum(['node', 'python', 'bash']), absolute]),
  args: z.array(text).max(COMMAND_ARGV_MAX).default([]),
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'expected a name of a variable' }), text)
    .refine((env) => Object.keys(env).length <= COMMAND_ENV_MAX, {
      error: `expected at most ${COMMAND_ENV_MAX} variables`,
    })
    .default({}),
  binds: z
    .array(z.strictObject({ from: absolute, to: absolute }))
    .max(MCP_BINDS_MAX)
    .default([]),
  workspace: z.enum(['none', 'read', 'write']).default('none'),
  network: z.enum(['none', 'proxy']).default('none'),
  process: z.strictObject({ ...processLimitsShape, wall_ms: z.never().optional(), cpu_ms: processCpuMs }).default({}),
});

function isPlainUrl(written: string): boolean {
  const url = URL.parse(written);
  return url !== null && /^https?:$/.test(url.protocol) && `${url.username}${url.password}${url.hash}` === '';
}

const httpSchema = z.strictObject({
  ...commonShape,
  url: z.string().max(COMMAND_ARG_CHARS_MAX).refine(isPlainUrl, {
    error: 'expected http://... or https://... without credentials and fragment',
  }),
  headers_file: absolute.optional(),
  allow_private: z.boolean().default(false),
});

type Written = z.infer<typeof stdioSchema> | z.infer<typeof httpSchema>;

/** What a call adds: a server's words are a stranger's; where there is a way out, arguments leave by it. */
function taintOf(reachesOut: boolean, seesWorkspace: boolean): Taint {
  return { readUntrusted: true, hasPrivate: seesWorkspace, canExfiltrate: reachesOut };
}

function commonOf(name: string, written: Written, taint: Taint): Common {
  const { decision, ...bounds } = written.policy;
  const { annotations } = written;
  return {
    name,
    tools: written.tools ?? null,
    annotations: {
      readOnly: annotations.read_only,
      destructive: annotations.destructive,
      idempotent: annotations.idempotent,
      openWorld: annotations.open_world,
    },
    decision,
    ...limitsFrom(bounds),
    taint,
    accept: written.accept,
    idleMs: written.idle_ms,
  };
}

function processLimits(written: z.infer<typeof stdioSchema>['process']): SandboxLimits {
  const { limits } = limitsFrom({ ...written, wall_ms: undefined });
  const given = Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
  const { wallMs, cpuMs, outputBytes } = MCP_PROCESS_LIMITS;
  return lowestLimits({ ...MCP_PROCESS_LIMITS, ...given }, { ...HOST_LIMITS, wallMs, cpuMs, outputBytes });
}

function specOf(name: string, value: unknown): McpServerSpec {
  if (typeof value === 'object' && value !== null && 'url' in value) {
    const written = shaped(httpSchema, value);
    return {
      ...commonOf(name, written, taintOf(true, false)),
      kind: 'http',
      url: new URL(written.url),
      headersFile: written.headers_file ?? null,
      allowPrivate: written.allow_private,
    };
  }
  const written = shaped(stdioSchema, value);
  const { command, args, env, binds, workspace, network } = written;
  const common = commonOf(name, written, taintOf(network === 'proxy', workspace !== 'none'));
  const limits = processLimits(written.process);
  return { ...common, kind: 'stdio', command, args, env, binds, workspace, network, processLimits: limits };
}

const serversSchema = z
  .record(
    z.string().refine(isServerName, {
      error: `expected a name of at most ${MCP_SERVER_NAME_CHARS_MAX} of [a-z0-9], single "_" and "-" between them`,
    }),
    z.unknown(),
  )
  .refine((servers) => Object.keys(servers).length <= MCP_SERVERS_MAX, {
    error: `expected at most ${MCP_SERVERS_MAX} servers`,
  });

/** The `mcp_servers` of a pack, each with its name; `within` adds the path to mistakes. Throws INVALID_ARGUMENT. */
export function parseMcpServers(value: unknown, within: <T>(path: string, run: () => T) => T): McpServerSpec[] {
  const servers = within('mcp_servers', () => shaped(serversSchema, value));
  return Object.entries(servers).map(([name, one]) => within(`mcp_servers.${name}`, () => specOf(name, one)));
}
