import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { compileTools } from '../../../services/cli/up/tools-compile.ts';

/** A checkout whose tool service is this program. */
function setUp(t: TestContext, program: string) {
  const root = mkdtempSync(join(tmpdir(), 'quern-compile-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const main = join(root, 'services', 'tools', 'main.ts');
  mkdirSync(join(root, 'services', 'tools'), { recursive: true });
  writeFileSync(main, program);
  const compileCache = join(root, 'far', 'node-compile');
  const checkout = { root, node: process.execPath, path: process.env.PATH ?? '' };
  return { root, main, compileCache, run: () => compileTools({ compileCache, view: null }, checkout) };
}

test('the cache is filled once, again after a change, and by a process that has the folders for itself', async (t) => {
  const program = `import { appendFileSync } from 'node:fs';
appendFileSync(process.env.NODE_COMPILE_CACHE + '/ran', process.argv[2] + ' ' + process.umask().toString(8) + '\\n');`;
  const { main, compileCache, run } = setUp(t, program);
  const ran = (): string[] => readFileSync(join(compileCache, 'ran'), 'utf8').trim().split('\n');
  const before = process.umask(0o077);
  try {
    await run();
    assert.equal(process.umask(), 0o077, 'its own is as it was');
  } finally {
    process.umask(before);
  }
  assert.deepEqual(ran(), ['--compile 22']);
  for (const folder of [compileCache, join(compileCache, '..')]) assert.equal(statSync(folder).mode & 0o777, 0o755);
  await run();
  assert.equal(ran().length, 1);
  utimesSync(main, new Date(), new Date(Date.now() + 60_000));
  await run();
  assert.equal(ran().length, 2);
});

test('a cache that could not be filled is no error, and is tried again', async (t) => {
  const { compileCache, run } = setUp(t, 'process.exit(3);');
  await run();
  assert.equal(existsSync(join(compileCache, 'compiled.txt')), false);
});
