import assert from 'node:assert/strict';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { evalJsPureTool } from '../../../../services/tools/builtin/eval-js-pure.ts';
import { createPureEval } from '../../../../services/tools/builtin/pure-eval.ts';
import type { JsonValue, ToolAnswer } from '../../../../services/tools/tool.ts';
import { newCall } from './fake-jail.ts';

const pureEval = createPureEval({ startMs: 60_000 }); // however busy the machine is
after(() => pureEval.close());
const tool = evalJsPureTool(pureEval);

async function evaluate(
  t: TestContext,
  code: string,
  input?: JsonValue,
  { wallMs = 20_000, signal = new AbortController().signal } = {},
): Promise<ToolAnswer> {
  const call = newCall(t);
  const args = input === undefined ? { code } : { code, input };
  const prepared = await tool.prepare(args, { ...call, limits: { ...call.limits, wallMs } });
  assert(prepared.kind === 'function' && prepared.tier === 'W');
  const output = { write: () => true, drained: () => Promise.resolve() };
  return prepared.run({ signal, output });
}

test('the value of the last expression comes back as JSON', async (t) => {
  const answer = await evaluate(t, 'const n = input.list.reduce((a, b) => a + b, 0); ({ n, s: "ä" + input.name })', {
    list: [1, 2.5],
    name: '"x"',
  });
  assert.deepEqual(answer.structured, { n: 3.5, s: 'ä"x"' });
  assert.equal((await evaluate(t, 'undefined')).content, 'null');
  assert.equal((await evaluate(t, 'input')).content, 'null');
});

test('there is nothing to reach', async (t) => {
  const names = ['process', 'require', 'fetch', 'setTimeout', 'WebAssembly', 'module', 'std', 'os', 'console', 'Deno'];
  const code = `const found = (name) => { try { return typeof (0, eval)(name) !== 'undefined' } catch { return false } };
input.filter(found)`;
  const answer = await evaluate(t, code, names);
  assert.deepEqual(answer.structured, []);
  const reached = await evaluate(t, `[].constructor.constructor('return typeof process')()`);
  assert.equal(reached.structured, 'undefined');
  const imported = await evaluate(t, `import('node:fs').then(() => 1); 'sent'`);
  assert.equal(imported.structured, 'sent'); // the promise is rejected, and nobody waits for it
});

test('a call leaves nothing for the next one', async (t) => {
  await evaluate(t, 'globalThis.left = 1; Object.prototype.left = 2; Array.prototype.map = null; 0');
  assert.deepEqual((await evaluate(t, '[typeof left, ({}).left === undefined, typeof [].map]')).structured, [
    'undefined',
    true,
    'function',
  ]);
});

test('the code does not decide what its result is as JSON', async (t) => {
  const before = await evaluate(t, '[1, 2]');
  for (const code of [
    'JSON.stringify = () => "not JSON"; [1, 2]',
    'JSON = null; [1, 2]',
    'Object.defineProperty(globalThis, "JSON", { get() { throw 1 } }); [1, 2]',
  ]) {
    const answer = await evaluate(t, code);
    assert(answer.ok, code);
    assert.deepEqual(answer, before, code);
  }
});

test('what is thrown is told; what never ends, or grows, or nests, is ended', async (t) => {
  const cases: [string, RegExp][] = [
    ['null.x', /TypeError/],
    ['throw "text"', /thrown: text/],
    ['throw { name: { toString() { for(;;); } } }', /./],
    ['syntax error', /SyntaxError/],
    ['for (;;);', /took more than 300 ms/],
    ['try { for (;;); } finally { for (;;); }', /took more than 300 ms/],
    ['({ toJSON() { for (;;); } })', /took more than 300 ms/],
    ['/(a+)+$/.test("a".repeat(50) + "!")', /took more than 300 ms|./],
    ['const a = []; for (;;) a.push("x".repeat(100000) + a.length)', /memory|took more|did not stop in time/],
    ['(function f() { f() })()', /stack|RangeError|InternalError/i],
    ['"x".repeat(100000)', /100002 characters/],
    ['const a = {}; a.a = a; a', /circular/i],
    ['1n', /BigInt|bigint/],
  ];
  for (const [code, message] of cases) {
    const wallMs = message.source.includes('took more') ? 300 : 20_000; // no other case is one of time
    const answer = await evaluate(t, code, undefined, { wallMs });
    assert(!answer.ok, code);
    assert.match(answer.message, message, code);
  }
  assert.equal((await evaluate(t, '1 + 1')).structured, 2);
});

test('a cancelled call stops, and more calls than threads all get their turn', async (t) => {
  const cancel = new AbortController();
  const running = evaluate(t, 'for (;;);', undefined, { wallMs: 60_000, signal: cancel.signal });
  setTimeout(() => cancel.abort(new Error('enough')), 100);
  await assert.rejects(running, /enough/);
  const all = await Promise.all(Array.from({ length: 12 }, (_, i) => evaluate(t, 'input * 2', i)));
  assert.deepEqual(
    all.map(({ structured }) => structured),
    Array.from({ length: 12 }, (_, i) => i * 2),
  );
});

test('a thread that never starts is given up, and holds no place', async () => {
  const silent = new URL('data:text/javascript,setInterval(() => {}, 1000)');
  const never = createPureEval({ thread: silent, startMs: 50 });
  const { signal } = new AbortController();
  const ask = () => never.evaluate('1', 'null', { wallMs: 1_000, signal });
  for (const reply of await Promise.all(Array.from({ length: 5 }, ask))) {
    assert(!reply.ok);
    assert.match(reply.message, /did not start in time/);
  }
  await never.close();
});

test('an interpreter serves the next call, and is ended when none comes for a while', async () => {
  const script = `import { parentPort, threadId } from 'node:worker_threads';
parentPort.on('message', () => parentPort.postMessage({ ok: true, json: String(threadId), keep: true }));
parentPort.postMessage('ready');`;
  const thread = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
  const { signal } = new AbortController();
  const threadsOf = async (idleMs: number): Promise<[string, string]> => {
    const evals = createPureEval({ thread, startMs: 60_000, idleMs });
    const ask = async (): Promise<string> => {
      const reply = await evals.evaluate('1', 'null', { wallMs: 60_000, signal });
      assert(reply.ok);
      return reply.json;
    };
    const first = await ask();
    await sleep(20); // a timer of 1 ms that was set before it has run by then
    const threads: [string, string] = [first, await ask()];
    await evals.close();
    return threads;
  };
  const [kept, again] = await threadsOf(600_000);
  assert.equal(again, kept);
  const [ended, fresh] = await threadsOf(1);
  assert.notEqual(fresh, ended);
});
