// The threads that eval_js_pure runs in: at most a few, one evaluation each at a time, ended when they do not answer in time.
import { Worker } from 'node:worker_threads';
import { QuernError } from '#kit/errors.ts';
import { threadEnv } from '../thread-modules.ts';
import {
  EVAL_CLOSE_MS,
  EVAL_GIVEN_UP_MAX,
  EVAL_GRACE_MS,
  EVAL_IDLE_MS,
  EVAL_QUEUE_MAX,
  EVAL_START_MS,
  EVAL_THREADS_MAX,
} from '../tool-limits.ts';
import type { EvalReply, EvalRequest } from './eval-messages.ts';

export type PureEval = {
  /** `input`: JSON. Throws RESOURCE_EXHAUSTED when too many wait, and the signal's reason. */
  evaluate(code: string, input: string, options: { wallMs: number; signal: AbortSignal }): Promise<EvalReply>;
  close(): Promise<void>;
};

/** One thread; `ready` when its interpreter is loaded. `unused`: what ends it when no call has come for a while. */
type Thread = { readonly worker: Worker; readonly ready: Promise<void>; unused?: NodeJS.Timeout };

/** What a test may change. */
export type EvalOptions = { readonly thread?: URL; readonly startMs?: number; readonly idleMs?: number };

const STOPPED: EvalReply = { ok: false, message: 'the interpreter did not stop in time', keep: false };
const NOT_STARTED: EvalReply = { ok: false, message: 'the interpreter did not start in time; try again', keep: false };

function startThread(script: URL): Thread {
  const worker = new Worker(script, {
    env: threadEnv(),
    resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 },
  });
  const ready = new Promise<void>((resolve, reject) => {
    worker.once('message', () => resolve());
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the thread ended before it was ready')));
  });
  ready.catch(() => undefined); // told to whoever waits for it
  worker.on('error', () => undefined); // its exit follows
  return { worker, ready };
}

/** True when it is ready within the time, and false when it is not. Throws what ended it. */
async function isReady({ ready }: Thread, startMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | null = null;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, startMs, false);
  });
  try {
    return await Promise.race([ready.then(() => true), late]);
  } finally {
    if (timer) clearTimeout(timer);
  }
}

/** Sends one request and waits for its end, at most the limit and a grace. */
async function ask({ worker }: Thread, request: EvalRequest): Promise<EvalReply> {
  let timer: NodeJS.Timeout | null = null;
  try {
    return await new Promise<EvalReply>((resolve) => {
      worker.once('message', resolve);
      worker.once('exit', () =>
        resolve({ ok: false, message: 'the interpreter ended, out of memory most likely', keep: false }),
      );
      timer = setTimeout(() => resolve(STOPPED), request.wallMs + EVAL_GRACE_MS);
      worker.postMessage(request);
    });
  } finally {
    if (timer) clearTimeout(timer);
    worker.removeAllListeners('message');
    worker.removeAllListeners('exit');
  }
}

class EvalThreads implements PureEval {
  readonly #idle: Thread[] = [];
  readonly #all = new Set<Thread>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  /** Threads that did not start in time and have not ended either. */
  #givenUp = 0;
  #closed = false;
  readonly #script: URL;
  readonly #startMs: number;
  readonly #idleMs: number;

  constructor({ thread, startMs, idleMs }: EvalOptions) {
    this.#script = thread ?? new URL('./eval-thread.ts', import.meta.url);
    this.#startMs = startMs ?? EVAL_START_MS;
    this.#idleMs = idleMs ?? EVAL_IDLE_MS;
  }

  async evaluate(
    code: string,
    input: string,
    { wallMs, signal }: { wallMs: number; signal: AbortSignal },
  ): Promise<EvalReply> {
    await this.#place(signal);
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const onAbort = (): void => void Atomics.store(stop, 0, 1);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await this.#run({ code, input, wallMs, stop });
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#running--;
      this.#waiting.shift()?.();
    }
  }

  async #place(signal: AbortSignal): Promise<void> {
    while (this.#running >= EVAL_THREADS_MAX) {
      if (this.#waiting.length >= EVAL_QUEUE_MAX) {
        const message = `${EVAL_QUEUE_MAX} evaluations already wait; try again`;
        throw new QuernError('RESOURCE_EXHAUSTED', message, { retryAfterMs: 1_000 });
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#closed || signal.aborted) {
      this.#waiting.shift()?.();
      if (this.#closed) throw new QuernError('UNAVAILABLE', 'the service stops');
      signal.throwIfAborted();
    }
    this.#running++;
  }

  async #run(request: EvalRequest): Promise<EvalReply> {
    if (this.#givenUp >= EVAL_GIVEN_UP_MAX) {
      const message = `${this.#givenUp} interpreters did not start in time and have not ended; start the tool service again`;
      throw new QuernError('UNAVAILABLE', message);
    }
    const thread = this.#take();
    this.#all.add(thread);
    thread.worker.ref();
    let reply = STOPPED;
    try {
      reply = (await isReady(thread, this.#startMs)) ? await ask(thread, request) : NOT_STARTED;
      return reply;
    } finally {
      if (reply.keep && !this.#closed) {
        this.#keep(thread);
      } else {
        this.#all.delete(thread);
        if (reply === NOT_STARTED) this.#giveUp(thread);
        else await thread.worker.terminate();
      }
    }
  }

  #take(): Thread {
    const idle = this.#idle.pop();
    clearTimeout(idle?.unused);
    return idle ?? startThread(this.#script);
  }

  /** For the next call, if one comes soon: an interpreter that waits holds memory for nobody. */
  #keep(thread: Thread): void {
    thread.worker.unref();
    thread.unused = setTimeout(() => {
      this.#idle.splice(this.#idle.indexOf(thread), 1);
      this.#all.delete(thread);
      void thread.worker.terminate();
    }, this.#idleMs).unref();
    this.#idle.push(thread);
  }

  /** What does not start may not end either: nobody waits for it. */
  #giveUp({ worker }: Thread): void {
    this.#givenUp += 1;
    worker.unref();
    void worker.terminate().then(() => {
      this.#givenUp -= 1;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) wake();
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, EVAL_CLOSE_MS);
    await Promise.race([Promise.all([...this.#all].map(({ worker }) => worker.terminate())), late]);
    clearTimeout(timer);
  }
}

/** One per service; its threads start when they are needed. */
export function createPureEval(options: EvalOptions = {}): PureEval {
  return new EvalThreads(options);
}
