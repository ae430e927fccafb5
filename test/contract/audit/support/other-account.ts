// A producer that becomes another account, as the tool service does under root: says what it reaches, and writes until its outbox
// lets go. Argument: Asked as JSON. Prints one line of JSON: Told.
import { AuditServiceClient } from '#gen/quern/audit/v1/audit.ts';
import { Producer } from '#kit/audit/producer.ts';
import { QuernError } from '#kit/errors.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';

export type Asked = {
  /** Null: stays who it is. */
  uid: number | null;
  /** Sockets: of coverage, and the service's own. */
  coverage: string;
  own: string;
  /** Null: writes nothing. */
  outbox: { dir: string; nats: string } | null;
};
/** Of each call: OK or the code of its error. `firstSeq`: what the outbox still has begins with. */
export type Told = { coverage: string; erase: string; own: string; firstSeq: number };

const SEGMENT_BYTES = 2_000;
const WAIT_MS = 60_000;
const options = { timeoutMs: 5_000 };

async function codeOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'OK',
    (error: unknown) => (error instanceof QuernError ? error.code : String(error)),
  );
}

/** Writes records, in several segments, until one of them has gone. */
async function letsGo(client: AuditServiceClient, { dir, nats }: NonNullable<Asked['outbox']>): Promise<number> {
  const producer = await Producer.open({
    service: 'tools',
    dir,
    servers: nats,
    segmentBytesMax: SEGMENT_BYTES,
    coverage: { ask: (request) => unary(client, 'getCoverage', request, options), verifierKey: null },
    coverageEveryMs: 100,
    log: createLog({ service: 't', level: 'silent' }),
    metrics: createMetrics('tools'),
  });
  producer.start();
  const until = performance.now() + WAIT_MS;
  while (producer.outbox.firstSeq === 1 && performance.now() < until) {
    const actor = { kind: 'user', ref: 'p' } as const;
    await producer.append({ tenant: 'acme', actor, action: 'tool.requested', outcome: 'ok', target: 'run_code' });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { firstSeq } = producer.outbox;
  await producer.close();
  return firstSeq;
}

const { uid, coverage, own, outbox } = JSON.parse(process.argv[2] ?? '') as Asked;
if (uid !== null) {
  process.setgroups!([]);
  process.setgid!(uid);
  process.setuid!(uid);
}
const client = openChannel(AuditServiceClient, { address: coverage });
const direct = openChannel(AuditServiceClient, { address: own });
const told: Told = {
  coverage: await codeOf(unary(client, 'getCoverage', { producer: 'nobody', oldTreeSize: 0n }, options)),
  erase: await codeOf(unary(client, 'erase', { tenant: 'acme', user: 'ada' }, options)),
  own: await codeOf(unary(direct, 'getHead', {}, options)),
  firstSeq: outbox ? await letsGo(client, outbox) : 0,
};
client.close();
direct.close();
process.stdout.write(`${JSON.stringify(told)}\n`);
