// The request stream of a call, or the answer stream of a client's call, as an async iterable that never destroys the
// underlying duplex (its final status is still to be written) and that ends with the signal.
import type { Readable } from 'node:stream';
import { QuernError, throwIfAborted } from '#kit/errors.ts';

/**
 * Yields what `stream` (object mode) gives. Throws the signal's reason when it aborts, what `failure` answers when the
 * stream failed, UNAVAILABLE when it was destroyed before its end. `stream` is read only as fast as it is iterated.
 */
export async function* readMessages<T>(
  stream: Readable,
  options: { signal?: AbortSignal | undefined; failure?: () => unknown } = {},
): AsyncGenerator<T, void, undefined> {
  const { signal, failure } = options;
  let ended = stream.readableEnded;
  let wake: (() => void) | null = null;
  const poke = (): void => {
    const call = wake;
    wake = null;
    call?.();
  };
  const onEnd = (): void => {
    ended = true;
    poke();
  };
  const events = ['readable', 'close', 'error'] as const;
  for (const event of events) stream.on(event, poke);
  stream.on('end', onEnd);
  signal?.addEventListener('abort', poke);
  try {
    while (true) {
      throwIfAborted(signal);
      const message: T | null = stream.destroyed ? null : stream.read();
      if (message !== null) {
        yield message;
        continue;
      }
      const failed = failure?.();
      if (failed !== undefined) throw failed;
      if (ended) return;
      if (stream.destroyed) throw new QuernError('UNAVAILABLE', 'the stream was closed before its end');
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    for (const event of events) stream.off(event, poke);
    stream.off('end', onEnd);
    signal?.removeEventListener('abort', poke);
  }
}
