/** The tool service in this process, with a jail and tools of our own. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  type AttachRequest,
  type ExecuteRequest,
  type ExecuteResponse,
  type Result,
  ToolServiceClient,
} from '#gen/quern/tools/v1/tools.ts';
import { openVault } from '#kit/audit/key-folder.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import type { AuditRecord } from '#kit/audit/record.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel, serverStream } from '#kit/rpc/client.ts';
import type { SpanRecord, SpanSink } from '#kit/trace.ts';
import { readConfig, type ToolsConfig } from '../../../../services/tools/config.ts';
import { defineTool } from '../../../../services/tools/definition.ts';
import { parseArguments } from '../../../../services/tools/json-arguments.ts';
import { outcomeWord } from '../../../../services/tools/outcome.ts';
import { parsePolicy } from '../../../../services/tools/policy.ts';
import { startTools } from '../../../../services/tools/service.ts';
import type { JsonObject, PreparedCall, Tool } from '../../../../services/tools/tool.ts';
import { createCatalog } from '../../../../services/tools/tool-catalog.ts';
import type { ToolParts } from '../../../../services/tools/tool-parts.ts';
import { noStatus, type ToolsStatus } from '../../../../services/tools/tools-status.ts';
import { createFakeJail, type FakeJail } from './fake-jail.ts';

const READ_ONLY = { readOnly: true, destructive: false, idempotent: true, openWorld: false };

export type FakeToolOptions = {
  name: string;
  decision?: 'allow' | 'ask' | 'deny';
  taint?: { readUntrusted: boolean; hasPrivate: boolean; canExfiltrate: boolean };
  unavailable?: string;
  isUnset?: boolean;
  prepare?: (args: JsonObject) => PreparedCall | Promise<PreparedCall>;
};

/** Runs its argument `words` in the fake jail. */
export function fakeTool({ name, decision = 'allow', taint, unavailable, isUnset, prepare }: FakeToolOptions): Tool {
  const { definition, fingerprint } = defineTool({
    name,
    version: '1',
    kind: 'command',
    description: `${name} of a test`,
    inputSchema: { type: 'object' },
    annotations: READ_ONLY,
    decision,
    modelOutputBytes: 4096,
    limits: { wallMs: 20_000, outputBytes: 8 * 1024 * 1024 },
    taint: taint ?? { readUntrusted: false, hasPrivate: true, canExfiltrate: false },
    runs: { fake: name },
  });
  return {
    definition,
    fingerprint,
    unavailable: () => unavailable ?? null,
    isUnset: isUnset ?? false,
    async prepare(args, call) {
      if (prepare) return prepare(args);
      const words = Array.isArray(args.words) ? args.words.map(String) : [];
      if (words[0] === 'leave') throw new QuernError('INVALID_ARGUMENT', 'path: it leaves the workspace');
      return {
        kind: 'sandbox',
        command: {
          argv: ['/bin/fake', ...words],
          env: {},
          stdin: call.stdin,
          workspace: { path: call.workspace.path, writable: true, protected: [] },
          binds: [],
          network: 'none',
        },
        answer: ({ exitCode }, { stdout, stderr }) => ({
          ok: exitCode === 0,
          message: exitCode === 0 ? '' : `exit code ${exitCode}`,
          content: stdout + stderr,
          structured: { exit_code: exitCode },
          artifacts: [],
        }),
      };
    },
  };
}

/** Spans as they were recorded. */
export function spanList(): SpanSink & { readonly spans: SpanRecord[] } {
  const spans: SpanRecord[] = [];
  return { spans, record: (span) => void spans.push(span) };
}

export type SetUp = {
  tools?: readonly Tool[];
  dir?: string;
  env?: Record<string, string>;
  jail?: FakeJail;
  audit?: boolean;
  policy?: string;
  status?: ToolsStatus;
};

export async function setUp(t: TestContext, options: SetUp = {}) {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'quern-tools-')));
  if (!options.dir) t.after(() => rm(dir, { recursive: true, force: true }));
  const config: ToolsConfig = readConfig({
    QUERN_TOOLS_LISTEN: `unix://${dir}/run/tools.sock`,
    QUERN_TOOLS_DIR: join(dir, 'tools'),
    QUERN_LOG_LEVEL: 'silent',
    ...((options.audit ?? true) && { QUERN_AUDIT_KEY_DIR: join(dir, 'keys'), QUERN_NATS_URL: 'nats://127.0.0.1:1' }),
    ...options.env,
  });
  const jail = options.jail ?? createFakeJail();
  const tools = options.tools ?? [fakeTool({ name: 'fake' })];
  const parts = fakeParts(dir, jail, tools, options.policy ?? '', options.status ?? noStatus);
  const metrics = createMetrics('tools');
  const spans = spanList();
  const log = createLog({ service: 'tools', level: config.logLevel });
  const vault = config.audit ? await openVault(config.audit.keyDir) : null;
  const service = await startTools({ config, parts, vault, log, metrics, spans });
  let open = true;
  const close = async (): Promise<void> => {
    if (!open) return;
    open = false;
    client.close();
    await service.close();
  };
  const client = openChannel(ToolServiceClient, { address: service.address });
  t.after(close);
  return { dir, config, jail, service, client, metrics, spans, close };
}

function fakeParts(
  dir: string,
  jail: FakeJail,
  tools: readonly Tool[],
  policy: string,
  status: ToolsStatus,
): ToolParts {
  const byName = new Map(tools.map((tool) => [tool.definition.name, tool]));
  const registry = {
    list: () => tools,
    get(name: string) {
      const tool = byName.get(name);
      if (tool) return tool;
      throw new QuernError('NOT_FOUND', `there is no tool "${name}"`, { reason: 'TOOL_UNKNOWN' });
    },
    async check(_tool: Tool, text: string) {
      const parsed = parseArguments(text);
      return parsed.ok ? { ok: true as const, args: parsed.value } : parsed;
    },
    checkResult: async () => ({ ok: true as const, args: {} }),
  };
  const refuse = () => Promise.reject(new QuernError('FAILED_PRECONDITION', 'not here'));
  return {
    jail,
    catalog: createCatalog(registry, () => parsePolicy(policy)),
    status: () => status,
    packs: { register: refuse, remove: refuse },
    workspaces: {
      async enter({ tenant, sessionId }) {
        const path = join(dir, 'work', `${tenant}-${sessionId}`);
        await mkdir(path, { recursive: true });
        const workspace = { path, protected: [] };
        const full = new AbortController().signal;
        return { workspace, full, begin: async () => {}, artifact: async () => null, leave: async () => {} };
      },
      snapshot: refuse,
      rollback: refuse,
      discard: async () => true,
    },
    close: async () => {},
  };
}

export const caller = {
  tenant: 'acme',
  user: 'ada-lovelace',
  keyId: 'key-number-one',
  sessionId: 'session-one',
  requestId: 'r1',
};

export function executeRequest(over: Partial<ExecuteRequest> & { words?: readonly string[] } = {}): ExecuteRequest {
  const { words = ['exit', '0'], ...rest } = over;
  return {
    caller,
    callId: uuidv7(),
    idempotencyKey: '',
    tool: 'fake',
    toolSha256: Buffer.alloc(0),
    argumentsJson: JSON.stringify({ words }),
    stdin: Buffer.alloc(0),
    limits: undefined,
    timeoutMs: 30_000,
    depth: 0,
    taint: undefined,
    ...rest,
  };
}

export type Events = ExecuteResponse[];

export async function run(
  client: ToolServiceClient,
  over: Parameters<typeof executeRequest>[0] = {},
  options: Parameters<typeof serverStream>[3] = {},
): Promise<Events> {
  const events: Events = [];
  for await (const event of serverStream(client, 'execute', executeRequest(over), options)) events.push(event);
  return events;
}

export async function attachTo(client: ToolServiceClient, request: Omit<AttachRequest, 'caller'>): Promise<Events> {
  const events: Events = [];
  for await (const { event } of serverStream(client, 'attach', { caller, ...request })) events.push(event!);
  return events;
}

/** The last event, which is the only Result. */
export function resultOf(events: Events): Result {
  const results = events.flatMap(({ event }) => (event?.$case === 'result' ? [event.value] : []));
  const last = events.at(-1)?.event;
  if (results.length !== 1 || last?.$case !== 'result')
    throw new Error(`expected one Result, last, got ${results.length}`);
  return last.value;
}

export function outcomeOf(events: Events): string {
  return outcomeWord(resultOf(events).outcome) ?? 'none';
}

export function outputOf(events: Events): string {
  const pieces = events.flatMap(({ event }) => (event?.$case === 'output' ? [event.value.data] : []));
  return Buffer.concat(pieces).toString('utf8');
}

/** The records of a closed service, by action. */
export async function recordsOf(config: ToolsConfig): Promise<AuditRecord[]> {
  const outbox = await Outbox.open({ dir: config.folders.outbox, service: 'tools' });
  const records: AuditRecord[] = [];
  for await (const bytes of outbox.records()) records.push(JSON.parse(bytes.toString('utf8')) as AuditRecord);
  await outbox.close();
  return records;
}

/** For assert.rejects: the error of this reason. */
export const reasonOf = (reason: string) => (error: unknown) =>
  error instanceof QuernError && error.details.reason === reason;

/** The events' kinds, in order. */
export const kinds = (events: Events): string[] => events.map(({ event }) => event!.$case);
