/** One rule for every command: the option, the variable, the running mesh of this state folder, the default. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../../../services/cli/command.ts';
import { readCliConfig } from '../../../services/cli/config.ts';
import { explainFailure } from '../../../services/cli/failures.ts';
import { gatewayAddress } from '../../../services/cli/gateway-client.ts';
import { findService, type Sought } from '../../../services/cli/service-address.ts';
import { toolsAddress } from '../../../services/cli/tools/tools-client.ts';
import { type MeshRecord, runningMeshes, writeMeshRecord } from '../../../services/cli/up/mesh-folder.ts';

type Mesh = { grpc: string; stateDir: string; tls?: boolean; tools?: string };

/** A command of the state folder /own beside these meshes, which this process runs. */
function beside(t: TestContext, meshes: readonly Mesh[], env: NodeJS.ProcessEnv = {}): Io {
  const runtime = mkdtempSync(join(tmpdir(), 'quern-address-'));
  t.after(() => rmSync(runtime, { recursive: true, force: true }));
  for (const [index, { grpc, stateDir, tls = false, tools }] of meshes.entries()) {
    const folder = join(runtime, `quern-${String(index).padStart(12, '0')}`);
    mkdirSync(folder, { mode: 0o700 });
    const parts = tools === undefined ? [] : [{ kind: 'tools' as const, name: 'tools', addresses: [tools] }];
    writeMeshRecord(folder, { http: '127.0.0.1:1', grpc, tls, parts, stateDir, audited: true });
  }
  const config = { ...readCliConfig({ QUERN_STATE_DIR: '/own', ...env }), runtimeParents: [runtime] };
  return { config } as unknown as Io;
}

const none = (meshes: readonly MeshRecord[]): QuernError => new QuernError('FAILED_PRECONDITION', `${meshes.length}`);
const sought = (over: Partial<Sought>): Sought => ({
  option: '--address',
  given: undefined,
  variable: 'QUERN_X',
  set: undefined,
  addressOf: ({ grpc }) => grpc || undefined,
  otherwise: 'default:1',
  ...over,
});

test('each place goes before the one behind it', (t) => {
  const io = beside(t, [{ grpc: 'mesh:1', stateDir: '/own' }]);
  const [given, set] = ['option:1', 'variable:1'];
  assert.deepEqual(findService(sought({ given, set }), io), { address: given, source: '' });
  assert.deepEqual(findService(sought({ set }), io), { address: set, source: ', which QUERN_X names' });
  assert.deepEqual(findService(sought({}), io), {
    address: 'mesh:1',
    source: `, where the mesh with pid ${process.pid} of the state folder /own listens`,
  });
  assert.deepEqual(findService(sought({}), beside(t, [])), {
    address: 'default:1',
    source: ', the default (no --address, no QUERN_X, and no mesh of the state folder /own runs)',
  });
});

test('a mesh of another state folder is asked only where there is no default, and only when it is the only one', (t) => {
  const other = { grpc: 'other:1', stateDir: '/other' };
  const find = (meshes: readonly Mesh[], otherwise: Sought['otherwise']): string =>
    findService(sought({ otherwise }), beside(t, meshes)).address;
  assert.equal(find([other], 'default:1'), 'default:1');
  assert.equal(find([other], none), 'other:1');
  assert.throws(() => find([other, { ...other, grpc: 'third:1' }], none), {
    code: 'INVALID_ARGUMENT',
    message: /^several meshes run here; say which one is meant: --address \w+:1 or --address \w+:1$/,
  });
  assert.throws(() => find([], none), { code: 'FAILED_PRECONDITION', message: '0' });
  const own = { grpc: '', stateDir: '/own' };
  assert.throws(
    () => find([other, own], none),
    { message: '1' },
    'the own mesh has no such service: no other is asked',
  );
});

test('of two meshes of one state folder that at the default address is meant, else none of them', (t) => {
  const [first, second] = ['default:1', 'second:1'].map((grpc) => ({ grpc, stateDir: '/own' }));
  assert.equal(findService(sought({}), beside(t, [second!, first!])).address, 'default:1');
  assert.throws(() => findService(sought({}), beside(t, [second!, { ...second!, grpc: 'third:1' }])), {
    code: 'INVALID_ARGUMENT',
  });
});

test('the gateway: of the running mesh with its TLS, by an address that a client can call; else the usual one', (t) => {
  const at = (meshes: readonly Mesh[], env?: NodeJS.ProcessEnv) => gatewayAddress({}, beside(t, meshes, env));
  const own = { grpc: '127.0.0.1:50061', stateDir: '/own' };
  assert.equal(at([own]).address, '127.0.0.1:50061');
  assert.equal(at([own]).tls, undefined);
  assert.deepEqual(at([{ ...own, tls: true }]).tls, {});
  assert.equal(at([{ ...own, grpc: '0.0.0.0:7' }]).address, '127.0.0.1:7');
  assert.equal(at([{ ...own, grpc: '[::]:7' }]).address, '[::1]:7');
  assert.equal(at([own], { QUERN_GATEWAY: 'there:1' }).address, 'there:1');
  assert.equal(at([{ ...own, stateDir: '/other' }]).address, '127.0.0.1:50051');
  const { address, source } = at([{ ...own, grpc: '' }]);
  assert.equal(address, '127.0.0.1:50051');
  assert.match(source, new RegExp(`, and the mesh with pid ${process.pid} is still starting\\)$`));
});

test('tools are found by the same rule', (t) => {
  const mesh = { grpc: '127.0.0.1:1', stateDir: '/own', tools: 'unix:///run/own.sock' };
  const other = { ...mesh, stateDir: '/other', tools: 'unix:///run/other.sock' };
  assert.equal(toolsAddress(undefined, beside(t, [other, mesh])), 'unix:///run/own.sock');
  assert.equal(toolsAddress(undefined, beside(t, [other])), 'unix:///run/other.sock');
  assert.equal(toolsAddress('unix:///x', beside(t, [mesh], { QUERN_TOOLS_ADDRESS: 'unix:///y' })), 'unix:///x');
  const { tools: _, ...without } = mesh;
  assert.throws(() => toolsAddress(undefined, beside(t, [other, without])), /was started without tools/);
  assert.throws(() => toolsAddress(undefined, beside(t, [])), /no mesh of this user runs here; .* --address/);
});

test('where nothing answers it is said what was asked, why, and what to do', (t) => {
  const refused = new QuernError('UNAVAILABLE', 'No connection established. Last error: Error: connect ECONNREFUSED.');
  const said = (meshes: readonly Mesh[], env?: NodeJS.ProcessEnv): string => {
    const io = beside(t, meshes, env);
    const running = (): MeshRecord[] => runningMeshes(io.config.runtimeParents);
    return (explainFailure(refused, { ...gatewayAddress({}, io), tls: false, running }) as Error).message;
  };
  assert.equal(
    said([]),
    'no mesh answers at 127.0.0.1:50051, the default (no --gateway, no QUERN_GATEWAY, and no mesh of the state folder /own runs); ' +
      'start one with "npm start" (or "quern up"), or name another with --gateway',
  );
  assert.match(said([], { QUERN_GATEWAY: 'there:1' }), /^no mesh answers at there:1, which QUERN_GATEWAY names; start/);
  assert.match(
    said([{ grpc: 'a:1', stateDir: '/own' }]),
    /^no mesh answers at a:1, where the mesh with pid \d+ of the state folder \/own listens; start/,
  );
  assert.match(
    said([{ grpc: 'b:1', stateDir: '/other' }]),
    /, the default \(.*\), but one runs elsewhere: add --gateway b:1$/,
  );
});
