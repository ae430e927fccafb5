// A generation's events as the messages of a gRPC stream. The three stream messages share all events but the end.
import type { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { Accepted, ChoiceFinished, TextDelta, TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import type { QuernError } from '#kit/errors.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import type { GatewayContext } from '../context.ts';
import { type Generation, generate } from '../generation.ts';
import type { GenerationEnd, GenerationSink } from '../generation-events.ts';
import type { TypedRequest } from '../typed-request.ts';
import { callerOf } from './typed.ts';

type SharedEvent =
  | { $case: 'accepted'; value: Accepted }
  | { $case: 'delta'; value: TextDelta }
  | { $case: 'choiceFinished'; value: ChoiceFinished };

type SinkPart = Parameters<NonNullable<GenerationSink['part']>>[1];

/** How a method writes what differs between the three. */
export type StreamShape<T> = {
  shared(event: SharedEvent): T;
  end(end: GenerationEnd): T;
  promptLogprobs?(entries: TextLogprobs[]): T;
  /** Reasoning and tool calls. */
  part?(choice: number, part: SinkPart): T;
};

class StreamSink<T> implements GenerationSink {
  error: QuernError | null = null;
  generation: Generation | null = null;
  readonly #out: Out<T>;
  readonly #shape: StreamShape<T>;
  #waiting = false;
  #accepted: Accepted | null = null;

  constructor(out: Out<T>, shape: StreamShape<T>) {
    this.#out = out;
    this.#shape = shape;
  }

  /** It leaves after this turn of the event loop, or before the first other event: what goes to the engine now goes first. */
  accepted(value: Accepted): void {
    this.#accepted = value;
    setImmediate(() => this.#announce());
  }

  promptLogprobs(entries: TextLogprobs[]): void {
    if (this.#shape.promptLogprobs) this.#send(this.#shape.promptLogprobs(entries));
  }

  delta(index: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): boolean {
    return this.#write(this.#shape.shared({ $case: 'delta', value: { index, text, logprobs, tokenIds } }));
  }

  part(index: number, part: SinkPart): boolean {
    return this.#shape.part ? this.#write(this.#shape.part(index, part)) : true;
  }

  #announce(): void {
    const value = this.#accepted;
    this.#accepted = null;
    if (value) this.#out.write(this.#shape.shared({ $case: 'accepted', value }));
  }

  /** Everything but the first event. */
  #send(message: T): boolean {
    this.#announce();
    return this.#out.write(message);
  }

  #write(message: T): boolean {
    const writable = this.#send(message);
    if (!writable && !this.#waiting) {
      this.#waiting = true;
      this.#out.drained().then(
        () => {
          this.#waiting = false;
          this.generation?.resume();
        },
        () => {}, // the call is over: its signal has ended the generation
      );
    }
    return writable;
  }

  choiceFinished(
    index: number,
    finishReason: FinishReason,
    stopString: string,
    stopTokenId: number | null,
    scopeEnded: boolean,
  ): void {
    const value = {
      index,
      finishReason,
      stopString,
      stopTokenId: stopTokenId ?? undefined,
      scopeEnded: scopeEnded || undefined,
    };
    this.#send(this.#shape.shared({ $case: 'choiceFinished', value }));
  }

  end(end: GenerationEnd): void {
    this.#send(this.#shape.end(end));
  }

  fail(error: QuernError): void {
    this.#announce();
    this.error = error;
  }
}

/** Runs a request and streams its events. Throws what failed it. */
export async function streamGeneration<T>(
  context: GatewayContext,
  request: TypedRequest,
  call: CallContext,
  out: Out<T>,
  shape: StreamShape<T>,
): Promise<void> {
  const sink = new StreamSink(out, shape);
  sink.generation = generate(context, request, callerOf(call), sink);
  await sink.generation.done;
  if (sink.error) throw sink.error;
}
