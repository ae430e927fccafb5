// deploy/nats/nats.conf on a real nats-server: who may do what with the audit stream.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AckPolicy, jetstream, jetstreamManager, type StreamUpdateConfig } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { NatsLink } from '#kit/audit/nats-link.ts';
import { AUDIT_STREAM, auditSubject, ensureAuditStream, producerStream } from '#kit/audit/stream.ts';
import { createLog } from '#kit/log.ts';
import { natsPath } from '../contract/audit/support/nats.ts';
import { root } from './rules.ts';

const MIB = 1024 * 1024;
const log = createLog({ service: 'test', level: 'silent' });
const OPTIONS = { timeout: 1_500 };
let server = '';

before(async () => {
  server = await natsPath();
});

/** The configuration with passwords beside it, as the compose file mounts them. */
function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-nats-conf-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const text = readFileSync(join(root, 'deploy/nats/nats.conf'), 'utf8');
  assert.match(text, /store_dir: "\/data"/);
  writeFileSync(join(dir, 'nats.conf'), text.replace('"/data"', JSON.stringify(join(dir, 'data'))));
  const users = ['GATEWAY', 'TOOLS', 'AUDIT', 'OPERATOR'];
  writeFileSync(
    join(dir, 'users.conf'),
    users.map((user) => `QUERN_${user}_PASSWORD: "pw-${user.toLowerCase()}"\n`).join(''),
  );
  return dir;
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}

async function start(t: TestContext): Promise<(user: string) => Promise<NatsConnection>> {
  const dir = folder(t);
  const [port, monitor] = [await freePort(), await freePort()];
  const flags = ['-c', 'nats.conf', '-a', '127.0.0.1', '-p', `${port}`, '-m', `${monitor}`];
  const child = spawn(server, flags, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  t.after(async () => {
    if (child.exitCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  for (let i = 0; i < 400 && !output.includes('Server is ready'); i += 1) {
    assert.equal(child.exitCode, null, output);
    await sleep(25);
  }
  return async (user) => {
    const servers = `nats://${user}:pw-${user}@127.0.0.1:${port}`;
    const link = new NatsLink({ servers, name: `quern-${user}`, log });
    link.start();
    t.after(() => link.close());
    for (let i = 0; i < 200 && link.problem !== null; i += 1) await sleep(25);
    assert.equal(link.problem, null);
    return link.get();
  };
}

async function refused(what: string, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, `${what} should have been refused`);
}

test('the server takes the configuration', async (t) => {
  const cwd = folder(t);
  const { code, output } = await new Promise<{ code: unknown; output: string }>((resolve) => {
    execFile(server, ['-t', '-c', 'nats.conf'], { cwd }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, output: `${stdout}${stderr}` });
    });
  });
  assert.equal(code, 0, output);
});

test('audit makes the stream and reads it; a producer publishes under its own name only', async (t) => {
  const as = await start(t);
  const [audit, gateway, tools] = [await as('audit'), await as('gateway'), await as('tools')];
  await refused('a gateway that makes the stream', ensureAuditStream(gateway, { maxBytes: 16 * MIB }));
  await ensureAuditStream(audit, { maxBytes: 16 * MIB });
  await ensureAuditStream(gateway, { maxBytes: 16 * MIB });

  const subject = auditSubject('gateway', 'gateway-1');
  const own = producerStream(
    () => gateway,
    subject,
    async () => {},
  );
  const signal = AbortSignal.timeout(20_000);
  const frame = { id: 'gateway-1/1/1', bytes: Buffer.from('a record'), sha256: 'x' };
  assert.deepEqual(await own.publish(frame, { expectedSeq: 0, signal }), { ok: true, streamSeq: 1, duplicate: false });
  assert.equal((await own.last({ signal }))?.id, 'gateway-1/1/1');

  const foreign = producerStream(
    () => tools,
    subject,
    async () => {},
  );
  assert.equal((await foreign.publish({ ...frame, id: 'x/1/1' }, { expectedSeq: 1, signal })).ok, false);
  await refused("a producer that reads another's frames", foreign.last({ signal }));

  const admin = await jetstreamManager(audit, OPTIONS);
  await admin.consumers.add(AUDIT_STREAM, { durable_name: 'ledger', ack_policy: AckPolicy.Explicit });
  const message = await (await jetstream(audit).consumers.get(AUDIT_STREAM, 'ledger')).next({ expires: 2_000 });
  assert.equal(message?.string(), 'a record');
  assert.equal(await message?.ackAck(), true);
  assert.equal((await admin.direct.getMessage(AUDIT_STREAM, { seq: 1 }))?.seq, 1);
  assert.equal((await admin.streams.info(AUDIT_STREAM)).state.messages, 1, 'nothing but the one frame got in');
});

test('nobody but the operator changes, empties or deletes the stream, and it forbids emptying to all', async (t) => {
  const as = await start(t);
  await ensureAuditStream(await as('audit'), { maxBytes: 16 * MIB });
  const change: Partial<StreamUpdateConfig> = { max_bytes: 32 * MIB };
  for (const user of ['audit', 'gateway', 'tools']) {
    const { streams } = await jetstreamManager(await as(user), OPTIONS);
    await refused(`${user} changes`, streams.update(AUDIT_STREAM, change));
    await refused(`${user} empties`, streams.purge(AUDIT_STREAM));
    await refused(`${user} deletes`, streams.delete(AUDIT_STREAM));
    await refused(`${user} deletes a message`, streams.deleteMessage(AUDIT_STREAM, 1));
  }
  const { streams } = await jetstreamManager(await as('operator'), OPTIONS);
  assert.equal((await streams.update(AUDIT_STREAM, change)).config.max_bytes, 32 * MIB);
  await refused('the operator empties', streams.purge(AUDIT_STREAM));
});

test('a client hears only its own answers', async (t) => {
  const as = await start(t);
  const gateway = await as('gateway');
  const heard = new Promise<Error | null>((resolve) => {
    gateway.subscribe('_INBOX.quern-audit.>', { callback: (error) => resolve(error) });
  });
  assert.match(String(await Promise.race([heard, sleep(5_000).then(() => null)])), /[Pp]ermissions? [Vv]iolation/);
});
