// An MCP server in the sandbox: its stdin and stdout carry the messages. A server that floods, babbles or does not read is ended.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js';
import { QuernError } from '#kit/errors.ts';
import type {
  Jail,
  KillReason,
  OnHeldUp,
  OutputSink,
  SandboxCommand,
  SandboxEnd,
  SandboxSession,
} from '../jail/sandbox.ts';
import { stripText } from '../model-output.ts';
import {
  MCP_CLOSED_INPUT_MS,
  MCP_IDLE_OUTPUT_BYTES_MAX,
  MCP_MESSAGE_BYTES_MAX,
  MCP_MESSAGES_PER_CALL_MAX,
  MCP_SESSION_MS,
  MCP_STDERR_KEPT_BYTES,
  MCP_STRAY_LINES_MAX,
  MCP_UNSENT_BYTES_MAX,
} from './limits.ts';
import type { Link, LinkStop } from './link.ts';
import { LineCutter, parseMessage } from './message-lines.ts';

const KILLED_WORDS: Record<KillReason, string> = {
  wall: 'its time as a process was over',
  cpu: 'it used up its CPU time',
  memory: 'it used more memory than it may',
  pids: 'it started more processes than it may',
  output: 'it wrote more than it may',
  disk: 'the workspace is full',
  cancelled: 'it was ended',
  drain: 'the tool service stops',
};

function endWords({ killed, exitCode, signal, setupFailure, refusal }: SandboxEnd): string {
  if (setupFailure !== null && refusal) return setupFailure;
  if (setupFailure !== null) return `the sandbox could not be set up: ${setupFailure}`;
  if (killed !== null) return KILLED_WORDS[killed];
  return exitCode === null ? `it ended by ${signal ?? 'a signal'}` : `it exited with code ${exitCode}`;
}

export type SandboxLinkOptions = {
  /** Ends it. */
  readonly full?: AbortSignal;
  readonly onHeldUp?: OnHeldUp;
};

class SandboxLink implements Link, Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  readonly ended: Promise<string>;
  readonly #session: SandboxSession;
  readonly #lines = new LineCutter(MCP_MESSAGE_BYTES_MAX);
  readonly #startedMs = performance.now();
  readonly #outputBytesMax: number;
  #why: string | null = null;
  #stray = 0;
  #messages = 0;
  #bytes = 0;
  #bytesMax = MCP_IDLE_OUTPUT_BYTES_MAX;
  #allBytes = 0;
  #unsentBytes = 0;
  #stderr = Buffer.alloc(0);

  constructor(jail: Jail, command: SandboxCommand, { full, onHeldUp }: SandboxLinkOptions) {
    this.#outputBytesMax = command.limits.outputBytes;
    const output: OutputSink = {
      write: (stream, data) => {
        this.#take(stream, data);
        return true;
      },
      drained: () => Promise.resolve(),
    };
    // Whoever holds the link ends it: a start that is not wanted any more must not leave before its end is known.
    const { signal } = new AbortController();
    this.#session = jail.open(command, { signal, output, ...(onHeldUp && { onHeldUp }) });
    const onFull = (): void => this.#end(KILLED_WORDS.disk, 'disk');
    if (full?.aborted) onFull();
    full?.addEventListener('abort', onFull, { once: true });
    this.ended = this.#session.ended.then((end) => {
      full?.removeEventListener('abort', onFull);
      return this.#close(end);
    });
  }

  get transport(): Transport {
    return this;
  }

  async start(): Promise<void> {
    await this.#session.started.catch(() => {}); // onclose tells it, with the reason
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const data = Buffer.from(`${JSON.stringify(message)}\n`);
    if (data.length > MCP_MESSAGE_BYTES_MAX) {
      throw new QuernError('INVALID_ARGUMENT', `expected a message of at most ${MCP_MESSAGE_BYTES_MAX} bytes`);
    }
    if (this.#unsentBytes + data.length > MCP_UNSENT_BYTES_MAX + MCP_MESSAGE_BYTES_MAX) {
      this.#end('it does not read what it is sent', 'output');
      throw new QuernError('FAILED_PRECONDITION', 'the server does not read what it is sent');
    }
    this.#unsentBytes += data.length;
    try {
      await this.#session.write(data);
    } catch {
      await this.#closedInput();
    } finally {
      this.#unsentBytes -= data.length;
    }
  }

  /** It most likely ends just now, and then its end is the reason. */
  async #closedInput(): Promise<void> {
    const over = new AbortController();
    const time = sleep(MCP_CLOSED_INPUT_MS, undefined, { signal: over.signal }).catch(() => {});
    await Promise.race([this.ended, time]);
    over.abort();
    this.#end('it takes no more input', 'cancelled');
  }

  /** The SDK's way to hang up; whoever needs to know that nothing is left calls stop(). */
  async close(): Promise<void> {
    void this.#session.kill('cancelled');
  }

  allow(outputBytes: number | null): void {
    this.#bytesMax = outputBytes ?? MCP_IDLE_OUTPUT_BYTES_MAX;
    this.#bytes = 0;
    this.#messages = 0;
  }

  isWorn(): boolean {
    return performance.now() - this.#startedMs > MCP_SESSION_MS || this.#allBytes > this.#outputBytesMax / 2;
  }

  async stop(how: LinkStop): Promise<string> {
    await this.#session.kill(how === 'drain' ? 'drain' : 'cancelled', { gentle: how === 'gentle' });
    return this.ended;
  }

  #end(why: string, reason: KillReason): void {
    this.#why ??= why;
    void this.#session.kill(reason);
  }

  #close(end: SandboxEnd): string {
    const why = this.#why ?? endWords(end);
    const said = stripText(this.#stderr.toString('utf8')).trim();
    this.#why = said === '' ? why : `${why}; it said on stderr: ${said}`;
    this.onclose?.();
    return this.#why;
  }

  #take(stream: 'stdout' | 'stderr', data: Uint8Array): void {
    if (this.#why !== null) return;
    this.#allBytes += data.length;
    this.#bytes += data.length;
    if (this.#bytes > this.#bytesMax) this.#end(`it wrote more than ${this.#bytesMax} bytes`, 'output');
    else if (stream === 'stdout') this.#read(data);
    else this.#stderr = Buffer.concat([this.#stderr, data]).subarray(-MCP_STDERR_KEPT_BYTES);
  }

  #read(data: Uint8Array): void {
    const lines = this.#lines.add(data);
    for (const line of lines ?? []) if (this.#why === null) this.#hear(line);
    if (lines === null) this.#end(`it sent a message of more than ${MCP_MESSAGE_BYTES_MAX} bytes`, 'output');
  }

  #hear(line: Buffer): void {
    this.#messages += 1;
    if (this.#messages > MCP_MESSAGES_PER_CALL_MAX) {
      this.#end(`it sent more than ${MCP_MESSAGES_PER_CALL_MAX} messages for one call`, 'output');
    } else if (this.#isTaken(line)) return;
    else if (line.includes('"jsonrpc"')) this.#end('it sent a message that cannot be read', 'output');
    else this.#strayed();
  }

  #isTaken(line: Buffer): boolean {
    const message = parseMessage(line);
    try {
      if (message) this.onmessage?.(message);
      return message !== null;
    } catch {
      return false; // what the SDK cannot take
    }
  }

  #strayed(): void {
    this.#stray += 1;
    if (this.#stray > MCP_STRAY_LINES_MAX) {
      this.#end(`it wrote ${this.#stray} lines on stdout that are no messages of the protocol`, 'output');
    }
  }
}

/** Starts the server's process. Throws what Jail.open throws: no sandbox, no server. */
export function openSandboxLink(jail: Jail, command: SandboxCommand, options: SandboxLinkOptions = {}): Link {
  return new SandboxLink(jail, command, options);
}
