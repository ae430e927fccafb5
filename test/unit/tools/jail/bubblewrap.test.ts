/** Which bubblewrap is taken and which refused, with programs that stand in for it. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findBubblewrap } from '../../../../services/tools/jail/bubblewrap.ts';
import { launchRemedy } from '../../../../services/tools/jail/self-test.ts';

const OTHER = 4711;

function standIn(t: TestContext, says: string, mode = 0o755): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-bwrap-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'bwrap'), `#!/bin/sh\n${says}\n`);
  chmodSync(join(dir, 'bwrap'), mode);
  return dir;
}

test('a new enough one on the path, or named, is taken', (t) => {
  for (const version of ['0.8.0', '0.8', '0.11.0', '1.0.0']) {
    const dir = standIn(t, `echo bubblewrap ${version}`);
    for (const where of [`/nonexistent:${dir}`, `${dir}/bwrap`]) {
      const found = findBubblewrap(where, OTHER);
      assert(found.ok, JSON.stringify(found));
      assert.equal(found.path, `${dir}/bwrap`);
    }
  }
});

const refusals: [string, string, number, RegExp][] = [
  ['an old one', 'echo bubblewrap 0.6.1', 0o755, /is version 0\.6\.1, expected >= 0\.8\.0/],
  ['one that fails', 'exit 3', 0o755, /--version failed/],
  ['another program', 'echo hello', 0o755, /said "hello", which is no version/],
  ['a setuid one', 'echo bubblewrap 0.9.0', 0o4755, /is setuid root/],
  ['one that anybody may change', 'echo bubblewrap 0.9.0', 0o757, /may be changed/],
];

for (const [name, says, mode, detail] of refusals) {
  test(`refused with the reason: ${name}`, (t) => {
    const found = findBubblewrap(standIn(t, says, mode), OTHER);
    assert(!found.ok);
    assert.match(found.detail, detail);
    assert.notEqual(found.remedy, '');
  });
}

test('none at all, and relative folders do not count', () => {
  for (const where of ['', '/nonexistent', '.:bin']) {
    const found = findBubblewrap(where, OTHER);
    assert(!found.ok && /there is no bwrap on/.test(found.detail));
    assert.match(found.remedy, /apt-get install bubblewrap/);
  }
});

test('what bubblewrap says about a closed machine is told with what to do', () => {
  assert.match(launchRemedy('bwrap: setting up uid map: Permission denied'), /AppArmor/);
  assert.match(launchRemedy('bwrap: No permissions to create new namespace, likely because'), /seccomp/);
  assert.match(
    launchRemedy("bwrap: Can't mount proc on /newroot/proc: Operation not permitted"),
    /systempaths=unconfined/,
  );
  assert.match(launchRemedy('something else'), /run bwrap by hand/);
});
