import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { formatPath, jsonDepth, validate } from '../../../services/gateway/http/body.ts';

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

test('the depth read from bytes is that of the value, whatever its strings hold', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6, stringUnit: fc.constantFrom('{', '[', '"', '\\', ']', 'é') }), (value) => {
      assert.equal(jsonDepth(Buffer.from(JSON.stringify(value))), depthOf(value));
    }),
  );
});

test('paths read as one would write them', () => {
  assert.equal(formatPath(['messages', 2, 'content', 0, 'text']), 'messages[2].content[0].text');
  assert.equal(formatPath([]), '');
});

test('of a union the branch that got furthest is blamed', () => {
  const schema = z.object({ content: z.union([z.string(), z.array(z.object({ text: z.string() }))]) });
  assert.throws(() => validate(schema, { content: [{ text: 'a' }, { text: 5 }] }), /^QuernError: content\[1\]\.text: /);
  assert.throws(() => validate(schema, { content: 5 }), /^QuernError: content: /);
});
