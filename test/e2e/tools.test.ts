/** Tools of a mesh as its operator meets them: a row, a run by hand, a record in the log; and a machine without a sandbox. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Mesh, quern, startMesh } from './mesh.ts';

type Part = { name: string; pid: number | null; where: string; what: string };
type Ran = {
  outcome: string;
  stdout: string;
  exit_code: number;
  execution_id: string;
  trace_id: string;
  reason: string;
};

/** Folders of the mesh; that of the tools below one that everybody may enter. */
function folders(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'quern-tools-e2e-'));
  chmodSync(dir, 0o755);
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return { dir, env: { QUERN_STATE_DIR: join(dir, 'state'), QUERN_TOOLS_DIR: join(dir, 'tools') } };
}

function partOf(mesh: Mesh, name: string): Part {
  const ready = mesh.events.find(({ event }) => event === 'ready') as { parts?: Part[] } | undefined;
  const part = ready?.parts?.find((one) => one.name === name);
  assert.ok(part, JSON.stringify(mesh.events));
  return part;
}

/** Until the tool service knows what a checkpoint covers: as root too, whose own sockets it cannot reach. */
async function covered({ where }: Part): Promise<void> {
  const url = /http:\S+\/metrics/.exec(where)?.[0] ?? '';
  for (let i = 0; ; i++) {
    const text = await (await fetch(url)).text();
    if (Number(/^quern_audit_covered_records\{[^}]*\} (\d+)/m.exec(text)?.[1]) >= 2) return;
    assert.ok(i < 300, text);
    await sleep(200);
  }
}

const code = (text: string): string => JSON.stringify({ language: 'python', code: text });

test('quern up runs tools in the sandbox; what is run by hand is in the audit log', async (t) => {
  const { dir, env } = folders(t);
  const mesh = await startMesh(t, { env, audit: true, tools: true });
  const part = partOf(mesh, 'tools');
  assert.match(part.what, /^\d+ tools, sandbox tier A, packs in [~/].*\/packs$/);
  const ran = await quern(['tools', 'run', 'run_code', '--json', code('print(6 * 7)')], { env });
  assert.equal(ran.code, 0, ran.stderr);
  const result = JSON.parse(ran.stdout) as Ran;
  assert.deepEqual([result.outcome, result.stdout, result.exit_code], ['ok', '42\n', 0]);

  type Line = { action: string; execution_id?: string; producer: string; outcome: string };
  let told: Line[] = [];
  for (let i = 0; told.length < 2; i++) {
    assert.ok(i < 60, 'the records of the call are not in the ledger');
    const file = join(dir, `log-${i}.jsonl`);
    const { stderr } = await quern(['audit', 'export', '--out', file], { env });
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
    told = lines.map((line) => JSON.parse(line) as Line).filter(({ execution_id: id }) => id === result.execution_id);
    if (told.length < 2) await sleep(200);
    assert.ok(!/Error/.test(stderr), stderr);
  }
  assert.deepEqual(
    told.map(({ action, outcome }) => [action, outcome]),
    [
      ['tool.requested', 'ok'],
      ['tool.finished', 'ok'],
    ],
  );
  assert.match(told[0]!.producer, /^tools-/);
  const shown = await quern(['audit', 'query', '--request', result.execution_id, '--json'], { env });
  const row = JSON.parse(shown.stdout) as { kind: string; user: string; tool: { name: string; executionId: string } };
  assert.deepEqual(
    [row.kind, row.user, row.tool.name, row.tool.executionId],
    ['tool', 'local', 'run_code', result.execution_id],
  );
  await covered(part);
  assert.equal((await quern(['audit', 'verify'], { env })).code, 0);
  const doctor = await quern(['doctor'], { env });
  assert.match(doctor.stdout, /sandbox +tier A/);

  process.kill(part.pid!, 'SIGKILL'); // it is started again, and nobody else is affected
  await mesh.seen(({ event, name }) => event === 'exited' && name === 'tools');
  await mesh.seen(
    (event) =>
      mesh.events.filter(({ event: kind, name }) => kind === 'part_ready' && name === 'tools').length > 1 &&
      event === mesh.events.at(-1),
    60_000,
  );
  const again = await quern(['tools', 'run', 'run_code', '--json', code('print(1)')], { env });
  assert.equal((JSON.parse(again.stdout) as Ran).outcome, 'ok', again.stderr);
  const where = part.where.split(',')[0]!.replace('unix://', '');
  assert.equal(await mesh.stop(), 0);
  assert.equal(existsSync(where), false);
});

test('without bubblewrap the row says why and how to get it, and the mesh serves', async (t) => {
  const { env } = folders(t);
  const mesh = await startMesh(t, { env: { ...env, QUERN_TOOLS_BWRAP: '/nonexistent' }, tools: true });
  assert.match(partOf(mesh, 'tools').what, /no sandbox: there is no bwrap.*apt-get install bubblewrap/);
  const refused = await quern(['tools', 'run', 'run_code', '--json', code('print(1)')], { env });
  assert.equal((JSON.parse(refused.stdout) as Ran).outcome, 'sandbox_unavailable');
  const response = await fetch(`http://${mesh.http}/v1/models`);
  assert.equal(response.status, 200);
});

test('without tools there is no row, and quern tools says why', async (t) => {
  const { env } = folders(t);
  const mesh = await startMesh(t, { env });
  const ready = mesh.events.find(({ event }) => event === 'ready') as { parts?: Part[] } | undefined;
  assert.equal(
    ready?.parts?.some(({ name }) => name === 'tools'),
    false,
  );
  const refused = await quern(['tools', 'list'], { env });
  assert.match(refused.stderr, /--no-tools/);
});
