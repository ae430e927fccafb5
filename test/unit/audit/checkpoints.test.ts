import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { newSigningKey, openCheckpoint, signerOf } from '#kit/audit/checkpoint.ts';
import { type KeptCheckpoint, readCheckpoints } from '#kit/audit/checkpoint-file.ts';
import { createLog } from '#kit/log.ts';
import { type CheckpointOptions, CheckpointWriter } from '../../../services/audit/checkpoints.ts';
import { Ledger } from '../../../services/audit/ledger.ts';

const log = createLog({ service: 't', level: 'silent' });
const signer = signerOf('quern.test/audit', newSigningKey());

async function keptIn(path: string): Promise<KeptCheckpoint[]> {
  const all: KeptCheckpoint[] = [];
  for await (const one of readCheckpoints(path)) all.push(one);
  return all;
}

async function until(isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000 && !isSo(); i += 1) await sleep(10);
  assert.ok(isSo());
}

async function setUp(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const ledger = await Ledger.open({ dir: join(dir, 'ledger') });
  t.after(async () => {
    await ledger.close();
    await rm(dir, { recursive: true, force: true });
  });
  const path = join(dir, 'checkpoints.jsonl');
  const open = (over: Partial<CheckpointOptions> = {}) =>
    CheckpointWriter.open({ tree: ledger, signer, path, witnesses: [], log, everyRecords: 10, everyMs: 1e9, ...over });
  let made = 0;
  const append = async (count: number): Promise<void> => {
    await ledger.append(Array.from({ length: count }, () => Buffer.from(`record ${made++}`)));
  };
  return { dir, ledger, path, open, append };
}

test('signed after enough records, after enough time, or when asked, and never twice for the same', async (t) => {
  const { ledger, path, open, append } = await setUp(t);
  const writer = await open();
  assert.equal(await writer.sign({ now: true }), false, 'an empty log has nothing to sign');
  await append(9);
  assert.equal(await writer.sign(), false);
  await append(1);
  assert.equal(await writer.sign(), true);
  assert.equal(await writer.sign({ now: true }), false);
  await append(1);
  assert.equal(await writer.sign({ now: true }), true);
  const timed = await open({ everyMs: 0 });
  await append(1);
  assert.equal(await timed.sign(), true);
  const kept = await keptIn(path);
  const sizes = kept.map(({ note }) => openCheckpoint(note, signer.name, [signer]).size);
  assert.deepEqual(sizes, [10, 11, 12]);
  assert.deepEqual(openCheckpoint(kept[2]!.note, signer.name, [signer]).root, ledger.root());
  assert.deepEqual(timed.latest, kept[2]);
});

test('witnesses get every note; one that cannot be written keeps nobody from signing', async (t) => {
  const { dir, path, open, append } = await setUp(t);
  const witness = join(dir, 'witness.jsonl');
  const writer = await open({ witnesses: [join(dir, 'no', 'such', 'folder'), witness] });
  await append(3);
  assert.ok(await writer.sign({ now: true }));
  await append(3);
  assert.ok(await writer.sign({ now: true }));
  await writer.close();
  assert.equal(await readFile(witness, 'utf8'), await readFile(path, 'utf8'));
  assert.deepEqual(
    writer.witnesses.map(({ state, waitingNotes }) => [state, waitingNotes]),
    [
      ['failed', 2],
      ['ok', 0],
    ],
  );
});

test('a witness that comes back gets the notes that it lacks, in their order', async (t) => {
  const { dir, path, open, append } = await setUp(t);
  const witness = join(dir, 'mount', 'witness.jsonl');
  const writer = await open({ witnesses: [witness] });
  for (let i = 0; i < 3; i += 1) {
    await append(1);
    assert.ok(await writer.sign({ now: true }));
  }
  await until(() => writer.witnesses[0]?.state === 'failed');
  await mkdir(join(dir, 'mount'));
  await append(1);
  assert.ok(await writer.sign({ now: true }));
  await writer.close();
  assert.equal(await readFile(witness, 'utf8'), await readFile(path, 'utf8'));
  assert.deepEqual(writer.witnesses, [{ path: witness, state: 'ok', waitingNotes: 0, lostNotes: 0 }]);
});

test('a witness that never answers keeps nobody from signing and closing; the newest notes wait for it', async (t) => {
  const { dir, path, open, append } = await setUp(t);
  const [pipe, witness] = [join(dir, 'pipe'), join(dir, 'witness.jsonl')];
  await promisify(execFile)('mkfifo', [pipe]); // opening it to write hangs until somebody reads
  const witnessBounds = { notesMax: 3, lateMs: 20, closeMs: 50 };
  const writer = await open({ witnesses: [pipe, witness], witnessBounds });
  for (let i = 0; i < 6; i += 1) {
    await append(1);
    assert.ok(await writer.sign({ now: true }));
    await until(() => writer.witnesses[1]?.waitingNotes === 0);
  }
  await until(() => writer.witnesses[0]?.state === 'late');
  assert.deepEqual(writer.witnesses[0], { path: pipe, state: 'late', waitingNotes: 4, lostNotes: 2 });
  await writer.close();
  assert.equal(await readFile(witness, 'utf8'), await readFile(path, 'utf8'));
  assert.equal((await keptIn(path)).length, 6);
});

test('a line torn by a crash is cut; a changed line is an alarm', async (t) => {
  const { path, open, append } = await setUp(t);
  await append(1);
  await (await open()).sign({ now: true });
  const good = await readFile(path, 'utf8');
  await appendFile(path, '{"ts":"2026-01-01T00:0');
  const writer = await open();
  assert.equal(await readFile(path, 'utf8'), good);
  await append(1);
  assert.ok(await writer.sign({ now: true }));
  await writeFile(path, good.replace('{', '['));
  await assert.rejects(open(), {
    code: 'DATA_LOSS',
    message: /the last line is no checkpoint; the file has been changed/,
  });
  await writeFile(path, good.replace(/"note":"quern/, '"note":"Quern'));
  await assert.rejects(open(), { code: 'DATA_LOSS', message: /does not open with this key/ });
  const other = signerOf('quern.test/audit', newSigningKey());
  await writeFile(path, good);
  await assert.rejects(open({ signer: other }), { code: 'DATA_LOSS', message: /no known key has signed it/ });
});

test('a ledger that was cut or rewritten is not signed again', async (t) => {
  const { dir, open, append } = await setUp(t);
  await append(5);
  await (await open()).sign({ now: true });
  for (const [records, message] of [
    [['record 0', 'record 1'], /has 2 records, but a checkpoint of 5 was signed: it was truncated/],
    [
      ['record 0', 'record 1', 'CHANGED', 'record 3', 'record 4', 'record 5'],
      /the first 5 records .*: records were changed.*quern audit verify /,
    ],
  ] as const) {
    const forged = await Ledger.open({ dir: join(dir, `forged-${records.length}`) });
    await forged.append(records.map((text) => Buffer.from(text)));
    await assert.rejects(open({ tree: forged }), { code: 'DATA_LOSS', message });
    await forged.close();
  }
});
