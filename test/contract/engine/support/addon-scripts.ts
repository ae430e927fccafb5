// Small programs that use the addon directly, each run in a process of its own by addon.test.ts: how the process ends is
// what is tested.
import { parentPort, Worker } from 'node:worker_threads';
import { type NativeEngine, type NativeRequest, openNativeEngine } from '../../../../services/engine/native.ts';

const [, , script = 'worker', addonPath = '', modelDir = ''] = process.argv;

function open(signal?: AbortSignal): Promise<NativeEngine> {
  return openNativeEngine({
    addonPath,
    ...(signal && { signal }),
    engine: {
      modelDir,
      dtype: null,
      backend: 'cpu',
      isa: null,
      threads: 1,
      contextLength: 2048,
      kvBytes: null,
      blockSize: null,
      maxNumSeqs: 2,
      maxNumBatchedTokens: null,
      maxWaiting: 8,
      prefixCache: null,
    },
  });
}

function request(id: number, maxTokens: number): NativeRequest {
  return {
    id,
    tokenIds: Uint32Array.of(1, 2, 3),
    resumeTokenIds: null,
    maxTokens,
    minTokens: null,
    temperature: 0,
    topP: null,
    topK: null,
    minP: null,
    repetitionPenalty: null,
    frequencyPenalty: null,
    presencePenalty: null,
    seed: null,
    stopTokenIds: null,
    ignoreEos: null,
    logprobs: null,
    promptLogprobs: null,
    n: null,
    logitBiasIds: null,
    logitBiasValues: null,
    tenant: 'local',
    cacheSalt: '',
    publicPrefixTokens: 0,
    priorityClass: 3,
    priority: 0,
    timeoutMs: null,
    supersedeKey: '',
    principal: '',
  };
}

async function generate(engine: NativeEngine, maxTokens: number): Promise<number[]> {
  const tokens: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  engine.listen((step) => {
    for (const { tokenId } of step.tokens) tokens.push(tokenId);
    if (step.finished.length > 0) resolve();
  });
  const refusal = engine.submit(request(1, maxTokens));
  if (refusal) throw refusal;
  await promise;
  return tokens;
}

const scripts: Record<string, () => Promise<void>> = {
  /** An exception of the step listener must end the process, not vanish. */
  async throws() {
    const engine = await open();
    engine.listen(() => {
      throw new Error('listener failed on purpose');
    });
    engine.submit(request(1, 1000));
    setTimeout(() => process.exit(0), 5_000);
  },
  /** process.exit in the middle of a generation: no crash, no hang. */
  async exits() {
    const engine = await open();
    engine.submit(request(1, 2000));
    setTimeout(() => process.exit(0), 20);
  },
  /** A forgotten wrapper must not stop the engine. */
  async collected() {
    const tokens = await new Promise<number>((resolve) => {
      open().then((engine) => {
        let count = 0;
        engine.listen((step) => {
          count += step.tokens.length;
          if (step.finished.length > 0) resolve(count);
        });
        engine.submit(request(1, 400));
      });
      const collect = setInterval(() => globalThis.gc?.(), 5);
      setTimeout(() => clearInterval(collect), 500).unref();
    });
    process.stdout.write(`${tokens}\n`);
    process.exit(0);
  },
  /** Close delivers every end, after which the process has nothing left to do. */
  async closes() {
    const engine = await open();
    let ends = 0;
    engine.listen((step) => {
      ends += step.finished.length;
    });
    for (let id = 1; id <= 6; id += 1) engine.submit(request(id, 2000));
    await engine.close();
    await engine.close();
    let message = '';
    try {
      engine.cancel(1);
    } catch (error) {
      message = (error as Error).message;
    }
    process.stdout.write(`${ends} ${message}\n`);
  },
  /** Stopped while loading: no engine, no error but the reason, nothing that keeps the process. */
  async aborted() {
    const controller = new AbortController();
    const opening = open(controller.signal);
    controller.abort(new Error('stopping'));
    await opening.catch((error: Error) => process.stdout.write(`${error.message}\n`));
  },
  /** While the event loop is blocked steps gather; afterwards all are there, in order. */
  async blocked() {
    const engine = await open();
    let batches = 0;
    const tokens: number[] = [];
    const done = Promise.withResolvers<void>();
    engine.listen((step) => {
      batches += 1;
      for (const { tokenId } of step.tokens) tokens.push(tokenId);
      if (step.finished.length > 0) done.resolve();
    });
    engine.submit(request(1, 300));
    const until = performance.now() + 700;
    while (performance.now() < until);
    await done.promise;
    process.stdout.write(`${tokens.length} ${batches}\n`);
    await engine.close();
  },
  /** Two engines in two worker threads, one of which is terminated at work. */
  async workers() {
    const results: number[][] = [];
    const start = (mode: string) =>
      new Worker(new URL(import.meta.url), { argv: ['worker', addonPath, modelDir], workerData: mode });
    const [first, second, third] = [start('generate'), start('generate'), start('endless')];
    const running = new Promise<void>((resolve) => third?.once('message', () => resolve()));
    await Promise.all(
      [first, second].map(
        (worker) =>
          new Promise<void>((resolve, reject) => {
            worker?.once('error', reject);
            worker?.on('message', (tokens: number[]) => results.push(tokens));
            worker?.once('exit', () => resolve());
          }),
      ),
    );
    await running;
    await third?.terminate();
    process.stdout.write(`${results.length} ${JSON.stringify(results[0]) === JSON.stringify(results[1])}\n`);
  },
  /** Threads terminated at any moment of their life: loading, opening, in the middle of a step. */
  async terminations() {
    for (let delay = 0; delay < 16; delay += 1) {
      const worker = new Worker(new URL(import.meta.url), {
        argv: ['worker', addonPath, modelDir],
        workerData: 'endless',
      });
      const running = new Promise<void>((resolve) => worker.once('message', () => resolve()));
      if (delay % 2 === 0) await running;
      await new Promise((resolve) => setTimeout(resolve, delay * 7));
      await worker.terminate();
    }
    process.stdout.write('survived\n');
  },
  async worker() {
    const { workerData } = await import('node:worker_threads');
    const engine = await open();
    if (workerData === 'endless') {
      engine.submit(request(1, 2000));
      parentPort?.postMessage('running');
      return;
    }
    parentPort?.postMessage(await generate(engine, 50));
    await engine.close();
  },
};

await scripts[script]?.();
