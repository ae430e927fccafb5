// `quern agent` against a gateway with a scripted model.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { Outcome } from '#gen/quern/tools/v1/tools.ts';
import { startCollector } from '../../support/otlp-collector.ts';
import { hermes, type Model, messagesOf, startAgentMesh } from './fakes/agent-mesh.ts';
import { type FakePlay, toolResult, untilAborted } from './fakes/fake-tools.ts';
import { eventually } from './fakes/mesh.ts';

const MAIN = join(import.meta.dirname, '../../../services/cli/main.ts');

type Ended = { code: number | null; out: string; log: string };

/** Runs the command without a terminal. `onLog` sees what it wrote on standard error so far. */
function quern(
  args: readonly string[],
  onLog: (log: string, interrupt: () => void) => void = () => {},
): Promise<Ended> {
  return command(['agent', ...args], onLog);
}

function command(
  args: readonly string[],
  onLog: (log: string, interrupt: () => void) => void = () => {},
  env: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const stdio = ['ignore', 'pipe', 'pipe'] as ['ignore', 'pipe', 'pipe'];
  const child = spawn(process.execPath, [MAIN, ...args], { stdio, env: { ...process.env, ...env } });
  let [out, log] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
    onLog(log, () => child.kill('SIGINT'));
  });
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, log })));
}

const once: Model = (prompt) =>
  messagesOf(prompt).some(([role]) => role === 'tool') ? 'It is done.' : `I do it.\n${hermes('f', { path: '/x' })}`;

test('a task: what the model says on standard output, all else on standard error; events as JSON', async (t) => {
  const { mesh, tools } = await startAgentMesh(t, { model: once });
  const address = mesh.gateway.grpcAddress;
  const shown = await quern(['--gateway', address, '--session', 's1', '--tool', 'f', 'do', 'it']);
  assert.deepEqual([shown.code, shown.out], [0, 'I do it.\nIt is done.\n']);
  assert.match(
    shown.log,
    /call 0\.0: f \{"path":"\/x"\}\nended 0\.0: OK .*\n {2}from f\nanswered; 2 turns, 1 call, \d+ tokens, \d+\.\d s; where the time/,
  );
  assert.match(
    shown.log,
    /^run [0-9a-f-]{36} on \S+ with 1 tool; after a broken connection: quern agent --attach [0-9a-f-]{36}\n/,
  );
  assert.equal(tools.requests[0]?.caller?.sessionId, 's1');
  const quiet = await quern(['--gateway', address, '--quiet', 'do it']);
  assert.deepEqual([quiet.code, quiet.log], [0, '']);
  const json = await quern(['--gateway', address, '--json', 'do it']);
  const events = json.out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { sequence: number; event: string });
  assert.deepEqual(
    events.map(({ sequence }) => sequence),
    events.map((_, i) => i + 1),
  );
  assert.deepEqual([events[0]?.event, events.at(-1)?.event, json.log], ['started', 'ended', '']);
});

const asking: FakePlay = async function* ({ argumentsJson, tool }, _call, tools) {
  const answer = tools.answered('approval-1');
  const expiresUnixMs = BigInt(Date.now() + 20_000);
  const value = {
    approvalId: 'approval-1',
    digest: Buffer.alloc(32, 5),
    reason: 'destroys',
    tool,
    argumentsJson,
    expiresUnixMs,
  };
  yield { $case: 'approvalRequired', value };
  const allowed = await answer;
  const nobody = tools.denials.at(-1)?.unattended ?? false;
  const denied = {
    outcome: nobody ? Outcome.OUTCOME_NO_APPROVER : Outcome.OUTCOME_DENIED_APPROVAL,
    message: 'not run',
  };
  yield { $case: 'result', value: allowed ? toolResult('removed') : toolResult('', denied) };
};

test('without a terminal a call that needs approval is not run, and no person is said to have denied it; there is no --yes', async (t) => {
  const { mesh, tools } = await startAgentMesh(t, { model: once, play: asking });
  const { code, log } = await quern(['--gateway', mesh.gateway.grpcAddress, 'do it']);
  assert.equal(code, 0);
  assert.match(
    log,
    /call 0\.0 needs approval: destroys\n {2}tool: f\n {2}arguments: \{\n {4}"path": "\/x"\n {2}\}\n\[not run: it needs approval/,
  );
  assert.deepEqual(
    [tools.approvals.length, tools.denials.map(({ reason, unattended }) => [reason, unattended])],
    [0, [['', true]]],
  );
  assert.match(log, /ended 0\.0: NO_APPROVER/);
  const yes = await quern(['--gateway', mesh.gateway.grpcAddress, '--yes', 'do it']);
  assert.equal(yes.code, 2);
  assert.match(yes.log, /Unknown option '--yes'/);
});

test('Ctrl-C ends the run and its tool; what ends without an answer is exit code 1', async (t) => {
  const { mesh, tools } = await startAgentMesh(t, { model: once, play: (_, call) => untilAborted(call) });
  const address = mesh.gateway.grpcAddress;
  let isSent = false;
  const stopped = await quern(['--gateway', address, 'do it'], (log, interrupt) => {
    if (log.includes('call 0.0') && !isSent) interrupt();
    isSent ||= log.includes('call 0.0');
  });
  assert.equal(stopped.code, 130);
  await eventually(() => tools.running === 0, 'the tool has ended');
  const late = await quern(['--gateway', address, '--time', '1', 'do it']);
  assert.equal(late.code, 1);
  assert.match(late.log, /out of time of wall_ms/);
  const none = await quern(['--gateway', address, '--depth', '9', 'do it']);
  assert.deepEqual([none.code, none.log], [2, 'quern: --depth: expected a whole number from 0 to 5, got "9"\n']);
});

const RUN_ID = /^run (\S+) on/;

test('a run goes on when its command is lost, and can be attached to; one that only looks on answers and ends nothing', async (t) => {
  const { mesh, tools } = await startAgentMesh(t, { model: once, play: asking });
  const address = mesh.gateway.grpcAddress;
  const child = spawn(process.execPath, [MAIN, 'agent', '--gateway', address, '--json', 'do it']);
  let seen = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    seen += text;
  });
  await eventually(() => seen.includes('"event":"approval"'), 'it asks');
  child.kill('SIGKILL');
  const [first] = seen.split('\n');
  const { run_id: runId } = JSON.parse(first ?? '') as { run_id: string };
  let isInterrupted = false;
  const left = await quern(['--gateway', address, '--attach', runId], (log, interrupt) => {
    if (!log.includes('waits for an answer from elsewhere') || isInterrupted) return;
    isInterrupted = true;
    interrupt();
  });
  assert.deepEqual([left.code, tools.denials.length, tools.running], [130, 0, 1]);
  const rest = quern(['--gateway', address, '--attach', runId]);
  const approval = seen.split('\n').find((line) => line.includes('"event":"approval"')) ?? '{}';
  const { approval_id: approvalId, digest } = JSON.parse(approval) as { approval_id: string; digest: string };
  const answer = { runId, approvalId, digest, allow: true };
  const called = await command(['call', '--address', address, 'AgentService/Approve', JSON.stringify(answer)]);
  assert.equal(called.code, 0, called.log);
  const whole = await rest;
  assert.deepEqual([whole.code, whole.out], [0, 'I do it.\nIt is done.\n'], whole.log);
  const none = await quern(['--gateway', address, '--attach', 'nothing']);
  assert.equal(none.code, 1);
  assert.match(none.log, /no run "nothing" of yours is here/);
});

test('trace takes the ids of HTTP answers, and tells how turns are counted', async (t) => {
  const { mesh } = await startAgentMesh(t, { model: once });
  const address = mesh.gateway.grpcAddress;
  const ran = await quern(['--gateway', address, 'do it']);
  const runId = RUN_ID.exec(ran.log)?.[1] ?? '';
  const run = await command(['trace', '--gateway', address, runId]);
  assert.match(run.out, new RegExp(`turn 0[\\s\\S]*f 0\\.0[\\s\\S]*turn 1[\\s\\S]*quern trace ${runId}:0`));
  const turn = await command(['trace', '--gateway', address, `${runId}:1`]);
  assert.match(turn.out, new RegExp(`^chat ${runId}:1 on`));
  const body = JSON.stringify({ messages: [{ role: 'user', content: 'x' }] });
  const posted = await fetch(`${mesh.url}/v1/chat/completions`, { method: 'POST', body });
  const { id } = (await posted.json()) as { id: string };
  assert.match(id, /^chatcmpl-/);
  const chat = await command(['trace', '--gateway', address, id]);
  assert.match(chat.out, new RegExp(`^chat ${id.slice('chatcmpl-'.length)} on`), chat.log);
});

test('what tools run makes a service record lies below a span of its own', async (t) => {
  const { tools } = await startAgentMesh(t, { model: once });
  const collector = await startCollector(t);
  const env = { QUERN_OTLP_ENDPOINT: collector.url };
  const ran = await command(['tools', 'run', 'f', '--address', tools.address], () => {}, env);
  const { trace_id: traceId } = JSON.parse(ran.out) as { trace_id: string };
  const own = collector.spans.filter((span) => span.traceId === traceId);
  assert.deepEqual(
    own.map(({ name, parentSpanId }) => [name, parentSpanId]),
    [['quern tools run f', '']],
  );
  assert.deepEqual(tools.traces, [traceId]);
});

test('tools run says which limits a tool ran into and went on', async (t) => {
  const play: FakePlay = async ({ tool }) => toolResult('x', tool === 'f' ? { limitsHit: { processes: 7 } } : {});
  const { tools } = await startAgentMesh(t, { model: once, play });
  const limitsHit = async (name: string): Promise<unknown> => {
    const { out, log } = await command(['tools', 'run', name, '--address', tools.address]);
    assert.notEqual(out, '', log);
    return (JSON.parse(out) as { limits_hit: unknown }).limits_hit;
  };
  assert.deepEqual([await limitsHit('f'), await limitsHit('g')], [{ processes: 7 }, null]);
});

test('tools run takes arguments behind the name or behind --json', async (t) => {
  const play: FakePlay = async ({ argumentsJson }) => toolResult(argumentsJson);
  const { tools } = await startAgentMesh(t, { model: once, play });
  const run = (...words: string[]) => command(['tools', 'run', 'f', ...words, '--address', tools.address]);
  const given = '{"language": "python"}';
  for (const words of [[given], ['--json', given]]) {
    const { code, out, log } = await run(...words);
    assert.equal(code, 0, log);
    assert.equal((JSON.parse(out) as { content: string }).content, given);
  }
  const wrong = await run('language=python');
  assert.equal(wrong.code, 2);
  assert.match(
    wrong.log,
    /^quern tools run: expected the arguments of f as one JSON object, got "language=python"; as in /,
  );
});

/** Runs the command on a terminal, and types `answer` when it is asked. */
const PTY = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [*sys.argv[1:3], "agent", "--gateway", sys.argv[3], "do it"])
seen, typed = b"", False
while True:
    try: piece = os.read(fd, 4096)
    except OSError: break
    if not piece: break
    seen += piece
    if b"[y/N]" in seen and not typed:
        typed = True
        os.write(fd, sys.argv[4].encode() + b"\\n")
status = os.waitpid(pid, 0)[1]
print(seen.decode())
sys.exit(os.WEXITSTATUS(status))
`;

test('on a terminal it asks: y runs the call, everything else denies it', async (t) => {
  for (const [answer, outcome] of [
    ['y', 'OK'],
    ['', 'DENIED_APPROVAL'],
    ['n', 'DENIED_APPROVAL'],
  ] as const) {
    const { mesh, tools } = await startAgentMesh(t, { model: once, play: asking });
    const child = spawn('python3', ['-c', PTY, process.execPath, MAIN, mesh.gateway.grpcAddress, answer]);
    let shown = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
    const code = await new Promise((resolve) => child.once('close', resolve));
    assert.equal(code, 0, shown);
    assert.match(shown, /arguments: \{\r\n {4}"path": "\/x"\r\n {2}\}\r\n[\s\S]*Run it\? \[y\/N\]/);
    assert.ok(shown.includes(`ended 0.0: ${outcome}`), shown);
    assert.deepEqual([tools.approvals.length, tools.denials.length], answer === 'y' ? [1, 0] : [0, 1]);
  }
});

test('Ctrl-C at the question ends the run, Ctrl-D is a no', async (t) => {
  for (const [typed, expected] of [
    ['\u0003', 130],
    ['\u0004', 0],
  ] as const) {
    const { mesh, tools } = await startAgentMesh(t, { model: once, play: asking });
    const child = spawn('python3', ['-c', PTY, process.execPath, MAIN, mesh.gateway.grpcAddress, typed]);
    let shown = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
    assert.equal(await new Promise((resolve) => child.once('close', resolve)), expected, shown);
    assert.deepEqual(
      tools.denials.map(({ unattended }) => unattended),
      expected === 0 ? [false] : [],
    );
  }
});
