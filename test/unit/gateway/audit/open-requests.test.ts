import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Outbox } from '#kit/audit/outbox.ts';
import type { AuditEvent } from '#kit/audit/record.ts';
import { openSegmentFiles, type SegmentFiles } from '#kit/audit/segment-files.ts';
import { OpenRequests } from '../../../../services/gateway/audit/open-requests.ts';

const common = { tenant: 't', actor: { kind: 'user', ref: 'p' }, outcome: 'ok', target: 'm' } as const;
const accepted = (request_id: string): AuditEvent => ({ ...common, action: 'request.accepted', request_id });

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** One frame per record and few records per segment, so that segments go often. */
const openOutbox = (dir: string, files?: SegmentFiles) =>
  Outbox.open({ dir, service: 'gateway', segmentBytesMax: 900, ...(files && { files }) });

/** What a start finds open in a copy of the folder as it lies there now. */
async function foundIn(dir: string): Promise<string[]> {
  const copy = `${dir}-copy`;
  await cp(dir, copy, { recursive: true });
  await rm(join(copy, 'lock'), { force: true });
  const outbox = await openOutbox(copy);
  try {
    const found = new OpenRequests(await openSegmentFiles(copy));
    await found.recover(outbox);
    return found.all().map(({ request_id: id }) => id ?? '');
  } finally {
    await outbox.close();
    await rm(copy, { recursive: true });
  }
}

test('what was accepted and not finished is found, whatever came between', async (t) => {
  const dir = await folder(t);
  const outbox = await openOutbox(dir);
  const ids: string[] = [];
  for (const id of ['a', 'b', 'same', 'same']) ids.push((await outbox.append(accepted(id))).id);
  const end = (id: string | undefined): AuditEvent => ({ ...common, action: 'request.finished', parent_id: id ?? '' });
  await outbox.append({ ...common, action: 'service.started' });
  await outbox.append(end(ids[0]));
  await outbox.append(end(ids[2])); // the first of two with one request id
  assert.deepEqual(await foundIn(dir), ['b', 'same']);
  const found = new OpenRequests(await openSegmentFiles(dir));
  await found.recover(outbox);
  assert.deepEqual(
    found.all().map(({ id }) => id),
    [ids[1], ids[3]],
  );
  await outbox.close();
});

test('at every step of letting go a kill leaves exactly the open requests', async (t) => {
  const dir = await folder(t);
  const steps: string[] = [];
  let check: () => Promise<void> = async () => {};
  const real = await openSegmentFiles(dir);
  const watched: SegmentFiles = {
    ...real,
    async replace(name, bytes) {
      await real.replace(name, bytes);
      steps.push(`wrote ${name}`);
      await check();
    },
    async remove(name) {
      await real.remove(name);
      steps.push('removed');
      await check();
    },
  };
  const outbox = await openOutbox(dir, watched);
  const open = new OpenRequests(watched);
  const accept = async (name: string): Promise<string> => {
    const { id, seq } = await outbox.append(accepted(name));
    open.add({ id, seq, ...common, request_id: name });
    return id;
  };
  const finish = async (id: string): Promise<void> => {
    await outbox.append({ ...common, action: 'request.finished', parent_id: id });
    open.delete(id);
  };
  const long = await accept('long');
  let ids: string[] = [];
  for (let round = 0; round < 4; round += 1) {
    for (const id of ids) await finish(id);
    ids = [];
    for (let i = 0; i < 4; i += 1) ids.push(await accept(`${round}.${i}`));
    for (const id of ids.splice(0, 2)) await finish(id);
    if (round === 2) await finish(long);
    const expected = open.all().map(({ request_id: id }) => id ?? '');
    check = async () => assert.deepEqual((await foundIn(dir)).toSorted(), expected.toSorted());
    await check();
    await outbox.release(outbox.durableSeq, (lastSeq) => open.carry(lastSeq));
    await check();
    check = async () => {};
  }
  assert.ok(steps.filter((step) => step === 'removed').length >= 6, steps.join(', '));
  assert.ok(steps.filter((step) => step === 'wrote open-requests.json').length === 4);
  assert.equal((await readdir(dir)).filter((name) => name.endsWith('.log')).length, 1);
  await outbox.close();
});

test('without the file that carries them nothing is guessed: a damaged one stops the start', async (t) => {
  const dir = await folder(t);
  await writeFile(join(dir, 'open-requests.json'), '{"v":1');
  const open = new OpenRequests(await openSegmentFiles(dir));
  await assert.rejects(open.recover({ records: async function* () {} }), { code: 'DATA_LOSS' });
  await writeFile(join(dir, 'open-requests.json'), '{"v":2,"requests":[]}');
  await assert.rejects(open.recover({ records: async function* () {} }), { code: 'DATA_LOSS' });
});
