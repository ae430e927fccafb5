// After an fdatasync that failed a start reads from memory what the disk does not have. What it tells callers must outlast the power.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import { type CallFacts, CallJournal } from '../../../services/tools/call-journal.ts';
import { JOURNAL_SEGMENT_AGE_MS } from '../../../services/tools/limits.ts';
import { lossyDisk } from '../kit/audit/support/lossy-disk.ts';

const facts = (id: string): CallFacts => ({
  executionId: id,
  tenant: 'acme',
  owner: 'o',
  actorRef: 'r',
  callId: `call-${id}`,
  key: `key-${id}`,
  requestSha: 's',
  tool: 'run_code',
  toolSha: 't',
  requestId: 'q',
  traceId: 'x',
});
const end = { outcome: 'ok', result: 'AAAA' };
const [OLDER, NEWEST] = ['0000000001.calls', '0000000002.calls'];

/** One call has ended in an older segment; of the newest the begin of another is safe, and the sync of its end failed. */
async function failedSync(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const dir = await mkdtemp(join(root, 'journal-'));
  const disk = await lossyDisk(t, dir);
  let now = 1_000_000;
  const open = async (from = dir) => CallJournal.open({ files: await openSegmentFiles(from), now: () => now });
  const { journal } = await open();
  await journal.begin(facts('a'));
  await journal.end(facts('a'), end);
  now += JOURNAL_SEGMENT_AGE_MS + 1;
  await journal.begin(facts('b'));
  disk.fails = /\.calls$/;
  await assert.rejects(journal.end(facts('b'), end), { code: 'UNAVAILABLE' });
  await journal.close();
  disk.fails = null;
  disk.steps.length = 0;
  const afterPower = async () => {
    const copy = await mkdtemp(join(root, 'power-'));
    await disk.powerFailure(copy);
    const opened = await open(copy);
    t.after(() => opened.journal.close());
    return opened;
  };
  const path = join(dir, NEWEST);
  return { path, disk, open, afterPower, whole: await readFile(path) };
}

test('an end whose sync failed is written again, with its segment, and synced before a start tells it', async (t) => {
  const { disk, open, afterPower, whole } = await failedSync(t);
  const { journal, lost } = await open();
  assert.deepEqual(lost, []);
  assert.deepEqual(await journal.find('key-b'), { kind: 'ended', facts: facts('b'), end });
  assert.deepEqual(
    disk.steps,
    [
      { step: 'write', path: NEWEST, at: 0, bytes: whole },
      { step: 'sync', path: NEWEST },
      { step: 'sync', path: '' },
    ],
    `nothing of ${OLDER}`,
  );
  await journal.begin(facts('c'));
  await journal.end(facts('c'), end);
  await journal.close();
  const after = await afterPower();
  assert.deepEqual(after.lost, []);
  for (const id of ['a', 'b', 'c'])
    assert.deepEqual(await after.journal.find(`key-${id}`), { kind: 'ended', facts: facts(id), end }, id);
});

test('a start whose own sync fails does not open, and cuts nothing; the next one may', async (t) => {
  const { path, disk, open, afterPower, whole } = await failedSync(t);
  const torn = Buffer.concat([whole, whole.subarray(0, 20)]);
  await writeFile(path, torn);
  for (const fails of [/\.calls$/, /\.calls$/, /^$/]) {
    disk.fails = fails;
    const message =
      /journal-\w+\/0000000002\.calls: bytes 0 to \d+ could not be written to the disk again \(EIO: made by the test\).*start again/;
    await assert.rejects(open(), { code: 'UNAVAILABLE', message, details: { reason: 'DISK_FAILED' } });
    assert.deepEqual(await readFile(path), torn);
  }
  disk.fails = null;
  const { journal } = await open();
  assert.deepEqual(await readFile(path), whole, 'the torn end is cut');
  await journal.close();
  const after = await afterPower();
  assert.deepEqual((await after.journal.find('key-b'))?.kind, 'ended');
});
