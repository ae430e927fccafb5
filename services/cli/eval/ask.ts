/** Asks a mesh to fill holes, a few at a time, and scores what comes. */
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { InfillMode, type InfillRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { toQuernError } from '#kit/errors.ts';
import type { GatewayClient } from '../gateway-client.ts';
import { around, type Hole, type Kind, type Window } from './holes.ts';
import { score } from './metrics.ts';
import type { Row } from './result.ts';
import type { Reading, Syntax } from './syntax.ts';

/** Tokens of an answer at most. */
export const MAX_TOKENS: Record<Kind, number> = { line: 64, span: 64, block: 256 };
export const TEMPERATURE = 0;

const MODES: Record<Kind, InfillMode> = {
  line: InfillMode.INFILL_MODE_SINGLE_LINE,
  span: InfillMode.INFILL_MODE_SINGLE_LINE,
  block: InfillMode.INFILL_MODE_MULTI_LINE,
};

export type Asking = {
  gateway: Pick<GatewayClient, 'infill'>;
  model: string;
  syntax: Syntax;
  /** Of each source by its hash. */
  readings: ReadonlyMap<string, Reading>;
  window: Window;
  concurrency: number;
  withText: boolean;
  signal: AbortSignal;
  onProgress: (done: number) => void;
};

/** A row per hole, in their order. Rejects only when `signal` aborts: what fails is a row that says so. */
export async function askAll(holes: readonly Hole[], asking: Asking): Promise<Row[]> {
  const rows: Row[] = [];
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < holes.length; at = next++) {
      rows[at] = await askOne(holes[at] as Hole, asking);
      asking.onProgress(++done);
    }
  };
  await Promise.all(Array.from({ length: asking.concurrency }, work));
  return rows;
}

function requestFor(hole: Hole, { model, window }: Asking): InfillRequest {
  return {
    ...{ model, ...around(hole, window), repository: '', chunks: [], stop: [], options: undefined },
    path: hole.source.path.split('/').at(-1) ?? '',
    sampling: { maxTokens: MAX_TOKENS[hole.kind], temperature: TEMPERATURE, logitBias: new Map(), stopTokenIds: [] },
    mode: MODES[hole.kind],
  };
}

const UNANSWERED = {
  ...{ exact: null, edit_similarity: null, parses: null, parses_empty: null, identifier_exact: null },
  ...{ identifier_precision: null, identifier_recall: null, identifier_f1: null, latency_ms: null, tokens: null },
};

async function askOne(hole: Hole, asking: Asking): Promise<Row> {
  const { text, path, language, sha256 } = hole.source;
  const line = text.slice(0, hole.start).split('\n').length;
  const wanted = asking.withText ? { wanted: text.slice(hole.start, hole.end) } : {};
  const place = { id: hole.id, language, path, line };
  const started = performance.now();
  try {
    const answer = await fillFor(hole, asking);
    const latency = performance.now() - started;
    const whole = asking.readings.get(sha256) as Reading;
    const found = await score({ text, language, start: hole.start, end: hole.end }, answer.text, whole, asking.syntax);
    return {
      ...{ ...place, failure: null, exact: found.exact, edit_similarity: rounded(found.editSimilarity) },
      ...{ parses: found.parses, parses_empty: found.parsesEmpty, identifier_exact: found.identifierExact },
      identifier_precision: rounded(found.identifierPrecision),
      identifier_recall: rounded(found.identifierRecall),
      identifier_f1: rounded(found.identifierF1),
      ...{ latency_ms: Math.round(latency * 10) / 10, tokens: answer.tokens, finish: answer.finish },
      ...(asking.withText ? { ...wanted, got: answer.text } : {}),
    };
  } catch (error) {
    asking.signal.throwIfAborted();
    return { ...place, failure: toQuernError(error).code, ...UNANSWERED, finish: '', ...wanted };
  }
}

const rounded = (value: number): number => Math.round(value * 10_000) / 10_000;

const FINISHES: Partial<Record<FinishReason, string>> = {
  [FinishReason.FINISH_REASON_STOP]: 'stop',
  [FinishReason.FINISH_REASON_LENGTH]: 'length',
};

async function fillFor(hole: Hole, asking: Asking) {
  let text = '';
  let finish = 'other';
  let tokens = 0;
  for await (const { event } of asking.gateway.infill(requestFor(hole, asking), { signal: asking.signal })) {
    if (event?.$case === 'delta') text += event.value.text;
    if (event?.$case === 'choiceFinished') finish = FINISHES[event.value.finishReason] ?? 'other';
    if (event?.$case === 'end') tokens = event.value.end?.usage?.completionTokens ?? 0;
  }
  return { text, finish, tokens };
}
