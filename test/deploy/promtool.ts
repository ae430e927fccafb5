// promtool for tests: found by set-up, run on files of the tree or on text given here.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SETUP = fileURLToPath(new URL('../../scripts/setup/promtool.mjs', import.meta.url));

/** Throws when there is none: what only promtool can check must not pass unchecked. */
async function findPromtool(): Promise<string> {
  const { findPromtool: find } = (await import(SETUP)) as { findPromtool(): Promise<string | null> };
  const path = await find();
  if (path) return path;
  throw new Error(
    'promtool is not there: run `node scripts/bootstrap.mjs test`, which takes it out of the package "prometheus" of Debian ' +
      'or Ubuntu, or put one on PATH; QUERN_TEST_SKIP=deploy leaves these tests out',
  );
}

/** Runs it and resolves with its exit code and all it said. */
export async function promtool(args: readonly string[], cwd = tmpdir()): Promise<{ code: number; output: string }> {
  const path = await findPromtool();
  return new Promise((resolve) => {
    execFile(path, args, { cwd, timeout: 60_000, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0;
      resolve({ code, output: `${stdout}${stderr}` });
    });
  });
}

/** Runs it in a folder with these files, which is gone afterwards. */
export async function promtoolOn(
  files: Record<string, string>,
  args: readonly string[],
): Promise<{ code: number; output: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-promtool-'));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    return await promtool(args, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
