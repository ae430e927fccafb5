import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createArgumentChecker } from '../../../../services/tools/argument-check.ts';
import { builtinTools } from '../../../../services/tools/builtin/builtins.ts';
import { createPureEval } from '../../../../services/tools/builtin/pure-eval.ts';
import { DEFAULT_POLICY, effectivePolicy } from '../../../../services/tools/policy.ts';
import { createRegistry } from '../../../../services/tools/registry.ts';
import { newCall } from './fake-jail.ts';

const checker = createArgumentChecker();
const pureEval = createPureEval();
after(() => Promise.all([checker.close(), pureEval.close()]));
const programs = { bash: '/usr/bin/bash', python: '/usr/bin/python3', node: '/opt/node', git: '/usr/bin/git' };
const tools = builtinTools({ programs, pureEval, egress: null, testCommand: null });
const named = new Map(tools.map((tool) => [tool.definition.name, tool]));

test('what ships with Quern is registered, and says what it may do', async () => {
  const registry = await createRegistry({ builtins: tools, packDir: null, checker });
  const rows = registry.list().map(({ definition: { name, annotations: a, policy } }) => {
    const marks = [
      a.readOnly && 'reads',
      a.destructive && 'destroys',
      a.idempotent && 'again',
      a.openWorld && 'outside',
    ];
    const taint = Object.entries(policy.taint).flatMap(([key, value]) => (value ? [key] : []));
    return `${name}: ${[...marks, ...taint].filter(Boolean).join(' ')}`;
  });
  assert.deepEqual(rows, [
    'apply_patch: destroys',
    'eval_js_pure: reads again',
    'git: reads again hasPrivate',
    'http_fetch: reads again outside readUntrusted canExfiltrate',
    'list_dir: reads again hasPrivate',
    'read_file: reads again hasPrivate',
    'run_code: destroys hasPrivate',
    'run_tests: destroys again hasPrivate',
    'search: reads again hasPrivate',
    'write_file: destroys',
  ]);
  for (const { definition } of tools)
    assert.equal(effectivePolicy(definition, 'local', DEFAULT_POLICY).decision, 'allow');
});

test('a tool whose program is missing is there and says so', () => {
  const bare = builtinTools({
    programs: { bash: null, python: null, node: null, git: null },
    pureEval,
    egress: null,
    testCommand: null,
  });
  const missing = bare.filter((tool) => tool.unavailable() !== null).map(({ definition }) => definition.name);
  assert.deepEqual(
    missing.sort(),
    bare
      .map(({ definition }) => definition.name)
      .filter((name) => name !== 'eval_js_pure')
      .sort(),
  );
  assert.equal(named.get('run_code')?.unavailable(), null);
  assert.match(named.get('http_fetch')!.unavailable()!, /not configured: set QUERN_TOOLS_HTTP_ALLOW/);
  const unset = bare.filter(({ isUnset }) => isUnset).map(({ definition }) => definition.name);
  assert.deepEqual(unset.sort(), ['http_fetch', 'run_tests']);
});

test('code, arguments and input of a program are never part of a shell text', async (t) => {
  const call = newCall(t);
  const evil = '"; rm -rf / #$(x)`y`';
  const prepared = await named
    .get('run_code')!
    .prepare({ language: 'python', code: evil, args: [evil, '-x'], stdin: 'in' }, call);
  assert(prepared.kind === 'sandbox');
  const { argv, stdin, workspace, network } = prepared.command;
  assert.equal(argv[2], '/usr/bin/head -c "$1" >"$2" && shift 2 && exec "$@"');
  assert.deepEqual(argv.slice(3), [
    'run_code',
    '20',
    '/tmp/main.py',
    '/usr/bin/python3',
    '-s',
    '-B',
    '/tmp/main.py',
    evil,
    '-x',
  ]);
  assert.equal(Buffer.from(stdin!).toString(), `${evil}in`);
  assert.equal(workspace?.writable, true);
  assert.equal(network, 'none');
  for (const path of ['../x', '/etc/passwd', '']) {
    const args = { language: 'bash', code: 'x', artifacts: [path] };
    await assert.rejects(named.get('run_code')!.prepare(args, call), { code: 'INVALID_ARGUMENT' });
  }
  await assert.rejects(named.get('run_code')!.prepare({ language: 'bash', code: 'x', args: ['a\0'] }, call), /NUL/);
});

test('git takes no option that writes, runs or reaches outside, and cannot write', async (t) => {
  const call = newCall(t);
  const git = named.get('git')!;
  for (const option of ['--output=x', '--outp=x', '--ext-diff', '--textconv', '--git-dir=/x', '--no-index', '--help']) {
    await assert.rejects(git.prepare({ command: 'diff', args: [option] }, call), /is not for reading/, option);
  }
  const prepared = await git.prepare({ command: 'log', args: ['-n1', '--', '--output=x'] }, call);
  assert(prepared.kind === 'sandbox' && prepared.command.workspace?.writable === false);
  const names = (await createRegistry({ builtins: [git], packDir: null, checker })).get('git').definition.inputSchema;
  assert(!JSON.stringify(names).includes('"push"'));
});

test('run_tests runs what the operator named, with names of tests and no options', async (t) => {
  const command = { argv: ['/usr/bin/make', 'test'], env: { CI: '1' }, limits: { wallMs: 120_000 } };
  const tool = builtinTools({ programs, pureEval, egress: null, testCommand: command }).find(
    ({ definition }) => definition.name === 'run_tests',
  )!;
  assert.equal(tool.unavailable(), null);
  assert.equal(tool.definition.policy.limits.wallMs, 120_000);
  const prepared = await tool.prepare({ only: ['a b', 'c'] }, newCall(t));
  assert(prepared.kind === 'sandbox');
  assert.deepEqual(prepared.command.argv, ['/usr/bin/make', 'test', 'a b', 'c']);
  await assert.rejects(tool.prepare({ only: ['--shell=x'] }, newCall(t)), /would be an option/);
});
