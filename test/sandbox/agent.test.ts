/** A run whose tools are real: the gateway, the tool service's own process, its sandboxes. Only the model is scripted. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AgentMode, RunOutcome, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import type { ParentMessage } from '#kit/parent.ts';
import { unary } from '#kit/rpc/client.ts';
import { hermes, type Model, messagesOf, startAgentMesh } from '../contract/gateway/fakes/agent-mesh.ts';
import { valuesOf } from '../unit/gateway/agent/scripted.ts';

const MAIN = join(import.meta.dirname, '../../services/tools/main.ts');

/** Starts the tool service as a mesh does; as root it gives root up, so that its folders are open to others. */
async function startTools(t: TestContext): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-agent-tools-'));
  chmodSync(folder, 0o755);
  const child: ChildProcess = spawn(process.execPath, [MAIN], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: {
      PATH: process.env.PATH,
      QUERN_TOOLS_LISTEN: `unix://${folder}-socket/tools.sock`, // the service makes the folder, and removes it
      QUERN_TOOLS_DIR: join(folder, 'tools'),
      QUERN_TOOLS_ALLOW_MISSING: 'cgroup',
      QUERN_LOG_LEVEL: 'silent',
    },
  });
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.after(async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  return new Promise((resolve, reject) => {
    child.on('message', (message: ParentMessage) => {
      if (message.type === 'ready') resolve(message.addresses[0] as string);
      if (message.type === 'fatal') reject(new Error(message.message));
    });
    void ended.then(() => reject(new Error(`the tool service ended: ${log}`)));
  });
}

const end = (events: readonly RunResponse[]) => valuesOf(events, 'ended').at(-1);
const RUN = { options: { requestId: 'r', priorityClass: 0 as const, supersedeKey: '' } };

test('one loop: code runs in a sandbox, its output streams, its failure goes back to the model', async (t) => {
  const toolsAddress = await startTools(t);
  const code = 'echo out; echo err >&2; id -u; exit 4';
  const model: Model = (prompt) => {
    const result = messagesOf(prompt).findLast(([role]) => role === 'tool')?.[1];
    return result === undefined
      ? hermes('run_code', { language: 'bash', code })
      : `It ended: ${result.split('\n').at(-1)}`;
  };
  const { run, mesh } = await startAgentMesh(t, { model, toolsAddress });
  const events = await run(RUN);
  const [ended] = valuesOf(events, 'callEnded');
  assert.deepEqual([ended?.outcome, ended?.exitCode], ['NONZERO_EXIT', 4]);
  assert.match(ended?.content ?? '', /^out\n[1-9]\d*\n/); // never as root
  const errors = valuesOf(events, 'callOutput').filter(({ isStderr }) => isStderr);
  assert.equal(Buffer.concat(errors.map(({ data }) => data)).toString(), 'err\n');
  assert.deepEqual(
    [end(events)?.outcome, end(events)?.answer],
    [RunOutcome.RUN_OUTCOME_ANSWERED, 'It ended: [NONZERO_EXIT: exit code 4]'],
  );
  const { stages } = await unary(mesh.requests, 'explain', { requestId: 'r' });
  assert.deepEqual(
    stages.map(({ name }) => name),
    ['turn 0', 'run_code 0.0', 'turn 1'],
  );
});

test('one plan: files of the session pass between steps, results into arguments', async (t) => {
  const toolsAddress = await startTools(t);
  const plan = JSON.stringify({
    steps: [
      { id: 'write', tool: 'write_file', arguments: { path: 'n.txt', content: '6 7' } },
      { id: 'read', tool: 'read_file', arguments: { path: 'n.txt' }, after: ['write'] },
      {
        id: 'sum',
        tool: 'run_code',
        arguments: { language: 'python', code: "a, b = open('n.txt').read().split()\nprint(int(a) * int(b))" },
        after: ['write'],
      },
      { id: 'keep', tool: 'write_file', arguments: { path: 'out.txt', content: `\${steps.sum.content}!` } },
    ],
  });
  const model: Model = (prompt) => {
    const results = messagesOf(prompt).filter(([role]) => role === 'tool');
    return results.length === 0 ? plan : `the product is ${results[2]?.[1].trim()}`;
  };
  const { run } = await startAgentMesh(t, { model, toolsAddress });
  const events = await run({ mode: AgentMode.AGENT_MODE_PLAN, sessionId: 'plan-1' });
  assert.deepEqual(
    valuesOf(events, 'callEnded').map(({ outcome }) => outcome),
    ['OK', 'OK', 'OK', 'OK'],
  );
  assert.equal(end(events)?.answer, 'the product is 42');
});

test('Cancel ends what runs in the sandbox long before its own end', async (t) => {
  const toolsAddress = await startTools(t);
  const model: Model = () => hermes('run_code', { language: 'bash', code: 'echo up; sleep 600' });
  const { run, mesh } = await startAgentMesh(t, { model, toolsAddress });
  let cancelledMs = 0;
  const events = await run(RUN, {
    onEvent: ({ event }) => {
      if (event?.$case !== 'callOutput') return;
      cancelledMs = performance.now();
      void unary(mesh.requests, 'cancel', { requestId: 'r' });
    },
  });
  assert.ok(cancelledMs > 0 && performance.now() - cancelledMs < 30_000); // it would sleep ten minutes
  assert.deepEqual(
    [end(events)?.outcome, valuesOf(events, 'callEnded')[0]?.outcome],
    [RunOutcome.RUN_OUTCOME_CANCELLED, 'CANCELLED'],
  );
});
