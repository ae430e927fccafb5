import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { createArgumentChecker } from '../../../services/tools/argument-check.ts';
import { checkSchema } from '../../../services/tools/schema-check.ts';
import type { JsonObject, JsonValue } from '../../../services/tools/tool.ts';

const checker = createArgumentChecker();
after(() => checker.close());
const { signal } = new AbortController();
const check = (schema: JsonObject, json: string) => checker.check(schema, json, { signal });

const reader = checkSchema(
  {
    type: 'object',
    properties: {
      path: { type: 'string', minLength: 1 },
      lines: { type: 'integer', minimum: 1 },
      mode: { enum: ['text', 'bytes'] },
    },
    required: ['path'],
    additionalProperties: false,
  },
  'input_schema',
);

async function refused(schema: JsonObject, json: string, pattern: RegExp): Promise<void> {
  const result = await check(schema, json);
  assert(!result.ok, `accepted: ${json.slice(0, 80)}`);
  assert.match(result.message, pattern);
}

test('valid arguments come back as they are, without coercion or defaults', async () => {
  const result = await check(reader, '{"path":"a.ts","lines":3}');
  assert.deepEqual(result, { ok: true, args: { path: 'a.ts', lines: 3 } });
  await refused(reader, '{"path":"a.ts","lines":"3"}', /^arguments\.lines: expected integer, got "3"$/);
  await refused(reader, '{"path":"a","lines":0}', /arguments\.lines: must be >= 1, got 0$/);
  await refused(reader, '{}', /the field "path" is missing/);
  await refused(reader, '', /the field "path" is missing/);
  await refused(reader, '{"path":"a","extra":1}', /has no field "extra"$/);
  await refused(reader, '{"path":"a","line":1}', /has no field "line"; did you mean "lines"\?$/);
  await refused(reader, '{"path":"a","mode":"x"}', /^arguments\.mode: expected "text" or "bytes", got "x"$/);
  await refused(reader, '{"path":"a","mode":"Byte"}', /got "Byte"; did you mean "bytes"\?$/);
  await refused(reader, JSON.stringify({ path: { a: 'x'.repeat(1_000) } }), /^arguments\.path: .{10,90}…$/);
  const two = checkSchema({ type: 'object', required: ['a', 'b', 'c'], properties: { a: {} } }, 'input_schema');
  await refused(two, '{"a":1}', /^arguments: the fields "b", "c" are missing$/);
  await refused(two, '{"x":1}', /^arguments: the fields "a", "b", "c" are missing, got "x"$/);
});

test('what is not a JSON object is refused before the schema', async () => {
  await refused(reader, '[1]', /expected a JSON object/);
  await refused(reader, 'null', /expected a JSON object/);
  await refused(reader, '{"path":', /ends too early/);
  await refused(
    reader,
    '{"path":"a",}',
    /^arguments: not JSON: "}" may not stand at position 12, after "{\\"path\\":\\"a\\","$/,
  );
  await refused(reader, "{path: 'a'}", /^arguments: not JSON: "p" may not stand at position 1, after "{"$/);
  await refused(reader, 'read a.ts', /^arguments: not JSON: expected an object such as .*, got "read a.ts"$/);
  await refused(reader, '{"path":"\\ud800"}', /lone surrogate/);
  await refused(reader, '{"path":"a","path":"b"}', /"path" stands twice/);
  await refused(reader, '{"path":"a","\\u0070ath":"b"}', /"path" stands twice/);
});

test('names of the prototype are data or refused, never a way in', async () => {
  await refused(reader, '{"__proto__":{"path":"a"}}', /"__proto__" is not allowed/);
  await refused(reader, '{"path":{"\\u005f_proto__":1}}', /"__proto__" is not allowed/);
  const named = checkSchema({ type: 'object', required: ['constructor', 'toString'] }, 'input_schema');
  await refused(named, '{}', /the fields "constructor", "toString" are missing/);
  const result = await check(named, '{"constructor":1,"toString":2}');
  assert.deepEqual(result, { ok: true, args: { constructor: 1, toString: 2 } });
  assert.equal(({} as { path?: string }).path, undefined);
});

/** The service goes on while hostile input is checked: how late its own timers were, at most, in milliseconds. */
async function worstDelay(run: () => Promise<unknown>): Promise<number> {
  let worst = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    worst = Math.max(worst, performance.now() - last - 5);
    last = performance.now();
  }, 5);
  await run();
  clearInterval(timer);
  return worst;
}

/** CPU time, of all threads: a busy machine does not count. The least of three: a garbage collection may fall into one. */
async function cpuMs(run: () => Promise<unknown>): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const before = process.cpuUsage();
    await run();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / 1000);
  }
  return least;
}

test('deep, huge and many-keyed arguments are answered within 100 ms', async () => {
  const deep = `{"path":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
  const keys = `{${Array.from({ length: 20_000 }, (_, i) => `"${i}":1`).join(',')}}`;
  const huge = JSON.stringify({ path: 'x'.repeat(300_000) });
  const cases: [string, RegExp][] = [
    [deep, /depth of at most 64/],
    [keys, /at most 10000 keys/],
    [huge, /at most 262144 bytes/],
    ['['.repeat(200_000), /depth/],
    [`{"path":"${'\\'.repeat(100_001)}"}`, /ends too early|not JSON/],
  ];
  for (const [json, pattern] of cases) {
    const spent = await cpuMs(() => refused(reader, json, pattern));
    assert(spent < 100, `${spent} ms for ${json.slice(0, 20)}`);
  }
});

test('patterns that backtrack for ever in other engines answer within 100 ms', async () => {
  for (const pattern of ['^(a+)+$', '^(a|a)*$', '^(a?){20}a{20}$', '^([a-z]+\\.)*[a-z]+$']) {
    const schema = checkSchema({ type: 'object', properties: { text: { type: 'string', pattern } } }, 'input_schema');
    await check(schema, '{}'); // compiled
    for (const length of [30, 5_000]) {
      const json = JSON.stringify({ text: `${'a'.repeat(length)}!` });
      const spent = await cpuMs(() => refused(schema, json, /must match pattern/));
      assert(spent < 100, `${pattern}: ${spent} ms for ${length} characters`);
    }
    await refused(schema, JSON.stringify({ text: 'a'.repeat(200_000) }), /at most \d+ characters where a pattern/);
  }
});

test('a schema that takes exponential time is cut off, and the service does not wait for it', async () => {
  const branch = { properties: { a: { $ref: '#/$defs/node' } }, required: ['a'] };
  const node: JsonValue = { anyOf: [branch, { ...branch, minProperties: 1 }, { ...branch, maxProperties: 9 }] };
  const schema = checkSchema({ type: 'object', $defs: { node }, $ref: '#/$defs/node' }, 'input_schema');
  await check(schema, '{}');
  const json = `${'{"a":'.repeat(40)}1${'}'.repeat(40)}`;
  const late = await worstDelay(() => refused(schema, json, /took more than 80 ms to check|maxProperties|string/));
  assert(late < 10_000, `the event loop stood still for ${late} ms`);
  const result = await check(reader, '{"path":"still works"}');
  assert(result.ok, 'the next check has a thread again');
});

test('many equal checks at once are all answered, those of the ended thread too', async () => {
  const slow = checkSchema({ type: 'object', properties: { l: { type: 'array', uniqueItems: true } } }, 'input_schema');
  const list = JSON.stringify({ l: Array.from({ length: 20_000 }, (_, i) => [i]) });
  const results = await Promise.all([
    ...Array.from({ length: 20 }, () => check(reader, '{"path":"a"}')),
    check(slow, list),
    ...Array.from({ length: 20 }, () => check(reader, '{"path":"a"}')),
  ]);
  assert.equal(results.filter(({ ok }) => ok).length, 40);
  const slowest = results[20]!;
  assert(!slowest.ok);
  assert.match(slowest.message, /took more than 80 ms/);
});

test('a full queue and a cancelled call say so', async () => {
  const aborted = AbortSignal.abort();
  await assert.rejects(
    checker.check(reader, '{}', { signal: aborted }),
    (error) => (error as QuernError).code === 'CANCELLED',
  );
  const all = await Promise.allSettled(Array.from({ length: 400 }, () => check(reader, '{"path":"a"}')));
  const shed = all.filter((one) => one.status === 'rejected');
  assert(shed.length > 0 && shed.length < 200);
  for (const one of shed) assert.equal((one.reason as QuernError).code, 'RESOURCE_EXHAUSTED');
});

test('one tenant fills its share of the queue, not that of another', async () => {
  const ask = (tenant: string) => checker.check(reader, '{"path":"a"}', { signal, tenant });
  const loud = Promise.allSettled(Array.from({ length: 300 }, () => ask('loud')));
  assert.equal((await ask('quiet')).ok, true);
  const shed = (await loud).filter(({ status }) => status === 'rejected');
  assert(shed.length > 200 && shed.length < 300, `${shed.length}`);
});

test('a schema with a mistake is refused where it is compiled', async () => {
  const broken = checkSchema({ type: 'object', properties: { a: { type: 'strnig' } } }, 'input_schema');
  await assert.rejects(checker.compile(broken, { signal }), (error) => {
    assert(error instanceof QuernError);
    assert.equal(error.details.reason, 'SCHEMA_INVALID');
    return true;
  });
  const unknown = checkSchema({ type: 'object', requird: ['a'] }, 'input_schema');
  await assert.rejects(checker.compile(unknown, { signal }), /requird/);
  await checker.compile(unknown, { signal, ignoreUnknown: true });
  assert.deepEqual(await check(unknown, '{}'), { ok: true, args: {} });
});
