// When a request's time is over: a hard end, and a soft one at which it ends with what it has.
import { QuernError } from '#kit/errors.ts';
import { TIMEOUT_MS_MAX } from './limits.ts';
import type { Timers } from './timers.ts';
import type { TypedRequest } from './typed-request.ts';

export type Deadlines = {
  hard(error: QuernError): void;
  /** `error`: for a request that has nothing to end with. */
  soft(error: QuernError): void;
};

export function armDeadlines(
  timers: Timers,
  { timeoutMs, softDeadlineMs }: Pick<TypedRequest, 'timeoutMs' | 'softDeadlineMs'>,
  passed: Deadlines,
): void {
  const arm = (limitMs: number | null, message: string, tell: (error: QuernError) => void): void => {
    if (limitMs === null) return;
    // Made when it is needed: an error costs a stack trace, and most requests end in time.
    timers.after(Math.min(limitMs, TIMEOUT_MS_MAX), () => tell(new QuernError('DEADLINE_EXCEEDED', message)));
  };
  arm(timeoutMs, `the request's time limit of ${timeoutMs} ms passed`, passed.hard);
  arm(softDeadlineMs, `the soft deadline of ${softDeadlineMs} ms passed before the first token`, passed.soft);
}
