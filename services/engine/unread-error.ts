// Why a sequence ended whose reader fell asleep.
import { QuernError } from '#kit/errors.ts';
import { UNREAD_MAX_MS } from './limits.ts';

export function unreadError(): QuernError {
  const message = `the answer was not read for ${UNREAD_MAX_MS / 1000} s, so the request was ended; read as fast as tokens come`;
  return new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'SLOW_READER' });
}
