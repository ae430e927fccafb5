/** MCP servers that break the rules: whatever they do, a call has one result within a bound, and nothing of them is left. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunResult } from '../../services/tools/tool-run.ts';
import { fakeServer, type McpCall, type McpCensus, type McpHost, startMcpHost } from './mcp-client.ts';

/** A call's end and the end of its processes, on a busy machine; servers that hang do so for ten minutes. */
const END_MS = 20_000;

async function startWith(t: TestContext, program: string, more: Record<string, unknown> = {}): Promise<McpHost> {
  return startMcpHost(t, { fake: fakeServer(program, more) });
}

/** For servers that cannot be asked for their tools: they are asked again and again while the pack names them. */
async function assertNothingLeftWithout(host: McpHost): Promise<void> {
  await host.setServers({});
  await assertNothingLeft(host);
}

async function timed(host: McpHost, call: Partial<McpCall> = {}): Promise<{ result: RunResult; ms: number }> {
  const since = performance.now();
  const result = await host.call({ tool: 'fake__go', ...call });
  return { result, ms: performance.now() - since };
}

async function assertNothingLeft(host: McpHost): Promise<void> {
  const isLeft = ({ running, sessions }: McpCensus): boolean => running + sessions > 0;
  for (const until = performance.now() + END_MS; isLeft(await host.census()) && performance.now() < until; )
    await sleep(20);
  const { running, sessions } = await host.census();
  assert.deepEqual([running, sessions], [0, 0], 'nothing runs any more');
}

test('control: a plain server answers, twice in one process, and stays for the next call', async (t) => {
  const host = await startWith(t, 'n = 0\ndef go(m):\n  global n; n += 1; reply(m, text(f"{os.getpid()} {n}"))');
  const first = (await timed(host)).result;
  const second = (await timed(host)).result;
  const [pid, one] = first.content.split(' ');
  assert.deepEqual([first.outcome, one, second.content], ['ok', '1', `${pid} 2`]);
  const { running, sessions } = await host.census();
  assert.deepEqual([running, sessions], [1, 1]);
});

test('a server that dies in a call: the reason is its exit and what it said on stderr', async (t) => {
  const host = await startWith(
    t,
    'def go(m): sys.stderr.write("no license\\x1b[31m\\n"); sys.stderr.flush(); os._exit(7)',
  );
  const { result } = await timed(host);
  assert.equal(result.outcome, 'nonzero_exit');
  assert.match(result.message, /the MCP server ended: it exited with code 7; it said on stderr: no license$/);
  await assertNothingLeft(host);
  assert.equal((await timed(host)).result.outcome, 'nonzero_exit', 'the next call has a new process');
});

test('a server that never answers a call is ended at the call’s wall time', async (t) => {
  const host = await startWith(t, 'def go(m): time.sleep(600)');
  const { result, ms } = await timed(host, { limits: { wallMs: 700 } });
  assert.equal(result.outcome, 'timeout_wall');
  assert(ms < 700 + END_MS, `${ms} ms`);
  await assertNothingLeft(host);
});

test('an answer with a wrong id is no answer', async (t) => {
  const host = await startWith(t, 'def go(m): out({"jsonrpc": "2.0", "id": 4711, "result": text("wrong")})');
  const { result } = await timed(host, { limits: { wallMs: 500 } });
  assert.equal(result.outcome, 'timeout_wall');
  assert(!result.content.includes('wrong'));
  await assertNothingLeft(host);
});

test('a second answer with the same id, and one before the question, change nothing', async (t) => {
  const program = `
def go(m):
  out({"jsonrpc": "2.0", "id": m["id"] + 1, "result": text("early")})
  reply(m, text("right")); reply(m, text("again"))`;
  const host = await startWith(t, program);
  assert.equal((await timed(host)).result.content, 'right');
  assert.equal((await timed(host)).result.content, 'right');
});

test('a cancelled call: the server hears of it, and is gone soon', async (t) => {
  const program = `
heard = lambda how: open("heard", how)
def other(m):
  if m["method"] == "notifications/cancelled": heard("a").write(str(m["params"]["requestId"]) + " ")
def go(m):
  x = m["params"]["arguments"].get("x")
  if x == "warm": reply(m, text(str(m["id"])))
  elif x == "heard?": reply(m, text(heard("a+").read() or heard("r").read()))
  else: open("begun", "w").close()`;
  const host = await startWith(t, program, { workspace: 'write' });
  let heard = '';
  for (let tries = 0; heard === '' && tries < 10; tries++) {
    const warm = (await timed(host, { args: { x: 'warm' } })).result;
    const { result, ms } = await timed(host, { abortWhen: 'begun' });
    assert.equal(result.outcome, 'cancelled');
    assert(ms < END_MS, `${ms} ms`);
    await assertNothingLeft(host);
    heard = (await timed(host, { args: { x: 'heard?' } })).result.content;
    // A server has a moment to hear of it, which may be over before a busy machine lets it run.
    if (heard !== '')
      assert.equal(heard, `${Number(warm.content) + 1} `, 'the cancelled call, as the server wrote it down');
  }
  assert.notEqual(heard, '');
});

test('a flood on stdout or stderr ends the process', async (t) => {
  for (const stream of ['stdout', 'stderr']) {
    const host = await startWith(t, `def go(m):\n  while True: sys.${stream}.write("x" * 65535 + "\\n")`);
    const { result } = await timed(host, { limits: { outputBytes: 1024 ** 2 } });
    assert.equal(result.outcome, 'nonzero_exit', stream);
    assert.match(
      result.message,
      /it wrote (?:more than 1048576 bytes|\d+ lines on stdout that are no messages)/,
      stream,
    );
    await assertNothingLeft(host);
  }
});

test('a flood of messages ends the process', async (t) => {
  const host = await startWith(
    t,
    'def go(m):\n  while True: out({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}})',
  );
  const { result } = await timed(host);
  assert.match(result.message, /it sent more than 10000 messages for one call/);
  await assertNothingLeft(host);
});

test('a message without an end is cut off at its bound', async (t) => {
  const host = await startWith(t, 'def go(m):\n  out("{")\n  while True: out("x" * 65536)');
  const { result } = await timed(host);
  assert.match(result.message, /it sent a message of more than 4194304 bytes/);
  await assertNothingLeft(host);
  const { rssBytes } = await host.census();
  assert(rssBytes < 400 * 1024 ** 2, `${rssBytes} bytes`);
});

test('a large message within the bound arrives, cut for the model', async (t) => {
  const host = await startWith(t, 'def go(m): reply(m, text("a" * 3000000))');
  const { result } = await timed(host);
  assert.deepEqual([result.outcome, result.contentCut], ['ok', true]);
  assert(result.content.length <= 64 * 1024);
});

test('messages that come in pieces of one byte are put together', async (t) => {
  const program = `
def go(m):
  for c in json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": text("grüße")}, ensure_ascii=False).encode() + b"\\n":
    os.write(1, bytes([c])); time.sleep(0.001)`;
  const host = await startWith(t, program);
  assert.equal((await timed(host)).result.content, 'grüße');
});

test('what a server prints before the protocol is passed over, up to a bound', async (t) => {
  const polite = await startWith(t, 'print("Welcome to fake"); print("{}"); print("[1]"); print()');
  assert.equal((await timed(polite)).result.content, 'gone');
  const babbling = await startWith(t, 'for i in range(1000): print("Welcome", i)');
  const [status] = await babbling.status();
  assert.equal(status?.state, 'failed');
  assert.match(status?.problems.join() ?? '', /lines on stdout that are no messages of the protocol/);
  await assertNothingLeftWithout(babbling);
});

test('answers that are no JSON-RPC, or not what the protocol says, are typed failures', async (t) => {
  const program = `
def go(m):
  kind = m["params"]["arguments"].get("x")
  if kind == "error": out({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32000, "message": "disk is\\u202e full"}})
  if kind == "params": out({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32602, "message": "x is odd"}})
  if kind == "shape": reply(m, {"content": "text"})
  deep = lambda n: "[" * n + "]" * n
  if kind == "deep": out('{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":{"a":%s}}}\\n' % (m["id"], deep(1000)))
  if kind == "deeper": out('{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":{"a":%s}}}\\n' % (m["id"], deep(100000)))
  if kind == "deepid": out('{"jsonrpc":"2.0","id":99999,"result":{"a":%s}}\\n' % deep(1000)); reply(m, text("still here"))
  if kind == "isError": reply(m, text("no such user\\nmore", isError=True))`;
  const host = await startWith(t, program);
  const call = async (x: string): Promise<RunResult> => (await timed(host, { args: { x } })).result;
  const error = await call('error');
  assert.equal(error.outcome, 'nonzero_exit');
  assert.match(error.message, /the MCP server answered with an error: .*disk is full/);
  const params = await call('params');
  assert.equal(params.outcome, 'invalid_args');
  assert.match(params.message, /x is odd/);
  assert.match((await call('shape')).message, /not what the protocol says/);
  const deep = await call('deep');
  assert.equal(deep.outcome, 'nonzero_exit');
  assert.match(deep.message, /expected a depth of at most 64/);
  assert.match((await call('deeper')).message, /nested too deep/);
  assert.equal((await call('deepid')).content, 'still here');
  const isError = await call('isError');
  assert.equal(isError.outcome, 'nonzero_exit');
  assert.equal(isError.message, 'the tool says that it failed: no such user');
  assert.equal(isError.content, 'no such user\nmore');
});

test('what a server asks of us is refused: sampling, elicitation, roots; a ping is answered', async (t) => {
  const program = `
asked = {}
def go(m):
  form = {"message": "password?", "requestedSchema": {"type": "object", "properties": {}}}
  questions = [("sampling/createMessage", {"messages": [], "maxTokens": 1}), ("elicitation/create", form), ("roots/list", {}), ("ping", {})]
  for i, (method, params) in enumerate(questions):
    out({"jsonrpc": "2.0", "id": f"q{i}", "method": method, "params": params})
  answers = [json.loads(sys.stdin.readline()) for _ in range(4)]
  reply(m, text(json.dumps(sorted([a["id"], a.get("error", {}).get("code")] for a in answers))))`;
  const host = await startWith(t, program);
  const { result } = await timed(host);
  assert.deepEqual(JSON.parse(result.content), [
    ['q0', -32601],
    ['q1', -32601],
    ['q2', -32601],
    ['q3', null],
  ]);
});

test('progress is passed over, and does not prolong a call', async (t) => {
  const program = `
def go(m):
  for i in range(100000):
    out({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": m["id"], "progress": i}}); time.sleep(0.01)`;
  const host = await startWith(t, program);
  const { result, ms } = await timed(host, { limits: { wallMs: 800 } });
  assert.equal(result.outcome, 'timeout_wall');
  assert(ms < 800 + END_MS, `${ms} ms`);
});

test('a server that does not read what it is sent holds nobody up', async (t) => {
  const host = await startWith(
    t,
    'first = handle\ndef handle(m):\n  first(m)\n  if m["method"] == "tools/list": time.sleep(600)',
  );
  const { result } = await timed(host, { args: { x: 'y' }, limits: { wallMs: 500 } });
  assert.equal(result.outcome, 'timeout_wall');
  await assertNothingLeft(host);
});

test('a server that never answers initialize, or says no protocol of ours, has no tools', async (t) => {
  const host = await startMcpHost(t, {
    old: fakeServer(
      'def start(m): return {"protocolVersion": "1999-01-01", "capabilities": {}, "serverInfo": {"name": "f", "version": "1"}}',
    ),
    gone: { command: '/usr/bin/does-not-exist' },
  });
  assert.deepEqual(await host.tools(), []);
  const [old, gone] = await host.status();
  assert.match(old?.problems.join() ?? '', /protocol version is not supported: 1999-01-01/);
  assert.match(gone?.problems.join() ?? '', /exited with code 127|No such file/);
  await assertNothingLeftWithout(host);
});

test('memory and processes of a server are bounded', async (t) => {
  const host = await startWith(t, 'def go(m):\n  a = []\n  while True: a.append(bytearray(8 << 20))', {
    process: { memory_mib: 128 },
  });
  const { result } = await timed(host);
  assert.match(result.message, /it used more memory than it may/);
  await assertNothingLeft(host);
});

test('a server cannot keep anything running behind its end', async (t) => {
  const host = await startWith(
    t,
    'def go(m):\n  for i in range(3):\n    if os.fork() == 0:\n      os.setsid(); time.sleep(600)\n  reply(m, text("forked"))',
    { idle_ms: 1_000 },
  );
  assert.equal((await timed(host)).result.content, 'forked');
  await assertNothingLeft(host);
});
