// OpenAI-style answers as a careful client reads them: every event counts, and so does their order.
import { type Code, QuernError } from '#kit/errors.ts';
import type { AnswerLog } from './answer-log.ts';

/** A chunk of a stream, or a whole answer: the fields of both endpoints. */
export type SseChunk = {
  choices: {
    index: number;
    text?: string;
    delta?: { content?: string };
    message?: { content: string };
    finish_reason?: string | null;
    token_ids?: number[];
  }[];
  usage?: { completion_tokens: number } | null;
};

type ErrorBody = { error: { message: string; param: string | null; code: string | null } };

const CODES: Record<number, Code> = {
  400: 'INVALID_ARGUMENT',
  404: 'NOT_FOUND',
  409: 'ALREADY_EXISTS',
  429: 'RESOURCE_EXHAUSTED',
  499: 'CANCELLED',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
};

function refusal(code: Code, { error }: ErrorBody): QuernError {
  const fields = error.param === null ? [] : [{ field: error.param, description: error.message }];
  return new QuernError(code, error.message, { fields });
}

/** The error of an answer whose status is not 200. */
export async function httpRefusal(response: Response): Promise<QuernError> {
  const body = (await response.json()) as ErrorBody;
  return refusal(CODES[response.status] ?? 'UNKNOWN', body);
}

/** An error event has no status: its message tells the two that a client may see in the middle of a stream. */
function eventRefusal(body: ErrorBody): QuernError {
  const { message } = body.error;
  if (/time limit/.test(message)) return refusal('DEADLINE_EXCEEDED', body);
  return refusal(/cancelled/.test(message) ? 'CANCELLED' : 'UNKNOWN', body);
}

function readChunk(chunk: SseChunk, log: AnswerLog): number | null {
  for (const { index, text, delta, token_ids: ids, finish_reason: reason } of chunk.choices) {
    const piece = text ?? delta?.content ?? '';
    if (piece !== '' || (ids?.length ?? 0) > 0) log.delta(index, piece, ids ?? []);
    if (reason) log.finished(index, reason);
  }
  return chunk.usage?.completion_tokens ?? null;
}

/** Reads a stream to its end into `log`. Throws the error event, if that is the end. */
export async function readEvents(response: Response, log: AnswerLog, onEvent: () => void): Promise<void> {
  let pending = '';
  let usage: number | null = null;
  let failure: QuernError | null = null;
  const take = (event: string): void => {
    onEvent();
    if (!event.startsWith('data: ')) log.violations.push(`not an event: ${event.slice(0, 80)}`);
    else if (failure) log.violations.push('an event after the error');
    else if (event === 'data: [DONE]') {
      if (usage === null) log.violations.push('no usage event');
      log.end(usage ?? 0);
    } else {
      const chunk = JSON.parse(event.slice(6)) as SseChunk | ErrorBody;
      if ('error' in chunk) failure = eventRefusal(chunk);
      else usage = readChunk(chunk, log) ?? usage;
    }
  };
  for await (const piece of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    pending += piece;
    const events = pending.split('\n\n');
    pending = events.pop() as string;
    for (const event of events) take(event);
  }
  if (failure) throw failure;
  if (pending !== '') log.violations.push(`half an event at the end: ${pending.slice(0, 80)}`);
  if (log.completionTokens === null) log.violations.push('the stream ended without [DONE]');
}
