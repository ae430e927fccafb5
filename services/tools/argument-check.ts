// Checks the arguments of calls against the schemas of tools. Bounds and grammar are checked here, the schema in a thread that
// has a limited time for each check and is ended when it takes more: neither a schema nor arguments can block the service.
import { Worker } from 'node:worker_threads';
import { QuernError } from '#kit/errors.ts';
import { sha256Hex } from '#kit/secure.ts';
import { canonicalJson } from './canonical.ts';
import { parseArguments } from './json-arguments.ts';
import { READY_ID, type SchemaReply, type SchemaRequest } from './schema-thread-messages.ts';
import { threadEnv } from './thread-modules.ts';
import type { JsonObject } from './tool.ts';
import {
  CHECK_CPU_MS,
  CHECK_QUEUE_MAX,
  CHECK_QUEUE_PER_TENANT_MAX,
  CHECK_RETRY_MS,
  CHECK_WALL_MS,
  COMPILE_CPU_MS,
} from './tool-limits.ts';

export type CheckedArguments = { ok: true; args: JsonObject } | { ok: false; message: string };

/** `tenant`: whose check it is, for its share of the queue; without it the check is the service's own. */
export type CheckOptions = { signal: AbortSignal; tenant?: string };

export type ArgumentChecker = {
  /**
   * Compiles a schema that checkSchema() let pass. Throws INVALID_ARGUMENT, reason SCHEMA_INVALID, when it is not valid or takes
   * too long. `ignoreUnknown`: unknown keywords are no mistake, as in what MCP servers send.
   */
  compile(schema: JsonObject, options: { signal: AbortSignal; ignoreUnknown?: boolean }): Promise<void>;
  /** The arguments of a call as they came. Throws RESOURCE_EXHAUSTED when too many checks wait, of this tenant or of all. */
  check(schema: JsonObject, argumentsJson: string, options: CheckOptions): Promise<CheckedArguments>;
  close(): Promise<void>;
};

type Ask =
  | { op: 'compile'; key: string; schema: string; ignoreUnknown: boolean }
  | { op: 'check'; key: string; value: string };

type Pending = {
  request: SchemaRequest;
  tenant: string;
  cpuMs: number;
  resolve: (reply: SchemaReply) => void;
  reject: (error: unknown) => void;
};

/** How often the time of a running check is looked at. */
const LOOK_MS = 20;

/** The thread and what waits for it, one request at a time. */
class SchemaThread {
  #worker: Worker | null = null;
  #ready = false;
  #current: Pending | null = null;
  readonly #queue: Pending[] = [];
  #watch: NodeJS.Timeout | null = null;
  #nextId = READY_ID + 1;
  #closed = false;

  ask(request: Ask, cpuMs: number, tenant = ''): Promise<SchemaReply> {
    if (this.#closed) return Promise.reject(new QuernError('UNAVAILABLE', 'the service stops'));
    const own = this.#queue.filter((pending) => pending.tenant === tenant).length;
    if ((tenant !== '' && own >= CHECK_QUEUE_PER_TENANT_MAX) || this.#queue.length >= CHECK_QUEUE_MAX) {
      const message = `${own} calls of this tenant already wait for the check of their arguments; try again`;
      return Promise.reject(new QuernError('RESOURCE_EXHAUSTED', message, { retryAfterMs: CHECK_RETRY_MS }));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ request: { ...request, id: this.#nextId++ }, cpuMs, tenant, resolve, reject });
      this.#next();
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL('./schema-thread.ts', import.meta.url), {
      env: threadEnv(),
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 },
    });
    this.#ready = false;
    worker.on('message', (reply: SchemaReply) => {
      if (worker !== this.#worker) return;
      if (reply.id === READY_ID) {
        this.#ready = true;
        this.#send();
      } else if (reply.id === this.#current?.request.id) this.#finish(reply);
    });
    worker.on('error', () => this.#lost(worker));
    worker.on('exit', () => this.#lost(worker));
    return worker;
  }

  /** The thread ended by itself, out of memory most likely. */
  #lost(worker: Worker): void {
    if (worker !== this.#worker) return;
    this.#worker = null;
    this.#refuse('took more memory than a check may');
  }

  #refuse(message: string): void {
    const current = this.#current;
    if (current) this.#finish({ id: current.request.id, ok: false, unknown: false, message });
  }

  #next(): void {
    if (this.#current || this.#closed) return;
    this.#current = this.#queue.shift() ?? null;
    if (!this.#current) {
      this.#worker?.unref();
      return;
    }
    this.#worker ??= this.#start();
    this.#worker.ref();
    if (this.#ready) this.#send();
  }

  /** The thread's start is over: its time counts from here. */
  #send(): void {
    if (!this.#worker || !this.#current) return;
    this.#worker.postMessage(this.#current.request);
    void this.#limit(this.#worker, this.#current);
  }

  /** Ends the thread when it has used up its time. CPU time: on a busy machine a check is not refused for waiting. */
  async #limit(worker: Worker, pending: Pending): Promise<void> {
    const isOver = (): boolean => pending !== this.#current || worker !== this.#worker;
    const begin = performance.now();
    let before: number | null = null;
    while (!isOver()) {
      await new Promise<void>((resolve) => {
        this.#watch = setTimeout(resolve, LOOK_MS);
      });
      if (isOver()) return;
      const usage = await worker.cpuUsage().catch(() => null);
      if (isOver() || usage === null) return;
      const used = (usage.user + usage.system) / 1000;
      before ??= used - LOOK_MS; // at most that much since the request was sent
      if (used - before < pending.cpuMs && performance.now() - begin < CHECK_WALL_MS) continue;
      this.#worker = null;
      void worker.terminate();
      this.#refuse(`took more than ${pending.cpuMs} ms to check`);
    }
  }

  #finish(reply: SchemaReply): void {
    const current = this.#current;
    this.#current = null;
    if (this.#watch) clearTimeout(this.#watch);
    current?.resolve(reply);
    this.#next();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#watch) clearTimeout(this.#watch);
    const gone = new QuernError('UNAVAILABLE', 'the service stops');
    for (const pending of [this.#current, ...this.#queue.splice(0)]) pending?.reject(gone);
    this.#current = null;
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new QuernError('CANCELLED', 'cancelled', {}, { cause: signal.reason });
}

type Known = { key: string; text: string; ignoreUnknown: boolean };

/** One per service. Its thread starts with the first schema. */
export function createArgumentChecker(): ArgumentChecker {
  const thread = new SchemaThread();
  const known = new WeakMap<JsonObject, Known>();

  async function compile(schema: JsonObject, { key, text, ignoreUnknown }: Known): Promise<Known> {
    const reply = await thread.ask({ op: 'compile', key, schema: text, ignoreUnknown }, COMPILE_CPU_MS);
    if (!reply.ok) throw new QuernError('INVALID_ARGUMENT', `schema: ${reply.message}`, { reason: 'SCHEMA_INVALID' });
    const entry = { key, text, ignoreUnknown };
    known.set(schema, entry);
    return entry;
  }

  const entryOf = (schema: JsonObject, ignoreUnknown: boolean): Known => {
    const text = canonicalJson(schema);
    return { key: `${sha256Hex(text)}${ignoreUnknown ? '+' : ''}`, text, ignoreUnknown };
  };

  async function ask(schema: JsonObject, value: string, tenant: string): Promise<SchemaReply> {
    const entry = known.get(schema) ?? (await compile(schema, entryOf(schema, false)));
    const reply = await thread.ask({ op: 'check', key: entry.key, value }, CHECK_CPU_MS, tenant);
    if (reply.ok || !reply.unknown) return reply;
    await compile(schema, entry); // the thread is a new one
    return await thread.ask({ op: 'check', key: entry.key, value }, CHECK_CPU_MS, tenant);
  }

  return {
    async compile(schema, { signal, ignoreUnknown = false }) {
      throwIfAborted(signal);
      await compile(schema, entryOf(schema, ignoreUnknown));
    },
    async check(schema, argumentsJson, { signal, tenant = '' }) {
      throwIfAborted(signal);
      const parsed = parseArguments(argumentsJson);
      if (!parsed.ok) return parsed;
      const reply = await ask(schema, argumentsJson.trim() === '' ? '{}' : argumentsJson, tenant);
      throwIfAborted(signal);
      if (reply.ok) return { ok: true, args: parsed.value };
      return {
        ok: false,
        message: reply.message.startsWith('arguments') ? reply.message : `arguments: ${reply.message}`,
      };
    },
    close: () => thread.close(),
  };
}
