// The tokenizer service: loads the models, then serves them.
import { TokenizerServiceService } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { serverAccess } from '#kit/internal-access.ts';
import type { Log } from '#kit/log.ts';
import { type Metrics, type MetricsListener, serveMetrics } from '#kit/metrics.ts';
import { reportProgress } from '#kit/parent.ts';
import { defineService, startRpcServer } from '#kit/rpc/server.ts';
import { noSpans, type SpanSink } from '#kit/trace.ts';
import type { TokenizerConfig } from './config.ts';
import type { TokenizerContext } from './context.ts';
import { type LoadedModel, loadModel } from './loaded-model.ts';
import { readModelFiles } from './model-files.ts';
import { createModels } from './models.ts';
import { countTokens } from './rpc/count-tokens.ts';
import { decode } from './rpc/decode.ts';
import { encode } from './rpc/encode.ts';
import { getVocabulary } from './rpc/get-vocabulary.ts';
import { renderChat } from './rpc/render-chat.ts';
import { renderInfill } from './rpc/render-infill.ts';
import { type SessionCalls, type SessionOptions, session } from './rpc/session.ts';
import { checkTexts } from './text-limits.ts';
import { createTokenizerMetrics, type TokenizerMetrics } from './tokenizer-metrics.ts';

const SERVICE = 'quern.tokenizer.v1.TokenizerService';

export type TokenizerService = {
  readonly address: string;
  readonly models: readonly LoadedModel[];
  drain(options: { graceMs: number }): Promise<void>;
  close(): Promise<void>;
};

export type TokenizerServiceOptions = {
  config: TokenizerConfig;
  log: Log;
  metrics: Metrics;
  signal?: AbortSignal;
  spans?: SpanSink;
};

async function loadModels({ config, log, signal }: TokenizerServiceOptions): Promise<LoadedModel[]> {
  const loaded: LoadedModel[] = [];
  const total = config.models.length;
  for (const { name, dir } of config.models) {
    reportProgress({ phase: `loading tokenizer ${name}`, done: loaded.length, total });
    const begun = performance.now();
    let model: LoadedModel;
    try {
      model = loadModel(name, await readModelFiles(dir, signal ? { signal } : {}));
    } catch (error) {
      if (!(error instanceof QuernError)) {
        const message = `model "${name}": ${dir} does not make a tokenizer (${(error as Error).message}); check its files`;
        throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' }, { cause: error });
      }
      throw new QuernError(error.code, `model "${name}": ${error.message}`, error.details, { cause: error });
    }
    loaded.push(model);
    const fields = {
      model: name,
      dir,
      vocabulary_size: model.tokenizer.vocabulary.size,
      fast_path: model.tokenizer.isByteLevel,
      chat: model.chat !== null,
      fim_family: model.infill?.family.name ?? null,
      tool_parser: model.outputFormat.toolParser,
      reasoning_parser: model.outputFormat.reasoningParser,
      load_ms: Math.round(performance.now() - begun),
    };
    log.info(fields, 'model loaded');
    if (!model.tokenizer.isByteLevel)
      log.warn({ model: name }, 'this vocabulary is encoded by the library, which is slow');
  }
  return loaded;
}

function createContext(
  config: TokenizerConfig,
  metrics: TokenizerMetrics,
  loaded: readonly LoadedModel[],
): TokenizerContext {
  return {
    models: createModels(loaded),
    checkTexts(model, field, texts) {
      checkTexts(texts, { field, maxBytes: config.maxTextBytes, isByteLevel: model.tokenizer.isByteLevel });
    },
    contextLength: (model) => config.contextLength ?? model.contextLength,
    countTokens: metrics.countTokens,
  };
}

function bind(context: TokenizerContext, sessions: SessionOptions) {
  const calls: SessionCalls = {
    encode: (request) => encode(context, request),
    renderChat: (request) => renderChat(context, request),
    renderInfill: (request) => renderInfill(context, request),
  };
  return defineService(TokenizerServiceService, {
    ...calls,
    decode: (request) => decode(context, request),
    countTokens: (request) => countTokens(context, request),
    getVocabulary: (request, _call, out) => getVocabulary(context, request, out),
    session: (incoming, _call, out) => session(calls, incoming, out, sessions),
  });
}

/** Loads all models, then listens. Throws one QuernError when a model or the address does not work. */
export async function startTokenizer(options: TokenizerServiceOptions): Promise<TokenizerService> {
  const { config, log, metrics } = options;
  const loaded = await loadModels(options);
  const draining = new AbortController();
  const spans = options.spans ?? noSpans;
  const counts = createTokenizerMetrics(metrics, loaded);
  const sessions: SessionOptions = { spans, draining: draining.signal, onAnswered: counts.sessionCall };
  const server = await startRpcServer({
    service: 'tokenizer',
    listen: [config.listen],
    services: [bind(createContext(config, counts, loaded), sessions)],
    ...serverAccess(config.internal),
    requireDeadline: true,
    log,
    metrics,
    spans,
  });
  let scrape: MetricsListener | null = null;
  if (config.metricsListen) {
    scrape = await serveMetrics({ ...config.metricsListen, metrics, ready: () => !draining.signal.aborted }).catch(
      async (error) => {
        await server.close();
        throw error;
      },
    );
  }
  for (const name of ['', SERVICE]) server.setServing(name, true);
  server.setServing(
    `${SERVICE}/RenderChat`,
    loaded.some((model) => model.chat !== null),
  );
  server.setServing(
    `${SERVICE}/RenderInfill`,
    loaded.some((model) => model.infill !== null),
  );
  return {
    address: server.addresses[0]!,
    models: loaded,
    drain({ graceMs }) {
      draining.abort();
      return server.drain(graceMs);
    },
    async close() {
      draining.abort();
      await scrape?.close();
      await server.close();
    },
  };
}
