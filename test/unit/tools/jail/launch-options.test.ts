/** The options of a launch, the look at protected paths, and the reading back of mounts. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { holdMounts } from '../../../../services/tools/jail/held-mounts.ts';
import { BWRAP_ARGUMENTS } from '../../../../services/tools/jail/launch.ts';
import {
  encodeOptions,
  launchOptions,
  type MountBelow,
  presentProtected,
  WORK,
} from '../../../../services/tools/jail/launch-options.ts';
import { foreignMount } from '../../../../services/tools/jail/mount-check.ts';
import { commandOf } from '../../../sandbox/jail-client.ts';

const toolchain = {
  root: '/usr',
  binds: [{ from: '/opt/x/node', to: '/opt/node' }],
  interpreters: { bash: null, python: null, node: null },
};
const places = { toolchain, etc: '/state/etc', proxySocket: '/state/proxy.sock' };

/** The values that follow an option, in order. */
function valuesOf(options: readonly string[], name: string, count: number): string[][] {
  return options.flatMap((option, index) => (option === name ? [options.slice(index + 1, index + 1 + count)] : []));
}

test('isolation is asked for explicitly, the last mounts close what is writable, and a cut is seen', () => {
  const options = launchOptions(commandOf(['/usr/bin/true']), places, []);
  for (const wanted of ['--unshare-user', '--unshare-all', '--disable-userns', '--assert-userns-disabled']) {
    assert(options.includes(wanted), wanted);
  }
  for (const wanted of ['--die-with-parent', '--new-session', '--clearenv']) assert(options.includes(wanted), wanted);
  assert.deepEqual(valuesOf(options, '--cap-drop', 1), [['ALL']]);
  assert.deepEqual(options.slice(-5), ['--remount-ro', '/dev', '--remount-ro', '/', '--unshare-user']);
  assert(BWRAP_ARGUMENTS.includes('--disable-userns'), 'which is refused without --unshare-user');
  assert(!options.includes('--share-net') && !options.includes('--bind'));
  assert.deepEqual(valuesOf(options, '--tmpfs', 1), [['/dev/shm'], ['/tmp'], [WORK]], 'in memory, each of a size');
  assert.equal(valuesOf(options, '--size', 1).length, 3);
  assert(valuesOf(options, '--size', 1).every(([size]) => /^\d+$/.test(size!)));
});

test('variables of the command come after the cleared environment; the proxy socket only where it is wanted', () => {
  const command = commandOf(['/usr/bin/true'], { env: { PATH: '/opt', A: 'b c' }, network: 'proxy' });
  const options = launchOptions(command, places, []);
  assert(options.indexOf('--clearenv') < options.indexOf('--setenv'));
  assert.deepEqual(Object.fromEntries(valuesOf(options, '--setenv', 2)), {
    PATH: '/opt',
    HOME: '/tmp',
    LANG: 'C.UTF-8',
    TMPDIR: '/tmp',
    A: 'b c',
  });
  assert.deepEqual(valuesOf(options, '--bind', 2), [['/state/proxy.sock', '/run/proxy.sock']]);
  assert.deepEqual(valuesOf(launchOptions({ ...command, network: 'none' }, places, []), '--bind', 2), []);
});

test('each option ends with NUL', () => {
  assert.equal(Buffer.from(encodeOptions(['--a', '', 'ü'])).toString(), '--a\0\0ü\0');
});

function scratch(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-launch-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('protected paths that are links, lie behind links or are not there are not bound', async (t) => {
  const path = scratch(t);
  mkdirSync(join(path, '.git/hooks'), { recursive: true });
  writeFileSync(join(path, '.git/config'), '');
  symlinkSync('/etc/passwd', join(path, '.npmrc'));
  symlinkSync('.git', join(path, 'link'));
  const guarded = ['.git/hooks', '.git/config', '.npmrc', 'link/config', 'link', '.vscode', '.git/config/x'];
  const workspace = { path, writable: true, protected: guarded };
  assert.deepEqual(presentProtected(workspace), ['.git/hooks', '.git/config']);
  const command = commandOf(['/usr/bin/true'], { workspace });
  const nobody = { pause: async () => true, resume: () => {} };
  const { below, release } = await holdMounts(command, nobody, { signal: new AbortController().signal });
  t.after(release);
  const options = launchOptions(command, places, below);
  assert.deepEqual(
    valuesOf(options, '--bind', 2),
    [
      [path, WORK],
      [join(path, '.git'), join(WORK, '.git')],
    ],
    'the folder on the way is a mount, which nobody inside can rename',
  );
  assert(options.lastIndexOf('--bind') < options.indexOf(join(WORK, '.git/hooks')), 'read-only mounts come after it');
  assert.deepEqual(valuesOf(options, '--ro-bind', 2).slice(-2), [
    [join(path, '.git/hooks'), join(WORK, '.git/hooks')],
    [join(path, '.git/config'), join(WORK, '.git/config')],
  ]);
  assert.deepEqual(
    below,
    [
      { path: '.git', readOnly: false },
      { path: '.git/hooks', readOnly: true },
      { path: '.git/config', readOnly: true },
    ],
    'what is read back before the command starts',
  );
  const readOnly = launchOptions(
    commandOf(['/usr/bin/true'], { workspace: { ...workspace, writable: false } }),
    places,
    [],
  );
  assert.deepEqual(valuesOf(readOnly, '--ro-bind', 2).at(-1), [path, WORK]);
  assert.deepEqual(valuesOf(readOnly, '--bind', 2), []);
});

const line = (root: string, point: string, options: string, type = 'ext4', device = '254:0'): string =>
  `70 65 ${device} ${root} ${point} ${options},relatime - ${type} src rw`;

test('mounts are judged once all are made, and each below the workspace must come from it', () => {
  const base = [line('/newroot', '/', 'ro', 'tmpfs', '0:40'), line('/', '/dev', 'ro', 'tmpfs', '0:41')];
  const work = line('/srv/w', WORK, 'rw');
  const judge = (below: readonly MountBelow[], ...more: string[]): string | null | undefined =>
    foreignMount([...base, work, ...more].join('\n'), below);
  const closed = (path: string): MountBelow => ({ path, readOnly: true });
  const config = line('/srv/w/.git/config', `${WORK}/.git/config`, 'ro');
  assert.equal(foreignMount('', []), undefined);
  assert.equal(foreignMount([line('/', '/', 'ro', 'ext4'), work].join('\n'), []), undefined, "the host's own root");
  assert.equal(judge([closed('p')], line('/srv/w/p', `/newroot${WORK}/p`, 'ro')), undefined, 'still being made');
  assert.equal(judge([]), null);
  assert.equal(judge([closed('.git/config')], config), null);
  assert.equal(judge([closed('a b')], line('/srv/w/a\\040b', `${WORK}/a\\040b`, 'ro')), null);
  const replaced = /was replaced while the sandbox was made/;
  for (const foreign of [
    line('/etc/passwd', `${WORK}/.npmrc`, 'ro'),
    line('/srv/w2/x', `${WORK}/.npmrc`, 'ro'),
    line('/srv/w', `${WORK}/.npmrc`, 'ro'),
    line('/srv/w/x', `${WORK}/.npmrc`, 'ro', 'ext4', '254:1'),
    line('/srv/w/x', `${WORK}/.npmrc`, 'ro'),
    line('/srv/w/x//deleted', `${WORK}/.npmrc`, 'ro'),
  ]) {
    assert.match(judge([closed('.npmrc')], foreign) ?? '', replaced, foreign);
  }
  const way = { path: '.git', readOnly: false };
  const git = line('/srv/w/.git', `${WORK}/.git`, 'rw');
  assert.equal(judge([way, closed('.git/config')], git, config), null);
  for (const [why, below, ...more] of [
    ['it went elsewhere', [closed('.npmrc')], line('/etc/shadow', '/etc/passwd', 'ro')],
    ['one of two went elsewhere', [way, closed('.git/config')], git, line('/srv', '/tmp', 'rw')],
    ['it can be written', [closed('.git')], git],
    ['nobody asked for it', [way], git, config],
    ['one twice, which hides that nobody asked for the other', [way], git, git],
  ] as [string, MountBelow[], ...string[]][]) {
    assert.match(judge(below, ...more) ?? '', replaced, why);
  }
});
