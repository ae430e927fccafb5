// Several generations (one per prompt) into one event stream: choices are numbered through, the first failure ends all.
import type { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { Accepted, TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { GatewayContext } from '../context.ts';
import { type Generation, generate } from '../generation.ts';
import type { GenerationEnd, GenerationSink } from '../generation-events.ts';
import type { TypedRequest } from '../typed-request.ts';
import { callerOf, type Exchange } from './exchange.ts';
import { stopReason } from './openai-objects.ts';
import type { EventStream } from './sse.ts';

type StopReason = ReturnType<typeof stopReason>;

/** Kept as what it says, not as a closure: at 490 requests/s V8 moved 5 kB more per request to the old generation with one. */
type LastFinish = { index: number; reason: FinishReason; stop: StopReason; scopeEnded: boolean };

type SinkPart = Parameters<NonNullable<GenerationSink['part']>>[1];

/** What the two endpoints write differently. Each returns whole events, '' for nothing. */
export type StreamShape = {
  /** Before everything else of this prompt. `tokenIds`: empty unless the request asked for them. */
  promptTokenIds(prompt: number, tokenIds: readonly number[]): void;
  promptLogprobs(prompt: number, entries: TextLogprobs[]): void;
  delta(index: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): string;
  /** Reasoning and tool calls. */
  part?(index: number, part: SinkPart): string;
  /** `ends` only for the last choice of an answer without a usage event: this event then carries the timings. */
  finished(
    index: number,
    reason: FinishReason,
    stop: StopReason,
    ends: readonly GenerationEnd[] | null,
    scopeEnded: boolean,
  ): string;
  /** The stream just ends, without the event that says so. */
  readonly withoutDone?: boolean;
  /** A usage event follows the last choice, so no choice waits for the timings. */
  readonly withUsage: boolean;
  /** After the last choice. */
  end(ends: readonly GenerationEnd[]): string;
};

class PromptSink implements GenerationSink {
  generation: Generation | null = null;
  readonly #answer: StreamAnswer;
  readonly #prompt: number;
  readonly #firstIndex: number;
  readonly #resume = (): void => this.generation?.resume();

  constructor(answer: StreamAnswer, prompt: number, firstIndex: number) {
    this.#answer = answer;
    this.#prompt = prompt;
    this.#firstIndex = firstIndex;
  }

  accepted({ promptTokenIds }: Accepted): void {
    this.#answer.shape.promptTokenIds(this.#prompt, promptTokenIds);
  }

  promptLogprobs(entries: TextLogprobs[]): void {
    this.#answer.shape.promptLogprobs(this.#prompt, entries);
  }

  delta(choice: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): boolean {
    const event = this.#answer.shape.delta(this.#firstIndex + choice, text, logprobs, tokenIds);
    return this.#answer.events.write(event, this.#resume);
  }

  part(choice: number, part: SinkPart): boolean {
    const event = this.#answer.shape.part?.(this.#firstIndex + choice, part) ?? '';
    return event === '' || this.#answer.events.write(event, this.#resume);
  }

  choiceFinished(
    choice: number,
    reason: FinishReason,
    stopString: string,
    stopTokenId: number | null,
    scopeEnded: boolean,
  ): void {
    this.#answer.choiceFinished(this.#firstIndex + choice, reason, stopReason(stopString, stopTokenId), scopeEnded);
  }

  end(end: GenerationEnd): void {
    this.#answer.ended(this.#prompt, end);
  }

  fail(error: QuernError): void {
    this.#answer.failed(error);
  }
}

class StreamAnswer {
  readonly events: EventStream;
  readonly shape: StreamShape;
  readonly ends: GenerationEnd[] = [];
  readonly stop = new AbortController();
  #left: number;
  #openChoices: number;
  #lastFinish: LastFinish | null = null;
  #over = false;

  constructor(events: EventStream, shape: StreamShape, size: { prompts: number; choices: number }) {
    this.events = events;
    this.shape = shape;
    this.#left = size.prompts;
    this.#openChoices = size.choices;
  }

  /** The last finish of all waits for the engine's end (END_WAIT_MS at most) when no later event brings the timings. */
  choiceFinished(index: number, reason: FinishReason, stop: StopReason, scopeEnded: boolean): void {
    this.#openChoices -= 1;
    if (this.#openChoices > 0 || this.shape.withUsage) {
      this.events.write(this.shape.finished(index, reason, stop, null, scopeEnded));
    } else this.#lastFinish = { index, reason, stop, scopeEnded };
  }

  ended(prompt: number, end: GenerationEnd): void {
    this.ends[prompt] = end;
    this.#left -= 1;
    if (this.#left > 0 || this.#over) return;
    this.#over = true;
    const finish = this.#lastFinish;
    const finished = finish
      ? this.shape.finished(finish.index, finish.reason, finish.stop, this.ends, finish.scopeEnded)
      : '';
    const last = finished + this.shape.end(this.ends);
    if (last !== '') this.events.write(last);
    this.events.done({ withEvent: !this.shape.withoutDone });
  }

  failed(error: QuernError): void {
    if (this.#over) return;
    this.#over = true;
    this.events.fail(error);
    this.stop.abort(new QuernError('CANCELLED', 'another prompt of this request failed'));
  }
}

/** Runs the requests and streams their events; resolves when all have ended. */
export async function streamAnswer(
  context: GatewayContext,
  requests: readonly TypedRequest[],
  exchange: Exchange,
  events: EventStream,
  shape: StreamShape,
): Promise<void> {
  const choices = requests.reduce((sum, request) => sum + (request.sampling.n ?? 1), 0);
  const answer = new StreamAnswer(events, shape, { prompts: requests.length, choices });
  const caller = callerOf(exchange);
  const signal = requests.length === 1 ? caller.signal : AbortSignal.any([caller.signal, answer.stop.signal]);
  let firstIndex = 0;
  const running = requests.map((request, prompt) => {
    const sink = new PromptSink(answer, prompt, firstIndex);
    firstIndex += request.sampling.n ?? 1;
    sink.generation = generate(context, request, { ...caller, signal }, sink);
    return sink.generation.done;
  });
  await Promise.all(running);
}
