/** The workspace: what is protected in it stays, what leads out of it leads nowhere, and special files hold nobody up. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { WORK } from '../../services/tools/jail/launch-options.ts';
import { type CommandParts, type HostError, startJail, startWholeJail } from './jail-client.ts';

const jail = await startWholeJail({ after });

async function makeWorkspace(): Promise<string> {
  return jail.ask<string>({ kind: 'workspace' });
}

const asWorkspace = (path: string, parts: { writable?: boolean; protected?: string[] } = {}): CommandParts => ({
  workspace: { path, writable: parts.writable ?? true, protected: parts.protected ?? [] },
});

test('files are written by the account of the service and are there afterwards; read-only ones are not written', async () => {
  const path = await makeWorkspace();
  await jail.bash('echo one > a; mkdir d; echo two > d/b', asWorkspace(path));
  assert.equal(readFileSync(join(path, 'd/b'), 'utf8'), 'two\n');
  assert.equal(lstatSync(join(path, 'a')).uid, jail.uid);
  const readOnly = await jail.bash('cat a; echo three > a; rm -r d; ls', asWorkspace(path, { writable: false }));
  assert.equal(readOnly.stdout, 'one\na\nd\n');
  assert.match(readOnly.stderr, /Read-only file system/);
  assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'one\n');
});

test('protected paths can be read, not written, removed, renamed or mounted over', async () => {
  const path = await makeWorkspace();
  await jail.bash(
    'mkdir -p .git/hooks .vscode; echo original | tee .git/config .git/hooks/pre-commit .npmrc',
    asWorkspace(path),
  );
  const guarded = ['.git/config', '.git/hooks', '.npmrc', '.mcp.json', '.vscode'];
  const attack = `cat .git/config
    echo evil > .git/config; echo evil > .git/hooks/pre-commit; echo evil > .git/hooks/post-merge; echo evil > .npmrc
    rm -f .git/config .npmrc; rm -rf .git/hooks; mv .npmrc x; mv .git/hooks h; ln -sf /tmp .npmrc; touch .vscode/tasks.json
    echo fine > .git/HEAD`;
  const { stdout } = await jail.bash(attack, asWorkspace(path, { protected: guarded }));
  assert.equal(stdout, 'original\n');
  for (const name of ['.git/config', '.git/hooks/pre-commit', '.npmrc']) {
    assert.equal(readFileSync(join(path, name), 'utf8'), 'original\n', name);
  }
  assert(!existsSync(join(path, '.git/hooks/post-merge')) && !existsSync(join(path, '.vscode/tasks.json')));
  assert.equal(readFileSync(join(path, '.git/HEAD'), 'utf8'), 'fine\n', 'control: what is not protected is written');
});

test('a folder with protected paths in it cannot be replaced by a copy', async () => {
  const path = await makeWorkspace();
  await jail.bash('mkdir -p .git/hooks a/b; echo original | tee .git/config a/b/c', asWorkspace(path));
  const guarded = ['.git/config', '.git/hooks', 'a/b/c'];
  const { stdout } = await jail.bash(
    `mv .git .old || echo stays; mv a x || echo stays; mv a/b a/y || echo stays
    cp -r .git .copy; rm -rf .git; mv -T .copy .git; rm -rf a
    mkdir -p .git/hooks a/b; echo evil > .git/hooks/pre-commit; echo evil > .git/config; echo evil > a/b/c
    mv .copy moved && echo fine`,
    asWorkspace(path, { protected: guarded }),
  );
  assert.equal(stdout, 'stays\nstays\nstays\nfine\n', 'control: a folder without protected paths moves');
  for (const name of ['.git/config', 'a/b/c']) assert.equal(readFileSync(join(path, name), 'utf8'), 'original\n', name);
  assert(!existsSync(join(path, '.git/hooks/pre-commit')));
});

test('a protected path that is a link, or lies behind one, brings nothing of the host inside', async () => {
  const path = await makeWorkspace();
  const outside = join(jail.folder, 'outside');
  mkdirSync(outside, { mode: 0o755 });
  writeFileSync(join(outside, 'config'), 'of the host', { mode: 0o644 });
  symlinkSync(outside, join(path, '.git'));
  symlinkSync(join(outside, 'config'), join(path, '.npmrc'));
  const { stdout, end } = await jail.bash(
    'cat .git/config .npmrc; ls',
    asWorkspace(path, { protected: ['.git/config', '.npmrc'] }),
  );
  assert.equal(end.setupFailure, null);
  assert.equal(stdout, '', 'the links lead nowhere');
  assert.equal(readFileSync(join(path, '.git/config'), 'utf8'), 'of the host', 'control: they do outside');
});

test('a folder that becomes a link while a sandbox is made is found out', async () => {
  const path = await makeWorkspace();
  const outside = join(jail.folder, 'host-secrets');
  mkdirSync(outside, { mode: 0o755 });
  writeFileSync(join(outside, 'config'), 'of the host', { mode: 0o644 });
  await jail.bash('mkdir real; echo mine > real/config; mkdir .git; echo mine > .git/config', asWorkspace(path));
  // Another command of the same conversation swaps as fast as it can.
  const swap = `import os
i=0
os.rename(".git","real2")
print("up",flush=True)
while True:
  os.symlink("${outside}","l"); os.rename("l",".git"); os.unlink(".git"); os.rename("real2",".git"); os.rename(".git","real2")`;
  const attacker = await jail.session([jail.interpreters.python!, '-c', swap], asWorkspace(path));
  await attacker.until('up');
  let refused = 0;
  for (let i = 0; i < 25; i++) {
    const { stdout, end } = await jail.bash(
      'cat .git/config real2/config 2>/dev/null; find /work -name config | xargs cat',
      asWorkspace(path, { protected: ['.git/config'] }),
    );
    assert(!stdout.includes('of the host'), 'a file of the host was bound in');
    if (end.setupFailure !== null) refused++;
  }
  await attacker.kill('cancelled');
  assert(refused < 25, 'some launches succeed');
});

const MOUNTS_BELOW = `grep -o ' ${WORK}/[^ ]*' /proc/self/mountinfo`;

test('a path that a running command could replace is read-only in the next all the same: that one stands still meanwhile', async () => {
  const path = await makeWorkspace();
  const script = 'echo original > .npmrc; echo up; read; echo own > .npmrc; echo went on; read';
  const before = await jail.session([jail.interpreters.bash!, '-c', script], asWorkspace(path));
  await before.until('up');
  const guarded = asWorkspace(path, { protected: ['.npmrc', '.git/config'] });
  for (let i = 0; i < 2; i++) {
    const { stdout, end } = await jail.bash(`${MOUNTS_BELOW}; echo evil > .npmrc; rm -f .npmrc; cat .npmrc`, guarded);
    assert.equal(end.setupFailure, null);
    assert.equal(stdout, ` ${WORK}/.npmrc\noriginal\n`);
  }
  const both = await Promise.all(Array.from({ length: 4 }, () => jail.bash(MOUNTS_BELOW, guarded)));
  assert.deepEqual(new Set(both.map(({ stdout }) => stdout)), new Set([` ${WORK}/.npmrc\n`]), 'side by side');
  await before.write('\n');
  await before.until('went on');
  assert.equal(
    readFileSync(join(path, '.npmrc'), 'utf8'),
    'own\n',
    'control: it may write what was not there when it began',
  );
  await before.kill('cancelled');
});

test('a command that renames a protected path as fast as it can: others have it read-only where it is, and all begin', async () => {
  const path = await makeWorkspace();
  const swap = `import os, ctypes
libc = ctypes.CDLL(None)
os.mkdir(".git"); open(".git/config", "w").write("mine"); os.mkdir("other"); open("other/config", "w").write("mine")
print("up", flush=True)
while True: assert libc.renameat2(-100, b".git", -100, b"other", 2) == 0`;
  const attacker = await jail.session([jail.interpreters.python!, '-c', swap], {
    ...asWorkspace(path),
    limits: { wallMs: 600_000, cpuMs: 600_000 },
  });
  await attacker.until('up');
  for (let i = 0; i < 25; i++) {
    const { stdout, end } = await jail.bash(MOUNTS_BELOW, asWorkspace(path, { protected: ['.git/config'] }));
    assert.equal(end.setupFailure, null, 'nothing moves while the mounts are made');
    assert.match(stdout, /^( \/work\/(\.git|other)\n \/work\/(\.git|other)\/config\n)$/);
  }
  assert.equal((await attacker.kill('cancelled')).killed, 'cancelled', 'control: it swapped to the end');
});

test('without cgroups nobody can be made to stand still: the next waits, and is refused when that does not help', async (t) => {
  const plain = await startJail(t, { withoutCgroup: true, allowMissingCgroup: true });
  assert.equal(plain.capabilities.tier, 'A-', JSON.stringify(plain.capabilities.list));
  const path = await plain.ask<string>({ kind: 'workspace' });
  const guarded = asWorkspace(path, { protected: ['.npmrc'] });
  const begin = async (script: string) => {
    const session = await plain.session([plain.interpreters.bash!, '-c', script], guarded);
    await session.until('up');
    return session;
  };
  const before = await begin('echo up; read; echo original > .npmrc; echo made; read');
  const beside = await plain.bash('echo fine', guarded);
  assert.equal(beside.stdout, 'fine\n', 'control: while nothing protected is there calls run side by side');
  await before.write('\n');
  await before.until('made');
  const { end, stdout } = await plain.bash('echo evil > .npmrc; echo ran', guarded);
  assert.equal(stdout, '');
  assert.equal(end.refusal, 'PROTECTED_PATH_BUSY');
  assert.match(end.setupFailure ?? '', /^\.npmrc is protected .* wait until the other one has ended, or cancel it/);
  const cancelled = await plain.bash('echo ran', guarded, { abortAfterMs: 50 });
  assert.deepEqual([cancelled.end.killed, cancelled.stdout], ['cancelled', '']);
  const waits = plain.bash('echo evil > .npmrc; cat .npmrc', guarded);
  await before.kill('cancelled');
  assert.equal((await waits).stdout, 'original\n', 'it began when the other had ended, with the path read-only');
});

test('a folder that becomes links to a foreign place and to a mount point outside of the workspace brings nothing in', async () => {
  const path = await makeWorkspace();
  const outside = join(jail.folder, 'foreign');
  mkdirSync(outside, { mode: 0o755 });
  writeFileSync(join(outside, 'secret'), 'of the host', { mode: 0o644 });
  // A folder when it is looked at, one link when bubblewrap looks for the source, another when it mounts.
  const swap = `import ctypes, os, time
libc = ctypes.CDLL(None)
def exchange(a): assert libc.renameat2(-100, b".vscode", -100, a, 2) == 0
os.mkdir(".vscode"); os.symlink("${outside}", "from"); os.symlink("/newroot/tmp", "to")
print("up", flush=True)
while True:
  time.sleep(0.004); exchange(b"from"); time.sleep(0.004); exchange(b"to"); time.sleep(0.006); exchange(b"to"); exchange(b"from")`;
  const python = [jail.interpreters.python!, '-c', swap];
  const attacker = await jail.session(python, { ...asWorkspace(path), limits: { wallMs: 600_000, cpuMs: 600_000 } });
  await attacker.until('up');
  for (let i = 0; i < 40; i++) {
    const { stdout } = await jail.bash('cat /tmp/secret', asWorkspace(path, { protected: ['.vscode'] }));
    assert.equal(stdout, '', 'a folder of the host was mounted on /tmp');
  }
  const { killed } = await attacker.kill('cancelled');
  assert.equal(killed, 'cancelled', 'control: it swapped to the end');
});

test('links, "..", absolute paths and hard links do not lead out of the sandbox', async () => {
  const path = await makeWorkspace();
  writeFileSync(join(jail.folder, 'target'), 'of the host', { mode: 0o644 });
  const script = `ln -s ${jail.folder}/target a; ln -s /proc/1/root b; ln -s ../../../../${jail.folder}/target c
    cat a c ${jail.folder}/target /proc/1/cwd/../target; ls b/; ln /etc/passwd hard; ls /proc/1/root/`;
  const { stdout } = await jail.bash(script, asWorkspace(path));
  assert(!stdout.includes('of the host'));
  assert(!stdout.includes('sys'), 'the root of PID 1 is the sandbox, or closed');
});

test('FIFOs, sockets and devices in the workspace hold up neither a launch nor the service', async () => {
  const path = await makeWorkspace();
  execFileSync('mkfifo', ['-m', '666', join(path, '.npmrc'), join(path, 'pipe')]);
  const since = performance.now();
  const script = 'timeout 0.2 cat .npmrc; echo $?; mknod dev c 1 1; mknod blk b 8 0; ls';
  const { stdout, stderr, end } = await jail.bash(script, asWorkspace(path, { protected: ['.npmrc', '.git/config'] }));
  assert(performance.now() - since < 30_000);
  assert.equal(end.setupFailure, null);
  assert.equal(stdout, '124\npipe\n');
  assert.match(stderr, /mknod.*not permitted/);
});

const refusals: [string, CommandParts & { argv?: string[] }, RegExp][] = [
  ['a relative program', { argv: ['bash'] }, /argv\[0\].*absolute path.*got "bash"/],
  ['no program', { argv: [] }, /argv: expected a program/],
  ['NUL in an argument', { argv: ['/usr/bin/true', 'a\0--bind'] }, /without NUL/],
  ['a variable that is an option', { env: { '--bind': 'x' } }, /no name of a variable/],
  [
    'a socket bound in',
    { binds: [{ from: '/proc/self/fd/0/../../../dev', to: '/x/..' }] },
    /binds.from: expected an absolute path/,
  ],
  ['a device bound in', { binds: [{ from: '/dev/null', to: '/opt/null' }] }, /expected a file or folder/],
  ['a bind into the workspace', { binds: [{ from: '/usr', to: `${WORK}/usr` }] }, /made by the sandbox/],
  ['a bind over /etc', { binds: [{ from: '/usr', to: '/etc' }] }, /made by the sandbox/],
  [
    'a workspace that is no folder',
    { workspace: { path: '/etc/passwd', writable: true, protected: [] } },
    /expected a folder/,
  ],
  [
    'a protected path above',
    { workspace: { path: '/tmp', writable: true, protected: ['../x'] } },
    /below the workspace/,
  ],
  ['too much input', { stdin: new Uint8Array(2 ** 20 + 1) }, /at most 1048576 bytes/],
  ['a limit of nothing', { limits: { wallMs: 0 } }, /limits.wallMs: expected a whole number 1/],
  ['the network without a proxy', { network: 'proxy' }, /no egress proxy is configured/],
];

for (const [name, { argv = ['/usr/bin/true'], ...parts }, message] of refusals) {
  test(`refused before anything is made: ${name}`, async () => {
    await assert.rejects(jail.run(argv, parts), (error: HostError) => {
      assert.match(error.message, message);
      return error.code === 'INVALID_ARGUMENT' || error.code === 'FAILED_PRECONDITION';
    });
  });
}
