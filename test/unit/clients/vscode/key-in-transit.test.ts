import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { MessageTransports } from 'vscode-languageclient';
import {
  createProtocolConnection,
  StreamMessageReader,
  StreamMessageWriter,
  Trace,
} from 'vscode-languageserver-protocol/node';
import { KEY_MARK, KeyInTransit } from '../../../../clients/vscode/ui/key-in-transit.ts';
import { stubContext } from './support/stub-api.ts';

const PLANTED = 'qk-planted-5f1c';

test('a verbose trace of all that is sent holds the mark; the server gets the key', async (t) => {
  const { secrets } = stubContext();
  const key = new KeyInTransit(secrets);
  const [up, down] = [new PassThrough(), new PassThrough()];
  const transports = { reader: new StreamMessageReader(down), writer: new StreamMessageWriter(up) };
  const { reader, writer } = key.over(transports as unknown as MessageTransports);
  const client = createProtocolConnection(reader as never, writer as never);
  const server = createProtocolConnection(new StreamMessageReader(up), new StreamMessageWriter(down));
  t.after(() => {
    for (const connection of [client, server]) connection.dispose();
  });
  const traced: unknown[] = [];
  client.onRequest('workspace/configuration', async ({ items }: { items: unknown[] }) => {
    const apiKey = await key.mark();
    return items.map(() => ({ enabled: true, apiKey }));
  });
  client.listen();
  server.listen();
  await client.trace(Trace.Verbose, { log: (...given: unknown[]) => traced.push(given) }, false);
  const pull = () => server.sendRequest('workspace/configuration', { items: [{ section: 'quern' }] });

  assert.deepEqual(await pull(), [{ enabled: true, apiKey: '' }]);
  await secrets.store('quern.apiKey', PLANTED);
  assert.deepEqual(await pull(), [{ enabled: true, apiKey: PLANTED }]);
  const text = JSON.stringify(traced);
  assert(text.includes(KEY_MARK), `the trace is verbose: ${text}`);
  assert(!text.includes(PLANTED), text);
  await secrets.delete('quern.apiKey');
  assert.deepEqual(await pull(), [{ enabled: true, apiKey: '' }]);
});

test('everything else goes as it is, the same object', async () => {
  const written: unknown[] = [];
  const writer = { write: async (message: unknown) => void written.push(message), end() {}, dispose() {} };
  const key = new KeyInTransit(stubContext().secrets);
  const { writer: over } = key.over({ writer } as unknown as MessageTransports);
  const messages = [
    { jsonrpc: '2.0', method: 'x', params: { apiKey: KEY_MARK } },
    { jsonrpc: '2.0', id: 1, result: null },
    { jsonrpc: '2.0', id: 2, result: [null, 'text', { apiKey: 'its own' }] },
  ];
  for (const message of messages) await over.write(message);
  for (const [i, message] of messages.entries()) assert.equal(written[i], message);
});
