// The audit service on a real nats-server, with a gateway's outbox beside it.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AuditServiceClient, type QueryRequest, type QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { NatsLink } from '#kit/audit/nats-link.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import { Publisher } from '#kit/audit/publisher.ts';
import { auditSubject, ensureAuditStream, producerStream } from '#kit/audit/stream.ts';
import { Vault } from '#kit/audit/vault.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import type { AuditConfig } from '../../../../services/audit/config.ts';
import { auditKeys } from '../../../../services/audit/key-files.ts';
import { type AuditServiceOptions, startAudit } from '../../../../services/audit/service.ts';
import { startNats } from './nats.ts';
import { undo } from './undo.ts';

export const log = createLog({ service: 't', level: 'silent' });
export const ORIGIN = 'quern.test/audit';
const all: QueryRequest = {
  tenant: 'acme',
  user: '',
  requestId: '',
  traceId: '',
  since: '',
  until: '',
  limit: 0,
  exports: false,
  withPrompts: false,
  withAnswers: false,
  kinds: [],
};

type Bounds = Pick<AuditServiceOptions, 'readerStallMs'>;

/** `over`: settings of the service that differ. */
export async function setUp(t: TestContext, over: Partial<AuditConfig> = {}, bounds: Bounds = {}) {
  const nats = await startNats(t);
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  const config: AuditConfig = {
    listen: `unix://${dir}/run/audit.sock`,
    coverage: null,
    nats: nats.url,
    dir: join(dir, 'audit'),
    keyDir: join(dir, 'keys'),
    signingKeyDir: null,
    contentDir: null,
    origin: ORIGIN,
    witnesses: [join(dir, 'witness.jsonl')],
    retentionDays: 90,
    streamBytes: 64 * 1024 * 1024,
    metricsListen: null,
    drainGraceMs: 100,
    internal: { token: null, tls: null },
    operatorToken: null,
    logLevel: 'silent',
    ...over,
  };
  const start = () => startAudit({ config, log, metrics: createMetrics('audit'), ...bounds });
  const service = await start();
  let running: typeof service | null = service;
  undo(t, () => running?.close());
  const client = openChannel(AuditServiceClient, { address: service.address });
  undo(t, () => client.close());
  const keys = await auditKeys(config);
  const vault = Vault.open(keys.vaultPath, keys.vault);
  undo(t, () => vault.close());
  const outbox = await Outbox.open({ dir: join(dir, 'gateway'), service: 'gateway' });
  const link = new NatsLink({ servers: nats.url, name: 'gateway', log });
  link.start();
  const subject = auditSubject('gateway', outbox.producer);
  const prepare = () => ensureAuditStream(link.get(), { maxBytes: config.streamBytes });
  const publisher = new Publisher({ outbox, stream: producerStream(() => link.get(), subject, prepare), log });
  publisher.start();
  undo(t, async () => {
    await publisher.close();
    await link.close();
    await outbox.close();
  });
  /** One request of a user, both records. */
  async function request(user: string, id: string): Promise<void> {
    const who = vault.subject({ tenant: 'acme', kind: 'user', id: user });
    const shared = { tenant: 'acme', actor: { kind: 'user', ref: who.ref }, request_id: id, outcome: 'ok' } as const;
    const sealed = who.seal({ client_ip: '192.0.2.7', key_id: 'k1' });
    const trace_id = id.padEnd(32, '0');
    await outbox.append({ ...shared, action: 'request.accepted', target: 'quern-mini', trace_id, sealed });
    await outbox.append({ ...shared, action: 'request.finished', reason: 'STOP', usage: { output_tokens: 7 } });
  }
  const options = { timeoutMs: 10_000 };
  const head = () => unary(client, 'getHead', {}, options);
  /** The service tells of its own starts and ends: so many records beside those of the test. */
  let own = 1;
  async function recorded(records: number): Promise<void> {
    for (let i = 0; i < 1000 && Number((await head()).records) < records + own; i += 1) await sleep(10);
    assert.ok(Number((await head()).records) >= records + own);
  }
  if (config.operatorToken === null && config.internal.token === null) await recorded(0); // the first record is the service's
  async function query(over: Partial<QueryRequest> = {}): Promise<QueryResponse[]> {
    const rows: QueryResponse[] = [];
    for await (const row of serverStream(client, 'query', { ...all, ...over }, options)) rows.push(row);
    return rows;
  }
  async function stop(): Promise<void> {
    if (running) own += 1;
    await running?.close();
    running = null;
  }
  async function restart(): Promise<void> {
    await stop();
    running = await start();
    own += 1;
  }
  return { dir, config, client, vault, outbox, request, recorded, query, head, options, restart, stop };
}
