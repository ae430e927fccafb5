// What `quern tools` and `quern audit` say when the service is not there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Code, INTERNAL_MESSAGE, QuernError } from '#kit/errors.ts';
import { explain as explainAudit } from '../../../services/cli/audit/audit-client.ts';
import { explain } from '../../../services/cli/tools/tools-client.ts';

const found = (address: string, source = '') => ({ address, source });
const told = (code: Code, message: string): string =>
  (explain(new QuernError(code, message), found('unix:///run/tools.sock')) as Error).message;

test('sentences, without the words of gRPC', () => {
  const where = 'no tool service answers at unix:///run/tools.sock';
  const look = '; see its row in the table of quern up, or its log';
  const no = 'No connection established. Last error: Error: connect';
  assert.equal(told('UNAVAILABLE', `${no} ENOENT /run/tools.sock.`), `${where}: there is no such socket${look}`);
  assert.equal(told('UNAVAILABLE', `${no} ECONNREFUSED 127.0.0.1:9.`), `${where}: nothing listens there${look}`);
  assert.match(told('UNAVAILABLE', `${no} EACCES /run/tools.sock.`), /this user may not open the socket/);
  assert.match(told('UNAVAILABLE', 'Connection dropped'), /^the connection to the tool service .* broke;/);
  assert.match(
    told('DEADLINE_EXCEEDED', 'Deadline exceeded after 10s,remote_addr=x'),
    /did not answer in time; see its log/,
  );
  assert.match(told('INTERNAL', 'Received RST_STREAM with code 2'), /^the connection to the tool service .* broke;/);
  assert.equal(told('INTERNAL', INTERNAL_MESSAGE), INTERNAL_MESSAGE, 'the service itself said it');
  assert.equal(
    told('NOT_FOUND', 'there is no tool "x"; ListTools names them'),
    'there is no tool "x"; quern tools list names them',
  );
  const own = new QuernError('UNAVAILABLE', 'this service is stopping', { reason: 'DRAINING' });
  assert.equal(explain(own, found('x')), own);
  assert.match(
    (explain(new QuernError('UNAVAILABLE', no), found('unix:///t', ', which QUERN_TOOLS_ADDRESS names')) as Error)
      .message,
    /^no tool service answers at unix:\/\/\/t, which QUERN_TOOLS_ADDRESS names; see its row/,
  );
});

test('an audit service that is not there, and what can be done without it', () => {
  const audit = (code: Code, message: string): string =>
    (explainAudit(new QuernError(code, message), found('unix:///run/a.sock')) as Error).message;
  const raw = 'No connection established. Last error: Error: connect ENOENT /run/a.sock. Resolution note: ';
  const without = '; "quern audit verify DIR" checks its folder without it';
  const look = '; see its row in the table of quern up, or its log';
  const where = 'no audit service answers at unix:///run/a.sock';
  assert.equal(audit('UNAVAILABLE', raw), `${where}: there is no such socket${look}${without}`);
  assert.equal(audit('UNAVAILABLE', 'No connection established'), `${where}${look}${without}`);
  assert.match(audit('UNAVAILABLE', 'Connection dropped'), /^the connection to the audit service .* broke;/);
  assert.match(audit('DEADLINE_EXCEEDED', 'Deadline exceeded after 10s'), /did not answer in time; see its log$/);
  assert.equal(audit('NOT_FOUND', 'no such user'), 'no such user');
});
