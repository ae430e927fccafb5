/** A curated root instead of the host's /usr: what is not in it is not there. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findToolchain } from '../../services/tools/jail/toolchain.ts';
import { startJail } from './jail-client.ts';

/** Programs with the libraries that they name, in the places where the host has them below /usr. */
function makeRoot(t: TestContext, programs: readonly string[]): string {
  const root = mkdtempSync(join(tmpdir(), 'quern-root-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  chmodSync(root, 0o755);
  const copy = (from: string): void => {
    const to = join(root, from.replace(/^\/usr/, ''));
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(realpathSync(from), to);
    chmodSync(to, 0o755);
  };
  for (const name of programs) {
    copy(`/usr/bin/${name}`);
    const needed = execFileSync('ldd', [`/usr/bin/${name}`], { encoding: 'utf8' });
    for (const [library] of needed.matchAll(/\/[\w/.+-]+\.so[\w.]*/g)) copy(library);
  }
  return root;
}

test("commands see the curated root as /usr, and nothing of the host's", async (t) => {
  const root = makeRoot(t, ['bash', 'cat']);
  const jail = await startJail(t, { toolchainRoot: root });
  assert.equal(
    jail.capabilities.tier,
    'A',
    JSON.stringify(jail.capabilities.list.filter(({ available }) => !available)),
  );
  assert.deepEqual([jail.interpreters.bash, jail.interpreters.python], ['/usr/bin/bash', null]);
  const { stdout } = await jail.bash('for f in /usr/bin/*; do echo $f; done; cat /etc/hosts');
  assert.match(stdout, /^\/usr\/bin\/bash\n\/usr\/bin\/cat\n127\.0\.0\.1 /);
  assert(existsSync('/usr/bin/env'), 'control: the host has more');
  const node = await jail.run([jail.interpreters.node!, '--version']);
  assert.equal(node.end.setupFailure, null, 'without a node of its own the root gets the one that Quern runs on');
});

test('an interpreter that is a link out of the root does not count', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'quern-root-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'bin'));
  symlinkSync('/usr/bin/python3', join(root, 'bin/python3'));
  symlinkSync('/usr/bin/bash', join(root, 'bin/bash-5'));
  symlinkSync('bash-5', join(root, 'bin/bash'));
  assert.deepEqual(findToolchain({ root, node: null }).interpreters, { bash: null, python: null, node: null });
});
