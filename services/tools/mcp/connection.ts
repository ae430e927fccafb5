// One conversation with an MCP server: initialize, the list of its tools, calls. What the server asks of us is refused; what it
// says of its tools is taken as data and compiled nowhere here.
import { setImmediate } from 'node:timers/promises';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { ErrorCode, McpError, ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { QuernError } from '#kit/errors.ts';
import type { JsonObject } from '../tool.ts';
import { type ForeignTool, foreignSha256, parseForeignTool } from './foreign-tool.ts';
import { MCP_LIST_AGE_MS, MCP_LIST_PAGES_MAX, MCP_START_MS, MCP_TOOLS_PER_SERVER_MAX } from './limits.ts';
import type { Link, LinkStop } from './link.ts';
import {
  type CallResult,
  callSchema,
  listSchema,
  readCallResult,
  serverWords,
  trimInitialize,
} from './server-answers.ts';

/** What a server said of its tools at one time. */
export type Listing = {
  /** By its own names, each with the hash of its definition. */
  readonly tools: ReadonlyMap<string, { tool: ForeignTool; sha256: string }>;
  /** Tools that cannot be offered, and why. */
  readonly problems: readonly string[];
};

/** The SDK's own timers must never be what ends a call. */
const NEVER_MS = 2 ** 31 - 1;
const VERSION = '1';

const NOT_THE_PROTOCOL = 'its answer is not what the protocol says';

const nameOf = (value: unknown): string => {
  const { name } = (value ?? {}) as { name?: unknown };
  return JSON.stringify(typeof name === 'string' ? name.slice(0, 80) : null);
};

/** Takes what can be offered; a name that stands twice means neither. */
export function listingOf(values: readonly unknown[]): Listing {
  const tools = new Map<string, { tool: ForeignTool; sha256: string }>();
  const twice = new Set<string>();
  const problems: string[] = [];
  for (const value of values) {
    try {
      const tool = parseForeignTool(value);
      if (tools.has(tool.name)) twice.add(tool.name);
      tools.set(tool.name, { tool, sha256: foreignSha256(tool) });
    } catch (error) {
      problems.push(`the tool ${nameOf(value)} is left out: ${(error as Error).message}`);
    }
  }
  for (const name of twice) {
    tools.delete(name);
    problems.push(`the tool ${JSON.stringify(name.slice(0, 80))} is left out: it is listed twice`);
  }
  return { tools, problems };
}

export class McpConnection {
  readonly ended: Promise<string>;
  readonly #link: Link;
  readonly #client: Client;
  #listing: Listing = { tools: new Map(), problems: [] };
  #listedMs = Number.NEGATIVE_INFINITY;
  #relisting: Promise<Listing> | null = null;
  #running = 0;
  #why: string | null = null;

  private constructor(link: Link) {
    this.#link = link;
    this.#client = new Client({ name: 'quern', version: VERSION }, { capabilities: {} });
    link.transport.onmessage = trimInitialize; // the SDK keeps it before its own
    this.#client.onerror = () => {}; // stray answers and the like: the link counts messages
    this.#client.setNotificationHandler(ToolListChangedNotificationSchema, () => {
      this.#listedMs = Number.NEGATIVE_INFINITY;
    });
    this.ended = link.ended.then((why) => {
      this.#why = why;
      return why;
    });
  }

  /** Starts the conversation and reads the list of tools. When it throws, nothing of the link is left. */
  static async open(link: Link, { signal }: { signal: AbortSignal }): Promise<McpConnection> {
    const connection = new McpConnection(link);
    const time = AbortSignal.timeout(MCP_START_MS);
    try {
      const start = { signal: AbortSignal.any([signal, time]), timeout: NEVER_MS };
      await connection.#client.connect(link.transport, start);
      await connection.list(start);
      link.allow(null);
      return connection;
    } catch (error) {
      const said = signal.aborted || time.aborted ? null : connection.#why;
      const why = said ?? (await link.stop('cancelled'));
      if (signal.aborted) throw signal.reason;
      const told = time.aborted
        ? `it did not answer initialize and tools/list within ${MCP_START_MS} ms`
        : failureWords(error, why);
      throw new QuernError('FAILED_PRECONDITION', told, { reason: 'MCP_START_FAILED' }); // no cause: it is the server's text
    }
  }

  get isOver(): boolean {
    return this.#why !== null;
  }

  /** A new connection should take its place when no call runs. */
  get isWorn(): boolean {
    return this.#link.isWorn();
  }

  /**
   * The list as it was asked for last, unless the server has said that it changed, or it is old. Throws ABORTED with the reason when
   * the server does not give it, and the signal's reason.
   */
  async listing({ signal }: { signal: AbortSignal }): Promise<Listing> {
    if (performance.now() - this.#listedMs < MCP_LIST_AGE_MS) return this.#listing;
    // Of all calls that wait for it: the end of one of them is not the end of it.
    this.#relisting ??= this.list({ timeout: MCP_START_MS }).finally(() => {
      this.#relisting = null;
    });
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      return await Promise.race([this.#relisting, aborted]);
    } catch (error) {
      signal.throwIfAborted();
      this.#listedMs = Number.NEGATIVE_INFINITY;
      const message = `the MCP server did not list its tools: ${failureWords(error, await this.#whyOver())}`;
      throw new QuernError('ABORTED', message, { reason: 'MCP_ERROR' }); // no cause: it is the server's text
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async list(options: { signal?: AbortSignal; timeout: number }): Promise<Listing> {
    const values: unknown[] = [];
    const listedMs = performance.now();
    this.#listedMs = listedMs; // a notice that comes meanwhile makes it old again
    let cursor: string | undefined;
    for (let page = 0; page < MCP_LIST_PAGES_MAX; page++) {
      const params = cursor === undefined ? {} : { cursor };
      const answer = await this.#client.request({ method: 'tools/list', params }, listSchema, options);
      for (const tool of answer.tools.slice(0, MCP_TOOLS_PER_SERVER_MAX + 1)) values.push(tool);
      cursor = answer.nextCursor;
      if (cursor === undefined || values.length > MCP_TOOLS_PER_SERVER_MAX) break;
    }
    const listing = listingOf(values.slice(0, MCP_TOOLS_PER_SERVER_MAX));
    const left = values.length > MCP_TOOLS_PER_SERVER_MAX || cursor !== undefined;
    const problem = `it lists more than ${MCP_TOOLS_PER_SERVER_MAX} tools or ${MCP_LIST_PAGES_MAX} pages: the rest is left out`;
    this.#listing = left ? { ...listing, problems: [...listing.problems, problem] } : listing;
    return this.#listing;
  }

  /**
   * Throws INVALID_ARGUMENT when the server refuses the arguments, ABORTED with the reason when it ends or answers with an error,
   * and the signal's reason; then the server has been told that the call is cancelled.
   */
  async call(
    tool: string,
    args: JsonObject,
    { signal, outputBytes }: { signal: AbortSignal; outputBytes: number },
  ): Promise<CallResult> {
    this.#running += 1;
    this.#link.allow(outputBytes * this.#running);
    try {
      const request = { method: 'tools/call', params: { name: tool, arguments: args } };
      const answer = await this.#client.request(request, callSchema, { signal, timeout: NEVER_MS });
      const result = readCallResult(answer);
      if (result) return result;
      throw new QuernError('ABORTED', NOT_THE_PROTOCOL);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const why = await this.#whyOver();
      if (why !== null) throw new QuernError('ABORTED', `the MCP server ended: ${why}`, { reason: 'MCP_SERVER_ENDED' });
      if (error instanceof McpError && error.code === ErrorCode.InvalidParams) {
        throw new QuernError('INVALID_ARGUMENT', serverWords(error.message), { reason: 'MCP_REFUSED' });
      }
      const message = `the MCP server answered with an error: ${failureWords(error, null)}`;
      throw new QuernError('ABORTED', message, { reason: 'MCP_ERROR' }); // no cause: it is the server's text
    } finally {
      this.#running -= 1;
      this.#link.allow(this.#running === 0 ? null : outputBytes * this.#running);
    }
  }

  /** The SDK's code for a closed connection is one that servers use for their own errors: only the link knows. */
  async #whyOver(): Promise<string | null> {
    await setImmediate(); // the link's end is told to the SDK first
    return this.#why;
  }

  stop(how: LinkStop): Promise<string> {
    return this.#link.stop(how);
  }
}

function failureWords(error: unknown, why: string | null): string {
  if (why !== null && error instanceof McpError && error.code === ErrorCode.ConnectionClosed) return why;
  if (error instanceof McpError && error.code === ErrorCode.RequestTimeout) return 'it did not answer in time';
  const { issues } = error as { issues?: unknown }; // the SDK's zod is not ours
  if (Array.isArray(issues)) return NOT_THE_PROTOCOL;
  return serverWords((error as Error).message);
}
