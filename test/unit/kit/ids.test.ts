import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomHex, uuidv7 } from '#kit/ids.ts';

test('the layout is that of RFC 9562 version 7 and holds the time', () => {
  const before = Date.now();
  const id = uuidv7();
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  const ms = Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16);
  assert.ok(ms >= before - 1 && ms <= Date.now() + 50, `${ms} is not now`);
});

test('20,000 ids are different and in the order they were made, through full milliseconds', () => {
  const ids = Array.from({ length: 20_000 }, () => uuidv7());
  assert.equal(new Set(ids).size, ids.length);
  assert.deepEqual(ids.toSorted(), ids);
});

test('a clock that goes back does not break the order', () => {
  const first = uuidv7();
  assert.ok(uuidv7(0) > first);
});

test('hex ids are of their length, lower-case and different, past every end of the pool', () => {
  const ids = Array.from({ length: 3_000 }, (_, i) => randomHex(i % 3 === 0 ? 16 : 8));
  assert.ok(
    ids.every((id, i) => id.length === (i % 3 === 0 ? 32 : 16) && /^[0-9a-f]+$/.test(id) && /[1-9a-f]/.test(id)),
  );
  assert.equal(new Set(ids).size, ids.length);
});
