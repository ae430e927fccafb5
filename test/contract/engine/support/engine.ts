// A real engine service over a tiny model with random weights, for the contract tests.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  EngineServiceClient,
  type Finished,
  type GenerationRequest,
  type SessionRequest,
  type SessionResponse,
  type StepBatch,
} from '#gen/quern/engine/v1/engine.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics, type Metrics } from '#kit/metrics.ts';
import { openChannel } from '#kit/rpc/client.ts';
import type { SpanRecord } from '#kit/trace.ts';
import { readConfig } from '../../../../services/engine/config.ts';
import { type EngineService, startEngine } from '../../../../services/engine/service.ts';
import { type Bidi, bidi } from '../../../support/bidi.ts';

const BUILD = process.env.QUERN_ENGINE_ADDON
  ? dirname(process.env.QUERN_ENGINE_ADDON)
  : fileURLToPath(new URL('../../../../engine-native/build', import.meta.url));
export const ADDON = join(BUILD, 'engine_addon.node');
const MAKE_CHECKPOINT = join(BUILD, 'make_checkpoint');

/** Why these tests cannot run here, or false. */
export const skip =
  existsSync(ADDON) && existsSync(MAKE_CHECKPOINT)
    ? false
    : `expected engine_addon.node and make_checkpoint in ${BUILD}; run npm run build:native`;

/** Prompt and output. LONG tokens take seconds: whoever asks for them means to end them early. */
export const CONTEXT_LENGTH = 8192;
export const LONG = 8000;

let checkpoint: Promise<string> | null = null;

/** Small, but slow enough that a long generation outlives what a test does to it: about half a millisecond a token. */
const SHAPE = {
  architectures: ['Qwen2ForCausalLM'],
  model_type: 'qwen2',
  hidden_size: 256,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 64,
  intermediate_size: 768,
  vocab_size: 512,
  max_position_embeddings: CONTEXT_LENGTH,
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  hidden_act: 'silu',
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
};

/** A model folder shared by the tests of one file: random weights, 512 ids, no EOS. */
export function tinyModel(): Promise<string> {
  checkpoint ??= (async () => {
    const folder = await mkdtemp(join(tmpdir(), 'quern-tiny-'));
    process.once('exit', () => execFileSync('rm', ['-rf', folder]));
    const config = join(folder, 'shape.json');
    await writeFile(config, JSON.stringify(SHAPE));
    execFileSync(MAKE_CHECKPOINT, [join(folder, 'model'), '--config', config, '--seed', '7'], { stdio: 'pipe' });
    return join(folder, 'model');
  })();
  return checkpoint;
}

export type EngineUnderTest = {
  service: EngineService;
  client: EngineServiceClient;
  metrics: Metrics;
  spans: SpanRecord[];
};

export async function startTinyEngine(t: TestContext, env: Record<string, string> = {}): Promise<EngineUnderTest> {
  const folder = await mkdtemp(join(tmpdir(), 'quern-engine-'));
  const config = readConfig({
    QUERN_ENGINE_MODEL_NAME: 'tiny',
    QUERN_ENGINE_MODEL_DIR: await tinyModel(),
    QUERN_ENGINE_LISTEN: `unix://${join(folder, 'engine.sock')}`,
    QUERN_ENGINE_THREADS: '1',
    QUERN_ENGINE_MAX_NUM_SEQS: '4',
    QUERN_ENGINE_ADDON: ADDON,
    ...env,
  });
  const metrics = createMetrics('engine');
  const spans: SpanRecord[] = [];
  const service = await startEngine({
    config,
    log: createLog({ service: 'engine', level: 'silent' }),
    metrics,
    spans: { record: (span) => spans.push(span) },
  });
  const client = openChannel(EngineServiceClient, { address: service.address });
  t.after(async () => {
    client.close();
    await service.close();
    await rm(folder, { recursive: true, force: true });
  });
  return { service, client, metrics, spans };
}

let nextRequest = 0;

export function generation(overrides: Partial<GenerationRequest> = {}): GenerationRequest {
  nextRequest += 1;
  return {
    requestId: `request-${nextRequest}`,
    tokenIds: [1, 2, 3, 4, 5],
    sampling: sampling({ maxTokens: 4 }),
    tenant: 'local',
    cacheSalt: '',
    publicPrefixTokens: 0,
    priorityClass: 3,
    priority: 0,
    supersedeKey: '',
    principal: 'tester',
    resumeTokenIds: [],
    traceparent: '',
    tracestate: '',
    ...overrides,
  };
}

export function sampling(overrides: Partial<NonNullable<GenerationRequest['sampling']>>) {
  return { temperature: 0, logitBias: new Map<number, number>(), stopTokenIds: [], ...overrides };
}

/** A Session that remembers everything and can be waited on. */
export class TestSession {
  readonly call: Bidi<SessionRequest, SessionResponse>;
  readonly batches: StepBatch[] = [];
  readonly tokens = new Map<number, number[]>();
  readonly finished = new Map<number, Finished>();
  ended: unknown = undefined;
  #wake: () => void = () => {};

  constructor(client: EngineServiceClient, options: { signal?: AbortSignal } = {}) {
    this.call = bidi(client, 'session', options);
    this.#read().catch(() => {});
  }

  async #read(): Promise<void> {
    try {
      for await (const { step } of this.call.responses) {
        if (step) this.#take(step);
        this.#wake();
      }
      this.ended = null;
    } catch (error) {
      this.ended = error;
    }
    this.#wake();
  }

  #take(step: StepBatch): void {
    this.batches.push(step);
    for (const { handle, tokenIds } of step.tokens) {
      if (this.finished.has(handle)) throw new Error(`a token for handle ${handle} after its end`);
      this.tokens.set(handle, [...(this.tokens.get(handle) ?? []), ...tokenIds]);
    }
    for (const end of step.finished) {
      if (this.finished.has(end.handle)) throw new Error(`handle ${end.handle} ended twice`);
      this.finished.set(end.handle, end);
    }
  }

  submit(handle: number, request: GenerationRequest | undefined): void {
    this.call.write({ command: { $case: 'submit', value: { handle, request } } });
  }

  cancel(handle: number): void {
    this.call.write({ command: { $case: 'cancel', value: { handle } } });
  }

  /** Waits until the predicate holds; throws after ten seconds or when the stream ended first. */
  async until(predicate: () => boolean): Promise<void> {
    const deadline = Date.now() + 10_000;
    while (!predicate()) {
      if (this.ended !== undefined) throw new Error(`the session ended first: ${String(this.ended)}`);
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error('nothing happened within 10 s')), deadline - Date.now());
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async untilEnded(): Promise<unknown> {
    const deadline = Date.now() + 10_000;
    while (this.ended === undefined && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
    return this.ended;
  }

  async end(handle: number): Promise<Finished> {
    await this.until(() => this.finished.has(handle));
    return this.finished.get(handle) as Finished;
  }
}

/** Waits until the engine holds no request and no block. */
export async function untilIdle(service: EngineService): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const { running, waiting, freeBlocks, numBlocks } = service.native.load();
    if (running + waiting === 0 && freeBlocks === numBlocks) return;
    if (Date.now() > deadline)
      throw new Error(`still ${running} running, ${waiting} waiting, ${freeBlocks} blocks free`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
