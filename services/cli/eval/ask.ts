/** Asks a mesh to fill holes, a few at a time, and scores what comes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { FinishReason, type Usage } from '#gen/quern/common/v1/common.ts';
import { InfillMode, type InfillRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { type Code, QuernError, toQuernError } from '#kit/errors.ts';
import type { GatewayClient } from '../gateway-client.ts';
import { around, type Hole, type Kind, type Window } from './holes.ts';
import { score } from './metrics.ts';
import { fourDigits, type Row } from './result.ts';
import type { Reading, Syntax } from './syntax.ts';

/** Tokens of an answer at most. */
export const MAX_TOKENS: Record<Kind, number> = { line: 64, span: 64, block: 256 };
export const TEMPERATURE = 0;

const MODES: Record<Kind, InfillMode> = {
  line: InfillMode.INFILL_MODE_SINGLE_LINE,
  span: InfillMode.INFILL_MODE_SINGLE_LINE,
  block: InfillMode.INFILL_MODE_MULTI_LINE,
};

/** How often a hole is asked for that finds no mesh. */
const TRIES_MAX = 5;
/** Before it is asked for the second time; each further pause is twice as long. */
export const PAUSE_MS = 500;
/** What every other hole would be answered too. */
const HOPELESS: readonly Code[] = ['UNAUTHENTICATED', 'PERMISSION_DENIED', 'NOT_FOUND', 'UNIMPLEMENTED'];

export type Asking = {
  gateway: Pick<GatewayClient, 'infill'>;
  model: string;
  syntax: Syntax;
  /** Of each source by its hash. */
  readings: ReadonlyMap<string, Reading>;
  window: Window;
  /** Tokens of a prompt at most; 0 = as the model is best given. */
  promptTokens: number;
  concurrency: number;
  withText: boolean;
  pauseMs: number;
  signal: AbortSignal;
  /** As they come, in no order. What it throws ends the work. */
  onRow: (row: Row) => void;
};

/** `rows`: of the holes that were done, in their order. `stopped`: why not all were; CANCELLED when `signal` aborted. */
export type Asked = { rows: Row[]; stopped: QuernError | null };

/**
 * What fails is a row that says so. The work stops when `signal` aborts, and when nothing is to be expected any more: one hole has
 * found no mesh for five times and no other found one before its last time, or the mesh refuses us.
 */
export async function askAll(holes: readonly Hole[], asking: Asking): Promise<Asked> {
  const rows: (Row | undefined)[] = [];
  const stop = new AbortController();
  const signal = AbortSignal.any([asking.signal, stop.signal]);
  let next = 0;
  let reached = 0; // how often there was a mesh
  const ask = async (hole: Hole): Promise<Row> => {
    let reachedBefore = 0;
    for (let tries = 1, { pauseMs } = asking; ; tries++, pauseMs *= 2) {
      const { row, error } = await askOne(hole, asking, signal);
      if (error && HOPELESS.includes(error.code)) throw error;
      if (error?.code !== 'UNAVAILABLE') {
        reached++;
        return row;
      }
      if (tries === TRIES_MAX && reached === reachedBefore) throw error;
      if (tries === TRIES_MAX) return row;
      reachedBefore = reached;
      await sleep(pauseMs, undefined, { signal });
    }
  };
  const work = async (): Promise<void> => {
    for (let at = next++; at < holes.length; at = next++) {
      const row = await ask(holes[at] as Hole);
      rows[at] = row;
      asking.onRow(row);
    }
  };
  const workers = Array.from({ length: asking.concurrency }, () => work().catch((error) => stop.abort(error)));
  await Promise.all(workers);
  const reason = asking.signal.aborted ? new QuernError('CANCELLED', 'interrupted') : stop.signal.reason;
  const found = rows.filter((row) => row !== undefined);
  return { rows: found, stopped: found.length === holes.length ? null : toQuernError(reason) };
}

function requestFor(hole: Hole, { model, window, promptTokens }: Asking): InfillRequest {
  return {
    ...{ model, ...around(hole, window), repository: '', chunks: [], stop: [], options: undefined },
    path: hole.source.path.split('/').at(-1) ?? '',
    sampling: { maxTokens: MAX_TOKENS[hole.kind], temperature: TEMPERATURE, logitBias: new Map(), stopTokenIds: [] },
    mode: MODES[hole.kind],
    maxPromptTokens: promptTokens === 0 ? undefined : promptTokens,
  };
}

const UNANSWERED = {
  ...{ exact: null, edit_similarity: null, parses: null, parses_empty: null, identifier_exact: null },
  ...{ identifier_precision: null, identifier_recall: null, identifier_f1: null, latency_ms: null, tokens: null },
  ...{ prompt_tokens: null, cached_tokens: null, finish: '' },
};

/** Rejects when `signal` aborts, and where a fill cannot be scored, which is no failure of the mesh. */
async function askOne(
  hole: Hole,
  asking: Asking,
  signal: AbortSignal,
): Promise<{ row: Row; error: QuernError | null }> {
  const { text, path, language, sha256 } = hole.source;
  const line = text.slice(0, hole.start).split('\n').length;
  const place = { id: hole.id, language, path, line };
  const wanted = asking.withText ? { wanted: text.slice(hole.start, hole.end) } : {};
  const started = performance.now();
  const answer = await fillFor(hole, asking, signal).catch(toQuernError);
  const latency = performance.now() - started;
  if (answer instanceof QuernError) {
    signal.throwIfAborted();
    return { row: { ...place, failure: answer.code, ...UNANSWERED, ...wanted }, error: answer };
  }
  const whole = asking.readings.get(sha256) as Reading;
  const found = await score({ text, language, start: hole.start, end: hole.end }, answer.text, whole, asking.syntax);
  const row = {
    ...{ ...place, failure: null, exact: found.exact, edit_similarity: fourDigits(found.editSimilarity) },
    ...{ parses: found.parses, parses_empty: found.parsesEmpty, identifier_exact: found.identifierExact },
    identifier_precision: fourDigits(found.identifierPrecision),
    identifier_recall: fourDigits(found.identifierRecall),
    identifier_f1: fourDigits(found.identifierF1),
    ...{ latency_ms: Math.round(latency * 10) / 10, tokens: answer.tokens, finish: answer.finish },
    ...{ prompt_tokens: answer.promptTokens, cached_tokens: answer.cachedTokens },
    ...(asking.withText ? { ...wanted, got: answer.text } : {}),
  };
  return { row, error: null };
}

const FINISHES: Partial<Record<FinishReason, string>> = {
  [FinishReason.FINISH_REASON_STOP]: 'stop',
  [FinishReason.FINISH_REASON_LENGTH]: 'length',
};

async function fillFor(hole: Hole, asking: Asking, signal: AbortSignal) {
  let text = '';
  let finish = 'other';
  let usage: Usage | undefined;
  for await (const { event } of asking.gateway.infill(requestFor(hole, asking), { signal })) {
    if (event?.$case === 'delta') text += event.value.text;
    if (event?.$case === 'choiceFinished') finish = FINISHES[event.value.finishReason] ?? 'other';
    if (event?.$case === 'end') usage = event.value.end?.usage;
  }
  const { completionTokens: tokens = 0, promptTokens = 0, cachedTokens = 0 } = usage ?? {};
  return { text, finish, tokens, promptTokens, cachedTokens };
}
