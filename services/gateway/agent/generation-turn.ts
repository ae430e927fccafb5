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
import { TURN_PENDING_CHARS_MAX } from './limits.ts';
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
    timeoutMs: null, // the run's signal is the deadline
    softDeadlineMs: null,
  };
}

/** Gathers what comes between two takings. */
class TurnSink implements GenerationSink {
  generation: Generation | null = null;
  end_: GenerationEnd | null = null;
  error: QuernError | null = null;
  reason: FinishReason = FinishReason.FINISH_REASON_UNSPECIFIED;
  #content = '';
  #reasoning = '';
  #isHeld = false;
  #wake: (() => void) | null = null;

  accepted(): void {}

  promptLogprobs(): void {}

  delta(_choice: number, text: string): boolean {
    this.#content += text;
    this.#isHeld = this.#content.length + this.#reasoning.length > TURN_PENDING_CHARS_MAX;
    this.#wake?.();
    return !this.#isHeld;
  }

  choiceFinished(_choice: number, reason: FinishReason): void {
    this.reason = reason;
  }

  end(end: GenerationEnd): void {
    this.end_ = end;
    this.#wake?.();
  }

  fail(error: QuernError): void {
    this.error = error;
    this.#wake?.();
  }

  /** What has come since the last time; null: nothing. */
  take(): { content: string; reasoning: string } | null {
    if (this.#content === '' && this.#reasoning === '') return null;
    const taken = { content: this.#content, reasoning: this.#reasoning };
    this.#content = '';
    this.#reasoning = '';
    if (this.#isHeld) {
      this.#isHeld = false;
      this.generation?.resume();
    }
    return taken;
  }

  /** Resolves when something is there. */
  async changed(): Promise<void> {
    if (this.end_ || this.error || this.#content !== '' || this.#reasoning !== '') return;
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
      while (true) {
        await sink.changed();
        if (sink.error) throw sink.error;
        const taken = sink.take();
        if (taken) yield { kind: 'delta', ...taken };
        else if (sink.end_) break;
      }
      yield endEvent(sink, sink.end_, request);
    } finally {
      if (!sink.end_ && !sink.error) generation.abort(new QuernError('CANCELLED', 'the turn is not read any more'));
    }
  };
}
