/** Giving root up: in which order, for whom, and what refuses to go on. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { giveUpRoot, type Identity } from '../../../../services/tools/jail/privileges.ts';

function fakeIdentity(uid: number, stuck = false): Identity & { calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    getuid: () => uid,
    setgroups: (groups) => void calls.push(`setgroups ${groups.length}`),
    setgid: (id) => void calls.push(`setgid ${id}`),
    setuid(id) {
      calls.push(`setuid ${id}`);
      if (!stuck) uid = id;
    },
  };
}

function scratch(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-privileges-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const prepared: unknown[] = [];
/** Stands in for making cgroups: those of this machine are no test's. */
const prepare = (owner: unknown) => {
  prepared.push(owner);
  return { ok: false, detail: 'none here', remedy: 'none' } as const;
};

test('another account than root stays as it is, and makes only what it may', (t) => {
  const identity = fakeIdentity(1000);
  const folder = join(scratch(t), 'state');
  const { uid, cgroups } = giveUpRoot({ folders: [folder], identity, prepare });
  assert.deepEqual([uid, identity.calls, cgroups.ok], [1000, [], false]);
  assert.equal(prepared.at(-1), null);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
});

test('folders above those that root makes may be entered by the account that it becomes', (t) => {
  const base = scratch(t);
  const folder = join(base, 'lib', 'quern', 'tools');
  const mask = process.umask(0o077);
  t.after(() => process.umask(mask));
  const identity = fakeIdentity(0);
  giveUpRoot({ folders: [folder], uid: process.getuid!() || 4711, identity, prepare });
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  for (const above of [join(base, 'lib'), join(base, 'lib', 'quern')])
    assert.equal(statSync(above).mode & 0o777, 0o755);
});

test('a folder that the account may not enter is told by name', (t) => {
  const folder = join(scratch(t), 'closed', 'tools');
  mkdirSync(join(folder, '..'), { mode: 0o700 });
  if (process.getuid!() !== 0) {
    // An account that cannot give folders away can still have one that it may not write.
    mkdirSync(folder, { mode: 0o500 });
    assert.throws(
      () => giveUpRoot({ folders: [folder], prepare }),
      /^QuernError: account \d+ cannot use .*closed\/tools/,
    );
    return;
  }
  const module = new URL('../../../../services/tools/jail/privileges.ts', import.meta.url).href;
  const program = `import { giveUpRoot } from ${JSON.stringify(module)};
    const prepare = () => ({ ok: false, detail: '', remedy: '' });
    try { giveUpRoot({ folders: [${JSON.stringify(folder)}], prepare }); } catch (error) { console.log(error.message); }`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  assert.match(stdout, /^account 65532 cannot use .*closed\/tools: expected folders above it that others may enter/);
});

test('no account may be root', () => {
  const start = (): unknown => giveUpRoot({ folders: [], uid: 0, identity: fakeIdentity(0), prepare });
  assert.throws(start, /expected the number of an unprivileged/);
});

test('groups go first, then the group, then the user', () => {
  const identity = fakeIdentity(0);
  const { uid } = giveUpRoot({ folders: [], uid: 4711, identity, prepare });
  assert.equal(uid, 4711);
  assert.deepEqual(identity.calls, ['setgroups 0', 'setgid 4711', 'setuid 4711']);
  assert.deepEqual(prepared.at(-1), { uid: 4711, gid: 4711 });
});

test('without a configured account it becomes one that owns nothing', () => {
  const identity = fakeIdentity(0);
  assert.equal(giveUpRoot({ folders: [], identity, prepare }).uid, 65_532);
});

test('a process that stays root goes no further', () => {
  assert.throws(() => giveUpRoot({ folders: [], identity: fakeIdentity(0, true), prepare }), /could not give it up/);
});

test('an account that this place does not have is told in a sentence', () => {
  const identity: Identity = {
    ...fakeIdentity(0),
    setgid: () => {
      throw new Error('EINVAL: invalid argument, setgid');
    },
  };
  const start = (): unknown => giveUpRoot({ folders: [], uid: 70_000, identity, prepare });
  assert.throws(start, /cannot become account 70000: EINVAL.*start it as another account/);
});
