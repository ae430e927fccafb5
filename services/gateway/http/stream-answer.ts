// Several generations (one per prompt) into one event stream: choices are numbered through, the first failure ends all.
import type { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { GatewayContext } from '../context.ts';
import { type Generation, generate } from '../generation.ts';
import type { GenerationEnd, GenerationSink } from '../generation-events.ts';
import type { TypedRequest } from '../typed-request.ts';
import { callerOf, type Exchange } from './exchange.ts';
import type { EventStream } from './sse.ts';

/** What the two endpoints write differently. Each returns whole events, '' for nothing. */
export type StreamShape = {
  promptLogprobs(prompt: number, entries: TextLogprobs[]): void;
  delta(index: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): string;
  finished(index: number, reason: FinishReason, stopString: string): string;
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

  accepted(): void {}

  promptLogprobs(entries: TextLogprobs[]): void {
    this.#answer.shape.promptLogprobs(this.#prompt, entries);
  }

  delta(choice: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): boolean {
    const event = this.#answer.shape.delta(this.#firstIndex + choice, text, logprobs, tokenIds);
    return this.#answer.events.write(event, this.#resume);
  }

  choiceFinished(choice: number, reason: FinishReason, stopString: string): void {
    this.#answer.events.write(this.#answer.shape.finished(this.#firstIndex + choice, reason, stopString));
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
  #over = false;

  constructor(events: EventStream, shape: StreamShape, prompts: number) {
    this.events = events;
    this.shape = shape;
    this.#left = prompts;
  }

  ended(prompt: number, end: GenerationEnd): void {
    this.ends[prompt] = end;
    this.#left -= 1;
    if (this.#left > 0 || this.#over) return;
    this.#over = true;
    const last = this.shape.end(this.ends);
    if (last !== '') this.events.write(last);
    this.events.done();
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
  const answer = new StreamAnswer(events, shape, requests.length);
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
