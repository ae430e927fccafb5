// A turn of the model as one generation of this gateway: same admission, routing, audit and spans as any chat request. Text that
// its reader has not taken is merged; beyond a bound the engine's deltas are held back.
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { RunRequest } from '#gen/quern/gateway/v1/agent.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import type { GatewayContext } from '../context.ts';
import { type Generation, generate } from '../generation.ts';
import type { Caller, GenerationEnd, GenerationSink } from '../generation-events.ts';
import { emptySampling, REQUEST_ID, type TypedRequest } from '../typed-request.ts';
import { TURN_DEADLINE_SLACK_MS, TURN_PENDING_CHARS_MAX } from './limits.ts';
import type { Turn, TurnEvent, TurnRequest } from './seams.ts';

type RunFacts = { caller: Caller; request: RunRequest; model: string; runId: string };

/** "run-1:1.0.2": the turn can be explained by its own id. */
function turnId(runId: string, name: string): string {
  const id = `${runId}:${name}`;
  return REQUEST_ID.test(id) ? id : uuidv7();
}

function typedTurn({ request, model, runId }: RunFacts, turn: TurnRequest): TypedRequest {
  const { options } = request;
  const sampling = turn.sampling ?? emptySampling();
  const { maxTokens } = sampling;
  return {
    method: 'chat',
    model,
    prompt: {
      kind: 'chat',
      messages: turn.messages,
      tools: turn.tools,
      enableThinking: undefined,
      templateVariables: undefined,
      addGenerationPrompt: true,
      continueFinalMessage: false,
    },
    sampling: { ...sampling, maxTokens: maxTokens === undefined ? undefined : Math.min(maxTokens, turn.tokensMax) },
    describedTools: turn.describedTools,
    completionTokensMax: turn.tokensMax,
    stop: [],
    modeStop: [],
    echo: false,
    requestId: turnId(runId, turn.name),
    priorityClass: options?.priorityClass ?? 0,
    priority: options?.priority ?? 0,
    supersedeKey: '', // turns of one run would end one another
    coalesceMs: options?.coalesceMs ?? 0,
    returnTokenIds: false,
    timeoutMs: turn.leftMs + TURN_DEADLINE_SLACK_MS,
    softDeadlineMs: null,
  };
}

type Part = Parameters<NonNullable<GenerationSink['part']>>[1];

/** Gathers what comes between two takings. Calls are given when they are whole, as the run needs them. */
class TurnSink implements GenerationSink {
  generation: Generation | null = null;
  ended: GenerationEnd | null = null;
  error: QuernError | null = null;
  reason: FinishReason = FinishReason.FINISH_REASON_UNSPECIFIED;
  readonly #names = new Map<number, string>();
  #content = '';
  #reasoning = '';
  #calls: TurnEvent[] = [];
  #isHeld = false;
  #wake: (() => void) | null = null;

  accepted(): void {}

  promptLogprobs(): void {}

  delta(_choice: number, text: string): boolean {
    this.#content += text;
    return this.#added();
  }

  part(_choice: number, part: Part): boolean {
    if (part.kind === 'reasoning') this.#reasoning += part.text;
    else if (part.kind === 'call_start') this.#names.set(part.index, part.name);
    else if (part.kind === 'call_end') this.#call(part.index, part.arguments, null);
    else if (part.kind === 'invalid_call') {
      if (part.index === null) this.#content += part.text;
      else this.#call(part.index, part.text, part.reason);
    }
    return this.#added();
  }

  #call(index: number, argumentsJson: string, problem: string | null): void {
    this.#calls.push({ kind: 'call', name: this.#names.get(index) ?? '', argumentsJson, problem });
  }

  #added(): boolean {
    this.#isHeld = this.#content.length + this.#reasoning.length > TURN_PENDING_CHARS_MAX;
    this.#wake?.();
    return !this.#isHeld;
  }

  choiceFinished(_choice: number, reason: FinishReason): void {
    this.reason = reason;
  }

  end(end: GenerationEnd): void {
    this.ended = end;
    this.#wake?.();
  }

  fail(error: QuernError): void {
    this.error = error;
    this.#wake?.();
  }

  /** What has come since the last time. */
  take(): TurnEvent[] {
    const calls = this.#calls;
    const text: TurnEvent = { kind: 'delta', content: this.#content, reasoning: this.#reasoning };
    const isText = text.content !== '' || text.reasoning !== '';
    this.#calls = [];
    this.#content = '';
    this.#reasoning = '';
    if (this.#isHeld) {
      this.#isHeld = false;
      this.generation?.resume();
    }
    return isText ? [text, ...calls] : calls;
  }

  /** Resolves when something is there. */
  async changed(): Promise<void> {
    const isSome = this.#content !== '' || this.#reasoning !== '' || this.#calls.length > 0;
    if (isSome || this.ended || this.error) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = null;
  }
}

const REASONS: Partial<Record<FinishReason, 'stop' | 'length' | 'cancelled'>> = {
  [FinishReason.FINISH_REASON_LENGTH]: 'length',
  [FinishReason.FINISH_REASON_CANCELLED]: 'cancelled',
  [FinishReason.FINISH_REASON_SUPERSEDED]: 'cancelled',
};

function endEvent(sink: TurnSink, end: GenerationEnd, { tokensMax }: TurnRequest): TurnEvent {
  const usage = end.usage ?? { promptTokens: 0, cachedTokens: 0, completionTokens: 0 };
  const reason = REASONS[sink.reason] ?? 'stop';
  return { kind: 'end', reason, cut: reason === 'length' && usage.completionTokens >= tokensMax, usage };
}

/** Turns of one run. Each throws what failed its generation. */
export function generationTurn(context: GatewayContext, facts: RunFacts): Turn {
  return async function* turn(request, { signal, trace }) {
    const sink = new TurnSink();
    const { principal, client } = facts.caller;
    const caller: Caller = { principal, client, trace, signal, samplingPrefix: 'sampling.', runId: facts.runId };
    const generation = generate(context, typedTurn(facts, request), caller, sink);
    sink.generation = generation;
    try {
      while (!sink.ended) {
        await sink.changed();
        yield* sink.take();
        if (sink.error) throw sink.error;
      }
      yield* sink.take();
      yield endEvent(sink, sink.ended, request);
    } finally {
      if (!sink.ended && !sink.error) generation.abort(new QuernError('CANCELLED', 'the turn is not read any more'));
    }
  };
}
