// One choice of a request: its tokens so far (what a resume starts from), its text, its end.
import { FinishReason, type PositionLogprobs, type SamplingParams } from '#gen/quern/common/v1/common.ts';
import type { TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import { LineDeadline } from './line-deadline.ts';
import { type OutputReading, outputReading } from './output-reading.ts';
import { type ChoicePart, ParsedAssembler } from './parsed-assembler.ts';
import { echoText, type RenderedPrompt } from './prompt-rendering.ts';
import { ScopeStop } from './scope/scope-stop.ts';
import { type AssemblerOptions, TextAssembler } from './text-assembler.ts';
import type { TypedRequest } from './typed-request.ts';
import type { Vocabulary } from './vocabulary.ts';

const NONE: never[] = [];

/** How a choice's output is read; null: it is text. */
type Reading = OutputReading | null;

export class Choice {
  /** All ids the engine made, in order. */
  readonly ids: number[] = [];
  /** The client has been told. */
  announced = false;
  /** True once something was given out. */
  started = false;
  /** Of the echoed prompt, when asked for; leave with the first text. */
  echoLogprobs: TextLogprobs[] | null = null;
  readonly #assembler: TextAssembler | ParsedAssembler;
  #echo: string | null;
  #finished: FinishReason | null = null;
  readonly #eosTokenIds: readonly number[];
  readonly #stopTokenIds: ReadonlySet<number>;
  readonly #deadline: LineDeadline | null;
  #stoppedBy: number | null = null;
  #lastText = '';

  /** `echo`: text that comes before the completion. `eosTokenIds`: the model's own ends, not worth naming. */
  constructor(
    options: AssemblerOptions,
    echo: string | null,
    eosTokenIds: readonly number[],
    reading: Reading = null,
    deadline: LineDeadline | null = null,
  ) {
    this.#assembler = reading
      ? new ParsedAssembler({ ...options, ...reading, parser: reading.newParser() })
      : new TextAssembler(options);
    this.#echo = echo;
    this.#eosTokenIds = eosTokenIds;
    this.#stopTokenIds = options.stopTokenIds;
    this.#deadline = deadline;
  }

  /** Why it ended; null while it runs. */
  get finished(): FinishReason | null {
    return this.#finished;
  }

  /** The code around the cursor ended it. */
  get scopeEnded(): boolean {
    return this.#assembler.stop?.stopString === '';
  }

  get stopString(): string {
    return this.#assembler.stop?.stopString ?? '';
  }

  /** The stop token that ended it; null when none did, or the model's own end. */
  get stopTokenId(): number | null {
    return this.#stoppedBy === null || this.#eosTokenIds.includes(this.#stoppedBy) ? null : this.#stoppedBy;
  }

  get tokenCount(): number {
    return this.#assembler.tokenCount;
  }

  /** Tokens of the reasoning; null: it is not told apart. */
  get reasoningTokens(): number | null {
    return this.#assembler instanceof ParsedAssembler ? this.#assembler.reasoningTokens : null;
  }

  /** Null: the output is text. */
  get calls(): { made: number; invalid: number } | null {
    return this.#assembler instanceof ParsedAssembler ? this.#assembler.calls : null;
  }

  get hasOutput(): boolean {
    return this.#assembler.hasOutput || this.#echo !== null;
  }

  push(made: readonly number[], positions: readonly PositionLogprobs[]): void {
    const ids = this.#deadline?.take(made) ?? made;
    for (const id of ids) this.ids.push(id);
    this.#assembler.push(ids, positions);
    if (this.#assembler.stop) this.#finished = FinishReason.FINISH_REASON_STOP;
    else if (this.#deadline?.passed) this.finish(FinishReason.FINISH_REASON_LENGTH);
  }

  /**
   * The engine's end, or ours: held-back text comes free, a stop string in it wins over the reason. `stoppedBy`: the
   * id that ended it, which has come as its last token.
   */
  finish(reason: FinishReason, stoppedBy: number | null = null): void {
    if (this.#finished !== null) return;
    this.#assembler.end();
    this.#stoppedBy = this.#assembler.stop ? null : stoppedBy;
    this.#finished = this.#assembler.stop ? FinishReason.FINISH_REASON_STOP : reason;
  }

  /** Finishes a choice that had all its tokens when the engine was lost, only its end was missing. */
  finishIfComplete(sampling: SamplingParams): void {
    if (this.#finished !== null) return;
    const last = this.ids.at(-1);
    // The engine makes no stop id before min_tokens.
    if (last !== undefined && this.#stopTokenIds.has(last)) this.finish(FinishReason.FINISH_REASON_STOP, last);
    const { maxTokens = 0 } = sampling;
    if (maxTokens > 0 && this.ids.length >= maxTokens) this.finish(FinishReason.FINISH_REASON_LENGTH);
  }

  /** What is free to go out before the text that take() gives, once. */
  takeParts(): readonly ChoicePart[] {
    const assembler = this.#assembler;
    if (!(assembler instanceof ParsedAssembler)) return NONE;
    const { parts } = assembler;
    assembler.parts = [];
    const last = parts.at(-1);
    if (last?.kind !== 'text') return parts;
    this.#lastText = last.text;
    return parts.slice(0, -1);
  }

  /** What is free to go out, once. Of parsed output: the text at its end, with all log probabilities and ids. */
  take(): { text: string; logprobs: TextLogprobs[]; tokenIds: number[] } {
    const assembler = this.#assembler;
    const { logprobs, tokenIds } = assembler;
    const text = assembler instanceof ParsedAssembler ? this.#lastText : assembler.text;
    this.#lastText = '';
    this.#assembler.clear();
    this.started = true;
    if (this.#echo === null) return { text, logprobs, tokenIds };
    const echo = this.#echo;
    const before = this.echoLogprobs ?? NONE;
    this.#echo = null;
    this.echoLogprobs = null;
    return { text: echo + text, logprobs: [...before, ...logprobs], tokenIds };
  }
}

/** Of all choices; empty where reasoning is not told apart. */
export function reasoningTokensOf(choices: readonly Choice[]): { reasoningTokens?: number } {
  const counts = choices.flatMap(({ reasoningTokens }) => reasoningTokens ?? []);
  return counts.length === 0 ? {} : { reasoningTokens: counts.reduce((sum, count) => sum + count, 0) };
}

/** Tool calls of all choices. */
export function callCountsOf(choices: readonly Choice[]): { made: number; invalid: number } {
  const counts = choices.flatMap(({ calls }) => calls ?? []);
  const sum = (of: 'made' | 'invalid'): number => counts.reduce((total, count) => total + count[of], 0);
  return { made: sum('made'), invalid: sum('invalid') };
}

/** The choices of a request, each with its own assembler. */
export function createChoices(from: {
  request: TypedRequest;
  prompt: RenderedPrompt;
  vocabulary: Vocabulary;
  sampling: SamplingParams;
  eosTokenIds: readonly number[];
}): Choice[] {
  const { request, prompt, vocabulary, sampling } = from;
  const eos = sampling.ignoreEos ? [] : from.eosTokenIds;
  const echo = request.echo ? echoText(request, prompt, vocabulary) : null;
  const options = {
    vocabulary,
    stopStrings: [...new Set([...request.stop, ...request.modeStop, ...prompt.stopStrings])],
    stopTokenIds: new Set([...sampling.stopTokenIds, ...eos]),
    minTokens: sampling.minTokens ?? 0,
    withControl: !(request.skipSpecialTokens ?? true),
    logprobs: sampling.logprobs !== undefined,
    tokenIds: request.returnTokenIds,
    textOffset: echo?.length ?? 0,
  };
  const reading = outputReading(request, prompt.tokenIds, vocabulary);
  const { scope, lineDeadlineMs } = request;
  // Every choice reads the scope by itself; min_tokens asks for text beyond it.
  const scoped = () => (scope && options.minTokens === 0 ? { scope: new ScopeStop(scope.context, scope.kind) } : {});
  return Array.from({ length: sampling.n ?? 1 }, () => {
    const deadline = lineDeadlineMs === undefined ? null : new LineDeadline(lineDeadlineMs, vocabulary);
    return new Choice({ ...options, ...scoped() }, echo, eos, reading, deadline);
  });
}
