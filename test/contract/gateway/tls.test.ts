// The public listeners with a certificate: HTTPS and gRPC over TLS serve, plain text and other names do not.
import assert from 'node:assert/strict';
import { get } from 'node:https';
import { type TestContext, test } from 'node:test';
import { CompleteRequest, CompletionServiceClient, ModelServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { type ClientTls, openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { mesh as certificates, stranger, tlsFile } from '../../fixtures/tls/certificates.ts';
import { startMesh } from './fakes/mesh.ts';

const TLS = {
  QUERN_GATEWAY_TLS_CERT_FILE: tlsFile('server.pem'),
  QUERN_GATEWAY_TLS_KEY_FILE: tlsFile('server.key'),
  QUERN_GATEWAY_GRPC_LISTEN: '127.0.0.1:0',
};

type Answer = { status: number; body: string };

function fetchTls(address: string, path: string, options: { ca: string; servername: string }): Promise<Answer> {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const request = get({ host, port, path, agent: false, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (piece) => {
        body += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    request.on('error', reject);
  });
}

function modelsOf(t: TestContext, address: string, tls: ClientTls | undefined) {
  const client = openChannel(ModelServiceClient, { address, tls });
  t.after(() => client.close());
  return unary(client, 'listModels', {}, { timeoutMs: 2_000 });
}

test('HTTPS answers under its name, and to nobody in plain text', async (t) => {
  const { gateway } = await startMesh(t, { env: TLS });
  const { ca } = certificates;
  const answer = await fetchTls(gateway.httpAddress, '/v1/models', { ca, servername: 'server.test' });
  assert.equal(answer.status, 200);
  assert.equal((JSON.parse(answer.body) as { data: { id: string }[] }).data[0]?.id, 'mock');
  await assert.rejects(fetchTls(gateway.httpAddress, '/health', { ca, servername: 'other.test' }), {
    code: 'ERR_TLS_CERT_ALTNAME_INVALID',
  });
  await assert.rejects(fetchTls(gateway.httpAddress, '/health', { ca: stranger.ca, servername: 'server.test' }), {
    code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  });
  await assert.rejects(fetch(`http://${gateway.httpAddress}/health`));
});

test('gRPC over TLS answers without a client certificate, streams too, and to nobody in plain text', async (t) => {
  const { gateway } = await startMesh(t, { env: TLS });
  const address = gateway.grpcAddress;
  const tls = { ca: certificates.ca, serverName: 'server.test' };
  assert.equal((await modelsOf(t, address, tls)).models[0]?.name, 'mock');
  const client = openChannel(CompletionServiceClient, { address, tls });
  t.after(() => client.close());
  const empty = CompleteRequest.decode(new Uint8Array(0));
  const request: CompleteRequest = { ...empty, prompt: { $case: 'text', value: 'def f' } };
  const events: string[] = [];
  for await (const { event } of serverStream(client, 'streamComplete', { request })) events.push(event?.$case ?? '');
  assert.deepEqual([events[0], events.at(-1)], ['accepted', 'end']);
  await assert.rejects(modelsOf(t, address, undefined), { code: 'UNAVAILABLE' });
  await assert.rejects(modelsOf(t, address, { ...tls, serverName: 'other.test' }), {
    code: 'UNAVAILABLE',
    message: /other\.test\. is not in the cert's altnames/,
  });
});
