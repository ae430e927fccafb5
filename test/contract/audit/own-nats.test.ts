// The nats-server that quern up starts: this mesh alone may write to it, and no service may take anything away.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { auditSubject, ensureAuditStream } from '#kit/audit/stream.ts';
import { planAudit } from '../../../services/cli/up/audit-plan.ts';
import { findNatsServer, natsAnswers } from '../../../services/cli/up/nats-server.ts';
import { natsPath } from './support/nats.ts';
import { undo } from './support/undo.ts';

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-nats-'));
  undo(t, () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function startOwn(t: TestContext) {
  const dir = folder(t);
  const path = join(dir, 'bin');
  mkdirSync(path);
  writeFileSync(join(path, 'nats-server'), `#!/bin/sh\nexec ${await natsPath()} "$@"\n`, { mode: 0o755 });
  const folders = {
    ledger: join(dir, 'audit'),
    keys: join(dir, 'keys'),
    outbox: join(dir, 'outbox'),
    content: join(dir, 'content'),
  };
  const plan = await planAudit({
    off: false,
    nats: undefined,
    metricsPort: 0,
    stateDir: dir,
    folders,
    places: { path, caches: [join(dir, 'cache')] },
  });
  assert.ok(plan.kind === 'on' && plan.own, JSON.stringify(plan));
  const [command = '', ...args] = plan.own.words;
  const child = spawn(command, args, { stdio: 'ignore' });
  undo(t, async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  for (let i = 0; i < 500 && !(await natsAnswers(plan.own.port)); i += 1) await sleep(20);
  const connectAs = async (user: 'gateway' | 'audit'): Promise<NatsConnection> => {
    const { username, password, host } = new URL(plan.urls[user].replace('nats:', 'http:'));
    const connection = await connect({
      servers: host,
      user: username,
      pass: password,
      inboxPrefix: `_INBOX.quern-${user}`, // as NatsLink does
    });
    undo(t, () => connection.close());
    return connection;
  };
  return { dir, plan, port: plan.own.port, as: connectAs };
}

test('nobody without its passwords gets in, and they lie where only this user reads', async (t) => {
  const { dir, port, plan } = await startOwn(t);
  await assert.rejects(connect({ servers: `127.0.0.1:${port}`, maxReconnectAttempts: 0 }), /uthorization/);
  for (const name of ['passwords.json', 'nats-server.conf']) {
    assert.equal(statSync(join(dir, 'nats', name)).mode & 0o777, 0o600, name);
  }
  assert.equal(statSync(join(dir, 'nats')).mode & 0o777, 0o700);
  assert.equal(
    plan.own?.words.some((word) => /[0-9a-f]{48}/.test(word)),
    false,
    'no password on the command line',
  );
});

test('the gateway makes the stream, sends its own frames, and nobody else’s', async (t) => {
  const { as } = await startOwn(t);
  const gateway = await as('gateway');
  await ensureAuditStream(gateway, { maxBytes: 1024 * 1024 });
  const js = jetstream(gateway);
  assert.equal((await js.publish(auditSubject('gateway', 'gateway-1'), 'frame')).seq, 1);
  await assert.rejects(js.publish(auditSubject('audit', 'audit-1'), 'frame', { timeout: 500 }));
  const admin = await jetstreamManager(gateway);
  assert.equal(
    (await admin.direct.getMessage('AUDIT', { last_by_subj: auditSubject('gateway', 'gateway-1') }))?.seq,
    1,
  );
});

test('no service may delete or purge the stream, or change how long it keeps what it has', async (t) => {
  const { as } = await startOwn(t);
  for (const user of ['audit', 'gateway'] as const) {
    const connection = await as(user);
    await ensureAuditStream(connection, { maxBytes: 1024 * 1024 });
    const admin = await jetstreamManager(connection, { timeout: 500 });
    await assert.rejects(admin.streams.delete('AUDIT'));
    await assert.rejects(admin.streams.purge('AUDIT'));
    await assert.rejects(admin.streams.update('AUDIT', { max_age: 3_600_000_000_000 }));
    assert.equal((await admin.streams.info('AUDIT')).config.name, 'AUDIT');
  }
});

test('each writes under its own name and hears its own answers only', async (t) => {
  const { as } = await startOwn(t);
  const [gateway, audit] = [await as('gateway'), await as('audit')];
  await ensureAuditStream(audit, { maxBytes: 1024 * 1024 });
  await assert.rejects(jetstream(audit).publish(auditSubject('gateway', 'gateway-1'), 'forged', { timeout: 500 }));
  const admin = await jetstreamManager(audit);
  assert.equal((await admin.streams.info('AUDIT')).state.messages, 0);
  for (const subject of ['_INBOX.quern-audit.>', '_INBOX.>', 'audit.v1.>', '$JS.ACK.>']) {
    const refused = await new Promise<Error | null>((resolve) => {
      gateway.subscribe(subject, { callback: (error) => resolve(error) });
      setTimeout(resolve, 1_000, null);
    });
    assert.match(String(refused), /ermission/, subject);
  }
});

test('an old server is refused with the reason, and the next one that is new enough is taken', async (t) => {
  const dir = folder(t);
  const program = (at: string, version: string): string => {
    mkdirSync(join(dir, at), { recursive: true });
    const file = join(dir, at, 'nats-server');
    writeFileSync(file, `#!/bin/sh\necho "nats-server: v${version}"\n`);
    chmodSync(file, 0o755);
    return file;
  };
  const old = program('old', '2.9.10');
  const places = { path: join(dir, 'old'), caches: [join(dir, 'none'), join(dir, 'cache')] };
  const refused = await findNatsServer(places);
  assert.ok(!refused.ok);
  assert.match(refused.problem, new RegExp(`^${old}: nats-server 2\\.9\\.10: expected 2\\.14\\.0 or newer`));
  program('cache/nats-server-2.14.1', '2.14.1');
  const built = program('cache/nats-server-2.15.2', '2.15.2');
  assert.deepEqual(await findNatsServer(places), { ok: true, server: { path: built, version: '2.15.2' } });
  const none = await findNatsServer({ path: '', caches: [join(dir, 'nowhere')] });
  assert.deepEqual(none, { ok: false, problem: 'no nats-server on PATH or in the cache folders' });
  assert.deepEqual(readdirSync(join(dir, 'old')), ['nats-server']);
});
