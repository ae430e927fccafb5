// The second socket: an account of its group learns what is covered and can do nothing else; nobody else reaches it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { readConfig } from '../../../services/audit/config.ts';
import { startAudit } from '../../../services/audit/service.ts';
import { startNats } from './support/nats.ts';
import type { Asked, Told } from './support/other-account.ts';
import { undo } from './support/undo.ts';

const isRoot = process.getuid!() === 0;
/** Root gives the socket to an account; another account only has its own group. */
const ACCOUNT = isRoot ? 65_532 : null;
const STRANGER = 65_531;
const SCRIPT = join(import.meta.dirname, 'support', 'other-account.ts');
const log = createLog({ service: 't', level: 'silent' });
const execute = promisify(execFile);

async function setUp(t: TestContext, place = ['made', 'coverage']) {
  const nats = await startNats(t);
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  await chmod(dir, 0o755); // as the folders above a state folder are
  const socket = [dir, ...place, 'audit.sock'].join('/');
  const config = readConfig({
    QUERN_AUDIT_LISTEN: `unix://${dir}/run/audit.sock`,
    QUERN_AUDIT_COVERAGE_LISTEN: `unix://${socket}`,
    QUERN_AUDIT_COVERAGE_GROUP: String(ACCOUNT ?? process.getgid!()),
    QUERN_NATS_URL: nats.url,
    QUERN_AUDIT_DIR: join(dir, 'audit'),
    QUERN_AUDIT_KEY_DIR: join(dir, 'keys'),
  });
  const start = () => startAudit({ config, log, metrics: createMetrics('audit') });
  const service = await start();
  undo(t, () => service.close());
  const ask = async (uid: number | null, outbox: Asked['outbox'] = null): Promise<Told> => {
    const asked: Asked = { uid, coverage: `unix://${socket}`, own: service.address, outbox };
    const { stdout } = await execute(process.execPath, [SCRIPT, JSON.stringify(asked)], { cwd: '/' });
    return JSON.parse(stdout) as Told;
  };
  return { dir, nats, socket, service, start, ask };
}

const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

test('an account of the group learns what is covered, lets its segments go, and may neither erase nor read', async (t) => {
  const { dir, nats, socket, ask } = await setUp(t);
  const folder = join(socket, '..');
  assert.deepEqual(
    [await modeOf(folder), await modeOf(socket), await modeOf(join(folder, '..'))],
    [0o710, 0o660, 0o755],
  );
  const outbox = { dir: join(dir, 'outbox'), nats: nats.url };
  await mkdir(outbox.dir, { mode: 0o700 });
  if (ACCOUNT !== null) await chown(outbox.dir, ACCOUNT, ACCOUNT);
  const { firstSeq, ...told } = await ask(ACCOUNT, outbox);
  assert.deepEqual(told, { coverage: 'OK', erase: 'UNIMPLEMENTED', own: isRoot ? 'UNAVAILABLE' : 'OK' });
  assert.ok(firstSeq > 1, 'segments were let go');
  if (isRoot)
    assert.deepEqual(await ask(STRANGER), {
      coverage: 'UNAVAILABLE',
      erase: 'UNAVAILABLE',
      own: 'UNAVAILABLE',
      firstSeq: 0,
    });
});

test('the folder goes with the service; one that an earlier process left open is closed until it listens', async (t) => {
  const { socket, service, start, ask } = await setUp(t);
  const folder = join(socket, '..');
  await service.close();
  await assert.rejects(stat(folder), { code: 'ENOENT' });
  await mkdir(folder);
  await chmod(folder, 0o777);
  const again = await start();
  undo(t, () => again.close());
  assert.equal(await modeOf(folder), 0o710);
  assert.equal((await ask(ACCOUNT)).coverage, 'OK');
});

test('where its folder cannot be made the service runs without it', async (t) => {
  const { socket, service, start } = await setUp(t);
  await service.close();
  await mkdir(socket, { recursive: true }); // a folder where the socket belongs
  const again = await start();
  undo(t, () => again.close());
  assert.ok((await stat(socket)).isDirectory(), 'what lies there is left alone');
});

test('a path with .. in it opens no folder that was there', async (t) => {
  const { dir } = await setUp(t, ['audit', '..', 'made', 'coverage']);
  assert.equal(await modeOf(join(dir, 'audit')), 0o700);
  await assert.rejects(stat(join(dir, 'made')), { code: 'ENOENT' });
});

test('settings that do not fit are told with what to do', () => {
  const base = { QUERN_AUDIT_DIR: '/a', QUERN_AUDIT_KEY_DIR: '/k', QUERN_AUDIT_LISTEN: 'unix:///a.sock' };
  const cases: [NodeJS.ProcessEnv, RegExp][] = [
    [{ QUERN_AUDIT_COVERAGE_LISTEN: 'unix:///c/a.sock' }, /QUERN_AUDIT_COVERAGE_GROUP: expected it beside/],
    [{ QUERN_AUDIT_COVERAGE_GROUP: '7' }, /QUERN_AUDIT_COVERAGE_LISTEN: expected it beside/],
    [
      { QUERN_AUDIT_COVERAGE_LISTEN: '127.0.0.1:1', QUERN_AUDIT_COVERAGE_GROUP: '7' },
      /expected unix:\/\/\/path, got "127/,
    ],
  ];
  for (const [env, message] of cases) assert.throws(() => readConfig({ ...base, ...env }), { message });
  const whole = { QUERN_AUDIT_COVERAGE_LISTEN: 'unix:///c/a.sock', QUERN_AUDIT_COVERAGE_GROUP: '7' };
  assert.deepEqual(readConfig({ ...base, ...whole }).coverage, { path: '/c/a.sock', group: 7 });
  assert.equal(readConfig(base).coverage, null);
});
