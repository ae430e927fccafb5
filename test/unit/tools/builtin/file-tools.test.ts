import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileTools } from '../../../../services/tools/builtin/file-tools.ts';
import type { JsonObject, ToolAnswer } from '../../../../services/tools/tool.ts';
import { WORK } from '../../../../services/tools/workspace-path.ts';
import { newCall, runHere } from './fake-jail.ts';

const tools = new Map(fileTools({ node: process.execPath }).map((tool) => [tool.definition.name, tool]));

function open(t: TestContext) {
  const call = newCall(t);
  const at = (name: string): string => join(call.workspace.path, name);
  const run = (name: string, args: JsonObject): Promise<ToolAnswer> => runHere(tools.get(name)!, args, call);
  const fails = async (name: string, args: JsonObject, message: RegExp): Promise<void> => {
    const begin = performance.now();
    const answer = await run(name, args);
    assert(!answer.ok, `${name} ${JSON.stringify(args)} worked`);
    assert.match(answer.message, message);
    assert(performance.now() - begin < 20_000);
  };
  return { call, at, run, fails };
}

/** One of everything that is no plain file. */
function makeOddFiles(at: (name: string) => string): void {
  execFileSync('/usr/bin/mkfifo', [at('fifo')]);
  symlinkSync('/etc/passwd', at('link'));
  symlinkSync('/etc', at('folder-link'));
  symlinkSync('/dev/zero', at('zero'));
  mkdirSync(at('folder'));
}

test('a file is read whole or in parts, as text or bytes', async (t) => {
  const { at, run, fails } = open(t);
  mkdirSync(at('src'));
  writeFileSync(at('src/a.txt'), 'Grüße\nzweite');
  assert.equal((await run('read_file', { path: 'src/a.txt' })).content, 'Grüße\nzweite');
  assert.equal((await run('read_file', { path: `${WORK}/./src//a.txt` })).content, 'Grüße\nzweite');
  const part = await run('read_file', { path: 'src/a.txt', bytes: 3 }); // cuts "ü" in two
  assert.equal(part.content, 'Gr\n[12 more bytes of 14; go on with offset 2]\n');
  assert.match((await run('read_file', { path: 'src/a.txt', offset: 3, bytes: 4 })).content, /^ße\n\[7 more/);
  writeFileSync(at('bin'), Buffer.from([0, 255, 1]));
  await fails('read_file', { path: 'bin' }, /is not text \(3 bytes\)/);
  assert.equal((await run('read_file', { path: 'bin', encoding: 'base64' })).content, 'AP8B');
  truncateSync(at('bin'), 5_000_000_000); // sparse: only the part is read
  assert.match(
    (await run('read_file', { path: 'bin', encoding: 'base64', bytes: 3 })).content,
    /^AP8B\n\[4999999997 more/,
  );
});

test('what is no plain file is refused at once by every tool', async (t) => {
  const { at, fails } = open(t);
  makeOddFiles(at);
  const odd = {
    fifo: /FIFO/,
    link: /link/,
    zero: /link/,
    folder: /folder/,
    none: /does not exist/,
    'folder-link/passwd': /link, not a folder/,
    'fifo/x': /FIFO, not a folder/,
  };
  for (const [path, message] of Object.entries(odd)) await fails('read_file', { path }, message);
  for (const path of ['fifo', 'link', 'zero', 'folder', 'folder-link/x']) {
    await fails('write_file', { path, content: 'x' }, /is a|link/);
    await fails('apply_patch', { patch: `--- a/${path}\n+++ b/${path}\n@@ -1 +1 @@\n-a\n+b\n` }, /is a|link/);
  }
  await fails('list_dir', { path: 'folder-link' }, /is a link/);
  await fails('list_dir', { path: 'fifo' }, /is a FIFO/);
  await fails('search', { pattern: 'root', path: 'folder-link' }, /is a link/);
});

test('paths that leave the workspace, and protected ones, are invalid before anything runs', async (t) => {
  const { call } = open(t);
  const invalid = (name: string, args: JsonObject, message: RegExp): Promise<void> =>
    assert.rejects(async () => tools.get(name)!.prepare(args, call), { code: 'INVALID_ARGUMENT', message });
  for (const path of [
    '../x',
    'a/../../x',
    '/etc/passwd',
    `${WORK}/../etc/passwd`,
    '/workx',
    'a\0b',
    '',
    '.',
    '/work',
    'x'.repeat(2_000),
  ]) {
    await invalid('read_file', { path }, /path/);
    await invalid('write_file', { path, content: '' }, /path/);
    if (!path.includes('\0'))
      await invalid('apply_patch', { patch: `--- /dev/null\n+++ ${path}\n@@ -0,0 +1 @@\n+x\n` }, /./);
  }
  for (const path of ['..', '/', '/etc', 'a/..']) await invalid('list_dir', { path }, /path/);
  for (const path of [
    '.git/config',
    '.git/hooks/pre-commit',
    '.git',
    '.git//./config',
    '.vscode/tasks.json',
    '.mcp.json',
    '.bashrc',
  ]) {
    await invalid('write_file', { path, content: '' }, /is protected/);
    await invalid('apply_patch', { patch: `--- /dev/null\n+++ b/${path}\n@@ -0,0 +1 @@\n+x\n` }, /is protected/);
  }
});

test('a file is written whole, in its mode, with the folders it needs', async (t) => {
  const { at, run, fails } = open(t);
  assert.match(
    (await run('write_file', { path: 'a/b/c.txt', content: 'eins' })).content,
    /created a\/b\/c\.txt, 4 bytes/,
  );
  await fails('write_file', { path: 'a/b/c.txt', content: 'x', mode: 'create' }, /exists already/);
  await run('write_file', { path: 'a/b/c.txt', content: ' zwei', mode: 'append' });
  assert.equal(readFileSync(at('a/b/c.txt'), 'utf8'), 'eins zwei');
  writeFileSync(at('run.sh'), 'x', { mode: 0o755 });
  await run('write_file', { path: 'run.sh', content: 'AAE=', encoding: 'base64' });
  assert.deepEqual(readFileSync(at('run.sh')), Buffer.from([0, 1]));
  assert.equal(statSync(at('run.sh')).mode & 0o777, 0o755);
  assert.deepEqual(readdirSync(at('.')).sort(), ['a', 'run.sh']); // no temporary file is left
});

test('calls that write in one folder at once have temporary names of their own, and remove only those', async (t) => {
  const { call, at } = open(t);
  const prepare = async (name: string, args: JsonObject) => {
    const prepared = await tools.get(name)!.prepare(args, call);
    assert(prepared.kind === 'sandbox' && prepared.command.stdin);
    const { temporary } = JSON.parse(Buffer.from(prepared.command.stdin).toString()) as { temporary: string };
    return { command: prepared.command, temporary };
  };
  const patch = '--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n';
  const writes = { path: 'a', content: 'x' };
  const names = [await prepare('write_file', writes), await prepare('write_file', writes)];
  assert(names.every(({ temporary }) => /^\.quern-tmp-[0-9a-f]{24}$/.test(temporary)));
  assert.notEqual(names[0]!.temporary, names[1]!.temporary);
  for (const [name, args] of [
    ['write_file', writes],
    ['apply_patch', { patch }],
  ] as const) {
    const { command, temporary } = await prepare(name, args);
    writeFileSync(at(`${temporary}-1`), 'of another call');
    const { status } = spawnSync(command.argv[0]!, command.argv.slice(1), {
      cwd: call.workspace.path,
      input: command.stdin!,
    });
    assert.notEqual(status, 0, name);
    assert.equal(readFileSync(at(`${temporary}-1`), 'utf8'), 'of another call', name);
  }
  assert(!existsSync(at('a')) && !existsSync(at('new')));
});

test('folders are listed with kinds, sizes and an end', async (t) => {
  const { at, run } = open(t);
  assert.equal((await run('list_dir', {})).content, '[empty]\n');
  makeOddFiles(at);
  writeFileSync(at('folder/x'), '12345');
  writeFileSync(at('new\nline'), '');
  const answer = await run('list_dir', { depth: 2 });
  const expected = [
    'fifo\t(FIFO)',
    'folder/',
    'folder/x\t5',
    'folder-link\t(link)',
    'link\t(link)',
    '"new\\nline"\t0',
    'zero\t(link)',
  ];
  assert.deepEqual(answer.content.trim().split('\n').sort(), expected.sort());
  for (let i = 0; i < 30; i++) writeFileSync(at(`folder/f${i}`), '');
  assert.match((await run('list_dir', { path: 'folder', entries: 10 })).content, /\[more than 10 entries/);
});

test('lines are found as text or by expression, in the files that are meant', async (t) => {
  const { at, run, call } = open(t);
  makeOddFiles(at);
  mkdirSync(at('src/deep'), { recursive: true });
  mkdirSync(at('.git'));
  writeFileSync(at('.git/x'), 'needle');
  writeFileSync(at('src/a.ts'), 'one\nneedle(x)\nNEEDLE\n');
  writeFileSync(at('src/deep/b.py'), 'needle.x');
  writeFileSync(at('bin'), Buffer.from('needle\0'));
  const found = async (args: JsonObject): Promise<string> => (await run('search', args)).content;
  assert.equal(
    await found({ pattern: 'needle(x)' }),
    'src/a.ts:2:needle(x)\n[1 files that are not text or too large were passed over]\n',
  );
  assert.match(
    await found({ pattern: '^needle\\b', regex: true, ignore_case: true, path: 'src' }),
    /a\.ts:2:.*\na\.ts:3|src\/a\.ts:2:[^\n]*\nsrc\/a\.ts:3/,
  );
  assert.equal(await found({ pattern: 'needle', glob: '*.py' }), 'src/deep/b.py:1:needle.x\n');
  assert.equal(await found({ pattern: 'needle', glob: 'src/**/*.ts' }), 'src/a.ts:2:needle(x)\n');
  assert.match(await found({ pattern: 'needle', matches: 1, path: 'src' }), /more than 1 matches/);
  assert.equal(await found({ pattern: 'nothing', path: 'src' }), '[no matches]\n');
  await assert.rejects(tools.get('search')!.prepare({ pattern: '(', regex: true }, call), {
    message: /arguments\.pattern/,
  });
});

const TEXT = 'a\nb\nc\nd\ne\nf\n';

test('a patch changes, makes and deletes files together', async (t) => {
  const { at, run } = open(t);
  writeFileSync(at('t'), TEXT, { mode: 0o755 });
  writeFileSync(at('gone'), 'x\ny');
  const patch = `diff --git a/t b/t
index 0123456..789abcd 100755
--- a/t
+++ b/t
@@ -1,2 +1,3 @@
 a
+neu
 b
@@ -5,2 +6 @@ context text
-e
 f
--- /dev/null
+++ b/new/file.txt
@@ -0,0 +1,2 @@
+eins
+zwei
\\ No newline at end of file
diff --git a/gone b/gone
deleted file mode 100644
index 0123456..0000000
--- a/gone
+++ /dev/null
@@ -1,2 +0,0 @@
-x
-y
\\ No newline at end of file
`;
  const answer = await run('apply_patch', { patch });
  assert.equal(answer.content, 'changed t\ncreated new/file.txt\ndeleted gone\n', answer.message);
  assert.equal(readFileSync(at('t'), 'utf8'), 'a\nneu\nb\nc\nd\nf\n');
  assert.equal(statSync(at('t')).mode & 0o777, 0o755);
  assert.equal(readFileSync(at('new/file.txt'), 'utf8'), 'eins\nzwei');
  assert(!existsSync(at('gone')));
});

test('what git made of two texts, our reader and program make again', async (t) => {
  const { at, run } = open(t);
  const line = (i: number): string => `line ${i % 7} of ${i % 3}`;
  const texts = [
    '',
    'one',
    'one\n',
    'one\ntwo',
    TEXT,
    `${TEXT}g`,
    Array.from({ length: 60 }, (_, i) => line(i)).join('\n'),
    `x\n${Array.from({ length: 60 }, (_, i) => line(i * 5)).join('\n')}\n`,
    'cr\r\nlf\r\n',
  ];
  let patch = '';
  const expected = new Map<string, string>();
  for (const before of texts) {
    for (const later of texts) {
      if (before === later || before === '' || later === '') continue;
      const name = `f${expected.size}`;
      writeFileSync(at(name), before);
      writeFileSync(at('later'), later);
      const diff = ['diff', '--no-index', '--no-color', name, 'later'];
      const { stdout, status } = spawnSync('/usr/bin/git', diff, { cwd: at('.'), env: {} });
      assert.equal(status, 1); // they differ
      patch += stdout.toString().replaceAll('b/later', `b/${name}`);
      expected.set(name, later);
    }
  }
  const answer = await run('apply_patch', { patch });
  assert(answer.ok, answer.message);
  for (const [name, later] of expected) assert.equal(readFileSync(at(name), 'utf8'), later, name);
});

test('a patch that does not fit changes nothing at all', async (t) => {
  const { at, run, fails } = open(t);
  writeFileSync(at('one'), TEXT);
  writeFileSync(at('two'), TEXT);
  const good = '--- a/one\n+++ b/one\n@@ -1 +1 @@\n-a\n+A\n--- /dev/null\n+++ b/made/new\n@@ -0,0 +1 @@\n+x\n';
  const broken: [string, RegExp][] = [
    ['--- a/two\n+++ b/two\n@@ -1 +1 @@\n-z\n+Z\n', /old lines are not in the file/],
    ['--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+A\n', /"none" does not exist/],
    ['--- /dev/null\n+++ b/two\n@@ -0,0 +1 @@\n+a\n', /exists already/],
    ['--- a/two\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n', /does not have all its lines/],
    ['--- a/two\n+++ b/two\n@@ -6 +6 @@\n-f\n\\ No newline at end of file\n+F\n', /ends otherwise/],
  ];
  for (const [patch, message] of broken) {
    await fails('apply_patch', { patch: good + patch }, message);
    assert.equal(readFileSync(at('one'), 'utf8'), TEXT);
    assert.deepEqual(readdirSync(at('.')).sort(), ['one', 'two']);
  }
  // A hunk may stand elsewhere when there is one place only.
  assert((await run('apply_patch', { patch: '--- a/one\n+++ b/one\n@@ -1,2 +1,2 @@\n d\n-e\n+E\n' })).ok);
  assert.equal(readFileSync(at('one'), 'utf8'), 'a\nb\nc\nd\nE\nf\n');
  writeFileSync(at('two'), 'x\nx\nx\n');
  await fails('apply_patch', { patch: '--- a/two\n+++ b/two\n@@ -9 +9 @@\n-x\n+y\n' }, /in several places/);
});
