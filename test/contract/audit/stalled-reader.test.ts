// A reader that takes nothing: its call ends and says why, and meanwhile records come in.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AuditServiceClient } from '#gen/quern/audit/v1/audit.ts';
import { openChannel, serverStream } from '#kit/rpc/client.ts';
import { setUp } from './support/service.ts';
import { undo } from './support/undo.ts';

const RECORDS = 4_000;
const PAD = 'x'.repeat(3_000);

test('an export, a query and a tail that are not read end with RESOURCE_EXHAUSTED; ingest goes on', async (t) => {
  const { client: quick, outbox, vault, recorded, options, config, head } = await setUp(t, {}, { readerStallMs: 300 });
  const { ref } = vault.subject({ tenant: 'acme', kind: 'user', id: 'ada' });
  const shared = { tenant: 'acme', actor: { kind: 'user', ref }, action: 'request.accepted', outcome: 'ok' } as const;
  const append = (from: number, count: number): Promise<unknown> =>
    Promise.all(
      Array.from({ length: count }, (_, i) => outbox.append({ ...shared, request_id: `r${from + i}`, target: PAD })),
    );
  await append(0, RECORDS);
  await recorded(RECORDS);
  const slow = openChannel(AuditServiceClient, { address: config.listen });
  undo(t, () => slow.close());
  const all = { user: '', requestId: '', traceId: '', since: '', until: '', exports: false };
  const query = { ...all, tenant: 'acme', limit: RECORDS, withPrompts: false, withAnswers: false, kinds: [] };
  const streams: [string, AsyncGenerator<unknown>][] = [
    ['export', serverStream(slow, 'export', { since: '', until: '' }, options)],
    ['query', serverStream(slow, 'query', query, options)],
    ['tail', serverStream(slow, 'tail', { tenant: 'acme', backlog: 1_000 }, options)],
  ];
  for (const [, stream] of streams) await stream.next();
  await append(RECORDS, 10);
  await recorded(RECORDS + 10);
  await sleep(1_500); // nobody reads
  for (const [what, stream] of streams) {
    const rest = async (): Promise<void> => {
      for await (const _ of stream);
    };
    await assert.rejects(rest(), { code: 'RESOURCE_EXHAUSTED', message: /the reader took nothing for 0\.3 s/ }, what);
  }
  assert.ok((await head()).records > BigInt(RECORDS));
  quick.close();
});
