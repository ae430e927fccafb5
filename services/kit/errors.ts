// The one error class of all services. Messages say what was expected, what came, and what to do;
// the code table to gRPC and HTTP is kit/rpc/status.ts.

/** The sixteen gRPC error codes, strongest contract between services (google/rpc/code.proto). */
export const CODES = [
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
] as const;

export type Code = (typeof CODES)[number];

/** One field of a request that was refused: its path ("params.top_p") and why. */
export type FieldViolation = { field: string; description: string };

export type ErrorDetails = {
  /** UPPER_SNAKE, stable, for programs; the code's name when nothing narrower is known. */
  reason?: string;
  metadata?: Record<string, string>;
  fields?: FieldViolation[];
  /** When a retry may succeed, from now. */
  retryAfterMs?: number;
};

/** Thrown when the caller cannot go on. `cause` stays in this process: it is logged, never sent. */
export class QuernError extends Error {
  readonly code: Code;
  readonly details: ErrorDetails & { reason: string };

  constructor(code: Code, message: string, details: ErrorDetails = {}, options: { cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'QuernError';
    this.code = code;
    this.details = { ...details, reason: details.reason ?? code };
  }
}

/** Reason word of an engine that refuses the model it was given: its files, its size, its settings. */
export const MODEL_REJECTED = 'MODEL_REJECTED';

/** What a caller reads when something broke inside. The cause is in the log under the same request id. */
export const INTERNAL_MESSAGE = 'internal error; the log of the service has the cause under this request id';

function named(thrown: unknown, name: string): boolean {
  return typeof thrown === 'object' && thrown !== null && (thrown as { name?: unknown }).name === name;
}

/**
 * Any thrown value as a QuernError. A QuernError passes unchanged; an AbortError becomes CANCELLED (or its QuernError
 * cause), a TimeoutError DEADLINE_EXCEEDED; all else INTERNAL with a generic message, the thrown value kept as `cause`.
 */
export function toQuernError(thrown: unknown): QuernError {
  if (thrown instanceof QuernError) return thrown;
  if (named(thrown, 'AbortError')) {
    const cause = (thrown as { cause?: unknown }).cause;
    if (cause instanceof QuernError) return cause;
    return new QuernError('CANCELLED', 'cancelled', {}, { cause: thrown });
  }
  if (named(thrown, 'TimeoutError')) {
    return new QuernError('DEADLINE_EXCEEDED', 'the time limit passed', {}, { cause: thrown });
  }
  return new QuernError('INTERNAL', INTERNAL_MESSAGE, {}, { cause: thrown });
}

/** Throws the signal's reason as a QuernError when it is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw toQuernError(signal.reason);
}
