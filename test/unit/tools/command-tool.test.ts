import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandAnswer, fillArgv } from '../../../services/tools/command-tool.ts';
import type { CallContext, Tool } from '../../../services/tools/tool.ts';
import { DEFAULT_LIMITS } from '../../../services/tools/tool-limits.ts';
import { parseTool } from '../../../services/tools/tool-pack.ts';

const call: CallContext = {
  tenant: 'local',
  user: 'local',
  sessionId: 's',
  workspace: { path: '/nowhere', protected: ['.git/config'] },
  stdin: Buffer.from('from the caller'),
  limits: DEFAULT_LIMITS,
};

test('a value is one item whatever it contains; a list is one item each; absent ones go', () => {
  const argv = ['/bin/x', '--out={out}', '--', '{path}', '{flag}', '{list}'];
  const args = { path: 'a b; rm -rf $(x) `y` "z"', list: ['1', 2, true], out: '$HOME' };
  assert.deepEqual(fillArgv(argv, args), ['/bin/x', '--out=$HOME', '--', args.path, '1', '2', 'true']);
  assert.deepEqual(fillArgv(argv, { path: '{list}', out: null, list: [] }), ['/bin/x', '--', '{list}']);
  assert.deepEqual(fillArgv(['/bin/x', '{}', 'x{a}b', '{toString}'], { a: 1 }), ['/bin/x', '{}', 'x1b']);
});

test('a value cannot become an option, and cannot be cut by NUL', () => {
  assert.throws(() => fillArgv(['/bin/x', '{path}'], { path: '--exec=sh' }), { message: /must not begin with "-"/ });
  assert.throws(() => fillArgv(['/bin/x', '{list}'], { list: ['a', '-b'] }), { message: /must not begin with "-"/ });
  assert.deepEqual(fillArgv(['/bin/x', '--', '{path}'], { path: '-b' }), ['/bin/x', '--', '-b']);
  assert.throws(() => fillArgv(['/bin/x', '{path}'], { path: 'a\0b' }), { message: /NUL/ });
  assert.throws(() => fillArgv(['/bin/x', '{path}'], { path: { a: 1 } }), {
    message: /arguments\.path: expected text/,
  });
  assert.throws(() => fillArgv(['/bin/x', '{list}'], { list: Array(2_000).fill('a') }), { message: /fewer than/ });
});

const sort = (command: object): Tool =>
  parseTool(JSON.stringify({ name: 'sort', command: { argv: ['/usr/bin/sort'], ...command } }));

test('stdin, workspace, environment and network are what the pack says', async () => {
  const prepared = await sort({ env: { LC_ALL: 'C' } }).prepare({ b: 2, a: [1.5] }, call);
  assert(prepared.kind === 'sandbox');
  assert.equal(Buffer.from(prepared.command.stdin!).toString(), '{"a":[1.5],"b":2}');
  assert.deepEqual(prepared.command.workspace, { ...call.workspace, writable: true });
  assert.deepEqual(prepared.command.env, { LC_ALL: 'C' });
  assert.equal(prepared.command.network, 'none');

  const other = await sort({ stdin: 'call', workspace: 'read', network: 'proxy' }).prepare({}, call);
  assert(other.kind === 'sandbox');
  assert.deepEqual(other.command.stdin, call.stdin);
  assert.equal(other.command.workspace?.writable, false);
  assert.equal(other.command.network, 'proxy');
  const none = await sort({ stdin: 'none', workspace: 'none' }).prepare({}, call);
  assert(none.kind === 'sandbox' && none.command.stdin === null && none.command.workspace === null);
});

test('what a tool reaches taints the conversation, and its author can only add', () => {
  const taintOf = (tool: Tool): object => tool.definition.policy.taint;
  assert.deepEqual(taintOf(sort({})), { readUntrusted: false, hasPrivate: true, canExfiltrate: false });
  const all = { readUntrusted: true, hasPrivate: true, canExfiltrate: true };
  assert.deepEqual(taintOf(sort({ network: 'proxy' })), all);
  const mild = { read_untrusted: false, has_private: false, can_exfiltrate: false };
  const claimed = { name: 'a', taint: mild, command: { argv: ['/bin/a'], network: 'proxy' } };
  assert.deepEqual(taintOf(parseTool(JSON.stringify(claimed))), all);
});

test('exit code and promised JSON decide whether it worked', () => {
  const output = { stdout: '{"n":1}', stderr: 'note\n', cut: false };
  assert.deepEqual(commandAnswer(0, output, true).structured, { n: 1 });
  assert.equal(commandAnswer(0, output, false).structured, null);
  assert.equal(commandAnswer(0, output, false).content, '{"n":1}\n[stderr]\nnote\n');
  assert.equal(commandAnswer(3, output, true).message, 'exit code 3');
  assert.match(commandAnswer(0, { ...output, stdout: 'x' }, true).message, /not JSON/);
  assert.match(commandAnswer(0, { ...output, stdout: '{', cut: true }, true).message, /was cut/);
  const deep = '['.repeat(30_000) + ']'.repeat(30_000);
  assert.match(commandAnswer(0, { ...output, stdout: deep }, true).message, /depth of at most 64/);
});
