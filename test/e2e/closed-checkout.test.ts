/** A checkout below a folder that only root may enter, as in /root: its tools run, and the folder stays closed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { toolsView } from '../../services/cli/up/tools-plan.ts';
import { type Mesh, quern, startMesh } from './mesh.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const UNPRIVILEGED_ID = 65_532;
const isRoot = process.getuid?.() === 0;
const mayMount = spawnSync('unshare', ['--mount', 'true']).status === 0;
/** What starts the sandboxes; the set-up builds it. */
const ADDON = 'engine-native/build/spawn_addon.node';
/** Root's, but for the right to mount. */
const WITHOUT_MOUNTS = ['setpriv', '--bounding-set=-sys_admin', '--'];

type Checkout = { top: string; root: string; node: string; env: NodeJS.ProcessEnv };

/** Services and Node lie in the closed folder themselves; what is large is linked. */
function closedCheckout(t: TestContext): Checkout {
  const top = mkdtempSync(join(tmpdir(), 'quern-closed-')); // 0700
  const tools = mkdtempSync(join(tmpdir(), 'quern-closed-tools-'));
  t.after(() => {
    for (const folder of [top, tools]) rmSync(folder, { recursive: true, force: true });
  });
  const root = join(top, 'quern');
  mkdirSync(root, { mode: 0o755 });
  cpSync(join(ROOT, 'services'), join(root, 'services'), { recursive: true });
  copyFileSync(join(ROOT, 'package.json'), join(root, 'package.json'));
  for (const name of ['node_modules', 'models', 'engine-native']) symlinkSync(join(ROOT, name), join(root, name));
  const node = join(top, 'node');
  try {
    linkSync(process.execPath, node);
  } catch {
    copyFileSync(process.execPath, node); // another file system
  }
  return { top, root, node, env: { QUERN_STATE_DIR: join(top, 'state'), QUERN_TOOLS_DIR: tools } };
}

const READY_TIMEOUT_MS = 120_000;

/** Its first life's process: the mesh does not wait for tools when the machine is busy. */
async function toolsPid(mesh: Mesh): Promise<number> {
  const { pid } = await mesh.seen(({ event, name }) => event === 'started' && name === 'tools', READY_TIMEOUT_MS);
  return Number(pid);
}

/** Why it ended. */
async function toolsReason(mesh: Mesh): Promise<string> {
  const { reason } = await mesh.seen(({ event, name }) => event === 'exited' && name === 'tools', READY_TIMEOUT_MS);
  return String(reason);
}

const mayRead = (file: string): boolean =>
  spawnSync('test', ['-r', file], { uid: UNPRIVILEGED_ID, gid: UNPRIVILEGED_ID }).status === 0;

/** Of every process on the machine that has a mount of this folder. */
function pidsWithMountsOf(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(folder);
      } catch {
        return false; // it is gone
      }
    })
    .map(Number);
}

test('tools run in a checkout that only root may enter, which stays closed', async (t) => {
  const { top, root, node, env } = closedCheckout(t);
  if (!isRoot) {
    assert.equal(await toolsView({ root, node }, undefined), null, 'this account goes on as itself');
    return;
  }
  assert.equal(mayRead(join(root, 'package.json')), false);
  const mesh = await startMesh(t, { env, tools: true, from: { root, node: [node] } });
  if (!mayMount) {
    assert.match(await toolsReason(mesh), /cannot read/);
    return;
  }
  await mesh.seen(({ event, name }) => event === 'part_ready' && name === 'tools', READY_TIMEOUT_MS);
  const pid = await toolsPid(mesh);
  for (const [language, code] of [
    ['python', 'print(6 * 7)'],
    ['node', 'console.log(6 * 7)'],
  ]) {
    const { stdout, stderr } = await quern(['tools', 'run', 'run_code', '--json', JSON.stringify({ language, code })], {
      env,
    });
    const { outcome, stdout: said } = JSON.parse(stdout) as { outcome: string; stdout: string };
    assert.deepEqual([outcome, said], ['ok', '42\n'], stdout + stderr);
  }

  const seenBy = pidsWithMountsOf(top);
  assert.deepEqual(
    [pid, mesh.child.pid!, process.pid].map((one) => seenBy.includes(one)),
    [true, false, false],
  );
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .filter((line) => line.includes('/run/quern-checkout'));
  assert.deepEqual(
    mounts.map((line) => line.split(' ')[4]).sort(),
    ['', `/${ADDON}`, '/node', '/node_modules', '/package.json', '/services'].map(
      (name) => `/run/quern-checkout${name}`,
    ),
  );
  for (const mount of mounts) assert.match(mount, /^(?:\S+ ){5}ro,/);
  assert.equal(mayRead(join(root, 'package.json')), false);
  assert.equal(statSync(top).mode & 0o777, 0o700);
  assert.equal(await mesh.stop(), 0);
  assert.deepEqual(pidsWithMountsOf(top), []);
  assert.deepEqual(readdirSync('/run/quern-checkout'), []);
});

test('where root may not mount, the row says what the account cannot read', async (t) => {
  const { top, root, node, env } = closedCheckout(t);
  if (!isRoot) {
    assert.equal(await toolsView({ root, node }, '0'), null, 'and the service refuses such an account');
    return;
  }
  const mesh = await startMesh(t, { env, tools: true, from: { root, node: [...WITHOUT_MOUNTS, node] } });
  const reason = await toolsReason(mesh);
  assert.match(reason, /^account 65532, under which tools run, cannot read /);
  assert.ok(reason.includes(`cannot read ${top}/`), reason);
  assert.match(reason, /expected files that others may read, below folders that others may enter/);
  assert.equal(await mesh.stop(), 0);
});
