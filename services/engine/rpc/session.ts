// Session: all requests of one gateway on one stream. Submit and Cancel come down, one StepBatch per engine step goes up.
// Every submitted handle gets exactly one Finished; a refusal is such an end. Only a broken peer ends the stream, and its
// end cancels all handles.
import type { SessionRequest, SessionResponse, Submit } from '#gen/quern/engine/v1/engine.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import type { EngineContext } from '../context.ts';
import { refusedEvent } from '../finished-event.ts';
import { END_DELIVERY_MS, UNREAD_HANDLES_MAX } from '../limits.ts';
import { StepSender } from '../step-sender.ts';
import type { TokenStream } from '../token-streams.ts';
import { unreadError } from '../unread-error.ts';

function brokenPeer(message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `session: ${message}; every handle of it was cancelled`, {
    reason: 'BROKEN_PEER',
  });
}

/** The live handles of one stream. */
class Session {
  readonly #context: EngineContext;
  readonly #sender: StepSender;
  readonly #live = new Map<number, TokenStream>();
  #onIdle: (() => void) | null = null;

  constructor(context: EngineContext, out: Out<SessionResponse>) {
    this.#context = context;
    this.#sender = new StepSender({
      sink: {
        get writable() {
          return out.writable;
        },
        write: (step) => out.write({ step }),
        drained: () => out.drained(),
      },
      now_ms: context.now_ms,
      onUnread: (outbound) => context.streams.cancel(outbound as TokenStream, unreadError()),
    });
  }

  handle({ command }: SessionRequest): void {
    if (this.#sender.waitingCount > UNREAD_HANDLES_MAX) throw brokenPeer('its answers are not read');
    if (command?.$case === 'submit') this.#submit(command.value);
    else if (command?.$case === 'cancel') this.#cancel(command.value.handle);
    else throw brokenPeer('expected submit or cancel, got an empty command');
  }

  #submit({ handle, request }: Submit): void {
    // Its Finished would be taken for that of the live request.
    if (this.#live.has(handle)) throw brokenPeer(`handle ${handle} was submitted while it is live`);
    const { streams } = this.#context;
    try {
      const stream = streams.submit(request, {
        handle,
        sender: this.#sender,
        timeoutMs: null,
        onEnd: () => {
          this.#live.delete(handle);
          if (this.#live.size === 0) this.#onIdle?.();
        },
      });
      this.#live.set(handle, stream);
    } catch (thrown) {
      const refused = { handle, pending: null, finished: null, waitingSinceMs: 0 };
      this.#sender.finish(refused, refusedEvent(handle, toQuernError(thrown), request?.sampling?.n ?? 1));
      this.#sender.flush(streams.load.running, streams.load.waiting);
    }
  }

  #cancel(handle: number): void {
    const stream = this.#live.get(handle);
    if (stream) this.#context.streams.cancel(stream);
  }

  cancelAll(error: QuernError | null): void {
    for (const stream of this.#live.values()) this.#context.streams.cancel(stream, error);
  }

  /** Resolves when no handle is live and all was written, or after timeoutMs. */
  async settled(timeoutMs: number): Promise<void> {
    const deadline = this.#context.now_ms() + timeoutMs;
    if (this.#live.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = Number.isFinite(timeoutMs) ? setTimeout(resolve, timeoutMs) : undefined;
      this.#onIdle = resolve;
      await promise;
      this.#onIdle = null;
      clearTimeout(timer);
    }
    await this.#sender.emptied(Math.min(END_DELIVERY_MS, Math.max(0, deadline - this.#context.now_ms())));
  }

  /** The peer has gone: its requests are cancelled and nobody hears of them. */
  abandon(): void {
    for (const stream of this.#live.values()) this.#context.streams.abandon(stream);
    this.#live.clear();
    this.#sender.close();
    this.#onIdle?.();
  }
}

/** Rejects with UNAVAILABLE once the engine drains and the session has nothing left to say. */
async function drained(context: EngineContext, session: Session, over: AbortSignal): Promise<never> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const onAbort = (): void => resolve();
  for (const signal of [context.draining, over]) {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', onAbort, { once: true });
  }
  await promise;
  context.draining.removeEventListener('abort', onAbort);
  over.removeEventListener('abort', onAbort);
  if (!over.aborted) await session.settled(Number.POSITIVE_INFINITY);
  throw new QuernError('UNAVAILABLE', 'the engine is draining; open a session to another replica', {
    reason: 'DRAINING',
  });
}

async function readCommands(incoming: AsyncIterable<SessionRequest>, session: Session): Promise<void> {
  for await (const request of incoming) session.handle(request);
}

export async function session(
  context: EngineContext,
  incoming: AsyncIterable<SessionRequest>,
  call: CallContext,
  out: Out<SessionResponse>,
): Promise<void> {
  const live = new Session(context, out);
  const over = new AbortController();
  const reading = readCommands(incoming, live);
  const draining = drained(context, live, over.signal);
  draining.catch(() => {});
  reading.catch(() => {});
  try {
    await Promise.race([reading, draining]);
    // Half-closed: the peer sends nothing more, so its handles end; it still reads.
    live.cancelAll(null);
    await live.settled(END_DELIVERY_MS);
  } catch (error) {
    // The server's own end (drain) leaves the peer listening; a lost peer's write() does nothing.
    live.cancelAll(call.signal.aborted ? toQuernError(call.signal.reason) : null);
    if (call.signal.aborted) await live.settled(END_DELIVERY_MS);
    throw error;
  } finally {
    over.abort();
    live.abandon();
  }
}
