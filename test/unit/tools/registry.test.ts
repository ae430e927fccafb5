import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { createArgumentChecker } from '../../../services/tools/argument-check.ts';
import { defineTool } from '../../../services/tools/definition.ts';
import { createRegistry, type Registry } from '../../../services/tools/registry.ts';
import type { JsonObject, Tool, ToolKind } from '../../../services/tools/tool.ts';
import type { SettingsProblem } from '../../../services/tools/tools-status.ts';

const checker = createArgumentChecker();
after(() => checker.close());
const { signal } = new AbortController();

function plainTool(name: string, kind: ToolKind, inputSchema: JsonObject = { type: 'object' }): Tool {
  const taint = { readUntrusted: false, hasPrivate: false, canExfiltrate: false };
  const made = defineTool({ name, version: '1', kind, description: '', inputSchema, taint, runs: name });
  return {
    ...made,
    unavailable: () => null,
    prepare: async () => assert.fail('not run here'),
  };
}

async function open(t: TestContext, files: Record<string, string> = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-packs-'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  const reported: (readonly SettingsProblem[])[] = [];
  const registry: Registry = await createRegistry({
    builtins: [plainTool('read_file', 'builtin')],
    packDir: dir,
    checker,
    onProblems: (problems) => reported.push(problems),
  });
  t.after(async () => {
    await registry.close();
    await rm(dir, { recursive: true });
  });
  const names = (): string[] => registry.list().map(({ definition }) => definition.name);
  return { dir, registry, names, reported };
}

const echo = (name: string, more = ''): string => `
tools:
  - name: ${name}
    version: "2"
    description: Says it back
    input_schema:
      type: object
      properties: { text: { type: string, maxLength: 10 } }
      required: [text]
    command: { argv: [/usr/bin/echo, "--", "{text}"] }
${more}`;

const rejection = (code: string, message: RegExp) => (error: unknown) => {
  assert(error instanceof QuernError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

test('packs in YAML and JSON, built-ins and servers make one sorted list', async (t) => {
  const single = { name: 'one', command: { argv: ['/usr/bin/true'] } };
  const { registry, names } = await open(t, {
    'b.yaml': echo('echo'),
    'a.json': JSON.stringify(single),
    'x.txt': 'no',
  });
  assert.deepEqual(names(), ['echo', 'one', 'read_file']);
  await registry.setServerTools('git', [plainTool('git__log', 'mcp'), plainTool('git__show', 'mcp')]);
  assert.deepEqual(names(), ['echo', 'git__log', 'git__show', 'one', 'read_file']);
  await registry.setServerTools('git', []);
  assert.deepEqual(names(), ['echo', 'one', 'read_file']);

  const tool = registry.get('echo');
  assert.equal(tool.definition.version, '2');
  assert.deepEqual(tool.definition.annotations, {
    readOnly: false,
    destructive: true,
    idempotent: false,
    openWorld: true,
  });
  assert.match(tool.definition.sha256, /^[0-9a-f]{64}$/);
  assert.deepEqual(await registry.check(tool, '{"text":"hi"}', { signal }), { ok: true, args: { text: 'hi' } });
  const long = await registry.check(tool, '{"text":"12345678901"}', { signal });
  assert.equal(long.ok, false);
  const outputSchema = { type: 'object', required: ['n'] };
  const promising = { ...tool, definition: { ...tool.definition, outputSchema } };
  assert.equal((await registry.checkResult(promising, '{"n":1}', { signal })).ok, true);
  assert.equal((await registry.checkResult(promising, '{}', { signal })).ok, false);
  assert.throws(() => registry.get('ehco'), rejection('NOT_FOUND', /did you mean "echo"/));
});

test('a change of anything in a definition changes its hash', async (t) => {
  const { dir, registry } = await open(t, { 'a.yaml': echo('echo') });
  const before = registry.get('echo');
  await writeFile(join(dir, 'a.yaml'), echo('echo').replace('/usr/bin/echo', '/usr/bin/cat'));
  await registry.reload();
  const later = registry.get('echo');
  assert.notEqual(later.definition.sha256, before.definition.sha256);
  assert.notEqual(later.fingerprint, before.fingerprint);
  await writeFile(join(dir, 'a.yaml'), echo('echo'));
  await registry.reload();
  assert.equal(registry.get('echo').definition.sha256, before.definition.sha256);
});

test('a file is read again when it changes; a bad one is reported and removes nothing', async (t) => {
  const { dir, registry, names, reported } = await open(t, { 'a.yaml': echo('first'), 'b.yaml': echo('other') });
  const seen = (): number => reported.length;
  const start = seen();
  await writeFile(join(dir, 'c.yaml'), echo('third'));
  for (let i = 0; i < 200 && seen() === start; i++) await new Promise((resolve) => setTimeout(resolve, 25));
  assert.deepEqual(names(), ['first', 'other', 'read_file', 'third']); // without a call of reload()

  await writeFile(join(dir, 'a.yaml'), `${echo('first')}\n  bad`);
  await registry.reload();
  assert.deepEqual(names(), ['first', 'other', 'read_file', 'third']);
  const [problem] = registry.problems();
  assert.equal(problem?.file, 'a.yaml');
  assert.match(problem.message, /line \d+, column \d+.*still holds/s);

  await writeFile(join(dir, 'a.yaml'), echo('renamed'));
  await registry.reload();
  assert.deepEqual(registry.problems(), []);
  assert.deepEqual(names(), ['other', 'read_file', 'renamed', 'third']);
  await unlink(join(dir, 'b.yaml'));
  await registry.reload();
  assert.deepEqual(names(), ['read_file', 'renamed', 'third']);
});

test('mistakes are told with file and path', async (t) => {
  const pack = (tool: object): string =>
    JSON.stringify({ tools: [{ name: 'a', command: { argv: ['/bin/a'] } }, tool] });
  const command = { argv: ['/usr/bin/true'] };
  const { registry, names } = await open(t, {
    '01.json': pack({ name: 'b', comand: command }),
    '02.json': pack({ name: 'no spaces', command }),
    '03.json': pack({ name: 'b', command: { argv: ['true'] } }),
    '04.json': pack({ name: 'b', command: { argv: ['/usr/bin/../../x'] } }),
    '05.json': pack({ name: 'b', command: { argv: ['/usr/bin/echo', '{missing}'] } }),
    '06.json': pack({ name: 'b', command, input_schema: { type: 'object', properties: { a: { pattern: '(?=x)' } } } }),
    '07.json': pack({ name: 'b', command, input_schema: { type: 'object', requird: [] } }),
    '08.json': pack({ name: 'a', command }),
    '09.json': pack({ name: 'srv__b', command }),
    '10.json': pack({ name: 'b', command, policy: { wall_ms: 1e9 } }),
    '11.json': JSON.stringify({ name: 'read_file', command }),
    '12.yaml': echo('fine'),
    '13.yaml': echo('fine'),
    '14.yaml': 'x: &x [*x]',
    '15.yaml': `${' '.repeat(1_100_000)}`,
    '16.yaml': [
      'a: &a [x,x,x,x,x,x,x,x,x,x]',
      'b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]',
      'c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]',
      'tools: [*c,*c,*c,*c]',
    ].join('\n'),
  });
  assert.deepEqual(names(), ['fine', 'read_file']);
  const expected: Record<string, RegExp> = {
    '01.json': /^tools\[1\]: has no field "comand"/,
    '02.json': /^tools\[1\]\.name: expected 1..64/,
    '03.json': /^tools\[1\]\.command\.argv\[0\]: expected an absolute path/,
    '04.json': /^tools\[1\]\.command\.argv\[0\]: expected an absolute path/,
    '05.json': /\{missing\} is no property/,
    '06.json': /input_schema\.properties\.a\.pattern/,
    '07.json': /requird/,
    '08.json': /"a" stands twice/,
    '09.json': /"__" stands between/,
    '10.json': /^tools\[1\]\.policy\.wall_ms/,
    '11.json': /"read_file" belongs to a built-in/,
    '13.yaml': /"fine" is already in 12\.yaml/,
    '14.yaml': /./,
    '15.yaml': /at most 1048576 bytes/,
    '16.yaml': /alias/i,
  };
  const problems = new Map(registry.problems().map(({ file, message }) => [file, message]));
  assert.deepEqual([...problems.keys()].sort(), Object.keys(expected));
  for (const [file, pattern] of Object.entries(expected)) assert.match(problems.get(file)!, pattern, file);
});

test('registering writes a pack file that holds after a restart; removing takes it away', async (t) => {
  const { dir, registry, names } = await open(t, { 'a.yaml': echo('mine') });
  const source = JSON.stringify({ name: 'greet', version: '1', command: { argv: ['/usr/bin/echo', 'hi'] } });
  const tool = await registry.register(source);
  assert.equal(tool.definition.name, 'greet');
  assert.deepEqual((await readdir(dir)).sort(), ['a.yaml', '~registered-greet.json']); // and no temporary file
  assert.equal((await registry.register(source)).definition.sha256, tool.definition.sha256); // again is no error

  const other = source.replace('"hi"', '"ho"');
  await assert.rejects(registry.register(other), rejection('ALREADY_EXISTS', /another version/));
  const next = await registry.register(other.replace('"version":"1"', '"version":"2"'));
  assert.notEqual(next.definition.sha256, tool.definition.sha256);
  assert.match(await readFile(join(dir, '~registered-greet.json'), 'utf8'), /"ho"/);

  const second = await createRegistry({ builtins: [], packDir: dir, checker });
  t.after(() => second.close());
  assert.equal(second.get('greet').definition.sha256, next.definition.sha256);

  await assert.rejects(
    registry.register(source.replace('greet', 'mine')),
    rejection('ALREADY_EXISTS', /the pack a\.yaml/),
  );
  await assert.rejects(
    registry.register(source.replace('greet', 'read_file')),
    rejection('ALREADY_EXISTS', /built-in/),
  );
  await assert.rejects(registry.remove('mine'), rejection('FAILED_PRECONDITION', /a\.yaml/));
  await assert.rejects(registry.remove('read_file'), rejection('FAILED_PRECONDITION', /ships with Quern/));
  await registry.remove('greet');
  assert.deepEqual(names(), ['mine', 'read_file']);
  await assert.rejects(registry.remove('greet'), rejection('NOT_FOUND', /no tool "greet"/));
});

test('a definition in the form of OpenAI is taken when something runs it', async (t) => {
  const { registry } = await open(t);
  const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
  const fn = { name: 'weather', description: 'Looks it up', parameters, strict: true };
  const bare = JSON.stringify({ type: 'function', function: fn });
  await assert.rejects(registry.register(bare), rejection('INVALID_ARGUMENT', /says what a tool takes, not what runs/));
  const command = { argv: ['/usr/bin/echo', '--', '{city}'] };
  const nested = await registry.register(JSON.stringify({ type: 'function', function: fn, command }));
  assert.equal(nested.definition.description, 'Looks it up');
  assert.deepEqual(nested.definition.inputSchema, parameters);
  await registry.remove('weather');
  const flat = await registry.register(JSON.stringify({ type: 'function', ...fn, command }));
  assert.equal(flat.definition.sha256, nested.definition.sha256);
});

test('without a folder nothing can be registered', async (t) => {
  const registry = await createRegistry({ builtins: [], packDir: null, checker });
  t.after(() => registry.close());
  const source = JSON.stringify({ name: 'a', command: { argv: ['/bin/a'] } });
  await assert.rejects(registry.register(source), rejection('FAILED_PRECONDITION', /no folder/));
});

test('a misspelt key is named with the one that was meant, before what is missing because of it', async (t) => {
  const pack = (text: string): string => `tools:\n  - name: one\n${text}`;
  const { registry } = await open(t, {
    'a.yaml': pack('    comand: { argv: [/usr/bin/true] }\n'),
    'b.yaml': pack('    command: { argv: [/usr/bin/true], workspce: none }\n'),
    'c.yaml': pack('    command: { argv: [/usr/bin/true] }\n    policy: { wal_ms: 5 }\n'),
    'd.yaml': 'tool:\n  - name: one\n',
    'e.yaml': 'mcp_servers:\n  files: { command: node, binds: [{ frm: /a, to: /b }] }\n',
    'f.yaml': pack('    command: { argv: [/usr/bin/true] }\n    colour: red\n'),
  });
  assert.deepEqual(
    registry.problems().map(({ file, message }) => `${file} ${message}`),
    [
      'a.yaml tools[0]: has no field "comand" (did you mean "command"?)',
      'b.yaml tools[0].command: has no field "workspce" (did you mean "workspace"?)',
      'c.yaml tools[0].policy: has no field "wal_ms" (did you mean "wall_ms"?)',
      'd.yaml has no field "tool" (did you mean "tools"?)',
      'e.yaml mcp_servers.files.binds[0]: has no field "frm" (did you mean "from"?)',
      'f.yaml tools[0]: has no field "colour"',
    ],
  );
});
