// After an fdatasync that failed a start reads from memory what the disk does not have. What it goes on from must outlast the power.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Outbox, type OutboxOptions } from '../../../../services/kit/audit/outbox.ts';
import { type AuditEvent, placeOf } from '../../../../services/kit/audit/record.ts';
import { type DiskStep, lossyDisk } from './support/lossy-disk.ts';

const event: AuditEvent = {
  tenant: 't',
  actor: { kind: 'user', ref: 'p' },
  action: 'request.accepted',
  outcome: 'ok',
};
const SEGMENT = '0000000000000001.log';

async function setUp(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const dir = await mkdtemp(join(root, 'outbox-'));
  const disk = await lossyDisk(t, dir);
  const open = (over: Partial<OutboxOptions> = {}) => Outbox.open({ dir, service: 'gateway', ...over });
  /** What a start finds when the power has failed. */
  const afterPower = async (count: number): Promise<void> => {
    const copy = await mkdtemp(join(root, 'power-'));
    await disk.powerFailure(copy);
    const outbox = await open({ dir: copy });
    const found: number[] = [];
    for await (const bytes of outbox.records()) found.push(placeOf(bytes).seq);
    await outbox.close();
    assert.deepEqual(
      found,
      Array.from({ length: count }, (_, i) => i + 1),
    );
  };
  const stepsOfSegments = (): DiskStep[] => disk.steps.filter(({ path }) => path.endsWith('.log'));
  return { dir, disk, open, afterPower, stepsOfSegments };
}

/** Two records are safe, the first of them by the state too; a third was written, and its sync failed. */
async function failedSync(t: TestContext, fails = /\.log$/) {
  const all = await setUp(t);
  const first = await all.open();
  await first.append(event);
  await first.close();
  const path = join(all.dir, SEGMENT);
  const at = (await readFile(path)).length;
  const second = await all.open();
  await second.append(event);
  all.disk.fails = fails;
  await assert.rejects(second.append(event), { code: 'UNAVAILABLE' });
  await second.close();
  all.disk.fails = null;
  all.disk.steps.length = 0;
  return { ...all, path, at, whole: await readFile(path) };
}

test('a record whose sync failed is written again where it is, and synced, before a start goes on behind it', async (t) => {
  const { disk, open, afterPower, stepsOfSegments, at, whole } = await failedSync(t);
  const outbox = await open();
  assert.equal(outbox.durableSeq, 3);
  assert.deepEqual(
    stepsOfSegments(),
    [
      { step: 'write', path: SEGMENT, at, bytes: whole.subarray(at) },
      { step: 'sync', path: SEGMENT },
    ],
    'what the state says to be safe is not written again',
  );
  const order = disk.steps.map(({ step, path }) => `${step} ${path}`);
  assert.ok(
    order.indexOf(`sync ${SEGMENT}`) < order.indexOf('write state.json.new'),
    'the state speaks of what is safe',
  );
  await afterPower(3);
  await outbox.append(event);
  await afterPower(4);
  await outbox.close();
});

test('a new segment whose name was not synced has its name after the next start', async (t) => {
  const { disk, open, afterPower } = await setUp(t);
  const outbox = await open();
  disk.fails = /^$/; // the folder
  await assert.rejects(outbox.append(event), { code: 'UNAVAILABLE' });
  await outbox.close();
  disk.fails = null;
  const again = await open();
  const { seq } = await again.append(event);
  await afterPower(seq);
  await again.close();
});

test('a start whose own sync fails does not open, cuts nothing and remembers nothing; the next one may', async (t) => {
  const { dir, path, disk, open, afterPower, whole } = await failedSync(t);
  const torn = Buffer.concat([whole, whole.subarray(0, 20)]);
  await writeFile(path, torn);
  const state = await readFile(join(dir, 'state.json'));
  for (const fails of [/\.log$/, /\.log$/, /^$/]) {
    disk.fails = fails;
    const message =
      /outbox-\w+\/0000000000000001\.log: bytes \d+ to \d+ could not be written to the disk again \(EIO: made by the test\).*start again/;
    await assert.rejects(open(), { code: 'UNAVAILABLE', message, details: { reason: 'DISK_FAILED' } });
    assert.deepEqual([await readFile(path), await readFile(join(dir, 'state.json'))], [torn, state]);
  }
  disk.fails = null;
  const outbox = await open();
  assert.deepEqual([outbox.durableSeq, await readFile(path)], [3, whole], 'the torn end is cut');
  await outbox.append(event);
  await afterPower(4);
  await outbox.close();
});

test('a start writes nothing again after an orderly end, and nothing of older segments ever', async (t) => {
  const { dir, disk, open, stepsOfSegments } = await setUp(t);
  const outbox = await open({ segmentBytesMax: 1_000 });
  for (let i = 0; i < 8; i += 1) await outbox.append(event);
  const state = await readFile(join(dir, 'state.json')); // of the start: it knows of no record
  await outbox.close();
  disk.steps.length = 0;
  await (await open()).close();
  assert.deepEqual(stepsOfSegments(), []);
  await writeFile(join(dir, 'state.json'), state);
  disk.steps.length = 0;
  await (await open()).close();
  const names = (await readdir(dir)).filter((name) => name.endsWith('.log')).sort();
  assert.ok(names.length > 2);
  const newest = names.at(-1)!;
  assert.deepEqual(stepsOfSegments(), [
    { step: 'write', path: newest, at: 0, bytes: await readFile(join(dir, newest)) },
    { step: 'sync', path: newest },
  ]);
});
