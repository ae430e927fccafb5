import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openSegmentFiles, type SegmentFiles } from '#kit/audit/segment-files.ts';
import type { QuernError } from '#kit/errors.ts';
import { type CallFacts, CallJournal } from '../../../services/tools/call-journal.ts';
import { JOURNAL_KEPT_MS, JOURNAL_SEGMENT_AGE_MS } from '../../../services/tools/limits.ts';

const facts = (id: string, key = `key-${id}`): CallFacts => ({
  executionId: id,
  tenant: 'acme',
  owner: 'o',
  actorRef: 'r',
  callId: `call-${id}`,
  key,
  requestSha: 's',
  tool: 'run_code',
  toolSha: 't',
  requestId: 'q',
  traceId: 'x',
});

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-journal-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

const open = async (dir: string, now?: () => number) =>
  CallJournal.open({ files: await openSegmentFiles(dir), ...(now && { now }) });
const end = { outcome: 'ok', result: 'AAAA' };

test('a key is new, running, ended; after a start what was running is lost until it is ended', async (t) => {
  const dir = await folder(t);
  const { journal, lost } = await open(dir);
  assert.deepEqual(lost, []);
  assert.equal(await journal.find('key-a'), null);
  await journal.begin(facts('a'));
  assert.equal((await journal.find('key-a'))?.kind, 'running');
  await journal.end(facts('a'), end);
  await journal.begin(facts('b'));
  await journal.close();

  const again = await open(dir);
  assert.deepEqual(again.lost, [facts('b')]);
  assert.deepEqual(await again.journal.find('key-a'), { kind: 'ended', facts: facts('a'), end });
  assert.equal((await again.journal.find('key-b'))?.kind, 'unknown');
  await again.journal.end(facts('b'), { outcome: 'unknown', result: 'BBBB' });
  await again.journal.close();
  const third = await open(dir);
  assert.deepEqual(third.lost, []);
  assert.deepEqual((await third.journal.find('key-b'))?.kind, 'ended');
  await third.journal.close();
});

test('the key of a call of which nothing began is free again, after a start too', async (t) => {
  const dir = await folder(t);
  const { journal } = await open(dir);
  await journal.begin(facts('a'));
  await journal.free(facts('a'), 'sandbox_setup_failed');
  assert.equal(await journal.find('key-a'), null);
  await journal.begin(facts('b', 'key-a'));
  await journal.free(facts('a'), 'sandbox_setup_failed');
  assert.equal((await journal.find('key-a'))?.facts.executionId, 'b', 'a later call with the key keeps it');
  await journal.end(facts('b', 'key-a'), end);
  await journal.begin(facts('c'));
  await journal.free(facts('c'), 'cancelled');
  await journal.close();
  const again = await open(dir);
  assert.deepEqual(again.lost, []);
  assert.equal((await again.journal.find('key-a'))?.facts.executionId, 'b');
  assert.equal(await again.journal.find('key-c'), null);
  await again.journal.close();
});

const SMALL = { bytesMax: 20_000, segmentBytesMax: 5_000, keysMax: 1_000 };
const openSmall = async (dir: string, over: Partial<typeof SMALL> = {}) =>
  CallJournal.open({ files: await openSegmentFiles(dir), bounds: { ...SMALL, ...over } });

test('one tenant that fills the journal takes no key, no result and no running call from another', async (t) => {
  const dir = await folder(t);
  const { journal } = await openSmall(dir);
  const other = (id: string): CallFacts => ({ ...facts(id), tenant: 'other' });
  await journal.begin(other('running'));
  await journal.begin(other('quiet'));
  await journal.end(other('quiet'), { outcome: 'ok', result: 'BBBB' });
  for (let i = 0; i < 30; i++) {
    await journal.begin(facts(`loud${i}`));
    await journal.end(facts(`loud${i}`), { outcome: 'ok', result: 'A'.repeat(3_000) });
    await journal.sweep();
  }
  assert.ok(journal.bytes < 2 * SMALL.bytesMax, `${journal.bytes}`);
  const check = async (one: CallJournal, running: string): Promise<void> => {
    const quiet = await one.find('key-quiet');
    assert.equal(quiet?.kind === 'ended' && quiet.end.result, 'BBBB');
    assert.equal((await one.find('key-running'))?.kind, running);
    const first = await one.find('key-loud0');
    assert.deepEqual(first?.kind === 'ended' && first.end, { outcome: 'ok', result: null }, 'known, its result gone');
    const last = await one.find('key-loud29');
    assert.equal(last?.kind === 'ended' && last.end.result?.length, 3_000);
  };
  await check(journal, 'running');
  await journal.close();
  const again = await openSmall(dir);
  assert.deepEqual(again.lost, [other('running')]);
  await check(again.journal, 'unknown');
  await again.journal.end(other('running'), { outcome: 'unknown', result: 'CCCC' });
  await again.journal.close();
});

test('too many keys: the oldest of the tenant with the most go', async (t) => {
  const { journal } = await openSmall(await folder(t), { keysMax: 5, bytesMax: 1e6 });
  for (const id of ['q1', 'q2']) {
    await journal.begin({ ...facts(id), tenant: 'quiet' });
    await journal.end({ ...facts(id), tenant: 'quiet' }, end);
  }
  for (let i = 0; i < 6; i++) {
    await journal.begin(facts(`l${i}`));
    await journal.end(facts(`l${i}`), end);
  }
  await journal.sweep();
  const kept = ['q1', 'q2', ...Array.from({ length: 6 }, (_, i) => `l${i}`)].filter((id) => journal.has(`key-${id}`));
  assert.deepEqual(kept, ['q1', 'q2', 'l3', 'l4', 'l5']);
  await journal.close();
});

test('cut anywhere, the journal opens with every entry that was whole, and goes on', async (t) => {
  const dir = await folder(t);
  const { journal } = await open(dir);
  for (const id of ['a', 'b', 'c']) {
    await journal.begin(facts(id));
    await journal.end(facts(id), end);
  }
  await journal.close();
  const [name] = (await readdir(dir)) as [string];
  const bytes = await readFile(join(dir, name));
  for (let length = 0; length <= bytes.length; length += 37) {
    await writeFile(join(dir, name), bytes.subarray(0, length));
    const cut = await open(dir);
    assert.ok(cut.lost.length <= 1, `${length}: ${cut.lost.length}`);
    for (const one of cut.lost) await cut.journal.end(one, { outcome: 'unknown', result: null });
    await cut.journal.begin(facts('new'));
    await cut.journal.end(facts('new'), end);
    await cut.journal.close();
    const after = await open(dir);
    assert.deepEqual(after.lost, []);
    assert.equal((await after.journal.find('key-new'))?.kind, 'ended');
    await after.journal.close();
  }
});

test('bytes that changed in a file that was finished are told, not passed over', async (t) => {
  const dir = await folder(t);
  let now = 1_000_000;
  const { journal } = await open(dir, () => now);
  await journal.begin(facts('a'));
  await journal.end(facts('a'), end);
  now += JOURNAL_SEGMENT_AGE_MS + 1;
  await journal.begin(facts('b'));
  await journal.close();
  const names = (await readdir(dir)).sort();
  assert.equal(names.length, 2);
  await appendFile(join(dir, names[0]!), 'x');
  await assert.rejects(
    open(dir, () => now),
    (error: QuernError) => error.details.reason === 'TOOL_JOURNAL_DAMAGED',
  );
});

test('a key is free again after its time, and its file goes', async (t) => {
  const dir = await folder(t);
  let now = 1_000_000;
  const { journal } = await open(dir, () => now);
  await journal.begin(facts('a'));
  await journal.end(facts('a'), end);
  now += JOURNAL_SEGMENT_AGE_MS + 1;
  await journal.begin(facts('b'));
  now += JOURNAL_KEPT_MS - JOURNAL_SEGMENT_AGE_MS / 2;
  await journal.sweep();
  assert.equal(await journal.find('key-a'), null);
  assert.equal((await journal.find('key-b'))?.kind, 'running', 'a call that runs keeps its key');
  assert.equal((await readdir(dir)).length, 1);
  await journal.close();
});

test('a disk that fails refuses what follows: no call begins that is not on disk', async (t) => {
  const dir = await folder(t);
  const real = await openSegmentFiles(dir);
  let broken = false;
  const files: SegmentFiles = {
    ...real,
    async open(name) {
      const file = await real.open(name);
      return {
        ...file,
        datasync: () => (broken ? Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' })) : file.datasync()),
      };
    },
  };
  const { journal } = await CallJournal.open({ files });
  await journal.begin(facts('a'));
  broken = true;
  const refused = (error: QuernError): boolean => error.details.reason === 'TOOL_JOURNAL_UNAVAILABLE';
  await assert.rejects(journal.begin(facts('b')), refused);
  assert.equal(journal.hasFailed, true);
  assert.equal(await journal.find('key-b'), null);
  broken = false;
  await assert.rejects(journal.begin(facts('c')), refused, 'a later fdatasync that works proves nothing');
  await journal.close();
});

test('many calls at once share their syncs', async (t) => {
  const dir = await folder(t);
  const real = await openSegmentFiles(dir);
  let syncs = 0;
  const files: SegmentFiles = {
    ...real,
    async open(name) {
      const file = await real.open(name);
      return {
        ...file,
        datasync: () => {
          syncs += 1;
          return file.datasync();
        },
      };
    },
  };
  const { journal } = await CallJournal.open({ files });
  await Promise.all(Array.from({ length: 200 }, (_, i) => journal.begin(facts(`c${i}`))));
  assert.ok(syncs < 20, `${syncs} syncs`);
  await journal.close();
  assert.equal((await open(dir)).lost.length, 200);
});
