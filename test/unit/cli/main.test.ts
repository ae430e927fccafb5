/** The first words of the command line: help in every spelling, and what is said of a command that is not there. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

const MAIN = join(import.meta.dirname, '../../../services/cli/main.ts');

type Result = { code: unknown; stdout: string; stderr: string };

function quern(...args: string[]): Promise<Result> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
    );
  });
}

test('help of a command, before and behind its name', async () => {
  const [before, behind] = [await quern('help', 'keys'), await quern('keys', '--help')];
  assert.deepEqual(before, behind);
  assert.match(before.stdout, /^usage: quern keys create/);
  assert.equal(before.code, 0);
  const overview = await quern('help');
  assert.match(overview.stdout, /^usage: quern <command> \[options\]\n/);
  assert.equal(overview.code, 0);
});

test('one name of the program stands before a message', async () => {
  const { code, stdout, stderr } = await quern('tools', 'lst');
  assert.deepEqual([code, stdout], [2, '']);
  assert.match(stderr, /^quern tools: expected one of .*, got "lst"; did you mean list\?; see quern tools --help\n$/);
  const unknown = await quern('help', 'kesy');
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /^quern: no command "kesy"; expected one of .*; did you mean keys\?\n$/);
});
