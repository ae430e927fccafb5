// One MCP server as the registry knows it: what it offers is found out in a conversation that no tenant takes part in, so that
// nothing a tenant does to its own conversation changes what others have.
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { ArgumentChecker } from '../argument-check.ts';
import { stripText } from '../model-output.ts';
import type { Tool } from '../tool.ts';
import type { Listing, McpConnection } from './connection.ts';
import { type Change, changedFields, judgeListing, quarantineReason } from './definitions.ts';
import { MCP_RETRY_MS, MCP_RETRY_MS_MAX } from './limits.ts';
import { mcpTool, type RunMcpCall } from './mcp-tool.ts';
import type { Pin, Pins } from './pins.ts';
import type { McpServerSpec } from './server-spec.ts';

export type ServerStatus = {
  readonly name: string;
  /** unknown: not asked yet; quarantined: it has a tool that is; failed: it could not be asked. */
  readonly state: 'unknown' | 'listed' | 'quarantined' | 'failed';
  readonly tools: number;
  /** In words for an operator: tools left out or in quarantine, why it could not be asked. */
  readonly problems: readonly string[];
};

export type ServerParts = {
  readonly pins: Pins;
  readonly checker: ArgumentChecker;
  readonly log: Log;
  /** Begins a conversation that belongs to no tenant. */
  readonly open: (spec: McpServerSpec, options: { signal: AbortSignal }) => Promise<McpConnection>;
  readonly run: RunMcpCall;
  /** Puts the server's tools in place of those it had. */
  readonly publish: (tools: readonly Tool[]) => Promise<void>;
  readonly retryMs?: number;
};

const words = (problem: string): string => stripText(problem).slice(0, 600);

export class ServerState {
  readonly spec: McpServerSpec;
  readonly #parts: ServerParts;
  readonly #closing = new AbortController();
  #changes: ReadonlyMap<string, Change> = new Map();
  #state: ServerStatus['state'] = 'unknown';
  #problems: readonly string[] = [];
  #tools = 0;
  #looking: Promise<void> | null = null;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #retryMs: number;
  #timer: NodeJS.Timeout | null = null;

  constructor(spec: McpServerSpec, parts: ServerParts) {
    this.spec = spec;
    this.#parts = parts;
    this.#retryMs = parts.retryMs ?? MCP_RETRY_MS;
  }

  get status(): ServerStatus {
    const quarantined = [...this.#changes.values()].map((change) => quarantineReason(this.spec.name, change));
    const problems = [...this.#problems, ...quarantined];
    const state = this.#state === 'listed' && quarantined.length > 0 ? 'quarantined' : this.#state;
    return { name: this.spec.name, state, tools: this.#tools, problems };
  }

  /** Offers what was pinned before, then asks the server. Settles when it has answered or failed. */
  async start(): Promise<void> {
    const { pins } = this.#parts;
    const known = [...pins.of(this.spec.name).values()];
    if (known.length > 0) await this.#publish(known.filter((pin) => this.#isWanted(pin)));
    await this.look();
  }

  /** Asks the server what it offers. One at a time; a failure is tried again by itself. */
  look(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** A conversation has shown something else than what is pinned: look again soon, whatever that conversation's worth. */
  lookSoon(): void {
    if (this.#timer || this.#looking || this.#closing.signal.aborted) return;
    const { retryMs = MCP_RETRY_MS } = this.#parts;
    const wait = Math.max(0, this.#lookedMs + retryMs - performance.now());
    this.#timer = setTimeout(() => void this.look(), wait);
    this.#timer.unref();
  }

  /** Throws FAILED_PRECONDITION when a conversation's own list says something else of the tool than its pin. */
  check(listing: Listing, pin: Pin): void {
    const listed = listing.tools.get(pin.tool.name);
    if (listed?.sha256 === pin.sha256) return;
    this.lookSoon();
    const { name } = this.spec;
    const message = listed
      ? quarantineReason(name, { ...listed, name: pin.tool.name, fields: changedFields(pin.tool, listed.tool) })
      : `the MCP server ${name} does not offer this tool any more`;
    // The outcome of a tool that cannot run here now, as unavailable() gives it.
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'SANDBOX_UNAVAILABLE' });
  }

  async close(): Promise<void> {
    this.#closing.abort(new QuernError('CANCELLED', 'the MCP server is not used any more'));
    if (this.#timer) clearTimeout(this.#timer);
    await this.#looking;
  }

  #isWanted({ tool }: Pin): boolean {
    return this.spec.tools === null || this.spec.tools.includes(tool.name);
  }

  async #look(): Promise<void> {
    const { open, log, retryMs = MCP_RETRY_MS } = this.#parts;
    const { signal } = this.#closing;
    const { name } = this.spec;
    if (signal.aborted) return;
    this.#lookedMs = performance.now();
    try {
      const connection = await open(this.spec, { signal });
      let listing: Listing;
      try {
        listing = await connection.listing({ signal });
      } finally {
        await connection.stop('gentle');
      }
      await this.#take(listing);
      this.#retryMs = retryMs;
    } catch (error) {
      if (signal.aborted) return;
      this.#state = 'failed';
      this.#problems = [words((error as Error).message)];
      const said = { problem: this.#problems[0], ...(error instanceof QuernError && error.details) };
      log.warn({ server: name, ...said, retry_ms: this.#retryMs }, 'an MCP server could not be asked for its tools');
      this.#timer = setTimeout(() => void this.look(), this.#retryMs);
      this.#timer.unref();
      this.#retryMs = Math.min(2 * this.#retryMs, MCP_RETRY_MS_MAX);
    }
  }

  async #take(listing: Listing): Promise<void> {
    const { pins, log } = this.#parts;
    const { name } = this.spec;
    const judged = await judgeListing(this.spec, listing, pins);
    this.#changes = judged.changes;
    for (const change of judged.changes.values()) {
      log.warn({ server: name, tool: words(change.name), sha256: change.sha256 }, quarantineReason(name, change));
    }
    if (judged.recorded.length > 0) {
      log.info({ server: name, tools: judged.recorded.map(words) }, 'definitions of MCP tools pinned');
    }
    this.#problems = listing.problems.map(words);
    await this.#publish([...judged.pins.values()]);
    this.#state = 'listed';
    for (const problem of this.#problems) log.warn({ server: name }, `MCP server: ${problem}`);
  }

  /** One bad definition leaves the others where they are. */
  async #publish(pins: readonly Pin[]): Promise<void> {
    const { checker, publish } = this.#parts;
    const { signal } = this.#closing;
    const tools = new Map<string, Tool[]>();
    const problems: string[] = [];
    for (const pin of pins) {
      try {
        const tool = this.#toolOf(pin);
        const { inputSchema, outputSchema, name } = tool.definition;
        await checker.compile(inputSchema, { signal, ignoreUnknown: true });
        if (outputSchema) await checker.compile(outputSchema, { signal, ignoreUnknown: true });
        tools.set(name, [...(tools.get(name) ?? []), tool]);
      } catch (error) {
        if (!(error instanceof QuernError) || error.code !== 'INVALID_ARGUMENT') throw error;
        problems.push(words(`the tool ${JSON.stringify(pin.tool.name)} is left out: ${error.message}`));
      }
    }
    for (const [name, same] of tools) {
      if (same.length === 1) continue;
      problems.push(`${same.length} tools would have the name ${name}: none of them is offered`);
      tools.delete(name);
    }
    this.#problems = [...this.#problems, ...problems];
    this.#tools = tools.size;
    await publish([...tools.values()].flat());
  }

  #toolOf(pin: Pin): Tool {
    const { run } = this.#parts;
    const unavailable = (): string | null => {
      const change = this.#changes.get(pin.tool.name);
      return change ? quarantineReason(this.spec.name, change) : null;
    };
    return mcpTool(this.spec, pin, { unavailable, run });
  }
}
