// The MCP servers of the packs: their tools go to the registry, their calls to conversations that are kept per tenant and session.
// The SDK is loaded with the first server; a service without servers never pays for it.
import { lookup } from 'node:dns/promises';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { ArgumentChecker } from '../argument-check.ts';
import type { OpenWorkspace, WorkspaceDoor } from '../call-ports.ts';
import { canonicalSha256 } from '../canonical.ts';
import type { Resolve } from '../egress/guarded-fetch.ts';
import type { Jail, SandboxCommand } from '../jail/sandbox.ts';
import type { Interpreter } from '../jail/toolchain.ts';
import type { CallContext, JsonObject, JsonValue, Tool, ToolAnswer } from '../tool.ts';
import type { McpConnection } from './connection.ts';
import { MCP_STARTS_AT_ONCE } from './limits.ts';
import { openPins, type Pin, type Pins } from './pins.ts';
import type { McpServerSpec, StdioServer } from './server-spec.ts';
import { ServerState, type ServerStatus } from './server-state.ts';
import { type SessionBounds, SessionPool } from './session-pool.ts';

export type McpServers = {
  /** What the packs say now. Settles when each new or changed server has answered or failed. */
  setServers(specs: readonly McpServerSpec[]): Promise<void>;
  status(): readonly ServerStatus[];
  /** Ends the idle conversations of a session, so that its workspace is free. */
  endSession(session: { tenant: string; sessionId: string }): Promise<void>;
  /** Ends the idle processes that may write to a session's workspace, but for those of one server. */
  endWriters(session: { tenant: string; sessionId: string }, options: { except: string }): Promise<void>;
  /** Processes and remote sessions that are there now. */
  readonly sessions: number;
  close(): Promise<void>;
};

export type McpOptions = {
  readonly jail: Jail;
  readonly interpreters: Readonly<Record<Interpreter, string | null>>;
  readonly workspaces: WorkspaceDoor;
  readonly checker: ArgumentChecker;
  readonly registry: { setServerTools(server: string, tools: readonly Tool[]): Promise<void> };
  /** File of the pinned definitions. */
  readonly pinsPath: string;
  readonly log: Log;
  readonly bounds?: SessionBounds;
  readonly retryMs?: number;
  readonly resolve?: Resolve;
};

const resolveName: Resolve = async (host) => (await lookup(host, { all: true })).map(({ address }) => address);

/** What makes two settings of a server the same one. */
const specDigest = (spec: McpServerSpec): string => canonicalSha256(JSON.parse(JSON.stringify(spec)) as JsonValue);

function commandOf(
  spec: StdioServer,
  workspace: OpenWorkspace['workspace'] | null,
  interpreters: McpOptions['interpreters'],
): SandboxCommand {
  const { command, args, env, binds, network, processLimits: limits } = spec;
  const program = command.startsWith('/') ? command : interpreters[command as Interpreter];
  if (program === null) {
    throw new QuernError('FAILED_PRECONDITION', `mcp_servers.${spec.name}: the toolchain has no ${command}`);
  }
  const folder = workspace && { ...workspace, writable: spec.workspace === 'write' };
  return { argv: [program, ...args], env, stdin: null, workspace: folder, binds, network, limits };
}

class OpenServers implements McpServers {
  readonly #options: McpOptions;
  readonly #pins: Pins;
  readonly #pool: SessionPool;
  readonly #servers = new Map<string, { digest: string; state: ServerState }>();
  #turn: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: McpOptions, pins: Pins) {
    this.#options = options;
    this.#pins = pins;
    this.#pool = new SessionPool(options.bounds);
  }

  get sessions(): number {
    return this.#pool.size;
  }

  status(): readonly ServerStatus[] {
    return [...this.#servers.values()].map(({ state }) => state.status);
  }

  async setServers(specs: readonly McpServerSpec[]): Promise<void> {
    const change = this.#turn.then(() => this.#change(specs));
    this.#turn = change.then(
      () => undefined,
      () => undefined,
    );
    const started = await change;
    const lanes = Array.from({ length: MCP_STARTS_AT_ONCE }, async () => {
      for (let state = started.shift(); state; state = started.shift()) await this.#start(state);
    });
    await Promise.all(lanes);
  }

  endSession(session: { tenant: string; sessionId: string }): Promise<void> {
    return this.#pool.endSession(session);
  }

  endWriters(session: { tenant: string; sessionId: string }, { except }: { except: string }): Promise<void> {
    const writes = (name: string): boolean => {
      const spec = this.#servers.get(name)?.state.spec;
      return spec === undefined || (spec.kind === 'stdio' && spec.workspace === 'write');
    };
    return this.#pool.endSession(session, (server) => server !== except && writes(server));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#servers.values()].map(({ state }) => state.close()));
    await this.#turn;
    await this.#pool.close();
  }

  /** Ends what is gone or changed; gives what is new, not started yet. */
  async #change(specs: readonly McpServerSpec[]): Promise<ServerState[]> {
    if (this.#closed) return [];
    const { registry } = this.#options;
    const wanted = new Map(specs.map((spec) => [spec.name, { spec, digest: specDigest(spec) }]));
    for (const [name, { digest, state }] of [...this.#servers]) {
      if (wanted.get(name)?.digest === digest) continue;
      this.#servers.delete(name);
      await state.close();
      await this.#pool.endServer(name);
      if (!wanted.has(name)) await registry.setServerTools(name, []);
    }
    const started: ServerState[] = [];
    for (const [name, { spec, digest }] of wanted) {
      if (this.#servers.has(name)) continue;
      const state = this.#stateOf(spec);
      this.#servers.set(name, { digest, state });
      started.push(state);
    }
    return started;
  }

  async #start(state: ServerState): Promise<void> {
    try {
      if (this.#servers.get(state.spec.name)?.state === state && !this.#closed) await state.start();
    } catch (error) {
      if (this.#closed) return;
      this.#options.log.error({ err: error, server: state.spec.name }, 'the tools of an MCP server cannot be offered');
    }
  }

  #stateOf(spec: McpServerSpec): ServerState {
    const { checker, log, registry, retryMs } = this.#options;
    const state: ServerState = new ServerState(spec, {
      pins: this.#pins,
      checker,
      log,
      open: (_, options) => this.#open(spec, null, options),
      run: (pin, tool, args, call, options) => this.#run(state, pin, tool, args, call, options),
      publish: (tools) => registry.setServerTools(spec.name, tools),
      ...(retryMs !== undefined && { retryMs }),
    });
    return state;
  }

  async #run(
    state: ServerState,
    pin: Pin,
    tool: Tool,
    args: JsonObject,
    call: CallContext,
    { signal }: { signal: AbortSignal },
  ): Promise<ToolAnswer> {
    const { spec } = state;
    const { tenant, sessionId, limits } = call;
    const key = { server: spec.name, tenant, sessionId };
    const open = (options: { signal: AbortSignal }) => this.#open(spec, { tenant, sessionId }, options);
    return this.#pool.use(key, { open, idleMs: spec.idleMs, signal }, async (connection) => {
      state.check(await connection.listing({ signal }), pin);
      const { outputBytes } = limits;
      const result = await connection.call(pin.tool.name, args, { signal, outputBytes });
      const { callAnswer } = await import('./call-answer.ts');
      const { outputSchema } = tool.definition;
      return callAnswer(result, { outputSchema, checker: this.#options.checker, signal });
    });
  }

  /** A conversation, of a session or of nobody. Its workspace is held until nothing of it is left. */
  async #open(
    spec: McpServerSpec,
    session: { tenant: string; sessionId: string } | null,
    { signal }: { signal: AbortSignal },
  ): Promise<McpConnection> {
    const { McpConnection: Connection } = await import('./connection.ts');
    if (spec.kind === 'http') {
      const { openHttpLink } = await import('./http-link.ts');
      const { readHeadersFile } = await import('./http-door.ts');
      const credentials = spec.headersFile === null ? {} : await readHeadersFile(spec.headersFile);
      const { resolve = resolveName } = this.#options;
      return Connection.open(openHttpLink(spec, { credentials, resolve }), { signal });
    }
    const { openSandboxLink } = await import('./sandbox-link.ts');
    const { jail, interpreters, workspaces } = this.#options;
    const opened = session && spec.workspace !== 'none' ? await workspaces.enter(session) : null;
    try {
      const command = commandOf(spec, opened?.workspace ?? null, interpreters);
      const onHeldUp = (): void => void (session && this.endWriters(session, { except: spec.name }).catch(() => {}));
      const held = opened ? { full: opened.full, onHeldUp } : {};
      const connection = await Connection.open(openSandboxLink(jail, command, held), { signal });
      if (opened) void connection.ended.then(() => opened.leave());
      return connection;
    } catch (error) {
      await opened?.leave();
      throw error;
    }
  }
}

/** Starts nothing yet. Throws FAILED_PRECONDITION, reason MCP_PINS_UNREADABLE. */
export async function openMcpServers(options: McpOptions): Promise<McpServers> {
  return new OpenServers(options, await openPins(options.pinsPath));
}
