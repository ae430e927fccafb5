// The pace of whoever reads a stream of answers: one that takes nothing holds neither segments nor a call for ever.
import { QuernError } from '#kit/errors.ts';
import type { Out } from '#kit/rpc/service.ts';
import type { AuditContext } from '../context.ts';

/**
 * Waits until the reader takes more. Throws RESOURCE_EXHAUSTED when it takes nothing for readerStallMs, and UNAVAILABLE when the
 * service stops meanwhile.
 */
export async function readerTakes(
  { readerStallMs, stopping }: Pick<AuditContext, 'readerStallMs' | 'stopping'>,
  out: Out<never>,
): Promise<void> {
  const patience = new AbortController();
  const give = (code: 'RESOURCE_EXHAUSTED' | 'UNAVAILABLE', message: string, reason: string) => (): void =>
    patience.abort(new QuernError(code, message, { reason }));
  const seconds = Math.round(readerStallMs / 100) / 10;
  const message = `the reader took nothing for ${seconds} s, so the call was ended; read on, or ask for less`;
  const timer = setTimeout(give('RESOURCE_EXHAUSTED', message, 'SLOW_READER'), readerStallMs);
  const onStop = give('UNAVAILABLE', 'the audit service is stopping; ask again', 'DRAINING');
  stopping.addEventListener('abort', onStop, { once: true });
  if (stopping.aborted) onStop();
  try {
    await out.drained(patience.signal);
  } finally {
    clearTimeout(timer);
    stopping.removeEventListener('abort', onStop);
  }
}
