import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  coerceText,
  coerceValue,
  itemSchema,
  propertySchema,
  readSchema,
  type Schema,
} from '../../../../services/gateway/tool-parsers/argument-coercion.ts';
import {
  type Lossless,
  parseLossless,
  writeLossless,
} from '../../../../services/gateway/tool-parsers/lossless-json.ts';

const schema = (value: object): Schema => readSchema(JSON.stringify(value));

/** JSON text to JSON text; null: it fits nothing. */
function value(json: string, of: object): string | null {
  const made = coerceValue(parseLossless(json) as Lossless, schema(of));
  return made === undefined ? null : writeLossless(made);
}

function text(raw: string, of: object): string | null {
  const made = coerceText(raw, schema(of));
  return made === undefined ? null : writeLossless(made);
}

test('text in every type, by exact literal', () => {
  const cases: [string, string, string | null][] = [
    ['string', '5', '"5"'],
    ['string', ' true\n', '" true\\n"'],
    ['integer', '9007199254740993', '9007199254740993'],
    ['integer', ' -12 ', '-12'],
    ['integer', '5.0', '5.0'],
    ['integer', '1e3', '1e3'],
    ['integer', '5.5', null],
    ['integer', '0x10', null],
    ['integer', '', null],
    ['number', '-0', '-0'],
    ['number', '1.50E-7', '1.50E-7'],
    ['number', '.5', null],
    ['number', 'Infinity', null],
    ['number', '1 2', null],
    ['boolean', 'true', 'true'],
    ['boolean', 'False', 'false'],
    ['boolean', 'yes', null],
    ['boolean', 'constructor', null],
    ['null', 'None', 'null'],
    ['null', 'nil', null],
    ['object', '{"a": [1, 2.50]}', '{"a":[1,2.50]}'],
    ['object', '[1]', null],
    ['array', '[1, "x"]', '[1,"x"]'],
    ['array', '"[1]"', null],
  ];
  for (const [type, raw, expected] of cases) assert.equal(text(raw, { type }), expected, `${type} ${raw}`);
  for (const raw of ['5', 'null', '{"a":1}']) assert.equal(text(raw, {}), JSON.stringify(raw), 'no type: text');
});

test('alternatives are tried in order, and what fits already comes first', () => {
  const optional = { anyOf: [{ type: 'integer' }, { type: 'null' }] };
  assert.deepEqual([text('7', optional), text('null', optional), text('x', optional)], ['7', 'null', null]);
  const either = { type: ['integer', 'string'] };
  assert.deepEqual([text('7', either), text('x', either), value('"7"', either)], ['7', '"x"', '"7"']);
  assert.equal(text('7', { oneOf: [{ type: 'string' }, { type: 'integer' }] }), '"7"');
  assert.equal(value('"7"', { anyOf: [{ type: 'boolean' }, { type: 'integer' }] }), '7');
  const shapes = {
    anyOf: [
      { type: 'object', properties: { a: { type: 'integer' } } },
      { type: 'object', properties: { a: { type: 'string' } } },
    ],
  };
  assert.deepEqual([value('{"a":"x"}', shapes), value('{"a":"1"}', shapes)], ['{"a":"x"}', '{"a":1}']);
});

test('every depth, $ref, allOf, prefixItems, additionalProperties', () => {
  const node = {
    $defs: {
      node: {
        type: 'object',
        properties: { size: { type: 'integer' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
        additionalProperties: { type: 'boolean' },
      },
    },
    allOf: [
      { $ref: '#/$defs/node' },
      { properties: { pair: { prefixItems: [{ type: 'string' }], items: { type: 'number' } } } },
    ],
  };
  const given =
    '{"size":"1","next":{"size":"2","next":{"size":"12345678901234567890","next":null,"odd":"true"}},"pair":[7,"8","9.50"]}';
  const made =
    '{"size":1,"next":{"size":2,"next":{"size":12345678901234567890,"next":null,"odd":true}},"pair":["7",8,9.50]}';
  assert.equal(value(given, node), made);
  assert.equal(
    value(JSON.stringify(given), { ...node, type: 'object', properties: { size: { type: 'integer' } } })?.startsWith(
      '{"size":1',
    ),
    true,
  );
  assert.equal(value('{"next":{"next":{"size":"x"}}}', node), null);
});

test('values that fit nothing, and values nobody knows', () => {
  assert.equal(value('null', { type: 'string' }), null);
  assert.equal(value('{"a":1}', { type: 'integer' }), null);
  assert.equal(value('true', { type: 'string' }), '"true"');
  assert.equal(value('{"a":[1]}', { type: 'string' }), '"{\\"a\\":[1]}"');
  assert.equal(value('{"x":"1","__proto__":"1"}', { type: 'object', properties: {} }), '{"x":"1","__proto__":"1"}');
  assert.equal(value('"b"', { enum: ['a', 'b'] }), '"b"');
  assert.equal(value('"3"', { enum: [1, 2, 3] }), '3');
});

test('no schema makes an error or a prototype', () => {
  const odd = [
    '',
    'x',
    'null',
    '[]',
    '{"type":7}',
    '{"$ref":"#"}',
    '{"$ref":"#/a/b"}',
    '{"$ref":"http://x"}',
    '{"anyOf":[]}',
    '{"anyOf":[1]}',
  ];
  for (const json of [...odd, '{"type":[],"properties":7}', '{"properties":{"__proto__":{"type":"integer"}}}']) {
    const one = readSchema(json);
    for (const key of ['a', '__proto__', 'constructor']) propertySchema(one, key);
    itemSchema(one, 0);
    coerceValue(parseLossless('{"a":["1"]}') as Lossless, one);
    coerceText('1', one);
  }
  const own = readSchema('{"properties":{"__proto__":{"type":"integer"}}}');
  assert.equal(
    writeLossless(coerceValue(parseLossless('{"__proto__":"5"}') as Lossless, own) as Lossless),
    '{"__proto__":5}',
  );
  const loop = readSchema('{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"}');
  const began = performance.now();
  coerceText('1', loop);
  assert(performance.now() - began < 20_000, 'a schema that leads to itself ends');
});

test('alternatives at every depth do not multiply without end', () => {
  let deep: object = { type: 'integer' };
  let json = '"x"';
  for (let i = 0; i < 24; i += 1) {
    deep = { anyOf: [1, 2, 3].map(() => ({ type: 'object', properties: { a: deep } })) };
    json = `{"a":${json}}`;
  }
  const began = performance.now();
  assert.equal(coerceValue(parseLossless(json) as Lossless, { own: deep as never, root: {} }), undefined);
  assert(performance.now() - began < 20_000);
});

test('JSON comes out as it went in, but for blanks; numbers keep their digits', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), (json) => {
      const lossless = parseLossless(json) as Lossless;
      assert.deepEqual(JSON.parse(writeLossless(lossless)), JSON.parse(json));
    }),
    { numRuns: 500 },
  );
  for (const bad of [
    '',
    '{',
    '[1,]',
    '{"a":1,}',
    '01',
    '1.',
    '+1',
    'NaN',
    '"\\x"',
    '{a:1}',
    '1 2',
    '"a',
    `${'['.repeat(40)}${']'.repeat(40)}`,
  ]) {
    assert.equal(parseLossless(bad), undefined, bad);
  }
  assert.equal(
    writeLossless(parseLossless('{"a": 1e400, "a": 2, "b": "x\ny"}') as Lossless),
    '{"a":1e400,"b":"x\\ny"}',
  );
});
