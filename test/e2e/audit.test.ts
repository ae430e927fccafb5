/** The audit log of a mesh as its operator meets it: what was asked is there, provable, and still there after a restart. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Mesh, quern, startMesh } from './mesh.ts';

type Part = { name: string; pid: number | null; where: string; what: string };

function stateFolder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-audit-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function parts(mesh: Mesh): Map<string, Part> {
  const ready = mesh.events.find(({ event }) => event === 'ready') as { parts?: Part[] } | undefined;
  return new Map((ready?.parts ?? []).map((part) => [part.name, part]));
}

async function complete(mesh: Mesh): Promise<string> {
  const response = await fetch(`http://${mesh.http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'import ', max_tokens: 4, temperature: 0, ignore_eos: true }),
  });
  assert.equal(response.status, 200);
  await response.text();
  return response.headers.get('x-request-id') ?? '';
}

type Row = { requestId: string; user: string; outcome: string; usage: Record<string, number> };

/** The finished requests that the log has, once there are `count`. */
async function logged(env: NodeJS.ProcessEnv, count: number): Promise<Row[]> {
  for (let i = 0; ; i += 1) {
    const { code, stdout, stderr } = await quern(['audit', 'query', '--since', '1h', '--json'], { env });
    assert.equal(code, 0, stderr);
    const rows = stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Row);
    if (rows.filter(({ outcome }) => outcome !== '').length >= count) return rows;
    assert.ok(i < 50, `after ${i} looks: ${stdout}`);
    await sleep(100);
  }
}

test('requests are in the log, which verifies, exports and outlives a restart', async (t) => {
  const state = stateFolder(t);
  const env = { QUERN_STATE_DIR: state };
  const first = await startMesh(t, { env, audit: true });
  for (const name of ['nats-server', 'audit']) assert.ok(parts(first).get(name)?.pid, JSON.stringify(first.events));
  const requestId = await complete(first);
  const [row] = await logged(env, 1);
  assert.deepEqual(
    [row?.requestId, row?.user, row?.outcome, row?.usage.completion_tokens],
    [requestId, 'local', 'ok', 4],
  );
  const note = join(state, 'kept-elsewhere');
  await quern(['audit', 'export', '--out', join(state, 'signs')], { env }); // signs what there is
  const head = await quern(['audit', 'head', '--note'], { env });
  assert.match(head.stdout, /^quern\.local\/audit\n\d+\n/);
  writeFileSync(note, head.stdout);
  const refused = await quern(['up', '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0'], { env });
  assert.match(
    refused.stderr,
    /^quern: the mesh with pid \d+ keeps its audit log in .*; give this one a folder of its own/,
  );
  assert.equal(await first.stop(), 0);

  const second = await startMesh(t, { env, audit: true });
  await complete(second);
  assert.equal((await logged(env, 2)).length, 2);
  const online = await quern(['audit', 'verify', '--trusted-checkpoint', note], { env });
  assert.deepEqual([online.code, online.stdout.split(':')[0]], [0, 'ok'], online.stdout + online.stderr);
  const file = join(state, 'audit.jsonl');
  const exported = await quern(['audit', 'export', '--since', '1h', '--out', file], { env });
  assert.equal(exported.code, 0, exported.stderr);
  assert.equal((await quern(['audit', 'export', '--out', file], { env })).code, 2, 'nothing is written over');
  assert.equal(await second.stop(), 0);

  const offline = await quern(['audit', 'verify', file, '--trusted-checkpoint', note], { env });
  assert.deepEqual([offline.code, offline.stdout.split(':')[0]], [0, 'ok'], offline.stdout + offline.stderr);
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('"request.accepted"', '"request.finished"'));
  const changed = await quern(['audit', 'verify', file], { env });
  assert.deepEqual([changed.code, /^altered at record \d+: /.test(changed.stdout)], [1, true], changed.stdout);
});

test('without a nats-server the mesh serves, says how to get one, and keeps its records', async (t) => {
  const state = stateFolder(t);
  const env = { QUERN_STATE_DIR: state, PATH: join(state, 'nowhere'), QUERN_CACHE_DIR: join(state, 'nowhere') };
  const mesh = await startMesh(t, { env, audit: true });
  await complete(mesh);
  const [nats, audit] = ['nats-server', 'audit'].map((name) => parts(mesh).get(name));
  assert.match(
    nats?.what ?? '',
    /^no nats-server on PATH or in the cache folders; "node scripts\/get-nats\.mjs" builds one/,
  );
  assert.deepEqual([audit?.pid, audit?.where], [null, join(state, 'outbox', 'gateway')]);
  assert.ok(existsSync(join(state, 'outbox', 'gateway')));
  const query = await quern(['audit', 'query'], { env });
  assert.equal(query.code, 1);
  assert.match(query.stderr, /runs without an audit service, for want of a nats-server/);
  assert.equal(await mesh.stop(), 0);
});

test('what quern audit cannot do it says in one sentence', async (t) => {
  const env = { QUERN_AUDIT_ADDRESS: `unix://${stateFolder(t)}/audit.sock` };
  const says = async (args: string[], code: number, expected: RegExp): Promise<void> => {
    const result = await quern(['audit', ...args], { env });
    assert.match(result.stderr, expected);
    assert.equal(result.code, code, result.stderr);
  };
  await says([], 2, /^quern audit: expected one of query, tail, export, verify, erase, head, got nothing/);
  await says(['qery'], 2, /did you mean query\?/);
  await says(['head'], 1, /^quern: no audit service answers at unix:/);
  await says(['query', '--since', 'yesterday'], 2, /^quern: --since: expected a time ago such as 90s/);
  await says(['export'], 2, /^quern: --out: expected a file to write, got nothing/);
  await says(
    ['export', '--format', 'pdf', '--out', 'x'],
    2,
    /--format: expected one of jsonl, csv, classic, got "pdf"/,
  );
  await says(['export', '--user', 'ada', '--out', 'x'], 2, /--tenant and --user: the form jsonl has every record/);
  await says(['erase', '--user', 'ada'], 2, /asks before it erases; without a terminal give --yes/);
  await says(['verify', '/no/such.jsonl'], 2, /no\/such\.jsonl\.manifest\.json cannot be read \(ENOENT\)/);
  await says(
    ['verify', '--trusted-checkpoint', '/no/note'],
    2,
    /--trusted-checkpoint: expected a file with a signed checkpoint/,
  );
});
