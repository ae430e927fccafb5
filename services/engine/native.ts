// The contract with the native engine, written by hand; the only file that loads the addon. Absent is null, never
// undefined. One callback per engine step with one packed batch; when JavaScript lags, a batch holds several steps.
import { createRequire } from 'node:module';
import { CODES, MODEL_REJECTED, QuernError } from '#kit/errors.ts';
import { RETRY_AFTER_MS } from './limits.ts';
import { decodeSteps, type NativeStep } from './step-decoder.ts';

/** Null: the engine's default. */
export type NativeEngineOptions = {
  modelDir: string;
  dtype: 'auto' | 'f32' | 'bf16' | null;
  backend: 'auto' | 'cpu' | 'cuda' | null;
  isa: 'auto' | 'portable' | 'avx2' | 'avx512' | 'avx512bf16' | null;
  threads: number | null;
  contextLength: number | null;
  kvBytes: number | null;
  blockSize: number | null;
  maxNumSeqs: number | null;
  maxNumBatchedTokens: number | null;
  maxWaiting: number | null;
  prefixCache: boolean | null;
};

export type NativeModel = {
  architecture: string;
  dtype: string;
  backend: string;
  isa: string;
  modelHash: string;
  contextLength: number;
  vocabularySize: number;
  blockSize: number;
  numBlocks: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  maxWaiting: number;
  threads: number;
  parameterCount: number;
  weightBytes: number;
  kvBytes: number;
  eosTokenIds: number[];
};

/** Null: the default of quern.common.v1.SamplingParams. id: unique among live requests. */
export type NativeRequest = {
  id: number;
  tokenIds: Uint32Array;
  resumeTokenIds: Uint32Array | null;
  maxTokens: number;
  minTokens: number | null;
  temperature: number | null;
  topP: number | null;
  topK: number | null;
  minP: number | null;
  repetitionPenalty: number | null;
  frequencyPenalty: number | null;
  presencePenalty: number | null;
  seed: bigint | null;
  stopTokenIds: Uint32Array | null;
  ignoreEos: boolean | null;
  logprobs: number | null;
  promptLogprobs: number | null;
  n: number | null;
  logitBiasIds: Uint32Array | null;
  logitBiasValues: Float32Array | null;
  tenant: string;
  cacheSalt: string;
  publicPrefixTokens: number;
  /** 1..6, as quern.common.v1.PriorityClass. */
  priorityClass: number;
  priority: number;
  timeoutMs: number | null;
  supersedeKey: string;
  principal: string;
};

export type NativeLoad = {
  running: number;
  waiting: number;
  waitingPromptTokens: number;
  freeBlocks: number;
  cachedBlocks: number;
  numBlocks: number;
  generationTokensPerS: number;
  promptTokensPerS: number;
  steps: number;
  lastStepUnixNs: bigint;
  preemptions: number;
  prefixQueryTokens: number;
  prefixHitTokens: number;
  draining: boolean;
};

export type NativeEngine = {
  readonly model: NativeModel;
  /** Who hears of steps from now on. An exception it throws ends the process. */
  listen(onStep: (step: NativeStep) => void): void;
  /** Null: accepted; exactly one finished event follows. Else the refusal, with the field's path. */
  submit(request: NativeRequest): QuernError | null;
  /** Idempotent; unknown ids are ignored. */
  cancel(id: number): void;
  load(): NativeLoad;
  /** Refuses new requests from now on. */
  drain(): void;
  /** Cancels what is left; resolves when every end was delivered. */
  close(): Promise<void>;
};

type NativeError = Error & { code: number };
type Handle = { readonly __handle: unique symbol };
type Addon = {
  createEngine(
    options: NativeEngineOptions,
    onBatch: (words: Uint32Array) => void,
    onProgress: (phase: string, done: number, total: number) => void,
  ): Handle;
  openEngine(handle: Handle): Promise<NativeModel>;
  closeEngine(handle: Handle): Promise<void>;
  submit(handle: Handle, request: NativeRequest): NativeError | null;
  cancel(handle: Handle, id: number): void;
  drain(handle: Handle): void;
  load(handle: Handle): NativeLoad;
};

function loadAddon(path: string): Addon {
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message =
      `the engine addon does not load: ${why}\n` +
      `Expected a built addon at ${path}. Possible causes:\n` +
      '  - it was not built: run npm run build:native (needs cmake >= 3.25, ninja and a C++20 compiler)\n' +
      '  - it was built for another CPU family or C library: delete engine-native/build and build again here\n' +
      '  - it lies elsewhere: set QUERN_ENGINE_ADDON to its path';
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'ADDON_MISSING' }, { cause });
  }
}

/** A refusal or failure of the engine: code by gRPC number, the field's path in front of its message. */
export function nativeError(code: number, message: string): QuernError {
  const name = CODES[code - 1] ?? 'UNKNOWN';
  const path = /^(request(?:\.[a-z_]+(?:\[\d+\])?)+): (.*)$/s.exec(message);
  const retry = name === 'RESOURCE_EXHAUSTED' || name === 'UNAVAILABLE';
  return new QuernError(name, message, {
    ...(path && { fields: [{ field: path[1]!, description: path[2]! }] }),
    ...(retry && { retryAfterMs: RETRY_AFTER_MS }),
    ...(name === 'RESOURCE_EXHAUSTED' && { reason: 'ENGINE_BUSY' }),
  });
}

function isNativeError(thrown: unknown): thrown is NativeError {
  return thrown instanceof Error && typeof (thrown as { code?: unknown }).code === 'number';
}

/**
 * Loads the addon and the model; minutes for a large one. Throws one QuernError whose message says what to do, with reason
 * MODEL_REJECTED when the engine refuses the model.
 */
export async function openNativeEngine(options: {
  addonPath: string;
  engine: NativeEngineOptions;
  onProgress?: (phase: string, done: number, total: number) => void;
  signal?: AbortSignal;
}): Promise<NativeEngine> {
  const addon = loadAddon(options.addonPath);
  let onStep: (step: NativeStep) => void = () => {};
  const handle = addon.createEngine(
    options.engine,
    (words) => {
      for (const step of decodeSteps(words)) onStep(step);
    },
    options.onProgress ?? (() => {}),
  );
  let model: NativeModel;
  try {
    model = await addon.openEngine(handle);
  } catch (thrown) {
    if (!isNativeError(thrown)) throw thrown;
    const { code, message } = nativeError(thrown.code, thrown.message);
    throw new QuernError(code, message, { reason: MODEL_REJECTED });
  }
  if (options.signal?.aborted) {
    await addon.closeEngine(handle); // loading cannot be stopped half-way; what came of it is freed
    throw options.signal.reason;
  }
  return {
    model,
    listen(listener) {
      onStep = listener;
    },
    submit(request) {
      const error = addon.submit(handle, request);
      return error ? nativeError(error.code, error.message) : null;
    },
    cancel: (id) => addon.cancel(handle, id),
    load: () => addon.load(handle),
    drain: () => addon.drain(handle),
    close: () => addon.closeEngine(handle),
  };
}
