// A remote MCP server over streamable HTTP. Whatever breaks ends the conversation: the next call begins a new one.
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js';
import type { Resolve } from '../egress/guarded-fetch.ts';
import { stripText } from '../model-output.ts';
import { createHttpDoor } from './http-door.ts';
import { MCP_IDLE_OUTPUT_BYTES_MAX, MCP_MESSAGES_PER_CALL_MAX, MCP_SESSION_MS } from './limits.ts';
import type { Link, LinkStop } from './link.ts';
import type { HttpServer } from './server-spec.ts';

const WHY_CHARS_MAX = 500;
/** What saying good-bye may take. */
const FAREWELL_MS = 500;

class HttpLink implements Link, Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  readonly ended: Promise<string>;
  readonly #inner: StreamableHTTPClientTransport;
  readonly #over = new AbortController();
  readonly #startedMs = performance.now();
  readonly #setEnded: (why: string) => void;
  #messages = 0;
  #bytes = 0;
  #bytesMax = MCP_IDLE_OUTPUT_BYTES_MAX;

  constructor(server: HttpServer, credentials: Readonly<Record<string, string>>, resolve: Resolve) {
    const { promise, resolve: setEnded } = Promise.withResolvers<string>();
    this.ended = promise;
    this.#setEnded = setEnded;
    const { signal } = this.#over;
    const door = createHttpDoor(server, { resolve, credentials, signal, onBytes: (bytes) => this.#count(bytes) });
    this.#inner = new StreamableHTTPClientTransport(server.url, {
      fetch: door,
      reconnectionOptions: {
        initialReconnectionDelay: 1_000,
        maxReconnectionDelay: 1_000,
        reconnectionDelayGrowFactor: 1,
        maxRetries: 0, // the server chooses the delay: with retries it could keep us asking
      },
    });
    this.#inner.onmessage = (message) => this.#hear(message);
    this.#inner.onerror = (error) => this.#end(error.message);
  }

  get transport(): Transport {
    return this;
  }

  start(): Promise<void> {
    return this.#inner.start();
  }

  async send(message: JSONRPCMessage): Promise<void> {
    try {
      await this.#inner.send(message);
    } catch (error) {
      this.#end((error as Error).message);
      throw error;
    }
  }

  setProtocolVersion(version: string): void {
    this.#inner.setProtocolVersion(version);
  }

  async close(): Promise<void> {
    this.#end('it was ended');
  }

  allow(outputBytes: number | null): void {
    this.#bytesMax = outputBytes ?? MCP_IDLE_OUTPUT_BYTES_MAX;
    this.#bytes = 0;
    this.#messages = 0;
  }

  isWorn(): boolean {
    return performance.now() - this.#startedMs > MCP_SESSION_MS;
  }

  async stop(how: LinkStop): Promise<string> {
    if (how === 'gentle' && !this.#over.signal.aborted) {
      const timer = setTimeout(() => this.#end('it was ended'), FAREWELL_MS);
      await this.#inner.terminateSession().catch(() => {}); // it may not know sessions
      clearTimeout(timer);
    }
    this.#end('it was ended');
    return this.ended;
  }

  #end(why: string): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort(new Error(why));
    void this.#inner.close();
    this.#setEnded(stripText(why).slice(0, WHY_CHARS_MAX));
    this.onclose?.();
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#bytesMax) this.#end(`it sent more than ${this.#bytesMax} bytes`);
  }

  #hear(message: JSONRPCMessage): void {
    this.#messages += 1;
    if (this.#messages > MCP_MESSAGES_PER_CALL_MAX) {
      this.#end(`it sent more than ${MCP_MESSAGES_PER_CALL_MAX} messages for one call`);
    } else if (!this.#over.signal.aborted) this.onmessage?.(message);
  }
}

export function openHttpLink(
  server: HttpServer,
  options: { credentials: Readonly<Record<string, string>>; resolve: Resolve },
): Link {
  return new HttpLink(server, options.credentials, options.resolve);
}
