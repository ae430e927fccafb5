/** run_code, git, run_tests and pack commands in the real sandbox. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseTool } from '../../services/tools/tool-pack.ts';
import { WORK } from '../../services/tools/workspace-path.ts';
import { openBuiltins } from './builtin-run.ts';
import { startWholeJail } from './jail-client.ts';

const jail = await startWholeJail({ after });

test('programs in every language get their code, arguments and input as they are', async () => {
  const { run, path } = await openBuiltins(jail);
  const odd = `"; exit 9 # $(x) \`y\` 'z' ä\n`;
  const programs: [string, string][] = [
    [
      'python',
      `import sys\nprint(repr(sys.argv[1]) == repr(sys.argv[1]) and sys.argv[1:], end='|')\nprint(sys.stdin.read(), end='')`,
    ],
    [
      'node',
      `import fs from 'node:fs';\nprocess.stdout.write(JSON.stringify(process.argv.slice(2)) + '|' + fs.readFileSync(0, 'utf8'));`,
    ],
    ['bash', `printf '%s,' "$@"; printf '|'; cat`],
  ];
  for (const [language, code] of programs) {
    const answer = await run('run_code', { language, code, args: [odd, '-x'], stdin: `in\0${odd}` });
    assert(answer.ok, answer.content);
    assert.equal(answer.content.split('|')[1], `in\0${odd}`, language);
    assert(answer.content.includes('-x'), language);
  }
  const commonJs = await run('run_code', { language: 'node', code: `console.log(typeof require, process.cwd())` });
  assert.match(commonJs.content, /^function /);
  writeFileSync(join(path, 'mine.py'), 'value = 42', { mode: 0o644 });
  assert.equal((await run('run_code', { language: 'python', code: 'import mine; print(mine.value)' })).content, '42\n');
  assert.deepEqual(readdirSync(path), ['mine.py']); // neither code nor compiled modules are left in it
});

test('how a program ends is told; a mistake in it too', async () => {
  const { run } = await openBuiltins(jail);
  const failing = await run('run_code', {
    language: 'python',
    code: 'import sys\nsys.stderr.write("why\\n")\nsys.exit(3)',
  });
  assert(!failing.ok);
  assert.equal(failing.message, 'exit code 3');
  assert.match(failing.content, /\[stderr\]\nwhy/);
  assert.match((await run('run_code', { language: 'python', code: 'x = = 1' })).content, /SyntaxError/);
  assert.match(
    (await run('run_code', { language: 'python', code: 'raise ValueError("here")' })).content,
    /main\.py", line 1.*\n.*\n?.*ValueError: here/s,
  );
  assert.equal((await run('run_code', { language: 'bash', code: 'kill -9 $$' })).ran.end.exitCode, 137);
  const large = `#${'x'.repeat(200_000)}\nprint(1)`;
  assert.equal((await run('run_code', { language: 'python', code: large })).content, '1\n');
});

test('a program has no network, no privileges and no host', async () => {
  const { run } = await openBuiltins(jail);
  const code = `import os, socket
def tried(what):
    try:
        what(); return 'worked'
    except OSError as error:
        return 'refused'
attempts = [lambda: socket.create_connection(('1.1.1.1', 80), 2), lambda: open('/etc/shadow'),
            lambda: open('/usr/x', 'w'), lambda: open('/tmp/x', 'w')]
print(*map(tried, attempts))`;
  assert.equal((await run('run_code', { language: 'python', code })).content, 'refused refused refused worked\n');
});

function makeRepository(path: string, uid: number): void {
  const git = (...args: string[]): void => {
    execFileSync(
      '/usr/bin/git',
      ['-c', 'user.name=a', '-c', 'user.email=a@b.c', '-c', 'init.defaultBranch=main', ...args],
      { cwd: path, stdio: 'ignore' },
    );
  };
  chownSync(path, 0, 0); // git refuses a folder of somebody else
  git('init');
  writeFileSync(join(path, 'a.txt'), 'one\n', { mode: 0o644 });
  git('add', '.');
  git('commit', '-m', 'First');
  writeFileSync(join(path, 'a.txt'), 'two\n');
  execFileSync('/usr/bin/chown', ['-R', `${uid}:${uid}`, path]);
}

test('git reads a repository', async () => {
  const { run, path } = await openBuiltins(jail);
  const none = await run('git', { command: 'status' });
  assert(!none.ok);
  assert.match(none.content, /no git repository/);
  makeRepository(path, jail.uid);
  const before = readFileSync(join(path, '.git/index'));
  assert.match((await run('git', { command: 'status', args: ['--short'] })).content, /^ M a\.txt$/m);
  assert.match((await run('git', { command: 'diff' })).content, /-one\n\+two/);
  assert.match((await run('git', { command: 'log', args: ['--oneline'] })).content, /First/);
  assert.match((await run('git', { command: 'show', args: ['HEAD:a.txt'] })).content, /^one/);
  assert.match((await run('git', { command: 'blame', args: ['a.txt'] })).content, /two/);
  assert(before.equals(readFileSync(join(path, '.git/index'))));
});

test('nothing that a repository names is run by git', async () => {
  const { run, path } = await openBuiltins(jail);
  makeRepository(path, jail.uid);
  const script = join(path, 'evil.sh');
  writeFileSync(script, '#!/bin/sh\necho RAN >&2\necho RAN\ncat\n');
  chmodSync(script, 0o755);
  const evil = `${WORK}/evil.sh`;
  const config = `
[core]\n fsmonitor = ${evil}\n pager = ${evil}\n hooksPath = ${path}\n sshCommand = ${evil}
[diff]\n external = ${evil}
[diff "x"]\n textconv = ${evil}\n command = ${evil}
[filter "x"]\n clean = ${evil}\n smudge = ${evil}\n process = ${evil}
[gpg]\n program = ${evil}
[log]\n showSignature = true
[alias]\n log = !${evil}
`;
  writeFileSync(join(path, '.git/config'), config);
  writeFileSync(join(path, '.gitattributes'), '* filter=x diff=x\n');
  mkdirSync(join(path, '.git/hooks'), { recursive: true });
  for (const hook of ['post-index-change', 'pre-commit', 'fsmonitor-watchman']) {
    writeFileSync(join(path, '.git/hooks', hook), '#!/bin/sh\necho RAN\n', { mode: 0o755 });
  }
  execFileSync('/usr/bin/chown', ['-R', `${jail.uid}:${jail.uid}`, path]);
  for (const [command, args] of [
    ['status', []],
    ['diff', []],
    ['log', ['-p']],
    ['show', []],
    ['blame', ['a.txt']],
    ['cat-file', ['--textconv', 'HEAD:a.txt']],
    ['diff-tree', ['-p', 'HEAD']],
  ] as const) {
    const answer = await run('git', { command, args }).catch((error: Error) => ({ content: error.message, ok: false }));
    assert(!answer.content.includes('RAN\n'), `${command}: ${answer.content}`);
  }
  // The control: git on its own, in the same sandbox, does run them.
  const control = await jail.bash('git -c safe.directory=* diff; git -c safe.directory=* status', {
    workspace: { path, writable: true, protected: [] },
  });
  assert.match(control.stdout + control.stderr, /RAN/);
});

test('a repository that is a link or leads elsewhere is none', async () => {
  const { run, path } = await openBuiltins(jail);
  symlinkSync('/etc', join(path, '.git'));
  assert.match((await run('git', { command: 'log' })).content, /no git repository/);
  const other = await openBuiltins(jail);
  mkdirSync(join(other.path, '.git'));
  execFileSync('/usr/bin/mkfifo', [join(other.path, '.git/HEAD')]);
  const answer = await other.run('git', { command: 'log' });
  assert.match(answer.content, /no \.git\/HEAD/);
  assert(answer.tookMs < 15_000);
});

test('run_tests runs the configured command', async () => {
  const command = { argv: ['/usr/bin/bash', 'check.sh'], env: { CI: 'yes' }, limits: {} };
  const { run, path } = await openBuiltins(jail, command);
  writeFileSync(join(path, 'check.sh'), 'echo "$CI $# $1"; exit 1', { mode: 0o644 });
  const answer = await run('run_tests', { only: ['a b'] });
  assert.equal(answer.content, 'yes 1 a b\n');
  assert.equal(answer.message, 'exit code 1');
});

test('a command of a pack runs with its template filled in', async () => {
  const { call, path } = await openBuiltins(jail);
  const definition = {
    name: 'count',
    input_schema: { type: 'object', properties: { files: { type: 'array', items: { type: 'string' } } } },
    output_schema: { type: 'object' },
    command: {
      argv: [
        '/usr/bin/python3',
        '-c',
        'import json,sys; print(json.dumps({"argv": sys.argv[1:], "in": json.load(sys.stdin)}))',
        '--',
        '{files}',
      ],
      workspace: 'read',
    },
  };
  const tool = parseTool(JSON.stringify(definition));
  const args = { files: ['$(touch x)', '-y', 'a b'] };
  const prepared = await tool.prepare(args, call);
  assert(prepared.kind === 'sandbox');
  const { argv, ...parts } = prepared.command;
  const ran = await jail.run(argv, parts);
  const answer = prepared.answer(ran.end, { stdout: ran.stdout, stderr: ran.stderr, cut: false });
  assert.deepEqual(answer.structured, { argv: ['--', ...args.files], in: args });
  assert(!existsSync(join(path, 'x')));
});
