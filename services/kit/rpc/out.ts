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

/**
 * A class, and not an object literal with a getter: V8 keeps a literal's getter in the old generation, and with it everything the
 * getter can see outlives every minor collection (`test/unit/kit/young-calls.test.ts`).
 */
class AnswerStream<T> implements StreamOut<T> {
  readonly #sink: MessageSink;
  readonly #encode: (message: T) => Buffer;
  readonly #signal: AbortSignal;
  readonly #waiters = new Set<Waiter>();
  #unsentBytes = 0;
  #closed: QuernError | null = null;

  constructor(sink: MessageSink, encode: (message: T) => Buffer, signal: AbortSignal) {
    this.#sink = sink;
    this.#encode = encode;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#rejectAll(toQuernError(signal.reason)), { once: true });
  }

  get writable(): boolean {
    return !this.#closed && this.#unsentBytes < RPC_STREAM_HIGH_WATER_BYTES && !this.#sink.writableNeedDrain;
  }

  write(message: T): boolean {
    if (this.#closed) return false;
    const encoded = this.#encode(message);
    if (this.#unsentBytes + encoded.length > RPC_STREAM_UNSENT_BYTES_MAX) {
      const text = `the reader is too slow: ${this.#unsentBytes} bytes wait unsent; read faster or ask for less`;
      throw new QuernError('RESOURCE_EXHAUSTED', text, { reason: 'SLOW_READER' });
    }
    this.#unsentBytes += encoded.length;
    this.#sink.write(encoded, () => {
      this.#unsentBytes -= encoded.length;
      this.#wake();
    });
    return this.writable;
  }

  drained(extra?: AbortSignal): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#signal.aborted) return Promise.reject(toQuernError(this.#signal.reason));
    if (extra?.aborted) return Promise.reject(toQuernError(extra.reason));
    if (this.writable) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters.delete(waiter);
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
      this.#waiters.add(waiter);
    });
  }

  close(error: unknown): void {
    this.#closed ??= toQuernError(error);
    this.#rejectAll(this.#closed);
  }

  #wake(): void {
    if (this.#waiters.size === 0 || !this.writable) return;
    for (const waiter of this.#waiters) waiter.resolve();
    this.#waiters.clear();
  }

  #rejectAll(error: unknown): void {
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }
}

/** `signal` is the call's: after its abort by a drain the handler may still write its end, so writes stop at close() only. */
export function createOut<T>(sink: MessageSink, encode: (message: T) => Buffer, signal: AbortSignal): StreamOut<T> {
  return new AnswerStream(sink, encode, signal);
}
