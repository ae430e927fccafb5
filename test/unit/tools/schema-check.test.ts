import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSchema } from '../../../services/tools/schema-check.ts';
import type { JsonValue } from '../../../services/tools/tool.ts';

const object = (rest: { [key: string]: JsonValue }): JsonValue => ({ type: 'object', ...rest });

test('a schema comes back without its dialect and name', () => {
  const schema = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: 'urn:x',
    type: 'object',
    properties: {},
  };
  assert.deepEqual(checkSchema(schema, 's'), { type: 'object', properties: {} });
  const draft7 = { $schema: 'http://json-schema.org/draft-07/schema#', type: 'object' };
  assert.deepEqual(checkSchema(draft7, 's'), { type: 'object' });
});

test('what is refused, and where', () => {
  let deep: JsonValue = { type: 'string' };
  for (let i = 0; i < 40; i++) deep = { items: deep };
  const cases: [JsonValue, RegExp][] = [
    [null, /s: expected a JSON Schema/],
    [[], /s: expected a JSON Schema/],
    [{}, /s\.type: expected "object"/],
    [{ type: 'string' }, /s\.type/],
    [{ ...(object({}) as object), $schema: 'http://json-schema.org/draft-04/schema#' }, /s\.\$schema/],
    [object({ $ref: 'https://example.com/x.json' }), /s\.\$ref: expected a part of this schema/],
    [object({ properties: { a: { $ref: 'other.json#/a' } } }), /s\.properties\.a\.\$ref/],
    [object({ $dynamicRef: '#x' }), /s\.\$dynamicRef: is not supported/],
    [object({ properties: { a: { $id: 'urn:y' } } }), /s\.properties\.a\.\$id/],
    [object({ properties: { a: { pattern: '(a)\\1' } } }), /s\.properties\.a\.pattern: pattern/],
    [object({ properties: { a: { pattern: '(?=a)' } } }), /lookaround/],
    [object({ properties: { a: { pattern: '(' } } }), /s\.properties\.a\.pattern/],
    [object({ properties: { a: { pattern: 1 } } }), /expected a regular expression/],
    [object({ patternProperties: { '(?!x)y': {} } }), /patternProperties/],
    [JSON.parse('{"type":"object","properties":{"__proto__":{}}}'), /"__proto__" is not allowed/],
    [object({ properties: { a: deep } }), /depth of at most 32/],
    [object({ description: 'x'.repeat(70_000) }), /at most 65536 bytes/],
  ];
  for (const [schema, message] of cases) assert.throws(() => checkSchema(schema, 's'), { message });
});

test('names of fields and values are not keywords', () => {
  const schema = object({
    properties: { pattern: { type: 'string' }, $ref: { const: { pattern: '(?=x)', $ref: 'http://x' } } },
    default: { $ref: 'http://x' },
  });
  assert.deepEqual(checkSchema(schema, 's'), schema);
});
