// Generate: one request per call. Closing the call cancels it; failures end the call by gRPC status.
import type { GenerateRequest, GenerateResponse, StepBatch } from '#gen/quern/engine/v1/engine.ts';
import { type QuernError, toQuernError } from '#kit/errors.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import type { EngineContext } from '../context.ts';
import { type BatchSink, StepSender } from '../step-sender.ts';
import { unreadError } from '../unread-error.ts';

/** What is left of the call's deadline, at least a millisecond; null without one. */
function timeLeftMs(call: CallContext): number | null {
  return call.deadlineUnixMs === null ? null : Math.max(1, Math.floor(call.deadlineUnixMs - Date.now()));
}

/** A batch's parts, each as a message of the answer. */
class AnswerSink implements BatchSink {
  readonly #out: Out<GenerateResponse>;
  readonly #hasFailed: () => boolean;

  constructor(out: Out<GenerateResponse>, hasFailed: () => boolean) {
    this.#out = out;
    this.#hasFailed = hasFailed;
  }

  get writable(): boolean {
    return this.#out.writable;
  }

  write(batch: StepBatch): boolean {
    for (const value of batch.tokens) this.#out.write({ event: { $case: 'tokens', value } });
    // A failure ends the call by its status instead of a message.
    for (const value of batch.finished)
      if (!this.#hasFailed()) this.#out.write({ event: { $case: 'finished', value } });
    return this.#out.writable;
  }

  drained(): Promise<void> {
    return this.#out.drained();
  }
}

export async function generate(
  context: EngineContext,
  { request }: GenerateRequest,
  call: CallContext,
  out: Out<GenerateResponse>,
): Promise<void> {
  const ended = Promise.withResolvers<QuernError | null>();
  let failed = false;
  const sender: StepSender = new StepSender({
    sink: new AnswerSink(out, () => failed),
    now_ms: context.now_ms,
    onUnread: () => context.streams.cancel(stream, unreadError()),
  });
  const stream = context.streams.submit(request, {
    handle: 0,
    sender,
    timeoutMs: timeLeftMs(call),
    span: call.trace,
    onEnd(error) {
      failed = error !== null;
      ended.resolve(error);
    },
  });
  const onAbort = (): void => {
    context.streams.abandon(stream);
    sender.close();
    ended.resolve(toQuernError(call.signal.reason));
  };
  call.signal.addEventListener('abort', onAbort, { once: true });
  if (call.signal.aborted) onAbort();
  try {
    const error = await ended.promise;
    while (!call.signal.aborted && sender.busy) await out.drained();
    if (error) throw error;
  } finally {
    call.signal.removeEventListener('abort', onAbort);
    sender.close();
  }
}
