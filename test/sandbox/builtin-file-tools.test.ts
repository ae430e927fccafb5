/** The file tools in the real sandbox: what leads out of the workspace leads nowhere, and special files hold nobody up. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openBuiltins } from './builtin-run.ts';
import { startWholeJail } from './jail-client.ts';

const jail = await startWholeJail({ after });
/** Refusals come at once; a busy machine may take its time to start Node. */
const REFUSAL_MS = 15_000;

const CANARY = 'canary-of-the-host';
const outside = join(jail.folder, 'outside');
mkdirSync(outside, { mode: 0o755 });
writeFileSync(join(outside, 'secret'), CANARY, { mode: 0o644 });
mkdirSync(join(outside, 'open'));
chownSync(join(outside, 'open'), jail.uid, jail.uid); // the account could write there, outside a sandbox

test('a file is written, read, listed, found and patched; the positive control of what follows', async () => {
  const { run, path } = await openBuiltins(jail);
  assert((await run('write_file', { path: 'src/a.txt', content: 'eins\nzwei\n' })).ok);
  assert.equal(lstatSync(join(path, 'src/a.txt')).uid, jail.uid);
  assert.equal((await run('read_file', { path: 'src/a.txt' })).content, 'eins\nzwei\n');
  assert.equal((await run('list_dir', { depth: 2 })).content, 'src/\nsrc/a.txt\t10\n');
  assert.equal((await run('search', { pattern: 'zwei' })).content, 'src/a.txt:2:zwei\n');
  const patch = '--- a/src/a.txt\n+++ b/src/a.txt\n@@ -2 +2 @@\n-zwei\n+drei\n';
  assert.equal((await run('apply_patch', { patch })).content, 'changed src/a.txt\n');
  assert.equal(readFileSync(join(path, 'src/a.txt'), 'utf8'), 'eins\ndrei\n');
});

test('links to the host, whole or on the way, are followed by no tool', async () => {
  const { run, path } = await openBuiltins(jail);
  symlinkSync(join(outside, 'secret'), join(path, 'link'));
  symlinkSync(outside, join(path, 'folder'));
  symlinkSync('/proc/1/environ', join(path, 'environ'));
  symlinkSync('/etc/passwd', join(path, 'passwd'));
  symlinkSync(join(outside, 'open'), join(path, 'open'));
  const attempts: [string, Record<string, string>][] = [
    ...['link', 'folder/secret', 'environ', 'passwd'].map((name): [string, Record<string, string>] => [
      'read_file',
      { path: name },
    ]),
    ...['link', 'folder/new', 'open/new'].map((name): [string, Record<string, string>] => [
      'write_file',
      { path: name, content: 'x' },
    ]),
    ['list_dir', { path: 'folder' }],
    ['list_dir', { path: 'open' }],
    ['search', { pattern: 'canary', path: 'folder' }],
    ['search', { pattern: 'canary', path: 'link' }],
    ['apply_patch', { patch: `--- a/link\n+++ b/link\n@@ -1 +1 @@\n-${CANARY}\n+x\n` }],
    ['apply_patch', { patch: '--- /dev/null\n+++ b/open/new\n@@ -0,0 +1 @@\n+x\n' }],
    ['apply_patch', { patch: `--- a/folder/secret\n+++ /dev/null\n@@ -1 +0,0 @@\n-${CANARY}\n` }],
  ];
  for (const [name, args] of attempts) {
    const answer = await run(name, args);
    assert(!answer.ok, `${name} ${JSON.stringify(args)}: ${answer.content}`);
    assert.match(answer.message, /link/);
    assert(!answer.content.includes(CANARY));
  }
  const found = await run('search', { pattern: 'canary' });
  assert.equal(found.content, '[no matches]\n');
  assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), CANARY);
  assert.deepEqual(readdirSync(join(outside, 'open')), []);
});

test('a link that a tool made between two calls changes nothing', async () => {
  const { run, path } = await openBuiltins(jail);
  await run('write_file', { path: 'd/a', content: 'x' });
  const made = await run('run_code', {
    language: 'bash',
    code: `rm -r d; ln -s ${outside} d; ln -s ${outside}/secret s`,
  });
  assert(made.ok);
  assert(!(await run('write_file', { path: 'd/secret', content: 'x' })).ok);
  assert(!(await run('read_file', { path: 's' })).ok);
  assert(lstatSync(join(path, 'd')).isSymbolicLink());
  assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), CANARY);
});

test('FIFOs, sockets, devices and endless files are refused at once', async (t) => {
  const { run, path } = await openBuiltins(jail);
  execFileSync('/usr/bin/mkfifo', [join(path, 'fifo')]);
  execFileSync('/usr/bin/mknod', [join(path, 'zero'), 'c', '1', '5']);
  symlinkSync('/dev/zero', join(path, 'zero-link'));
  const server = createServer().listen(join(path, 'socket'));
  t.after(() => server.close());
  for (const name of ['fifo', 'zero', 'socket', 'zero-link', 'fifo/x']) {
    const attempts: [string, Record<string, string>][] = [
      ['read_file', { path: name }],
      ['write_file', { path: name, content: 'x' }],
      ['list_dir', { path: name }],
      ['apply_patch', { patch: `--- a/${name}\n+++ b/${name}\n@@ -1 +1 @@\n-a\n+b\n` }],
      ['search', { pattern: 'x', path: name }],
    ];
    for (const [tool, args] of attempts) {
      const answer = await run(tool, args);
      assert(!answer.ok, `${tool} ${name}`);
      assert(answer.tookMs < REFUSAL_MS, `${tool} ${name} took ${answer.tookMs} ms`);
    }
  }
  // What goes over a whole folder passes them by.
  writeFileSync(join(path, 'plain'), 'needle', { mode: 0o644 });
  assert.equal((await run('search', { pattern: 'needle' })).content, 'plain:1:needle\n');
  assert.match((await run('list_dir', {})).content, /fifo\t\(FIFO\)/);
});

test('huge files and folders are cut at their bounds', async () => {
  const { run, path } = await openBuiltins(jail);
  writeFileSync(join(path, 'sparse'), 'head', { mode: 0o644 });
  truncateSync(join(path, 'sparse'), 2 ** 40);
  const head = await run('read_file', { path: 'sparse', bytes: 4 });
  assert.equal(head.content, `head\n[${2 ** 40 - 4} more bytes of ${2 ** 40}; go on with offset 4]\n`);
  const most = await run('read_file', { path: 'sparse', bytes: 1_048_576, encoding: 'base64' });
  assert(most.ok && most.content.length < 1_500_000);
  assert(!(await run('apply_patch', { patch: '--- a/sparse\n+++ b/sparse\n@@ -1 +1 @@\n-head\n+x\n' })).ok);
  assert.match((await run('search', { pattern: 'head' })).content, /no matches|passed over/);
  mkdirSync(join(path, 'many'));
  chownSync(join(path, 'many'), jail.uid, jail.uid);
  for (let i = 0; i < 10_050; i++) writeFileSync(join(path, 'many', String(i)), '');
  const listed = await run('list_dir', { path: 'many', entries: 10_000 });
  assert.match(listed.content, /\[more than 10000 entries/);
  assert(listed.tookMs < 20_000);
});

test('a patch is all or nothing, also when the last file cannot be written', async () => {
  const { run, path } = await openBuiltins(jail);
  for (const name of ['a', 'closed/b']) await run('write_file', { path: name, content: 'old\n' });
  await run('run_code', { language: 'bash', code: 'chmod 0500 closed' });
  const change = (name: string): string => `--- a/${name}\n+++ b/${name}\n@@ -1 +1 @@\n-old\n+new\n`;
  const answer = await run('apply_patch', { patch: change('a') + change('closed/b') });
  assert(!answer.ok);
  assert.match(answer.message, /"closed\/b" may not be accessed/);
  assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'old\n');
  assert.deepEqual(readdirSync(path).sort(), ['a', 'closed']);
  await run('run_code', { language: 'bash', code: 'chmod 0700 closed' });
  assert((await run('apply_patch', { patch: change('a') + change('closed/b') })).ok);
  assert.equal(readFileSync(join(path, 'closed/b'), 'utf8'), 'new\n');
});

test('what programs of the host obey is written by no tool', async () => {
  const { run, path } = await openBuiltins(jail);
  for (const name of ['.git/config', '.git/hooks/post-checkout', '.vscode/tasks.json', '.mcp.json', '.npmrc']) {
    await assert.rejects(run('write_file', { path: name, content: 'x' }), /is protected/);
  }
  // A name that means the same to the file system but not to us does not exist: the sandbox decides about what is there.
  mkdirSync(join(path, '.git/hooks'), { recursive: true });
  writeFileSync(join(path, '.git/config'), 'original', { mode: 0o666 });
  const code = 'echo evil > .git/config; echo evil > .git/hooks/x; cat .git/config';
  const answer = await run('run_code', { language: 'bash', code });
  assert.match(answer.content, /^original/);
  assert(!existsSync(join(path, '.git/hooks/x')));
});
