// What is taken for a plan, and what is refused with a reason.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { offeredTools } from '../../../../services/gateway/agent/offered-tools.ts';
import { readPlan } from '../../../../services/gateway/agent/plan.ts';
import { planOf, tool } from './scripted.ts';

const SCHEMA = JSON.stringify({
  type: 'object',
  properties: {
    path: { type: 'string', minLength: 3 },
    mode: { enum: ['r', 'w'] },
    count: { type: 'integer', minimum: 1 },
    either: { anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'number' } }] },
  },
  required: ['path'],
  additionalProperties: false,
});

const offered = offeredTools([tool('f'), tool('s', { inputSchemaJson: SCHEMA })], [], { nesting: false });
const s = (args: object): string => planOf({ id: 'a', tool: 's', arguments: args });

const REFUSED: [string, string, RegExp][] = [
  ['prose', 'First I call f.', /expected one JSON object/],
  ['text around', `Sure!\n${planOf({ id: 'a' })}`, /does not parse/],
  ['an array', '[]', /expected an object with an array "steps"/],
  ['an unknown field', '{"steps": [], "note": 1}', /unknown field "note"/],
  ['no steps', '{"steps": []}', /expected 1\.\.64 steps, got 0/],
  ['too many steps', planOf(...Array.from({ length: 65 }, (_, i) => ({ id: `s${i}` }))), /got 65/],
  ['an id twice', planOf({ id: 'a' }, { id: 'a' }), /stands twice/],
  ['a bad id', planOf({ id: 'a b' }), /id: expected/],
  ['an unknown step field', '{"steps":[{"id":"a","tool":"f","if":"x"}]}', /unknown field "if"/],
  ['an unknown tool', planOf({ id: 'a', tool: 'rm' }), /expected one of f, s, got "rm"/],
  ['arguments that are no object', '{"steps":[{"id":"a","tool":"f","arguments":[1]}]}', /expected an object/],
  ['attempts', planOf({ id: 'a', max_attempts: 5 }), /max_attempts: expected 1\.\.4/],
  ['after that is no list', '{"steps":[{"id":"a","tool":"f","after":"b"}]}', /after: expected an array/],
  ['an unknown step in after', planOf({ id: 'a', after: ['b'] }), /needs a step "b"/],
  ['an unknown step in a reference', planOf({ id: 'a', arguments: { x: `\${steps.b.content}` } }), /needs a step "b"/],
  [
    'a cycle',
    planOf({ id: 'a', after: ['b'] }, { id: 'b', arguments: { x: `\${steps.a.content}` } }),
    /in a cycle: a, b/,
  ],
  ['itself', planOf({ id: 'a', after: ['a'] }), /in a cycle: a/],
  ['another reference', planOf({ id: 'a' }, { id: 'b', arguments: { x: `\${steps.a.stdout}` } }), /of the form/],
  [
    'a reference in a key',
    planOf({ id: 'a' }, { id: 'b', arguments: Object.fromEntries([[`\${steps.a.content}`, 1]]) }),
    /in a key/,
  ],
  ['depth', planOf({ id: 'a', arguments: JSON.parse(`${'{"x":'.repeat(70)}1${'}'.repeat(70)}`) }), /at most 64 levels/],
  ['a missing argument', s({}), /expected "path", which is missing/],
  ['a wrong type', s({ path: 3 }), /arguments\.path: expected string, got number/],
  ['no integer', s({ path: 'abc', count: 1.5 }), /expected integer, got number/],
];

for (const [name, text, message] of REFUSED) {
  test(`a plan is refused: ${name}`, () => {
    const read = readPlan(text, offered);
    assert.equal(read.ok, false);
    if (!read.ok) assert.match(read.reason, message);
  });
}

test('a plan is taken: in a fence, with references where a string may stand, with branches of a schema', () => {
  const plan = planOf(
    { id: 'b', tool: 's', arguments: { path: `\${steps.a.content}`, mode: `\${steps.a.content}`, either: [1, 2] } },
    { id: 'a' },
  );
  for (const text of [plan, `\n${plan}\n`, `\`\`\`json\n${plan}\n\`\`\``, `\`\`\`\n${plan}\n\`\`\``]) {
    const read = readPlan(text, offered);
    assert.ok(read.ok, JSON.stringify(read));
    assert.deepEqual(
      read.steps.map(({ id, after, maxAttempts }) => [id, after, maxAttempts]),
      [
        ['a', [], 2],
        ['b', ['a'], 2],
      ],
    );
  }
  const wrong = readPlan(
    planOf({ id: 'a' }, { id: 'b', tool: 's', arguments: { path: 'abc', count: `\${steps.a.content}` } }),
    offered,
  );
  assert.equal(wrong.ok, false); // text can never become a number
});

test('what lies below the top level of a schema is for the tool service to judge', () => {
  const loose = {
    type: 'object',
    required: ['mode'],
    properties: {
      mode: { enum: [{ a: 1, b: 2 }] },
      text: { type: 'string', nullable: true },
      other: { $ref: '#/$defs/other', type: ['integer', 'null'] },
    },
    $defs: { other: { minimum: 1 } },
  };
  const tools = offeredTools([tool('s', { inputSchemaJson: JSON.stringify(loose) })], [], { nesting: false });
  for (const args of [
    { mode: { b: 2, a: 1 }, text: null, other: 3 },
    { mode: 'x', other: 2, constructor: 1 },
  ]) {
    assert.equal(readPlan(s(args), tools).ok, true, JSON.stringify(args));
  }
  for (const args of [{}, { text: 'x' }, { mode: 1, other: '3' }, { mode: 1, other: 1.5 }]) {
    assert.equal(readPlan(s(args), tools).ok, false, JSON.stringify(args));
  }
});

test('a schema of twenty thousand branches and large arguments cost no time', () => {
  const branches = Array.from({ length: 20_000 }, () => ({}));
  const inputSchemaJson = JSON.stringify({ type: 'object', anyOf: branches, properties: { x: { anyOf: branches } } });
  const tools = offeredTools([tool('s', { inputSchemaJson })], [], { nesting: false });
  const plan = s({ x: 'y'.repeat(100_000) });
  const before = process.cpuUsage();
  assert.equal(readPlan(plan, tools).ok, true);
  const { user, system } = process.cpuUsage(before);
  assert.ok((user + system) / 1000 < 500, `${(user + system) / 1000} ms`);
});
