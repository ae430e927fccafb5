// Verify: the whole ledger against every checkpoint, as somebody outside would do it.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { VerifyRequest, VerifyResponse } from '#gen/quern/audit/v1/audit.ts';
import { asideFinding } from '#kit/audit/ledger-folder.ts';
import { VERIFY_CHECKPOINTS_MAX } from '#kit/audit/limits.ts';
import { LogDamage, verifyLog } from '#kit/audit/verify.ts';
import { QuernError, throwIfAborted } from '#kit/errors.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import type { AuditContext } from '../context.ts';
import { VERIFY_REPORT_RECORDS, VERIFY_SLICE_RECORDS } from '../limits.ts';
import { noteField } from '../request-fields.ts';
import { readerTakes } from './reader.ts';

/** The records from `first` on, with a look at other work and at the caller now and then. */
async function* stored(
  { ledger }: AuditContext,
  { signal }: CallContext,
  first: number,
  report: (records: number) => Promise<void>,
): AsyncGenerator<Buffer, void, undefined> {
  let expected = first;
  try {
    for await (const { index, bytes } of ledger.read(expected)) {
      if (index !== expected) throw new LogDamage('missing', expected, `the ledger goes on with record ${index}`);
      yield bytes;
      expected += 1;
      if (expected % VERIFY_SLICE_RECORDS === 0) {
        throwIfAborted(signal);
        await nextTurn();
      }
      if (expected % VERIFY_REPORT_RECORDS === 0) await report(expected);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new LogDamage('missing', expected, 'a file of the ledger is gone');
    }
    if (!(error instanceof QuernError) || error.code !== 'DATA_LOSS') throw error;
    throw new LogDamage('altered', expected, error.message);
  }
}

export async function verify(
  context: AuditContext,
  request: VerifyRequest,
  call: CallContext,
  out: Out<VerifyResponse>,
): Promise<void> {
  const { ledger, checkpoints, verifier } = context;
  const trusted = noteField('trusted_checkpoint', request.trustedCheckpoint);
  // Before the records: each of these checkpoints then speaks of what is there.
  const notes = await checkpoints.sample(VERIFY_CHECKPOINTS_MAX);
  const total = BigInt(ledger.size);
  const progress = { total, verdict: '', message: '', covered: 0n, checkpoint: '' };
  const report = async (records: number): Promise<void> => {
    if (!out.write({ ...progress, records: BigInt(records) })) await readerTakes(context, out);
  };
  // Leaf hashes, chains and records must meet at one place: no segment ages while they are read one after the other.
  const result = await ledger.keeping(() => {
    const { firstIndex } = ledger;
    return verifyLog({
      records: stored(context, call, firstIndex, report),
      aged: ledger.leaves(firstIndex),
      heads: ledger.agedHeads,
      origin: verifier.name,
      verifiers: [verifier],
      checkpoints: notes,
      trusted,
    });
  });
  const { records, covered } = result;
  const [aside] = ledger.asides;
  const { verdict, index, message } = aside && result.verdict === 'ok' ? asideFinding(aside.firstIndex) : result;
  out.write({
    records: BigInt(records),
    total,
    verdict,
    index: index === null ? undefined : BigInt(index),
    message,
    covered: BigInt(covered),
    checkpoint: notes.at(-1) ?? '',
  });
}
