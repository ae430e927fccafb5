/** The spine: the tool service as a process, its real sandbox, run by hand, audited and traced. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ToolServiceClient } from '#gen/quern/tools/v1/tools.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import type { AuditRecord } from '#kit/audit/record.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { startCollector } from '../../support/otlp-collector.ts';
import { openFolder, quernTools, startProcess, writePacks } from './support/process.ts';
import { caller, outcomeOf, outputOf, resultOf, run } from './support/service.ts';

const RSS_KIB_MAX = 150 * 1024;
const PROBE_CODE = `
import os, socket, sys
print("uid", os.getuid(), "pid", os.getpid() < 10)
print("env", sorted(os.environ))
status = open("/proc/self/status").read()
print("caps", [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")][0])
try:
    socket.create_connection(("192.0.2.1", 80), 1)
    print("connected")
except OSError as error:
    print("net", type(error).__name__)
print("oops", file=sys.stderr)
sys.exit(7)
`;

/** Bodies of processes on this machine whose command line holds a word. */
function processesWith(word: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(word);
      } catch {
        return false;
      }
    })
    .map(Number);
}

async function recordsIn(dir: string): Promise<AuditRecord[]> {
  const outbox = await Outbox.open({ dir: join(dir, 'tools', 'outbox'), service: 'tools' });
  const records: AuditRecord[] = [];
  for await (const bytes of outbox.records()) records.push(JSON.parse(bytes.toString('utf8')) as AuditRecord);
  await outbox.close();
  return records;
}

test('quern tools run run_code: in the full sandbox, audited and traced, by a process that is not root', async (t) => {
  const collector = await startCollector(t);
  const service = await startProcess(t, {
    env: { QUERN_OTLP_ENDPOINT: collector.url, QUERN_CANARY: 'canary-of-the-service' },
  });
  assert.equal(service.info.tier, 'A', service.info.missing.join('\n'));
  assert.ok(!/\b0\b/.test(service.status('Uid')), service.status('Uid'));
  assert.equal(service.status('Groups').trim(), '');
  const args = JSON.stringify({ language: 'python', code: PROBE_CODE });
  const { code, stdout, stderr } = await quernTools(['run', 'run_code', '--json', args], service.address);
  assert.equal(code, 1, stderr);
  const result = JSON.parse(stdout) as Record<string, unknown> & {
    stdout: string;
    trace_id: string;
    execution_id: string;
  };
  assert.equal(result.outcome, 'nonzero_exit');
  assert.equal(result.exit_code, 7);
  assert.equal(result.stderr, 'oops\n');
  assert.equal(result.tier, 'A');
  const lines = result.stdout.split('\n');
  assert.equal(lines[0], 'uid 1000 pid True');
  assert.ok(!lines[1]!.includes('QUERN'), lines[1]);
  assert.equal(lines[2], 'caps 0000000000000000');
  assert.equal(lines[3], 'net OSError');

  const wanted = ['execute_tool run_code', 'sandbox.setup', 'sandbox.run', 'audit.append'];
  const spans = await collector.settled(result.trace_id, (found) =>
    wanted.every((name) => found.some((span) => span.name === name)),
  );
  const call = spans.find(({ name }) => name === 'execute_tool run_code')!;
  assert.equal(call.service, 'tools');
  assert.equal(call.attributes['quern.tool.execution_id'], result.execution_id);
  for (const name of wanted.slice(1)) assert.equal(spans.find((span) => span.name === name)!.parentSpanId, call.spanId);

  assert.equal(await service.stop(), 0);
  assert.ok(
    !service.log().includes('oops') && !service.log().includes('create_connection'),
    'the log has arguments or output',
  );
  const records = (await recordsIn(service.dir)).filter(({ execution_id: id }) => id === result.execution_id);
  assert.deepEqual(
    records.map(({ action, reason }) => [action, reason]),
    [
      ['tool.requested', undefined],
      ['tool.finished', 'NONZERO_EXIT'],
    ],
  );
  assert.equal(records[1]!.trace_id, result.trace_id);
  assert.equal(existsSync(service.address.replace('unix://', '')), false);
});

test('verbs of quern tools: what there is, what the sandbox can do, what is wrong with arguments', async (t) => {
  const service = await startProcess(t);
  const list = await quernTools(['list', '--json'], service.address);
  const tools = JSON.parse(list.stdout) as { name: string; decision: string }[];
  for (const name of ['run_code', 'read_file', 'apply_patch', 'eval_js_pure'])
    assert.ok(
      tools.some((tool) => tool.name === name),
      name,
    );
  const capabilities = await quernTools(['capabilities', '--json', '--probe'], service.address);
  assert.equal(capabilities.code, 0);
  assert.equal((JSON.parse(capabilities.stdout) as { tier: string }).tier, 'A');
  const bad = await quernTools(['run', 'run_code', '--json', '{"language":"perl"}'], service.address);
  assert.equal((JSON.parse(bad.stdout) as { outcome: string }).outcome, 'invalid_args');
  const unknown = await quernTools(['run', 'run_cod'], service.address);
  assert.match(unknown.stderr, /run_code/);
  assert.equal(unknown.code, 1);
  assert.equal((await quernTools(['run'], service.address)).code, 2);
  await service.stop();
});

test('without bubblewrap the service runs, says why nothing else does, and starts nothing', async (t) => {
  const service = await startProcess(t, { env: { QUERN_TOOLS_BWRAP: '/nonexistent' } });
  assert.equal(service.info.tier, null);
  assert.match(service.info.missing.join(), /apt-get install bubblewrap/);
  const refused = await quernTools(['run', 'run_code', '--json', '{"language":"bash","code":"true"}'], service.address);
  const result = JSON.parse(refused.stdout) as { outcome: string; reason: string };
  assert.equal(result.outcome, 'sandbox_unavailable');
  assert.match(result.reason, /bubblewrap/);
  const pure = await quernTools(['run', 'eval_js_pure', '--json', '{"code":"6*7"}'], service.address);
  assert.equal((JSON.parse(pure.stdout) as { outcome: string }).outcome, 'ok');
  assert.equal((await quernTools(['capabilities'], service.address)).code, 1);
  await service.stop();
});

test('a cancel, a deadline and a dead service leave no process behind', async (t) => {
  const service = await startProcess(t);
  const client = openChannel(ToolServiceClient, { address: service.address });
  t.after(() => client.close());
  const word = `sleeper-${process.pid}`;
  const code = `exec -a ${word} sleep 300`;
  const over = (callId: string, timeoutMs = 60_000) => ({
    callId,
    tool: 'run_code',
    argumentsJson: JSON.stringify({ language: 'bash', code: `(setsid bash -c '${code}' &) ; ${code}` }),
    timeoutMs,
    idempotencyKey: callId,
  });
  const started = async (): Promise<void> => {
    while (processesWith(word).length < 2) await sleep(10);
  };
  const cancelled = run(client, over('c'));
  await started();
  const asked = performance.now();
  await unary(client, 'cancel', { caller, callId: 'c' });
  assert.equal(outcomeOf(await cancelled), 'cancelled');
  t.diagnostic(`gone ${(performance.now() - asked).toFixed(0)} ms after the cancel`);
  assert.deepEqual(processesWith(word), []);
  assert.equal(outcomeOf(await run(client, over('d', 1_500))), 'deadline');
  assert.deepEqual(processesWith(word), []);

  const lost = run(client, over('k')).catch((error: Error) => error);
  await started();
  service.child.kill('SIGKILL');
  assert.ok((await lost) instanceof Error);
  for (let i = 0; processesWith(word).length > 0 && i < 1_000; i++) await sleep(20);
  assert.deepEqual(processesWith(word), []);
  const again = await startProcess(t, { dir: service.dir });
  const second = openChannel(ToolServiceClient, { address: again.address });
  t.after(() => second.close());
  const told = await run(second, { ...over('k'), callId: 'k-again' });
  assert.equal(outcomeOf(told), 'unknown');
  assert.equal(resultOf(told).replayed, true);
  await again.stop();
});

test('a tool of a pack runs as written, what it writes arrives byte for byte, and the service stays small', async (t) => {
  const dir = openFolder(t);
  const pack = `
tools:
  - name: noise
    annotations: {read_only: true, destructive: false, open_world: false, idempotent: true}
    input_schema: {type: object, properties: {count: {type: integer}}, required: [count], additionalProperties: false}
    command: {argv: [/usr/bin/head, -c, "{count}", /dev/zero], stdin: none, workspace: none}
`;
  const service = await startProcess(t, {
    dir,
    env: { QUERN_TOOLS_PACK_DIR: writePacks(dir, { 'noise.yaml': pack }) },
  });
  const client = openChannel(ToolServiceClient, { address: service.address });
  t.after(() => client.close());
  const events = await run(client, { tool: 'noise', argumentsJson: '{"count":3000000}' });
  assert.equal(outcomeOf(events), 'ok');
  assert.equal(Buffer.byteLength(outputOf(events)), 3_000_000);
  assert.deepEqual(
    events.map(({ sequence }) => Number(sequence)),
    events.map((_, index) => index + 1),
  );
  for (let i = 0; i < 3; i++)
    assert.equal(outcomeOf(await run(client, { tool: 'noise', argumentsJson: '{"count":3000000}' })), 'ok');
  // The processes of the tests above have left compiled modules: as with quern up, this one holds no compiler.
  const rssKib = Number.parseInt(service.status('VmRSS'), 10);
  t.diagnostic(`VmRSS ${(rssKib / 1024).toFixed(0)} MiB`);
  assert.ok(rssKib < RSS_KIB_MAX, `VmRSS ${rssKib} KiB, at most ${RSS_KIB_MAX}`);
  await service.stop();
});
