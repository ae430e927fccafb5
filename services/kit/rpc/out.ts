// The answer stream of one call over a grpc-js writable: encoded at write(), bounded in bytes, with backpressure.
import { QuernError, toQuernError } from '#kit/errors.ts';
import { RPC_STREAM_HIGH_WATER_BYTES, RPC_STREAM_UNSENT_BYTES_MAX } from '#kit/limits.ts';
import type { Out } from './service.ts';

/** What Out needs of ServerWritableStream and ServerDuplexStream. */
export type MessageSink = {
  write(message: Buffer, callback: (error?: Error | null) => void): boolean;
  readonly writableNeedDrain: boolean;
};

type Waiter = { resolve(): void; reject(error: unknown): void };

export type StreamOut<T> = Out<T> & {
  /** No message goes out any more; waiting drained() calls reject. */
  close(error: unknown): void;
};

/** `signal` is the call's: after its abort by a drain the handler may still write its end, so writes stop at close() only. */
export function createOut<T>(sink: MessageSink, encode: (message: T) => Buffer, signal: AbortSignal): StreamOut<T> {
  const waiters = new Set<Waiter>();
  let unsentBytes = 0;
  let closed: QuernError | null = null;

  function isWritable(): boolean {
    return !closed && unsentBytes < RPC_STREAM_HIGH_WATER_BYTES && !sink.writableNeedDrain;
  }

  function wake(): void {
    if (waiters.size === 0 || !isWritable()) return;
    for (const waiter of waiters) waiter.resolve();
    waiters.clear();
  }

  function rejectAll(error: unknown): void {
    for (const waiter of waiters) waiter.reject(error);
    waiters.clear();
  }

  signal.addEventListener('abort', () => rejectAll(toQuernError(signal.reason)), { once: true });

  return {
    get writable() {
      return isWritable();
    },
    write(message) {
      if (closed) return false;
      const encoded = encode(message);
      if (unsentBytes + encoded.length > RPC_STREAM_UNSENT_BYTES_MAX) {
        const text = `the reader is too slow: ${unsentBytes} bytes wait unsent; read faster or ask for less`;
        throw new QuernError('RESOURCE_EXHAUSTED', text, { reason: 'SLOW_READER' });
      }
      unsentBytes += encoded.length;
      sink.write(encoded, () => {
        unsentBytes -= encoded.length;
        wake();
      });
      return isWritable();
    },
    drained(extra) {
      if (closed) return Promise.reject(closed);
      if (signal.aborted) return Promise.reject(toQuernError(signal.reason));
      if (extra?.aborted) return Promise.reject(toQuernError(extra.reason));
      if (isWritable()) return Promise.resolve();
      return new Promise((resolve, reject) => {
        const onAbort = (): void => {
          waiters.delete(waiter);
          reject(toQuernError(extra?.reason));
        };
        const waiter: Waiter = {
          resolve() {
            extra?.removeEventListener('abort', onAbort);
            resolve();
          },
          reject(error) {
            extra?.removeEventListener('abort', onAbort);
            reject(error);
          },
        };
        extra?.addEventListener('abort', onAbort, { once: true });
        waiters.add(waiter);
      });
    },
    close(error) {
      closed ??= toQuernError(error);
      rejectAll(closed);
    },
  };
}
