import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { describeIssue } from '#kit/schema-errors.ts';

function refusal(schema: z.ZodType, value: unknown): string {
  const parsed = schema.safeParse(value, { error: describeIssue });
  assert.ok(!parsed.success, `expected a refusal of ${JSON.stringify(value)}`);
  return parsed.error.issues.map(({ message }) => message).join('; ');
}

test('a wrong type says what was expected and what came', () => {
  assert.equal(refusal(z.number(), 'x'), 'expected a number, got a string');
  assert.equal(refusal(z.number().nullish(), 'x'), 'expected a number, got a string');
  assert.equal(refusal(z.string(), undefined), 'expected a string, but it is missing');
  assert.equal(refusal(z.string(), null), 'expected a string, got null');
  assert.equal(refusal(z.boolean(), [1]), 'expected true or false, got an array');
  assert.equal(refusal(z.array(z.string()), true), 'expected an array, got true');
  assert.equal(refusal(z.looseObject({}), 3), 'expected an object, got 3');
  assert.equal(refusal(z.int(), 1.5), 'expected a whole number, got 1.5');
  assert.equal(refusal(z.record(z.string(), z.number()), []), 'expected an object, got an array');
});

test('a bound names the bound and the value, or the length of what is too long', () => {
  assert.equal(refusal(z.number().max(2), 5), 'expected a number of at most 2, got 5');
  assert.equal(refusal(z.number().gt(0), 0), 'expected a number of more than 0, got 0');
  assert.equal(refusal(z.number().lt(1), 1), 'expected a number of less than 1, got 1');
  assert.equal(refusal(z.int().min(1), 0), 'expected a number of at least 1, got 0');
  assert.equal(refusal(z.string().max(3), 'abcd'), 'expected at most 3 characters, got 4');
  assert.equal(refusal(z.array(z.int()).max(1), [1, 2]), 'expected at most 1 element, got 2');
});

test('choices, unknown names, patterns and unions are spelled out', () => {
  assert.equal(refusal(z.enum(['a', 'b']), 'c'), 'expected one of a, b, got "c"');
  assert.equal(refusal(z.strictObject({}), { x: 1 }), 'has no field "x"');
  assert.equal(refusal(z.string().regex(/^a$/), 'b'), 'expected text that matches /^a$/, got "b"');
  assert.equal(refusal(z.union([z.string(), z.array(z.string())]), 7), 'expected a string or an array, got a number');
  assert.equal(refusal(z.string().regex(/^a$/), 'b'.repeat(500)), 'expected text that matches /^a$/, got a string');
});

test('a message that stands in the schema wins', () => {
  assert.equal(refusal(z.string().regex(/^\d+$/, 'expected a token id'), 'x'), 'expected a token id');
  const ids = z.record(z.string().regex(/^\d+$/, 'expected a token id'), z.number());
  assert.equal(refusal(ids, { x: 1 }), 'expected a token id');
});
