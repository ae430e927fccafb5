// What `quern tools` says when the tool service is not there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Code, QuernError } from '#kit/errors.ts';
import { explain } from '../../../services/cli/tools/tools-client.ts';

const told = (code: Code, message: string): string =>
  (explain(new QuernError(code, message), 'unix:///run/tools.sock') as Error).message;

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
  const own = new QuernError('UNAVAILABLE', 'this service is stopping', { reason: 'DRAINING' });
  assert.equal(explain(own, 'x'), own);
});
