import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readLine } from '../../../services/cli/commands/chat.ts';

test('a line is a turn, unless it begins with a slash', () => {
  assert.deepEqual(readLine('hello /exit'), { kind: 'say', text: 'hello /exit' });
  assert.deepEqual(readLine('  indented'), { kind: 'say', text: '  indented' });
  assert.deepEqual(readLine(' /etc/hosts?'), { kind: 'say', text: '/etc/hosts?' });
  assert.deepEqual(readLine('   '), { kind: 'nothing' });
});

test('commands, with their second names', () => {
  for (const line of ['/exit', '/quit', '/exit now ']) assert.equal(readLine(line).kind, 'exit');
  for (const line of ['/clear', '/reset']) assert.equal(readLine(line).kind, 'clear');
  for (const line of ['/help', '/?']) assert.equal(readLine(line).kind, 'help');
});

test('an unknown command is answered, not sent', () => {
  assert.deepEqual(readLine('/foo bar'), { kind: 'unknown', message: 'no command "/foo" (/help lists all)' });
  assert.deepEqual(readLine('/hlp'), {
    kind: 'unknown',
    message: 'no command "/hlp"; did you mean /help? (/help lists all)',
  });
});
