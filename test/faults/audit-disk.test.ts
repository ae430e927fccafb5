// An error of the ledger's disk: the audit service says why and exits, the supervisor starts it again, and every record is there
// once.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AuditServiceClient, type VerifyResponse } from '#gen/quern/audit/v1/audit.ts';
import { NatsLink } from '#kit/audit/nats-link.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import { Publisher } from '#kit/audit/publisher.ts';
import { auditSubject, ensureAuditStream, producerStream } from '#kit/audit/stream.ts';
import { createLog } from '#kit/log.ts';
import { openChannel, serverStream } from '#kit/rpc/client.ts';
import { createSupervisor, type SupervisorEvent } from '#kit/supervisor.ts';
import { startNats } from '../contract/audit/support/nats.ts';
import { undo } from '../contract/audit/support/undo.ts';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const log = createLog({ service: 't', level: 'silent' });
const PATIENCE_MS = 60_000;
/** What the service says beside its calls. */
const toldBy = (lines: readonly string[]): string => lines.filter((line) => !line.includes('"msg":"rpc"')).join('\n');

async function startProducer(t: TestContext, url: string, dir: string) {
  const outbox = await Outbox.open({ dir, service: 'gateway' });
  const link = new NatsLink({ servers: url, name: 'gateway', log });
  link.start();
  const prepare = () => ensureAuditStream(link.get(), { maxBytes: 64 * 1024 * 1024 });
  const stream = producerStream(() => link.get(), auditSubject('gateway', outbox.producer), prepare);
  const publisher = new Publisher({ outbox, stream, log });
  publisher.start();
  undo(t, async () => {
    await publisher.close();
    await link.close();
    await outbox.close();
  });
  return async (count: number): Promise<void> => {
    const shared = {
      tenant: 't',
      actor: { kind: 'user', ref: 'p' },
      action: 'request.accepted',
      outcome: 'ok',
    } as const;
    for (let i = 0; i < count; i += 1) await outbox.append(shared);
  };
}

async function setUp(t: TestContext) {
  const nats = await startNats(t);
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  const order = join(dir, 'broken-disk');
  const events: SupervisorEvent[] = [];
  const lines: string[] = [];
  const supervisor = createSupervisor({ log, onEvent: (event) => void events.push(event) });
  undo(t, () => supervisor.stop());
  const address = `unix://${dir}/audit.sock`;
  supervisor.start({
    name: 'audit',
    command: process.execPath,
    args: ['--import', path('./broken-disk.ts'), path('../../services/audit/main.ts')],
    env: {
      PATH: process.env.PATH,
      BROKEN_DISK: order,
      QUERN_AUDIT_LISTEN: address,
      QUERN_AUDIT_DIR: join(dir, 'audit'),
      QUERN_AUDIT_KEY_DIR: join(dir, 'keys'),
      QUERN_NATS_URL: nats.url,
      QUERN_AUDIT_DRAIN_GRACE: '1s',
    },
    restart: { minDelayMs: 50, maxDelayMs: 400 },
    onLine: (line) => void lines.push(line),
  });
  const client = openChannel(AuditServiceClient, { address });
  undo(t, () => client.close());
  /** Waits until so many records of the producer are in the view. */
  const reached = async (records: number): Promise<void> => {
    let seen = 0;
    for (const end = performance.now() + PATIENCE_MS; seen < records && performance.now() < end; ) {
      seen = 0;
      try {
        const rows = serverStream(client, 'tail', { tenant: 't', backlog: 1_000 }, { timeoutMs: 2_000 });
        for await (const { action } of rows) {
          if (action === 'request.accepted') seen += 1;
          if (seen === records) break;
        }
      } catch {
        await sleep(20); // it is away, or has less
      }
    }
    assert.equal(seen, records, toldBy(lines));
  };
  return { dir, order, events, lines, client, reached, send: await startProducer(t, nats.url, join(dir, 'outbox')) };
}

for (const [code, what] of [
  ['EIO', 'an fdatasync'],
  ['ENOSPC', 'a write'],
] as const) {
  test(`${code} at ${what} of the ledger: said, exit 1, started again, nothing lost and nothing twice`, async (t) => {
    const { order, events, lines, client, reached, send } = await setUp(t);
    await send(20);
    await reached(20);
    await writeFile(order, `${code}\n/ledger/records/\n2`); // the second start meets it too
    await send(20);
    await reached(40);
    const unexpected = () => events.filter((event) => event.type === 'exited').filter(({ expected }) => !expected);
    // After a failed sync the second start does not get beyond writing the same bytes again; after a failed write it has nothing to
    // write again, and dies of what it writes next.
    for (const end = performance.now() + PATIENCE_MS; unexpected().length < 2 && performance.now() < end; )
      await sleep(20);
    const deaths = unexpected();
    assert.deepEqual(
      deaths.map((event) => [event.code, event.signal, event.restartInMs !== null]),
      [
        [1, null, true],
        [1, null, true],
      ],
    );
    const fatal = events.find((event) => event.type === 'fatal');
    const said = new RegExp(
      `the audit ledger takes no more records \\(${code}: made by the test\\); the service starts again`,
    );
    assert.match(fatal?.type === 'fatal' ? fatal.message : '', said);
    assert.ok(
      lines.some((line) => said.test(line) && line.includes('"level":"fatal"')),
      toldBy(lines),
    );
    const again = /\.qal: bytes \d+ to \d+ could not be written to the disk again \(EIO: made by the test\)/;
    assert.equal(
      lines.some((line) => again.test(line)),
      code === 'EIO',
      toldBy(lines),
    );
    await send(5);
    await reached(45);
    let last: VerifyResponse | null = null;
    for await (const one of serverStream(client, 'verify', { trustedCheckpoint: '' }, { timeoutMs: 30_000 }))
      last = one;
    assert.equal(last?.verdict, 'ok', 'no record is missing or there twice');
  });
}
