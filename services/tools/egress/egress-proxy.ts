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
  close(): Promise<void>;
};

type Reply = { ok: true } | { ok: false; message: string };

const PROGRAM = fileURLToPath(new URL('./proxy-process.ts', import.meta.url));

class ProxyProcess implements EgressProxy {
  readonly path: string;
  readonly #settings: EgressSettings;
  #child: ChildProcess | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(path: string, settings: EgressSettings) {
    this.path = path;
    this.#settings = settings;
  }

  /** Settles when it listens. Throws UNAVAILABLE. */
  async start(): Promise<void> {
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
    child.once('exit', () => this.#restart());
  }

  #restart(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.start().catch(() => this.#restart());
    }, PROXY_RESTART_MS);
    this.#timer.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#child) await endGuard(this.#child);
    rmSync(this.path, { force: true });
  }
}

/**
 * Starts the proxy on a socket at `path`, in a folder that is closed to others. Throws INVALID_ARGUMENT for a wrong allow-list,
 * FAILED_PRECONDITION for a path of more than 107 bytes, UNAVAILABLE.
 */
export async function startEgressProxy(path: string, settings: EgressSettings): Promise<EgressProxy> {
  for (const rule of settings.allow) {
    const problem = allowRuleProblem(rule);
    if (problem !== null) throw new QuernError('INVALID_ARGUMENT', `allow-list of the egress proxy: ${problem}`);
  }
  checkSocketPath(path);
  const proxy = new ProxyProcess(path, settings);
  await proxy.start();
  return proxy;
}
