// What a run takes over from the conversation that it starts with.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { textMessage } from '../../../../services/gateway/agent/messages.ts';
import { taintOf } from '../../../../services/gateway/agent/start-run.ts';

const taint = (...roles: Role[]) => taintOf(roles.map((role) => textMessage(role, 'x')));

test('a conversation that goes on has read what nobody knows any more; a new one has not', () => {
  const clean = { readUntrusted: false, hasPrivate: false, canExfiltrate: false };
  assert.deepEqual(taint(Role.ROLE_SYSTEM, Role.ROLE_USER, Role.ROLE_USER), clean);
  const read = { readUntrusted: true, hasPrivate: true, canExfiltrate: false };
  assert.deepEqual(taint(Role.ROLE_USER, Role.ROLE_ASSISTANT, Role.ROLE_USER), read);
  assert.deepEqual(taint(Role.ROLE_USER, Role.ROLE_TOOL), read);
});
