// What callers of the gateway hear when the tool service does not do its part: sentences, not gRPC's own words.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { nextAttempt, toolError } from '../../../services/gateway/tool-client.ts';

const raw = [
  ['UNAVAILABLE', 'No connection established. Last error: Error: connect ENOENT /run/x/tools.sock. Resolution note: '],
  ['UNAVAILABLE', '14 UNAVAILABLE: Connection dropped'],
  ['INTERNAL', '13 INTERNAL: Received RST_STREAM with code 2 triggered by internal client error: read ECONNRESET'],
  ['DEADLINE_EXCEEDED', 'Deadline exceeded after 10.001s,LB pick: 0.002s,remote_addr=unix:/run/x/tools.sock'],
] as const;

test('no words of gRPC, no address: what it is and what to do', () => {
  for (const [code, message] of raw) {
    const told = toolError(new QuernError(code, message));
    assert.deepEqual([told.code, told.details.reason], ['UNAVAILABLE', 'TOOLS_UNAVAILABLE'], message);
    assert.match(
      told.message,
      /^the tool service (?:does not answer now|did not answer within 10 s); try again, and look at its log/,
    );
    assert.doesNotMatch(told.message, /UNAVAILABLE|RST|sock|exceeded/);
  }
  const late = toolError(new QuernError('DEADLINE_EXCEEDED', raw[3][1]), { isCall: true });
  assert.deepEqual([late.code, late.details.reason], ['DEADLINE_EXCEEDED', 'TOOL_CALL_SILENT']);
});

test('what the service says itself passes, and a connection that broke is taken up again', () => {
  const own = new QuernError('UNAVAILABLE', 'the call cannot be recorded', { reason: 'AUDIT_UNAVAILABLE' });
  assert.equal(toolError(own), own);
  const inner = new QuernError('INTERNAL', 'internal error; the log has the cause');
  assert.equal(toolError(inner), inner);
  assert.deepEqual(
    raw.map(([code, message]) => nextAttempt('execute', new QuernError(code, message))),
    ['attach', 'attach', 'attach', null],
  );
});
