// A verification of a ledger from which segments age away meanwhile.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { VerifyResponse } from '#gen/quern/audit/v1/audit.ts';
import { createLog } from '#kit/log.ts';
import type { CallContext } from '#kit/rpc/service.ts';
import { CheckpointWriter } from '../../../../services/audit/checkpoints.ts';
import type { AuditContext } from '../../../../services/audit/context.ts';
import { Ledger } from '../../../../services/audit/ledger.ts';
import { verify } from '../../../../services/audit/rpc/verify.ts';
import { chainsBefore, makeLog, signer } from '../../kit/audit/support/log.ts';

const RECORDS = 200;
const records = makeLog(RECORDS);

/** A ledger of many segments, of which the first have aged, and a checkpoint of all. */
async function setUp(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const ledger = await Ledger.open({ dir: join(dir, 'ledger'), segmentBytesMax: 4_000 });
  t.after(async () => {
    await ledger.close();
    await rm(dir, { recursive: true, force: true });
  });
  for (let i = 0; i < RECORDS; i += 5) await ledger.append(records.slice(i, i + 5));
  const log = createLog({ service: 't', level: 'silent' });
  const path = join(dir, 'checkpoints.jsonl');
  const checkpoints = await CheckpointWriter.open({ tree: ledger, signer, path, witnesses: [], log });
  await checkpoints.sign({ now: true });
  const drop = (before: number): Promise<number> => {
    const start = ledger.segmentStarts.findLast((first) => first <= before) ?? 0;
    return ledger.dropBefore(before, chainsBefore(records, start));
  };
  const answer = async (): Promise<VerifyResponse | undefined> => {
    const context = { ledger, checkpoints, verifier: signer } as unknown as AuditContext; // what it asks for
    const call = { signal: AbortSignal.timeout(30_000) } as unknown as CallContext;
    const answers: VerifyResponse[] = [];
    const write = (one: VerifyResponse): boolean => answers.push(one) > 0;
    await verify(context, { trustedCheckpoint: '' }, call, { write, drained: async () => {}, writable: true });
    return answers.at(-1);
  };
  return { ledger, drop, answer };
}

test('segments that fall due in the middle of a verification go after it, and the verdict is ok', async (t) => {
  const { ledger, drop, answer } = await setUp(t);
  assert.ok((await drop(75)) > 0);
  const { firstIndex } = ledger;
  const leaves = ledger.leaves.bind(ledger);
  const dropped: number[] = [];
  t.mock.method(ledger, 'leaves', async function* (end: number) {
    yield* leaves(end);
    dropped.push(await drop(150)); // the aged leaves are read, the records are not
  });
  const result = await answer();
  assert.deepEqual([result?.verdict, result?.index], ['ok', undefined], result?.message);
  assert.deepEqual([result?.records, result?.covered], [BigInt(RECORDS), BigInt(RECORDS)]);
  assert.deepEqual([dropped, ledger.firstIndex], [[0], firstIndex], 'nothing went meanwhile');
  t.mock.restoreAll();
  assert.ok((await drop(150)) > 0, 'and now it goes');
  assert.ok(ledger.firstIndex > firstIndex);
  assert.equal((await answer())?.verdict, 'ok');
});
