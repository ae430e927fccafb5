// The egress proxy's life: a process of its own behind a Unix socket, started again when it ends by itself.
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { QuernError } from '#kit/errors.ts';
import { checkSocketPath } from '#kit/rpc/socket-path.ts';
import { PROXY_RESTART_MS } from '../tool-limits.ts';
import { endGuard, forkGuard } from './guard-fork.ts';
import type { EgressSettings } from './guarded-fetch.ts';
import { allowRuleProblem } from './url-rules.ts';

export type EgressProxy = {
  /** Socket on the host, for the jail. */
  readonly path: string;
  /** False: it could not be started, or has just ended; it is being started again. */
  readonly listening: boolean;
  close(): Promise<void>;
};

/** `onFailure` is told once of each time that it is away, UNAVAILABLE. */
export type EgressProxyOptions = { onFailure(error: unknown): void };

type Reply = { ok: true } | { ok: false; message: string };

const PROGRAM = fileURLToPath(new URL('./proxy-process.ts', import.meta.url));

class ProxyProcess implements EgressProxy {
  readonly path: string;
  listening = false;
  readonly #settings: EgressSettings;
  readonly #onFailure: (error: unknown) => void;
  #isTold = false;
  #child: ChildProcess | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(path: string, settings: EgressSettings, { onFailure }: EgressProxyOptions) {
    this.path = path;
    this.#settings = settings;
    this.#onFailure = onFailure;
  }

  /** Settles when it listens, or when it is known that it does not yet. */
  async start(): Promise<void> {
    try {
      await this.#start();
      this.#isTold = false;
    } catch (error) {
      if (!this.#isTold && !this.#closed) this.#onFailure(error);
      this.#isTold = true;
      this.#restart();
    }
  }

  async #start(): Promise<void> {
    rmSync(this.path, { force: true }); // of one that was killed
    const child = forkGuard(PROGRAM);
    this.#child = child;
    const reply = await new Promise<Reply>((resolve) => {
      child.once('message', (message) => resolve(message as Reply));
      child.once('error', () => resolve({ ok: false, message: 'it cannot be started' }));
      child.once('exit', () => resolve({ ok: false, message: 'it ended at once' }));
      child.send({ settings: this.#settings, path: this.path }, () => undefined);
    });
    if (!reply.ok) {
      await endGuard(child);
      throw new QuernError('UNAVAILABLE', `the egress proxy does not listen: ${reply.message}`);
    }
    this.listening = true;
    child.once('exit', () => this.#restart());
  }

  #restart(): void {
    this.listening = false;
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.start(), PROXY_RESTART_MS);
    this.#timer.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.listening = false;
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#child) await endGuard(this.#child);
    rmSync(this.path, { force: true });
  }
}

/**
 * Starts the proxy on a socket at `path`, in a folder that is closed to others, and goes on trying where it does not start. Throws
 * INVALID_ARGUMENT for a wrong allow-list, FAILED_PRECONDITION for a path of more than 107 bytes.
 */
export async function startEgressProxy(
  path: string,
  settings: EgressSettings,
  options: EgressProxyOptions,
): Promise<EgressProxy> {
  for (const rule of settings.allow) {
    const problem = allowRuleProblem(rule);
    if (problem !== null) throw new QuernError('INVALID_ARGUMENT', `allow-list of the egress proxy: ${problem}`);
  }
  checkSocketPath(path);
  const proxy = new ProxyProcess(path, settings, options);
  await proxy.start();
  return proxy;
}
