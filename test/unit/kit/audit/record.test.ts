import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AUDIT_RECORD_BYTES_MAX } from '../../../../services/kit/audit/limits.ts';
import { type AuditRecord, canonicalBytes, placeOf, recordBytes } from '../../../../services/kit/audit/record.ts';

const record = (over: Partial<AuditRecord> = {}): AuditRecord => ({
  v: 1,
  id: '01900000-0000-7000-8000-000000000000',
  ts: '2026-01-01T00:00:00.000Z',
  mono_ns: '1',
  producer: 'gateway-00000000',
  epoch: 1,
  seq: 1,
  prev: '0'.repeat(64),
  tenant: 't',
  actor: { kind: 'user', ref: 'p' },
  action: 'request.accepted',
  outcome: 'ok',
  ...over,
});

test('canonical bytes: sorted keys at every depth, no blanks, no undefined, UTF-8', () => {
  const value = { b: [1, { d: 'é', c: null }], a: true, 'a b': '\n', skipped: undefined };
  assert.equal(canonicalBytes(value).toString('utf8'), '{"a":true,"a b":"\\n","b":[1,{"c":null,"d":"é"}]}');
  assert.deepEqual(canonicalBytes({ x: 1, y: 2 }), canonicalBytes({ y: 2, x: 1 }));
  assert.equal(canonicalBytes({ n: -0 }).toString(), '{"n":0}');
});

test('what two writers could write differently is refused by its path', () => {
  const cases: [unknown, RegExp][] = [
    [{ usage: { ms: 1.5 } }, /usage\.ms: expected a whole number/],
    [{ usage: { ms: 2 ** 53 } }, /usage\.ms: expected a whole number below 2\^53/],
    [{ usage: { ms: Number.NaN } }, /usage\.ms/],
    [{ list: ['a', '\ud800'] }, /list\[1\]: expected well-formed text/],
    [{ '\udc00': 1 }, /well-formed/],
    [{ at: 1n }, /at: expected a JSON value, got bigint/],
    [{ call: () => 1 }, /call: expected a JSON value, got function/],
  ];
  for (const [value, message] of cases) {
    assert.throws(() => canonicalBytes(value as object), { code: 'INVALID_ARGUMENT', message });
  }
});

test('a record is at most 16 KiB and never holds a raw newline', () => {
  assert.ok(!recordBytes(record({ target: 'a\nb' })).includes(0x0a));
  const room = AUDIT_RECORD_BYTES_MAX - recordBytes(record({ target: '' })).length;
  assert.equal(recordBytes(record({ target: 'x'.repeat(room) })).length, AUDIT_RECORD_BYTES_MAX);
  assert.throws(() => recordBytes(record({ target: 'x'.repeat(room + 1) })), {
    code: 'INVALID_ARGUMENT',
    message: /expected at most 16384 bytes, got 16385; put content in the content store/,
  });
});

test('placeOf reads a record and refuses what is none', () => {
  const { producer, epoch, seq, prev, id, ts } = record();
  assert.deepEqual(placeOf(recordBytes(record())), { producer, epoch, seq, prev, id, ts });
  for (const bytes of ['', '{', '{}', '[]', 'null', '{"producer":"p","prev":"","id":"","ts":"","epoch":1,"seq":"1"}']) {
    assert.throws(() => placeOf(Buffer.from(bytes)), { code: 'DATA_LOSS' }, bytes);
  }
});
