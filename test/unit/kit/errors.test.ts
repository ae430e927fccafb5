import assert from 'node:assert/strict';
import { test } from 'node:test';
import { INTERNAL_MESSAGE, QuernError, throwIfAborted, toQuernError } from '#kit/errors.ts';

test('the reason is the code when nothing narrower is given', () => {
  assert.equal(new QuernError('NOT_FOUND', 'm').details.reason, 'NOT_FOUND');
  assert.equal(new QuernError('NOT_FOUND', 'm', { reason: 'MODEL_NOT_FOUND' }).details.reason, 'MODEL_NOT_FOUND');
  assert.equal(new QuernError('NOT_FOUND', 'm') instanceof Error, true);
});

test('a QuernError passes through unchanged', () => {
  const error = new QuernError('ABORTED', 'm');
  assert.equal(toQuernError(error), error);
});

test('an abort is CANCELLED, an abort with a QuernError as cause is that error, a timeout DEADLINE_EXCEEDED', async () => {
  const controller = new AbortController();
  controller.abort();
  assert.equal(toQuernError(controller.signal.reason).code, 'CANCELLED');
  const cause = new QuernError('UNAVAILABLE', 'draining');
  assert.equal(toQuernError(new DOMException('aborted', { name: 'AbortError', cause })), cause);
  const signal = AbortSignal.timeout(1);
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  assert.equal(toQuernError(signal.reason).code, 'DEADLINE_EXCEEDED');
});

test('anything else is INTERNAL with the cause kept and nothing of it in the message', () => {
  for (const thrown of [new TypeError('secret path /x'), 'secret', 0, null, undefined, { secret: 1 }]) {
    const error = toQuernError(thrown);
    assert.equal(error.code, 'INTERNAL');
    assert.equal(error.message, INTERNAL_MESSAGE);
    assert.equal(error.cause, thrown === undefined ? undefined : thrown);
  }
});

test('throwIfAborted throws the reason as a QuernError, and nothing before the abort', () => {
  const controller = new AbortController();
  throwIfAborted(undefined);
  throwIfAborted(controller.signal);
  const reason = new QuernError('UNAVAILABLE', 'stopping');
  controller.abort(reason);
  assert.throws(() => throwIfAborted(controller.signal), reason);
});
