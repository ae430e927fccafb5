// A sink that gathers a whole answer, for calls that do not stream.
import type { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { Accepted, TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { GatewayContext } from './context.ts';
import { generate } from './generation.ts';
import type { Caller, GenerationEnd, GenerationSink } from './generation-events.ts';
import type { TypedRequest } from './typed-request.ts';

export type CollectedCall = { id: string; name: string; argumentsJson: string };

export type CollectedChoice = {
  index: number;
  text: string;
  finishReason: FinishReason;
  stopString: string;
  stopTokenId: number | undefined;
  /** The code around the cursor ended it. */
  scopeEnded: boolean;
  logprobs: TextLogprobs[];
  tokenIds: number[];
  reasoning: string;
  /** Whole ones, in order. */
  toolCalls: CollectedCall[];
  /** Their text is in `text`. */
  invalidCalls: { index: number | null; text: string; reason: string }[];
};

export type Collected = {
  choices: CollectedChoice[];
  end: GenerationEnd;
  promptLogprobs: TextLogprobs[];
  /** Empty unless the request asked for token ids. */
  promptTokenIds: number[];
};

type SinkPart = Parameters<NonNullable<GenerationSink['part']>>[1];

class Collector implements GenerationSink {
  readonly choices: CollectedChoice[] = [];
  promptEntries: TextLogprobs[] = [];
  promptTokenIds: number[] = [];
  ended: GenerationEnd | null = null;
  error: QuernError | null = null;
  readonly #begun = new Map<string, { id: string; name: string }>();

  accepted({ promptTokenIds }: Accepted): void {
    this.promptTokenIds = promptTokenIds;
  }

  promptLogprobs(entries: TextLogprobs[]): void {
    this.promptEntries = entries;
  }

  delta(index: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): boolean {
    const choice = this.#choice(index);
    choice.text += text;
    for (const entry of logprobs) choice.logprobs.push(entry);
    for (const id of tokenIds) choice.tokenIds.push(id);
    return true;
  }

  part(index: number, part: SinkPart): boolean {
    const choice = this.#choice(index);
    if (part.kind === 'reasoning') choice.reasoning += part.text;
    else if (part.kind === 'call_start') this.#begun.set(`${index} ${part.index}`, part);
    else if (part.kind === 'call_end') {
      const { id = '', name = '' } = this.#begun.get(`${index} ${part.index}`) ?? {};
      choice.toolCalls.push({ id, name, argumentsJson: part.arguments });
    } else if (part.kind === 'invalid_call') {
      choice.text += part.text;
      choice.invalidCalls.push({ index: part.index, text: part.text, reason: part.reason });
    }
    return true;
  }

  choiceFinished(
    index: number,
    reason: FinishReason,
    stopString: string,
    stopTokenId: number | null,
    scopeEnded: boolean,
  ): void {
    const choice = this.#choice(index);
    choice.finishReason = reason;
    choice.stopString = stopString;
    choice.stopTokenId = stopTokenId ?? undefined;
    choice.scopeEnded = scopeEnded;
  }

  end(end: GenerationEnd): void {
    this.ended = end;
  }

  fail(error: QuernError): void {
    this.error = error;
  }

  #choice(index: number): CollectedChoice {
    const known = this.choices[index];
    if (known) return known;
    const choice: CollectedChoice = {
      index,
      text: '',
      finishReason: 0,
      stopString: '',
      stopTokenId: undefined,
      scopeEnded: false,
      logprobs: [],
      tokenIds: [],
      reasoning: '',
      toolCalls: [],
      invalidCalls: [],
    };
    this.choices[index] = choice;
    return choice;
  }
}

/** Runs a request to its end. Throws what failed it. */
export async function collect(context: GatewayContext, request: TypedRequest, caller: Caller): Promise<Collected> {
  const collector = new Collector();
  await generate(context, request, caller, collector).done;
  if (collector.error) throw collector.error;
  if (!collector.ended) throw new QuernError('INTERNAL', 'the request ended without an end');
  const { choices, ended: end, promptEntries: promptLogprobs, promptTokenIds } = collector;
  return { choices, end, promptLogprobs, promptTokenIds };
}
