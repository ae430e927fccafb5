/** `npm test` in a scratch checkout that holds the scripts and a few test files. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { TestContext } from 'node:test';

const repository = resolve(import.meta.dirname, '../../../..');
const imports = "import { test } from 'node:test';\n";

/** `files`: their text below an import of `test`. Answers what the run said, and its closing line. */
export function runTests(
  t: TestContext,
  files: Record<string, string>,
  args: string[],
  env: Record<string, string> = {},
) {
  const dir = mkdtempSync(join(tmpdir(), 'quern-test-runner-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  cpSync(join(repository, 'scripts'), join(dir, 'scripts'), { recursive: true });
  cpSync(join(repository, 'package.json'), join(dir, 'package.json'));
  symlinkSync(join(repository, 'node_modules'), join(dir, 'node_modules'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), imports + text);
  }
  const { NODE_TEST_CONTEXT: _, QUERN_CACHE_DIR: __, QUERN_TEST_SKIP: ___, ...inherited } = process.env;
  const options = { cwd: dir, encoding: 'utf8', env: { ...inherited, ...env } } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/test.mjs', ...args], options);
  return { status, stdout, stderr, lastLine: stdout.trimEnd().split('\n').at(-1) };
}
