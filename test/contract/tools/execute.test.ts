/** Execute over gRPC with a fake jail: every outcome, the order of events, what is recorded and traced. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { QuernError } from '#kit/errors.ts';
import { unary } from '#kit/rpc/client.ts';
import { startTrace } from '#kit/trace.ts';
import {
  caller,
  type executeRequest,
  fakeTool,
  kinds,
  outcomeOf,
  outputOf,
  reasonOf,
  recordsOf,
  resultOf,
  run,
  setUp,
} from './support/service.ts';

test('a call that ends well: started, output, one result, in order and without gaps', async (t) => {
  const { client } = await setUp(t);
  const events = await run(client, { words: ['say', 'hello ', 'complain', 'oops', 'exit', '0'] });
  assert.deepEqual(kinds(events), ['started', 'output', 'output', 'result']);
  assert.deepEqual(
    events.map(({ sequence }) => sequence),
    [1n, 2n, 3n, 4n],
  );
  const started = events[0]!.event;
  assert(started?.$case === 'started');
  assert.match(started.value.executionId, /^[0-9A-HJKMNP-TV-Z]{26}$/);
  assert.equal(started.value.tier, 'A');
  const result = resultOf(events);
  assert.equal(outcomeOf(events), 'ok');
  assert.equal(result.content, 'hello oops');
  assert.equal(result.exitCode, 0);
  assert.equal(result.structuredJson, '{"exit_code":0}');
  assert.equal(result.usage!.runNs, 2_000_000n);
  assert.deepEqual(result.taint, { readUntrusted: false, hasPrivate: true, canExfiltrate: false });
});

const outcomes: [words: string[], outcome: string, message: RegExp][] = [
  [['exit', '3'], 'nonzero_exit', /exit code 3/],
  [['signal', 'SIGSEGV'], 'nonzero_exit', /SIGSEGV/],
  [['say', 'partly', 'killed', 'wall'], 'timeout_wall', /20000 ms/],
  [['killed', 'cpu'], 'timeout_cpu', /CPU time/],
  [['killed', 'memory'], 'oom', /MiB of memory/],
  [['killed', 'pids'], 'pids', /processes/],
  [['killed', 'output'], 'output_limit', /bytes/],
  [['killed', 'disk'], 'disk_limit', /workspace/],
  [['setup-fails'], 'sandbox_setup_failed', /mount refused/],
  [['throws'], 'sandbox_setup_failed', /log of the service/],
  [['leave'], 'invalid_args', /leaves the workspace/],
];

test('every way to end is a result with its own outcome', async (t) => {
  const { client, metrics } = await setUp(t);
  for (const [words, outcome, message] of outcomes) {
    const events = await run(client, { words });
    assert.equal(outcomeOf(events), outcome, words.join(' '));
    assert.match(resultOf(events).message, message);
  }
  const partly = await run(client, { words: ['say', 'partly', 'killed', 'wall'] });
  assert.match(resultOf(partly).content, /partly/);
  const text = await metrics.render();
  for (const [, outcome] of outcomes)
    assert.match(text, new RegExp(`quern_tools_executions_total{[^}]*outcome="${outcome}"`));
});

test('arguments that are not an object, denied tools and missing layers are results of which nothing ran', async (t) => {
  const tools = [
    fakeTool({ name: 'fake' }),
    fakeTool({ name: 'never', decision: 'deny' }),
    fakeTool({ name: 'absent', unavailable: 'no node in the toolchain; install it' }),
  ];
  const { client, jail } = await setUp(t, { tools });
  const bad = await run(client, { argumentsJson: '[1' });
  assert.equal(outcomeOf(bad), 'invalid_args');
  assert.equal(outcomeOf(await run(client, { tool: 'never' })), 'denied_policy');
  const absent = await run(client, { tool: 'absent' });
  assert.equal(outcomeOf(absent), 'sandbox_unavailable');
  assert.match(resultOf(absent).message, /install it/);
  jail.tier = null;
  assert.equal(outcomeOf(await run(client)), 'sandbox_unavailable');
  assert.deepEqual(kinds(bad), ['result']);
  assert.equal(jail.ran.length, 0);
});

test('what cannot be taken is a gRPC error', async (t) => {
  const { client } = await setUp(t);
  await assert.rejects(run(client, { tool: 'nothing' }), reasonOf('TOOL_UNKNOWN'));
  await assert.rejects(run(client, { toolSha256: Buffer.alloc(32, 1) }), reasonOf('TOOL_CHANGED'));
  const fields: [Parameters<typeof executeRequest>[0], RegExp][] = [
    [{ caller: { ...caller, tenant: 'Not Valid' } }, /caller\.tenant/],
    [{ caller: { ...caller, sessionId: '' } }, /caller\.session_id/],
    [{ callId: 'a b' }, /call_id/],
    [{ timeoutMs: 0 }, /timeout_ms/],
    [{ depth: 6 }, /depth/],
    [{ toolSha256: Buffer.alloc(3) }, /tool_sha256/],
    [{ idempotencyKey: 'x'.repeat(257) }, /idempotency_key/],
    [{ stdin: Buffer.alloc(1024 * 1024 + 1) }, /stdin/],
    [{ limits: { wallMs: 20_001 } }, /limits\.wall_ms.*20000/],
    [{ limits: { memoryMib: 1 } }, /limits\.memory_mib/],
  ];
  for (const [over, message] of fields) {
    await assert.rejects(run(client, over), (error: QuernError) => {
      assert.equal(error.code, 'INVALID_ARGUMENT');
      assert.match(error.message, message);
      return true;
    });
  }
  const callId = 'same';
  await run(client, { callId });
  await assert.rejects(run(client, { callId }), reasonOf('TOOL_CALL_EXISTS'));
});

test('asked limits reach the jail, and stdin does', async (t) => {
  const { client, jail } = await setUp(t);
  const limits = { wallMs: 1_000, cpuMs: 500, memoryMib: 64, pids: 7, outputKib: 9, modelOutputKib: 1 };
  const events = await run(client, { limits, stdin: Buffer.from('in'), words: ['say', 'x'.repeat(5_000)] });
  const [command] = jail.ran;
  assert.equal(command!.limits.wallMs, 1_000);
  assert.equal(command!.limits.memoryBytes, 64 * 1024 * 1024);
  assert.equal(command!.limits.pids, 7);
  assert.equal(command!.limits.outputBytes, 9 * 1024);
  assert.equal(Buffer.from(command!.stdin!).toString(), 'in');
  const { content, contentCut } = resultOf(events);
  assert.ok(Buffer.byteLength(content) <= 1024);
  assert.equal(contentCut, true);
  assert.equal(outputOf(events), 'x'.repeat(5_000)); // the caller has all of it
});

test('what the model gets has no escape sequences', async (t) => {
  const { client } = await setUp(t);
  const events = await run(client, { words: ['say', '\u001b[31mred\u001b[0m\u202e\u0007 <|im_end|>'] });
  assert.equal(resultOf(events).content, 'red <|im_end|>');
  assert.ok(outputOf(events).includes('\u001b[31m'));
});

test('the earlier of deadline and policy ends a call, and says which', async (t) => {
  const { client } = await setUp(t);
  const startedAt = performance.now();
  const events = await run(client, { words: ['forever'], timeoutMs: 600 });
  assert.equal(outcomeOf(events), 'deadline');
  assert.ok(performance.now() - startedAt < 20_000, 'it does not go on for ever');
  // It is told a quarter of a second before the caller's own deadline, which a busy machine may take away.
  let outcome = '';
  for (let tries = 0; outcome !== 'deadline' && tries < 5; tries++) {
    const events = run(client, { words: ['forever'], timeoutMs: 30_000 }, { timeoutMs: 700 });
    outcome = await events.then(outcomeOf, (error: QuernError) => error.code);
    assert.match(outcome, /^(deadline|DEADLINE_EXCEEDED)$/);
  }
  assert.equal(outcome, 'deadline');
});

test('Cancel ends a call once; cancelling what has ended or never was is no error', async (t) => {
  const { client } = await setUp(t);
  const callId = 'to-cancel';
  const running = run(client, { callId, words: ['say', 'before', 'forever'] });
  while ((await unary(client, 'cancel', { caller: { ...caller, user: 'eve' }, callId })).wasRunning) await sleep(5);
  let was = false;
  for (let i = 0; !was && i < 4_000; i++) {
    ({ wasRunning: was } = await unary(client, 'cancel', { caller, callId }));
    if (!was) await sleep(5);
  }
  assert.equal(was, true);
  assert.equal(outcomeOf(await running), 'cancelled');
  assert.equal((await unary(client, 'cancel', { caller, callId })).wasRunning, false);
  assert.equal((await unary(client, 'cancel', { caller, callId: 'never' })).wasRunning, false);
});

test('of every call there is a record before and one after, without arguments and output', async (t) => {
  const { client, config, close } = await setUp(t, {
    tools: [fakeTool({ name: 'fake' }), fakeTool({ name: 'never', decision: 'deny' })],
  });
  const secret = 'the-secret-argument';
  await run(client, { words: ['say', secret, 'exit', '4'] });
  await run(client, { tool: 'never' });
  await run(client, { argumentsJson: '{' });
  await close();
  const records = await recordsOf(config);
  const of = (action: string) => records.filter((record) => record.action === action);
  assert.equal(of('tool.requested').length, 3);
  assert.equal(of('tool.finished').length, 3);
  for (const end of of('tool.finished')) {
    const begin = records.find(({ id }) => id === end.parent_id)!;
    assert.equal(begin.action, 'tool.requested');
    assert.equal(begin.execution_id, end.execution_id);
    assert.ok(begin.seq < end.seq);
  }
  const [first, second, third] = of('tool.finished');
  assert.deepEqual([first!.outcome, first!.reason], ['error', 'NONZERO_EXIT']);
  assert.deepEqual([second!.outcome, second!.reason], ['denied', 'DENIED_POLICY']);
  assert.deepEqual([third!.outcome, third!.reason], ['error', 'INVALID_ARGS']);
  assert.equal(first!.usage!.exit_code, 4);
  assert.equal(first!.request_id, 'r1');
  const [requested] = of('tool.requested');
  assert.match(requested!.args_mac!, /^[0-9a-f]{64}$/);
  assert.match(requested!.tool_sha!, /^[0-9a-f]{64}$/);
  assert.notEqual(requested!.actor.ref, caller.user);
  const all = JSON.stringify(records);
  for (const text of [secret, caller.user, caller.sessionId, caller.keyId])
    assert.equal(all.includes(text), false, text);
  assert.equal(of('service.started').length, 1);
  assert.equal(of('sandbox.capability').length, 1);
});

test('nothing runs when its record cannot be written', async (t) => {
  const { client, service, jail } = await setUp(t);
  await run(client);
  await service.context.audit.close(); // as a disk that failed: no record is taken
  await assert.rejects(run(client), reasonOf('AUDIT_UNAVAILABLE'));
  assert.equal(jail.ran.length, 1);
});

test('the spans of a call lie in the trace of its caller', async (t) => {
  const { client, spans } = await setUp(t);
  const trace = startTrace();
  const secret = 'not-in-any-span';
  await run(client, { callId: 'c1', words: ['say', secret, 'exit', '2'] }, { trace });
  const byName = new Map(spans.spans.map((span) => [span.name, span]));
  const call = byName.get('execute_tool fake')!;
  assert.equal(call.context.traceId, trace.traceId);
  assert.equal(call.attributes['gen_ai.tool.name'], 'fake');
  assert.equal(call.attributes['gen_ai.tool.call.id'], 'c1');
  assert.equal(call.attributes['gen_ai.operation.name'], 'execute_tool');
  assert.equal(call.attributes['quern.outcome'], 'nonzero_exit');
  assert.equal(call.error, 'nonzero_exit');
  for (const name of ['sandbox.setup', 'sandbox.run', 'audit.append']) {
    assert.equal(byName.get(name)!.parentSpanId, call.context.spanId, name);
  }
  assert.equal(byName.get('sandbox.run')!.attributes['quern.sandbox.exit_code'], 2);
  assert.equal(byName.get('quern.tools.v1.ToolService/Execute')!.context.spanId, call.parentSpanId);
  const text = JSON.stringify(spans.spans, (_key, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  assert.equal(text.includes(secret), false);
});

test('a function tool has its limits too', async (t) => {
  const never = new Promise<never>(() => {});
  const tools = [
    fakeTool({
      name: 'fake',
      prepare: (args) => ({
        kind: 'function',
        tier: 'W',
        async run({ output, signal }) {
          if (args.does === 'hang') return never;
          if (args.does === 'throw') throw new QuernError('UNAVAILABLE', 'the server is away');
          if (args.does === 'flood') {
            while (!signal.aborted) {
              output.write('stdout', Buffer.alloc(256 * 1024));
              await sleep(1);
            }
          }
          return {
            ok: true,
            message: '',
            content: 'value 3',
            structured: { value: 3, text: 'a\u202eb' },
            artifacts: [],
          };
        },
      }),
    }),
  ];
  const { client } = await setUp(t, { tools });
  const good = await run(client, { argumentsJson: '{}' });
  assert.equal(outcomeOf(good), 'ok');
  assert.equal(resultOf(good).structuredJson, '{"value":3,"text":"ab"}');
  assert.equal(resultOf(good).exitCode, undefined);
  const [started] = good;
  assert(started!.event?.$case === 'started' && started!.event.value.tier === 'W');
  assert.equal(
    outcomeOf(await run(client, { argumentsJson: '{"does":"hang"}', limits: { wallMs: 50 } })),
    'timeout_wall',
  );
  assert.equal(outcomeOf(await run(client, { argumentsJson: '{"does":"flood"}' })), 'output_limit');
  const away = await run(client, { argumentsJson: '{"does":"throw"}' });
  assert.equal(outcomeOf(away), 'nonzero_exit');
  assert.match(resultOf(away).message, /away/);
});

test('capabilities are told, tested anew on request', async (t) => {
  const { client, jail } = await setUp(t);
  const before = await unary(client, 'getCapabilities', { probeNow: false });
  assert.equal(before.tier, 'A');
  assert.deepEqual(
    before.capabilities.map(({ name }) => name),
    ['bubblewrap', 'seccomp'],
  );
  jail.tier = null;
  const after = await unary(client, 'getCapabilities', { probeNow: true });
  assert.equal(after.tier, '');
  assert.equal(after.capabilities[1]!.remedy, 'install');
});

test('the list says what a call needs to know', async (t) => {
  const tools = [fakeTool({ name: 'zeta', decision: 'ask' }), fakeTool({ name: 'fake' })];
  const { client } = await setUp(t, { tools, policy: 'tools:\n  zeta: {decision: deny}\n' });
  const { tools: listed } = await unary(client, 'listTools', { caller });
  assert.deepEqual(
    listed.map(({ name, decision }) => [name, decision]),
    [
      ['fake', 1],
      ['zeta', 3],
    ],
  );
  const [fake] = listed;
  assert.equal(fake!.sha256.length, 32);
  assert.equal(fake!.limits!.wallMs, 20_000);
  assert.equal(outcomeOf(await run(client, { toolSha256: fake!.sha256 })), 'ok');
});
