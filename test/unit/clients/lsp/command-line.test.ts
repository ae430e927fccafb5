import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readCommandLine } from '../../../../clients/lsp/command-line.ts';

test('what is asked for', () => {
  for (const [line, kind] of [
    ['--stdio', 'serve'],
    ['--stdio --clientProcessId=123', 'serve'],
    ['--clientProcessId 123 --stdio', 'serve'],
    ['--help', 'help'],
    ['-h', 'help'],
    ['--stdio --help', 'help'],
    ['--version', 'version'],
  ] as const)
    assert.equal(readCommandLine(line.split(' ')).kind, kind, line);
});

test('what is not known is named', () => {
  for (const [line, message] of [
    ['--foo', 'unknown option --foo'],
    ['--stdio --foo', 'unknown option --foo'],
    ['--help --foo', 'unknown option --foo'],
    ['--stdio=1', 'unknown option --stdio=1'],
    ['--node-ipc', 'unknown option --node-ipc'],
    ['--stdio 123', 'unknown argument 123'],
    ['--clientProcessId --stdio x', 'unknown argument x'],
    ['--clientProcessId 1', 'expected --stdio'],
  ] as const)
    assert.deepEqual(readCommandLine(line.split(' ')), { kind: 'wrong', message }, line);
  assert.deepEqual(readCommandLine([]), { kind: 'wrong', message: 'expected --stdio' });
});
