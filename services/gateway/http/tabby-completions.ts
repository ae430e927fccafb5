// Tabby's code completion: POST /v1/completions with `segments` in place of a prompt.
import { z } from 'zod';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { InfillMode } from '#gen/quern/gateway/v1/gateway.ts';
import { ChunkKind, type InfillChunk, ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { INFILL_CHUNKS_MAX, INFILL_TOKENS_DEFAULT } from '../limits.ts';
import { infillEnd } from '../scope/infill-end.ts';
import { emptySampling, type Prompt, type TypedRequest } from '../typed-request.ts';
import { validate } from './body.ts';
import { callerOf, type Exchange, requestTimeoutMs, sendJson } from './exchange.ts';
import { completionModelName } from './tabby-server.ts';

const snippet = z.looseObject({ filepath: z.string(), body: z.string() });
const snippets = z.array(snippet).max(INFILL_CHUNKS_MAX).nullish();

const segments = z.looseObject({
  prefix: z.string(),
  suffix: z.string().nullish(),
  filepath: z.string().nullish(),
  git_url: z.string().nullish(),
  declarations: snippets,
  relevant_snippets_from_changed_files: snippets,
  relevant_snippets_from_recently_opened_files: snippets,
});

const schema = z.looseObject({
  language: z.string().nullish(),
  segments: segments.nullish(),
  user: z.string().nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  seed: z.int().min(0).nullish(),
  debug_options: z.looseObject({ raw_prompt: z.string().nullish() }).nullish(),
});

type Body = z.output<typeof schema>;

/** True for a body that no OpenAI client sends and Tabby's does. */
export function isTabbyBody(body: unknown): boolean {
  if (typeof body !== 'object' || body === null || 'prompt' in body) return false;
  return 'segments' in body || 'debug_options' in body;
}

/** The best last: what stands next to the file is looked at most. */
function chunksOf(given: z.output<typeof segments>): InfillChunk[] {
  const opened = given.relevant_snippets_from_recently_opened_files ?? [];
  const changed = given.relevant_snippets_from_changed_files ?? [];
  const as =
    (kind: ChunkKind) =>
    ({ filepath, body }: z.output<typeof snippet>): InfillChunk => ({ path: filepath, text: body, kind });
  const all = [
    ...[...opened].reverse().map(as(ChunkKind.CHUNK_KIND_OPEN_FILE)),
    ...[...changed].reverse().map(as(ChunkKind.CHUNK_KIND_RECENT)),
    ...(given.declarations ?? []).map(as(ChunkKind.CHUNK_KIND_DECLARATION)),
  ];
  return all.slice(-INFILL_CHUNKS_MAX);
}

/** The repository's name out of its remote's address: no credentials and no host reach the prompt. */
function repositoryOf(gitUrl: string | null | undefined): string {
  const path = (gitUrl ?? '').replace(/[?#].*$/, '').replace(/(?:\.git)?\/*$/, '');
  return /([^/:@]+\/[^/:@]+|[^/:@]+)$/.exec(path)?.[1] ?? '';
}

function promptOf(body: Body): { prompt: Prompt } & ReturnType<typeof infillEnd> {
  const { segments: given } = body;
  const raw = body.debug_options?.raw_prompt;
  if (typeof raw === 'string' || !given) {
    const text = validate(z.string({ error: 'expected segments, or debug_options.raw_prompt' }), raw);
    const prompt = { kind: 'text' as const, text, parseSpecial: ParseSpecial.PARSE_SPECIAL_ALL, addBos: true };
    return { prompt, modeStop: [], scope: null };
  }
  const place = { prefix: given.prefix, suffix: given.suffix ?? '', path: given.filepath ?? '' };
  const repository = repositoryOf(given.git_url);
  const prompt = { kind: 'infill' as const, ...place, repository, chunks: chunksOf(given) };
  return { prompt, ...infillEnd(InfillMode.INFILL_MODE_AUTO, { ...place, languageId: body.language ?? '' }) };
}

function requestOf(body: Body, exchange: Exchange, model: string, requestId: string): TypedRequest {
  const asked = promptOf(body);
  const sampling = emptySampling();
  return {
    ...asked,
    method: asked.prompt.kind === 'infill' ? 'infill' : 'complete',
    model,
    sampling: {
      ...sampling,
      maxTokens: INFILL_TOKENS_DEFAULT,
      temperature: body.temperature ?? 0.1, // Tabby's own default
      seed: typeof body.seed === 'number' ? BigInt(body.seed) : undefined,
    },
    stop: [],
    echo: false,
    requestId,
    priorityClass: PriorityClass.PRIORITY_CLASS_UNSPECIFIED,
    priority: 0,
    supersedeKey: '',
    coalesceMs: 0,
    returnTokenIds: false,
    skipSpecialTokens: true,
    timeoutMs: requestTimeoutMs(exchange.request),
    softDeadlineMs: null,
  };
}

/** Line ends as the document has them. */
function withLineEnds(text: string, body: Body): string {
  const { prefix = '', suffix = '' } = body.segments ?? {};
  const isCrlf = prefix.includes('\r\n') || (suffix ?? '').includes('\r\n');
  return isCrlf ? text.replaceAll('\n', '\r\n') : text;
}

export async function tabbyCompletions(context: GatewayContext, exchange: Exchange): Promise<void> {
  const body = validate(schema, exchange.body);
  const { requestId } = exchange;
  const { choices } = await collect(
    context,
    requestOf(body, exchange, completionModelName(context), requestId),
    callerOf(exchange),
  );
  const texts = choices.map(({ index, text }) => ({ index, text: withLineEnds(text, body) }));
  const answer = { id: `cmpl-${requestId}`, choices: texts.length > 0 ? texts : [{ index: 0, text: '' }] };
  sendJson(exchange.response, answer, { 'x-request-id': requestId });
}
