import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { explainFailure } from '../../../services/cli/failures.ts';
import type { MeshRecord } from '../../../services/cli/up/mesh-folder.ts';

const MESH: MeshRecord = {
  pid: 7,
  started: '1',
  host: 'here',
  http: '127.0.0.1:8080',
  grpc: '127.0.0.1:9090',
  stateDir: '/s',
  audited: true,
  tls: false,
  parts: [
    { kind: 'tokenizer', name: 'tokenizer', addresses: ['unix:///run/q/tokenizer.sock'] },
    { kind: 'engine', name: 'engine', addresses: ['unix:///run/q/engine-0.sock'] },
    { kind: 'gateway', name: 'gateway', addresses: ['127.0.0.1:0', '127.0.0.1:0'] },
  ],
};

function explain(error: unknown, address: string, running: MeshRecord[] = [], method?: string): string {
  const target = { address, tls: false, running: () => running, ...(method === undefined ? {} : { method }) };
  return (explainFailure(error, target) as Error).message;
}

const unavailable = (message: string): QuernError => new QuernError('UNAVAILABLE', message);
const REFUSED = unavailable('No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1.');

test('a host that cannot be resolved is named, without the resolver and its target', () => {
  assert.equal(
    explain(unavailable('Name resolution failed for target dns:nohost:1'), 'nohost:1'),
    'no host is called "nohost" (the address was nohost:1); correct --gateway or QUERN_GATEWAY',
  );
});

test('where nothing listens, it says how to start a mesh, or where one runs', () => {
  assert.match(explain(REFUSED, '127.0.0.1:1'), /^no mesh answers at 127\.0\.0\.1:1; start one with "npm start"/);
  assert.equal(
    explain(REFUSED, '127.0.0.1:1', [MESH]),
    'no mesh answers at 127.0.0.1:1, but one runs elsewhere: add --gateway 127.0.0.1:9090',
  );
  const gone = unavailable('No connection established. Last error: Error: connect ENOENT /a.sock. Resolution note: ');
  assert.match(explain(gone, 'unix:///a.sock'), /^no mesh answers at unix:\/\/\/a\.sock; /);
});

test('a mesh that goes away during an answer is told from one that was never there', () => {
  assert.equal(
    explain(unavailable('Connection dropped'), '127.0.0.1:1'),
    'the connection to the mesh at 127.0.0.1:1 broke: it was stopped, or its gateway is starting again; see the terminal of quern up',
  );
  assert.match(
    explain(unavailable('read ECONNRESET'), '127.0.0.1:1'),
    /^the connection to the mesh at 127.0.0.1:1 broke/,
  );
});

test("the mesh's HTTP port is told from its gRPC port", () => {
  const broken = unavailable('No connection established. Last error: Protocol error (2026).');
  assert.match(explain(broken, '127.0.0.1:8080', [MESH]), /does not speak gRPC.*gRPC address is 127\.0\.0\.1:9090/);
  assert.match(explain(broken, '127.0.0.1:1', []), /does not speak gRPC.*name the gRPC address with --gateway/);
});

test('a method that another part serves comes with the call that reaches it', () => {
  const error = new QuernError('UNIMPLEMENTED', 'The server does not implement the method /q/Describe');
  const engine = 'quern.engine.v1.EngineService/Describe';
  assert.equal(
    explain(error, MESH.grpc, [MESH], engine),
    'EngineService is not served at 127.0.0.1:9090; the engine of the running mesh serves it:\n' +
      '  npx quern call --address unix:///run/q/engine-0.sock EngineService/Describe',
  );
  assert.match(
    explain(error, 'unix:///run/q/engine-0.sock', [MESH], 'quern.gateway.v1.ModelService/ListModels'),
    /the gateway of the running mesh serves it:\n {2}npx quern call --address 127\.0\.0\.1:9090 ModelService\/ListModels$/,
  );
  assert.match(explain(error, MESH.grpc, [], engine), /name the engine service's address with --address HOST:PORT/);
});

test('a missing key says where it goes; other errors pass as they are', () => {
  assert.match(explain(new QuernError('UNAUTHENTICATED', 'expected a key'), 'a:1'), /--api-key or in QUERN_API_KEY$/);
  const other = new QuernError('NOT_FOUND', 'no model');
  assert.equal(explainFailure(other, { address: 'a:1', tls: false, running: () => [] }), other);
});

test('TLS where it is not spoken, none where it is, and a CA that is not known', () => {
  const explainTls = (error: unknown, mesh: MeshRecord[], tls: boolean): string =>
    (explainFailure(error, { address: MESH.grpc, tls, running: () => mesh }) as Error).message;
  assert.match(
    explainTls(REFUSED, [{ ...MESH, tls: true }], false),
    /speaks TLS: --gateway https:\/\/127\.0\.0\.1:9090/,
  );
  assert.match(explainTls(REFUSED, [MESH], true), /does not speak TLS: --gateway 127\.0\.0\.1:9090, without --ca$/);
  const unknown = unavailable('No connection established. Last error: Error: self-signed certificate.');
  assert.match(explainTls(unknown, [], true), /CA that is not known here; .*--ca or QUERN_GATEWAY_CA_FILE$/);
});

test('a server that keeps still is told from one that is slow', () => {
  const late = (detail: string): QuernError =>
    new QuernError('DEADLINE_EXCEEDED', `Deadline exceeded after 2.003s${detail}`);
  const still = late(',name resolution: 0.003s,metadata filters: 0.001s,Waiting for LB pick');
  assert.equal(explain(still, 'a:1'), "a:1 did not answer within 2 s; is it a mesh's gRPC address?");
  const slow = late(',LB pick: 0.003s,remote_addr=127.0.0.1:1');
  assert.match(explain(slow, 'a:1', [], 'q.S/M'), /^a:1 did not finish within 2 s; allow more with --timeout-ms$/);
});
