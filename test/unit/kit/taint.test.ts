import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addTaint, NO_TAINT, type Taint } from '#kit/taint.ts';

test('the sum has what either has, and changes neither', () => {
  const flags = [false, true];
  const all: Taint[] = flags.flatMap((readUntrusted) =>
    flags.flatMap((hasPrivate) => flags.map((canExfiltrate) => ({ readUntrusted, hasPrivate, canExfiltrate }))),
  );
  for (const a of all) {
    assert.deepEqual(addTaint(a, NO_TAINT), a);
    for (const b of all) {
      const sum = addTaint(Object.freeze({ ...a }), Object.freeze({ ...b }));
      for (const key of ['readUntrusted', 'hasPrivate', 'canExfiltrate'] as const) {
        assert.equal(sum[key], a[key] || b[key], `${key} of ${JSON.stringify([a, b])}`);
      }
    }
  }
});
