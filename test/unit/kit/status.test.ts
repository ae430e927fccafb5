import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Status } from '#gen/google/rpc/status.ts';
import { CODES, type ErrorDetails, INTERNAL_MESSAGE, QuernError } from '#kit/errors.ts';
import { RPC_STATUS_DETAILS_BYTES_MAX } from '#kit/limits.ts';
import {
  CODE_TABLE,
  codeOfNumber,
  fromServiceError,
  fromStatusProto,
  fromTrailers,
  grpcNumber,
  toHttpError,
  toServiceError,
  toStatusProto,
} from '#kit/rpc/status.ts';

test('the table has the numbers 1..16, each once, and back', () => {
  assert.deepEqual(
    CODES.map(grpcNumber),
    Array.from({ length: 16 }, (_, index) => index + 1),
  );
  for (const code of CODES) assert.equal(codeOfNumber(CODE_TABLE[code].grpc), code);
  for (const number of [0, 17, -1, 1.5]) assert.equal(codeOfNumber(number), 'UNKNOWN');
});

const details: ErrorDetails = {
  reason: 'CONTEXT_LENGTH_EXCEEDED',
  metadata: { limit: '8192', model: 'größe' },
  fields: [{ field: 'prompt', description: 'expected at most 8192 tokens, got 9000; shorten it' }],
  retryAfterMs: 1500,
};

/** As grpc-js writes them: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses. */
function trailersOf(error: QuernError): Record<string, unknown> {
  const { code, details: message, metadata } = toServiceError(error);
  const [packed] = metadata.get('grpc-status-details-bin') as Buffer[];
  return {
    'grpc-status': String(code),
    'grpc-message': encodeURI(message),
    'grpc-status-details-bin': packed?.toString('base64').replace(/=+$/, ''),
  };
}

test('trailers without a status of gRPC are no word on the call; OK is null', () => {
  assert.equal(fromTrailers({ 'content-type': 'text/html' }), undefined);
  assert.equal(fromTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' }), null);
  const bare = fromTrailers({ 'grpc-status': '5' });
  assert.deepEqual([bare?.code, bare?.message], ['NOT_FOUND', '']);
  assert.equal(fromTrailers({ 'grpc-status': 'x', 'grpc-message': '%zz' })?.message, '%zz');
  for (const status of ['', ' ', 'OK', '-0']) assert.equal(fromTrailers({ 'grpc-status': status })?.code, 'UNKNOWN');
});

test('every code makes the round trip with all its details, as proto, as grpc-js error and as trailers', () => {
  for (const code of CODES) {
    const error = new QuernError(code, `100 % ünïcode ${code}`, details);
    for (const back of [
      fromStatusProto(Status.decode(Status.encode(toStatusProto(error)).finish())),
      fromServiceError(toServiceError(error)),
      fromTrailers(trailersOf(error)),
    ]) {
      assert.ok(back);
      assert.equal(back.code, code);
      assert.equal(back.message, error.message);
      assert.deepEqual(back.details, details);
    }
  }
});

test('any details survive or are cut to what a header holds, and never throw', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 700 });
  const any = fc.record({
    reason: fc.stringMatching(/^[A-Z_]{1,40}$/),
    metadata: fc.dictionary(text, text, { maxKeys: 12 }),
    fields: fc.array(fc.record({ field: text, description: text }), { maxLength: 40 }),
    retryAfterMs: fc.nat({ max: 10_000_000 }),
  });
  fc.assert(
    fc.property(text, any, (message, given) => {
      const status = toStatusProto(new QuernError('INVALID_ARGUMENT', message, given));
      assert.ok(Status.encode(status).finish().length <= RPC_STATUS_DETAILS_BYTES_MAX + 64);
      const back = fromStatusProto(status);
      assert.equal(back.details.reason, given.reason);
      assert.equal(back.details.retryAfterMs, given.retryAfterMs);
    }),
    { numRuns: 200 },
  );
});

test('a message with a lone surrogate or of 100 kB can be sent', () => {
  assert.equal(encodeURI(toServiceError(new QuernError('ABORTED', 'a\ud800b')).details), 'a%EF%BF%BDb');
  assert.ok(toServiceError(new QuernError('ABORTED', 'x'.repeat(100_000))).details.length <= 1024);
});

test('what was thrown inside never leaves', () => {
  const error = toServiceError(new Error('password=hunter2'));
  assert.equal(error.details, INTERNAL_MESSAGE);
  assert.doesNotMatch(JSON.stringify(error.metadata.toJSON()), /hunter2/);
  assert.doesNotMatch(JSON.stringify(toHttpError(new Error('password=hunter2'))), /hunter2/);
});

test('details that do not decode are ignored, the code stays', () => {
  const error = toServiceError(new QuernError('NOT_FOUND', 'm'));
  error.metadata.set('grpc-status-details-bin', Buffer.from([0xff, 0xff, 0xff]));
  const back = fromServiceError(error);
  assert.deepEqual([back.code, back.message, back.details.reason], ['NOT_FOUND', 'm', 'NOT_FOUND']);
});

test('the HTTP form is what OpenAI clients read', () => {
  const limited = toHttpError(
    new QuernError('RESOURCE_EXHAUSTED', 'slow down', { reason: 'TENANT_LIMIT', retryAfterMs: 1200 }),
  );
  assert.deepEqual(limited, {
    status: 429,
    headers: { 'content-type': 'application/json', 'retry-after': '2', 'retry-after-ms': '1200' },
    body: { error: { message: 'slow down', type: 'rate_limit_error', param: null, code: 'tenant_limit' } },
  });
  const bad = toHttpError(new QuernError('INVALID_ARGUMENT', 'm', { fields: [{ field: 'top_p', description: 'd' }] }));
  assert.deepEqual(bad.body.error, { message: 'm', type: 'invalid_request_error', param: 'top_p', code: null });
  const expected: [ConstructorParameters<typeof QuernError>[0], number, string][] = [
    ['UNAUTHENTICATED', 401, 'authentication_error'],
    ['PERMISSION_DENIED', 403, 'permission_error'],
    ['NOT_FOUND', 404, 'invalid_request_error'],
    ['FAILED_PRECONDITION', 400, 'invalid_request_error'],
    ['OUT_OF_RANGE', 400, 'invalid_request_error'],
    ['INTERNAL', 500, 'server_error'],
    ['UNAVAILABLE', 503, 'server_error'],
    ['DEADLINE_EXCEEDED', 504, 'server_error'],
  ];
  for (const [code, status, type] of expected) {
    const http = toHttpError(new QuernError(code, 'm'));
    assert.deepEqual([http.status, http.body.error.type], [status, type], code);
  }
});
