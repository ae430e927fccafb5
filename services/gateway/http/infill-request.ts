// The body of POST /infill, llama.cpp's with what is ours beside it, and its way into the typed request.
import { z } from 'zod';
import { InfillMode } from '#gen/quern/gateway/v1/gateway.ts';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { GatewayContext } from '../context.ts';
import {
  INFILL_CHUNKS_MAX,
  INFILL_PATH_CHARS_MAX,
  INFILL_TOKENS_DEFAULT,
  STOP_STRINGS_INFILL_MAX,
  TIMEOUT_MS_MAX,
} from '../limits.ts';
import { infillEnd } from '../scope/infill-end.ts';
import { invalidArgument, type TypedRequest } from '../typed-request.ts';
import type { Exchange } from './exchange.ts';
import { count, samplingOf, sharedFields, sharedRequest, stopField } from './sampling-schema.ts';

const UINT32_MAX = 0xffffffff;

/** gRPC's modes by their names here, and what `mode` is without one: a text of several lines, as llama.cpp's clients expect it. */
export const INFILL_MODES = {
  single_line: InfillMode.INFILL_MODE_SINGLE_LINE,
  multi_line: InfillMode.INFILL_MODE_MULTI_LINE,
  auto: InfillMode.INFILL_MODE_AUTO,
  unbounded: InfillMode.INFILL_MODE_UNBOUNDED,
} as const;

const CHUNK_KINDS = {
  declaration: ChunkKind.CHUNK_KIND_DECLARATION,
  open_file: ChunkKind.CHUNK_KIND_OPEN_FILE,
  recent: ChunkKind.CHUNK_KIND_RECENT,
} as const;

const namesOf = <T extends object>(table: T) => Object.keys(table) as (keyof T & string)[];
const path = z.string().max(INFILL_PATH_CHARS_MAX).nullish();

const chunk = z.looseObject({ filename: path, text: z.string(), kind: z.enum(namesOf(CHUNK_KINDS)).nullish() });

export const infillSchema = z.looseObject({
  ...sharedFields,
  stop: stopField(STOP_STRINGS_INFILL_MAX),
  input_prefix: z.string(),
  input_suffix: z.string(),
  input_extra: z.array(chunk).max(INFILL_CHUNKS_MAX).nullish(),
  /** Text of the cursor's line before the cursor, which belongs behind input_prefix. */
  prompt: z.string().nullish(),
  /** New tokens, at most what fits; -1 = what fits, 0 = only read the prompt into the cache. */
  n_predict: z.int().min(-1).max(UINT32_MAX).nullish(),
  n_cmpl: sharedFields.n,
  repeat_penalty: sharedFields.repetition_penalty,
  /** Milliseconds from the first token, after which the text ends with its line; 0 = as long as it takes. */
  t_max_predict_ms: count(TIMEOUT_MS_MAX).nullish(),
  return_tokens: z.boolean().nullish(),
  /** Which members of the answer to give, with a path a/b for inner ones. */
  response_fields: z.array(z.string()).nullish(),
  // Ours, as gRPC's Infill has them.
  path,
  repository: path,
  /** As LSP names it; where the answer ends is read by it, else by the path. */
  language_id: z.string().nullish(),
  mode: z.enum(namesOf(INFILL_MODES)).nullish(),
  /** Tokens of the whole prompt, at most what the context leaves; absent = as the model is best given. */
  max_prompt_tokens: count(UINT32_MAX, 1).nullish(),
  /** Milliseconds from now, after which the answer is what there is. */
  soft_deadline_ms: count(TIMEOUT_MS_MAX, 1).nullish(),
});

export type InfillBody = z.output<typeof infillSchema>;

/** New tokens as asked for; null = what fits. */
export function tokensWanted({ n_predict: wanted }: InfillBody): number | null {
  if (wanted === -1) return null;
  return wanted ?? INFILL_TOKENS_DEFAULT;
}

/**
 * llama.cpp's server has one model and pays no heed to a name; llama.vscode sends by default one that no mesh serves. Of several
 * models an unknown name is a mistake here too.
 */
function modelOf({ model }: InfillBody, { models }: GatewayContext): string {
  const served = models.all();
  return served.length > 1 || served.some(({ name }) => name === model) ? (model ?? '') : '';
}

function checkMinTokens({ min_tokens: least }: InfillBody, wanted: number | null): void {
  if (least === undefined || least === null || wanted === null || least <= wanted) return;
  const description = `expected at most n_predict (${wanted}), got ${least}`;
  throw invalidArgument([{ field: 'min_tokens', description }]);
}

/** What ends it beside its tokens. Whoever only warms the cache sets a limit of a millisecond, which is not meant for the reading. */
function limitsOf(body: InfillBody): Pick<TypedRequest, 'softDeadlineMs' | 'lineDeadlineMs'> {
  if (body.n_predict === 0) return { softDeadlineMs: null };
  const { soft_deadline_ms: soft, t_max_predict_ms: line } = body;
  return { softDeadlineMs: soft ?? null, ...(line && { lineDeadlineMs: line }) };
}

/** How many new tokens. llama.cpp's clients may ask for more than the context holds: they get what fits, as there. */
function lengthOf(wanted: number | null): { maxTokens: number | undefined; completionTokensMax?: number } {
  if (wanted === 0) return { maxTokens: 0 };
  return { maxTokens: undefined, ...(wanted !== null && { completionTokensMax: wanted }) };
}

export function infillRequest(body: InfillBody, exchange: Exchange, context: GatewayContext): TypedRequest {
  const wanted = tokensWanted(body);
  checkMinTokens(body, wanted);
  const { maxTokens, ...length } = lengthOf(wanted);
  const shared = sharedRequest(body, exchange);
  const place = {
    prefix: body.input_prefix + (body.prompt ?? ''),
    suffix: body.input_suffix,
    path: body.path ?? '',
  };
  const chunks = (body.input_extra ?? []).map(({ filename, text, kind }) => ({
    path: filename ?? '',
    text,
    ...(kind && { kind: CHUNK_KINDS[kind] }),
  }));
  return {
    ...shared,
    ...length,
    ...limitsOf(body),
    ...infillEnd(INFILL_MODES[body.mode ?? 'multi_line'], { ...place, languageId: body.language_id ?? '' }),
    method: 'infill',
    model: modelOf(body, context),
    prompt: { kind: 'infill', ...place, repository: body.repository ?? '', chunks },
    ...(typeof body.max_prompt_tokens === 'number' && { promptTokensMax: body.max_prompt_tokens }),
    sampling: {
      ...samplingOf(body),
      maxTokens,
      repetitionPenalty: body.repeat_penalty ?? body.repetition_penalty ?? undefined,
      n: maxTokens === 0 ? 1 : (body.n_cmpl ?? body.n ?? undefined),
    },
    stopStringsMax: STOP_STRINGS_INFILL_MAX,
    returnTokenIds: body.return_tokens ?? shared.returnTokenIds,
    echo: false,
  };
}
