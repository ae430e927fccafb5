import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type AuditPlan, auditRows, auditServiceEnv } from '../../../services/cli/up/audit-plan.ts';
import { parseModel, parseModels } from '../../../services/cli/up/model-folder.ts';
import { isOptional, planProcesses } from '../../../services/cli/up/plan.ts';
import { findFreePort, requireFreePort, splitAddress } from '../../../services/cli/up/ports.ts';
import {
  coverageAccess,
  type ToolsPlan,
  toolsFolder,
  toolsServiceEnv,
  toolsSocketFolder,
  toolsView,
} from '../../../services/cli/up/tools-plan.ts';

function folder(t: TestContext, files: string[]): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-cli-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const file of files) {
    mkdirSync(join(dir, file, '..'), { recursive: true });
    writeFileSync(join(dir, file), '{}');
  }
  return dir;
}

const COMPLETE = ['config.json', 'model.safetensors', 'tokenizer.json'];

test('a model folder is named by its last part, or by NAME=', (t) => {
  const dir = folder(t, COMPLETE);
  assert.equal(parseModel(dir, '/').name, dir.split('/').at(-1));
  assert.deepEqual(parseModel(`coder=${dir}`, '/'), { name: 'coder', dir });
});

test('a tokenizer may lie in its own sub-folder', (t) => {
  const dir = folder(t, ['config.json', 'model.safetensors', 'tokenizer/tokenizer.json']);
  assert.equal(parseModel(`m=${dir}`, '/').dir, dir);
});

test('a wrong folder is refused with what it lacks', (t) => {
  assert.throws(() => parseModel('/no/such/folder', '/'), /does not exist/);
  const file = join(folder(t, ['x']), 'x');
  assert.throws(() => parseModel(file, '/'), /is a file/);
  assert.throws(
    () => parseModel(folder(t, ['config.json', 'model.gguf']), '/'),
    /lacks \*\.safetensors .*tokenizer\.json/,
  );
  assert.throws(() => parseModel(`a b=${file}`, '/'), /NAME=DIR/);
});

test('two models need two names', (t) => {
  const dir = folder(t, COMPLETE);
  assert.throws(() => parseModels([`m=${dir}`, `m=${dir}`], '/'), /two models are called "m"/);
});

const FOLDERS = {
  ledger: '/s/audit',
  keys: '/s/audit-keys',
  outbox: '/s/outbox/gateway',
  content: '/s/audit-content',
};
const ON: AuditPlan = {
  kind: 'on',
  folders: FOLDERS,
  own: {
    path: '/bin/nats-server',
    version: '2.15.2',
    port: 4222,
    words: ['/bin/nats-server', '-c', '/s/nats/nats-server.conf'],
    pidFile: '/s/nats/nats-server.pid',
  },
  urls: {
    gateway: 'nats://gateway:g@127.0.0.1:4222',
    audit: 'nats://audit:a@127.0.0.1:4222',
    tools: 'nats://tools:t@127.0.0.1:4222',
  },
  shown: 'nats://127.0.0.1:4222',
  metricsPort: 9155,
};

const plan = (audit: AuditPlan, env: NodeJS.ProcessEnv = { PATH: '/bin' }, tools?: ToolsPlan) =>
  planProcesses({
    tools,
    models: [
      { name: 'a', dir: '/models/a' },
      { name: 'b', dir: '/models/b' },
    ],
    http: '127.0.0.1:8000',
    grpc: '127.0.0.1:50051',
    threads: 2,
    dtype: undefined,
    contextLength: undefined,
    metricsPorts: { tokenizer: 9152, engines: [9153, 9154] },
    audit,
    runtimeDir: '/run/q',
    root: '/q',
    node: 'node',
    env,
  });

test('one tokenizer, an engine per model, the gateway last, joined by unix sockets', () => {
  const parts = plan({ kind: 'off' });
  assert.deepEqual(
    parts.map(({ kind }) => kind),
    ['tokenizer', 'engine', 'engine', 'gateway'],
  );
  const gateway = parts.at(-1);
  assert.equal(gateway?.env.QUERN_GATEWAY_ENGINES, 'a=unix:///run/q/engine-0.sock;b=unix:///run/q/engine-1.sock');
  assert.equal(gateway?.env.QUERN_GATEWAY_TOKENIZER, parts[0]?.env.QUERN_TOKENIZER_LISTEN);
  assert.equal(parts[1]?.env.QUERN_ENGINE_THREADS, '2');
  assert.deepEqual(
    parts.map(({ metrics }) => metrics),
    ['127.0.0.1:9152', '127.0.0.1:9153', '127.0.0.1:9154', undefined],
  );
  assert.equal(parts[0]?.env.QUERN_TOKENIZER_METRICS_LISTEN, '127.0.0.1:9152');
  assert.equal('QUERN_ENGINE_DTYPE' in (parts[1]?.env ?? {}), false);
});

/** What a process is told of the audit log. */
function auditSettings(parts: ReturnType<typeof plan>, kind: string): Record<string, string | undefined> {
  const env = parts.find((part) => part.kind === kind)?.env ?? {};
  const names = /^QUERN_(AUDIT_(OUTBOX_DIR|KEY_DIR|ADDRESS|DIR|LISTEN|CONTENT_DIR|CONTENT_POLICY)|NATS_URL)$/;
  return Object.fromEntries(Object.entries(env).filter(([name]) => names.test(name)));
}

test('NATS first and audit second, so that they stop last; each speaks to NATS as itself', () => {
  const parts = plan(ON, { PATH: '/bin', QUERN_API_KEY: 'secret' });
  assert.deepEqual(
    parts.map(({ kind }) => kind),
    ['nats', 'audit', 'tokenizer', 'engine', 'engine', 'gateway'],
  );
  assert.deepEqual(parts[0]?.env, { PATH: '/bin' });
  assert.deepEqual(auditSettings(parts, 'audit'), {
    QUERN_AUDIT_LISTEN: 'unix:///run/q/audit.sock',
    QUERN_AUDIT_DIR: '/s/audit',
    QUERN_AUDIT_KEY_DIR: '/s/audit-keys',
    QUERN_AUDIT_CONTENT_DIR: '/s/audit-content',
    QUERN_NATS_URL: 'nats://audit:a@127.0.0.1:4222',
  });
  assert.deepEqual(auditSettings(parts, 'gateway'), {
    QUERN_AUDIT_OUTBOX_DIR: '/s/outbox/gateway',
    QUERN_AUDIT_KEY_DIR: '/s/audit-keys',
    QUERN_AUDIT_CONTENT_DIR: '/s/audit-content',
    QUERN_NATS_URL: 'nats://gateway:g@127.0.0.1:4222',
    QUERN_AUDIT_ADDRESS: 'unix:///run/q/audit.sock',
  });
  assert.deepEqual(auditRows(ON), []);
});

test('without a nats-server the gateway keeps its records, and the table says how to get one', () => {
  const outbox: AuditPlan = { kind: 'outbox', folders: FOLDERS, problem: 'no nats-server on PATH' };
  const parts = plan(outbox, { QUERN_NATS_URL: 'nats://elsewhere:4222' });
  assert.deepEqual(auditSettings(parts, 'gateway'), {
    QUERN_AUDIT_OUTBOX_DIR: '/s/outbox/gateway',
    QUERN_AUDIT_KEY_DIR: '/s/audit-keys',
    QUERN_AUDIT_CONTENT_DIR: '/s/audit-content',
    QUERN_NATS_URL: 'nats://127.0.0.1:1',
  });
  assert.equal(
    parts.some(({ kind }) => kind === 'audit' || kind === 'nats'),
    false,
  );
  const rows = auditRows(outbox);
  assert.match(rows[0]?.what ?? '', /^no nats-server on PATH; "node scripts\/get-nats\.mjs" builds one/);
  assert.match(rows[1]?.what ?? '', /records wait in this outbox/);
});

test('switched off, nothing of the audit log reaches the gateway, whatever the environment says', () => {
  const parts = plan(
    { kind: 'off' },
    { QUERN_AUDIT_OUTBOX_DIR: '/x', QUERN_NATS_URL: 'nats://elsewhere:4222', QUERN_AUDIT_CONTENT_POLICY: '/p.json' },
  );
  assert.deepEqual(auditSettings(parts, 'gateway'), {});
  assert.match(auditRows({ kind: 'off' })[0]?.what ?? '', /--no-audit/);
});

test('what opens the audit log to a reader reaches the audit service and nobody else', () => {
  const parts = plan(ON, { PATH: '/bin', QUERN_AUDIT_OPERATOR_TOKEN: 'o'.repeat(32) }, TOOLS);
  const holders = parts.filter(({ env }) => 'QUERN_AUDIT_OPERATOR_TOKEN' in env).map(({ name }) => name);
  assert.deepEqual(holders, ['audit']);
});

test('a server that is there is used and not started', () => {
  const external: AuditPlan = { ...ON, own: null };
  assert.equal(plan(external)[0]?.kind, 'audit');
  assert.deepEqual(auditRows(external)[0], {
    name: 'nats-server',
    pid: null,
    where: 'nats://127.0.0.1:4222',
    what: 'not started here',
  });
});

const TOOLS: ToolsPlan = { dir: '/s/tools', metricsPort: 9156, compileCache: '/c/node-compile' };

test('tools are an optional part between audit and the models; the gateway is told where they are', () => {
  const parts = plan(ON, { PATH: '/bin' }, TOOLS);
  const part = parts.find(({ kind }) => kind === 'tools')!;
  assert.deepEqual(
    parts.map(({ kind }) => kind),
    ['nats', 'audit', 'tools', 'tokenizer', 'engine', 'engine', 'gateway'],
  );
  assert.equal(isOptional(part), true);
  assert.equal(part.metrics, '127.0.0.1:9156');
  const {
    QUERN_TOOLS_DIR: dir,
    QUERN_TOOLS_LISTEN: listen,
    QUERN_NATS_URL: nats,
    QUERN_AUDIT_KEY_DIR: keys,
  } = part.env;
  assert.deepEqual([dir, nats, keys], ['/s/tools', 'nats://tools:t@127.0.0.1:4222', '/s/audit-keys']);
  assert.equal(parts.at(-1)?.env.QUERN_TOOLS_ADDRESS, listen);
  assert.equal(plan(ON).at(-1)?.env.QUERN_TOOLS_ADDRESS, undefined);
});

test('only the tool service is started in a view of the checkout, when it has one', () => {
  const view = { words: ['unshare', '--mount'], root: '/view', node: '/view/node' };
  const parts = plan(ON, { PATH: '/bin' }, { ...TOOLS, view });
  const wordsOf = (name: string): string[] => {
    const { command, args } = parts.find(({ kind }) => kind === name)!;
    return [command, ...args];
  };
  const own = wordsOf('tools');
  assert.deepEqual(
    [...own.slice(0, 3), own.at(-1)],
    ['unshare', '--mount', '/view/node', '/view/services/tools/main.ts'],
  );
  assert.deepEqual(wordsOf('tokenizer'), ['node', '/q/services/tokenizer/main.ts']);
  assert.deepEqual(wordsOf('gateway'), [
    'node',
    '--max-semi-space-size=16',
    '--heap-growing-percent=100',
    '/q/services/gateway/main.ts',
  ]);
});

test('another account than root needs no view: it stays who it is', async () => {
  assert.equal(await toolsView({ root: '/nowhere', node: '/nowhere/node' }, undefined, false), null);
});

test('started by root, tools have folders that the account they become may enter', () => {
  assert.equal(toolsFolder('/root-only/quern', undefined, false), '/root-only/quern/tools');
  assert.match(toolsFolder('/root-only/quern', undefined, true), /^\/var\/lib\/quern\/tools-[0-9a-f]{12}$/);
  assert.equal(toolsFolder('/root-only/quern', '/named', true), '/named');
  assert.equal(toolsSocketFolder('/run/user/0/quern-0123456789ab', true), '/tmp/quern-0123456789ab-tools');
  assert.equal(toolsSocketFolder('/run/user/7/quern-0123456789ab', false), '/run/user/7/quern-0123456789ab');
  const addresses = { own: 'unix:///t.sock', audit: 'unix:///a.sock' };
  assert.equal(toolsServiceEnv(TOOLS, ON, addresses).QUERN_AUDIT_ADDRESS, 'unix:///a.sock');
  assert.equal(toolsServiceEnv(TOOLS, { kind: 'off' }, addresses).QUERN_AUDIT_KEY_DIR, undefined);
});

test('started by root, tools have a socket of the audit service to which their account has a key', () => {
  const at = (uid?: string, root = true) => coverageAccess(TOOLS, uid, root);
  assert.match(at()?.address ?? '', /^unix:\/\/\/var\/lib\/quern\/coverage-[0-9a-f]{12}\/audit\.sock$/);
  assert.deepEqual([at()?.group, at('')?.group, at('1001')?.group], [65_532, 65_532, 1001]);
  assert.deepEqual([at(undefined, false), at('0'), at('nobody')], [null, null, null]);
  const told = auditServiceEnv(ON, 'unix:///a.sock', { address: 'unix:///c.sock', group: 7 });
  assert.deepEqual(
    [told.QUERN_AUDIT_LISTEN, told.QUERN_AUDIT_COVERAGE_LISTEN, told.QUERN_AUDIT_COVERAGE_GROUP],
    ['unix:///a.sock', 'unix:///c.sock', '7'],
  );
  assert.equal(auditServiceEnv(ON, 'unix:///a.sock').QUERN_AUDIT_COVERAGE_LISTEN, undefined);
});

test('a taken port is one sentence that names the option', async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  await assert.rejects(
    requireFreePort(`127.0.0.1:${address.port}`, '--http'),
    /is taken.*choose another with --http HOST:PORT/,
  );
  await requireFreePort('127.0.0.1:0', '--http');
  await assert.rejects(
    requireFreePort('192.0.2.1:1234', '--grpc'), // a documentation address: nobody has it
    /^QuernError: 192\.0\.2\.1:1234 is no address of this machine; choose another with --grpc HOST:PORT$/,
  );
});

test('addresses are HOST:PORT, IPv6 in brackets', () => {
  assert.deepEqual(splitAddress('[::1]:80', '--http'), { host: '::1', port: 80 });
  for (const bad of ['8000', '127.0.0.1', '127.0.0.1:99999', ':80']) {
    assert.throws(() => splitAddress(bad, '--http'), /expected HOST:PORT/);
  }
});

test('a port for metrics is the customary one when it is free, else another', async (t) => {
  const free = await findFreePort(undefined, []);
  assert.equal(await findFreePort(free, []), free);
  assert.notEqual(await findFreePort(free, [free]), free);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(free, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  assert.notEqual(await findFreePort(free, []), free);
});
