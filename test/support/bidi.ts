// A bidirectional call as any gRPC client makes it: through grpc-js, with backpressure both ways. The mesh's own are
// services/kit/rpc/session-call.ts; servers must serve both.
import { type Client, type ClientDuplexStream, Metadata } from '@grpc/grpc-js';
import { QuernError, throwIfAborted, toQuernError } from '#kit/errors.ts';
import { readMessages } from '#kit/rpc/incoming.ts';
import { fromServiceError } from '#kit/rpc/status.ts';

export type Bidi<Req, Res> = {
  /** False: not flushed yet, wait for drained(). After the call's end it does nothing and answers false. */
  write(message: Req): boolean;
  /** Resolves when write() would answer true. Rejects with the call's error. */
  drained(signal?: AbortSignal): Promise<void>;
  readonly writable: boolean;
  /** To be iterated once. Leaving the loop early cancels the call. */
  readonly responses: AsyncIterable<Res>;
  /** Half-close: no more requests. */
  end(): void;
  cancel(): void;
};

type Pair<F> = F extends (...args: never[]) => ClientDuplexStream<infer Req, infer Res> ? [Req, Res] : never;
type BidiOptions = { signal?: AbortSignal /** The shared token. */; token?: string | undefined };

/** Streams both ways. It starts at once and has no deadline. */
export function bidi<C extends Client, M extends keyof C>(
  client: C,
  method: M,
  { signal, token }: BidiOptions = {},
): Bidi<Pair<C[M]>[0], Pair<C[M]>[1]> {
  type Req = Pair<C[M]>[0];
  type Res = Pair<C[M]>[1];
  throwIfAborted(signal);
  const start = (client[method] as (metadata: Metadata) => ClientDuplexStream<Req, Res>).bind(client);
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const call = start(metadata);
  let failed: QuernError | undefined;
  let ended = false;
  const cancel = (): void => call.cancel();
  call.on('error', (error: unknown) => {
    const thrown = fromServiceError(error);
    failed ??= signal?.aborted && thrown.code === 'CANCELLED' ? toQuernError(signal.reason) : thrown;
  });
  call.once('status', () => {
    ended = true;
    signal?.removeEventListener('abort', cancel);
  });
  signal?.addEventListener('abort', cancel, { once: true });
  const failure = (): QuernError => failed ?? new QuernError('UNAVAILABLE', 'the call has ended');

  function drained(extra?: AbortSignal): Promise<void> {
    if (extra?.aborted) return Promise.reject(toQuernError(extra.reason));
    if (ended) return Promise.reject(failure());
    if (!call.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => (): void => {
        call.off('drain', onDrain);
        call.off('status', onStatus);
        extra?.removeEventListener('abort', onAbort);
        act();
      };
      const onDrain = settle(resolve);
      const onStatus = settle(() => reject(failure()));
      const onAbort = settle(() => reject(toQuernError(extra?.reason)));
      call.on('drain', onDrain);
      call.on('status', onStatus);
      extra?.addEventListener('abort', onAbort, { once: true });
    });
  }

  async function* responses(): AsyncGenerator<Res, void, undefined> {
    try {
      yield* readMessages<Res>(call, { signal, failure: () => failed });
    } finally {
      cancel();
    }
  }

  return {
    write: (message) => !ended && call.writable && call.write(message),
    drained,
    get writable() {
      return !ended && call.writable && !call.writableNeedDrain;
    },
    responses: responses(),
    end: () => call.end(),
    cancel,
  };
}
