import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { recordsOf, scanFrames } from '../../../../services/kit/audit/frame.ts';
import { Outbox, type OutboxOptions } from '../../../../services/kit/audit/outbox.ts';
import { type AuditEvent, NO_RECORD_SHA256, placeOf, sha256Hex } from '../../../../services/kit/audit/record.ts';
import { openSegmentFiles, type SegmentFiles } from '../../../../services/kit/audit/segment-files.ts';

const event = (target = ''): AuditEvent => ({
  tenant: 't',
  actor: { kind: 'user', ref: 'p' },
  action: 'request.accepted',
  outcome: 'ok',
  target,
});

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

const open = (dir: string, over: Partial<OutboxOptions> = {}) => Outbox.open({ dir, service: 'gateway', ...over });

/** All records on disk; checks seq and chain on the way. */
async function recordsIn(dir: string): Promise<Buffer[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.log')).sort();
  const records: Buffer[] = [];
  for (const name of names) {
    const scan = scanFrames(await readFile(join(dir, name)));
    assert.equal(scan.verdict, 'clean', name);
    for (const payload of scan.payloads) records.push(...recordsOf(payload));
  }
  for (const [i, bytes] of records.entries()) {
    const before = records[i - 1];
    if (before) assert.equal(placeOf(bytes).prev, sha256Hex(before));
    if (before) assert.equal(placeOf(bytes).seq, placeOf(before).seq + 1);
  }
  return records;
}

test('1,000 appends at once: few frames, one gapless chain, receipts in order', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir);
  const receipts = await Promise.all(Array.from({ length: 1000 }, (_, i) => outbox.append(event(String(i)))));
  assert.deepEqual(
    receipts.map(({ seq }) => seq),
    Array.from({ length: 1000 }, (_, i) => i + 1),
  );
  assert.equal(outbox.durableSeq, 1000);
  await outbox.close();
  const records = await recordsIn(dir);
  assert.equal(records.length, 1000);
  assert.equal(placeOf(records[0]!).prev, NO_RECORD_SHA256);
  assert.deepEqual(
    records.map((bytes) => placeOf(bytes).id),
    receipts.map(({ id }) => id),
  );
  const [name] = (await readdir(dir)).filter((one) => one.endsWith('.log'));
  const frames = scanFrames(await readFile(join(dir, name!))).payloads.length;
  assert.ok(frames <= 20, `${frames} frames: appends did not join a group commit`);
});

test('a restart goes on in the chain, one epoch later, as the same producer', async (t) => {
  const dir = await folder(t);
  const first = await open(dir);
  await first.append(event('a'));
  await first.close();
  const second = await open(dir);
  assert.equal(second.producer, first.producer);
  assert.deepEqual([first.epoch, second.epoch], [1, 2]);
  assert.deepEqual((await second.append(event('b'))).seq, 2);
  await second.close();
  assert.deepEqual(
    (await recordsIn(dir)).map((bytes) => placeOf(bytes).epoch),
    [1, 2],
  );
});

test('a last frame torn at any byte is cut off, and the chain goes on after what was safe', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir);
  await outbox.append(event('first'));
  const [name] = (await readdir(dir)).filter((one) => one.endsWith('.log'));
  const kept = (await readFile(join(dir, name!))).length;
  await outbox.append(event('second'));
  const whole = await readFile(join(dir, name!));
  const copies = await folder(t);
  for (let length = kept; length < whole.length; length += 1) {
    const copy = join(copies, String(length));
    await cp(dir, copy, { recursive: true, filter: (from) => !from.endsWith('lock') });
    await truncate(join(copy, name!), length);
    const again = await open(copy);
    assert.equal(again.durableSeq, 1, `torn at ${length}`);
    assert.equal((await again.append(event('third'))).seq, 2);
    await again.close();
    assert.equal((await recordsIn(copy)).length, 2);
  }
  await outbox.close();
});

test('a byte that changed before the last frame is an alarm, not a cut', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir);
  await outbox.append(event('first'));
  await outbox.append(event('second'));
  await outbox.close();
  const [name] = (await readdir(dir)).filter((one) => one.endsWith('.log'));
  const path = join(dir, name!);
  const good = await readFile(path);
  const end = scanFrames(good).payloads[0]!.length + 12;
  for (let at = 0; at < end; at += 1) {
    const bad = Buffer.from(good);
    bad[at]! ^= 0x20;
    await writeFile(path, bad);
    await assert.rejects(open(dir), { code: 'DATA_LOSS' }, `byte ${at}`);
    assert.deepEqual(await readFile(path), bad, 'a refused folder stays as it is');
  }
  await writeFile(path, good);
  await (await open(dir)).close();
});

test('a last frame with any byte changed is an alarm too: only what a crash can leave is cut', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir);
  await outbox.append(event('first'));
  const name = (await readdir(dir)).find((one) => one.endsWith('.log'))!;
  const path = join(dir, name);
  const kept = (await readFile(path)).length;
  await outbox.append(event('second'));
  const state = await readFile(join(dir, 'state.json')); // as a crash leaves it: it knows of neither
  await outbox.close();
  await writeFile(join(dir, 'state.json'), state);
  const whole = await readFile(path);
  for (let at = kept; at < whole.length; at += 1) {
    const bad = Buffer.from(whole);
    bad[at]! ^= 1;
    await writeFile(path, bad);
    await assert.rejects(open(dir), { code: 'DATA_LOSS', message: new RegExp(`${name} has changed at byte ${kept}`) });
    assert.deepEqual(await readFile(path), bad, `byte ${at}: a refused folder stays as it is`);
  }
  await writeFile(path, Buffer.concat([whole.subarray(0, kept), Buffer.alloc(whole.length - kept)]));
  const again = await open(dir);
  assert.equal(again.durableSeq, 1);
  await again.close();
});

test('a refused folder stays as it is, its torn end too', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir);
  await outbox.append(event('first'));
  await outbox.append(event('second'));
  await outbox.close();
  const path = join(dir, (await readdir(dir)).find((one) => one.endsWith('.log'))!);
  const whole = await readFile(path);
  await truncate(path, whole.length - 1);
  await assert.rejects(open(dir), { code: 'DATA_LOSS', message: /records 2 to 2 are missing/ });
  assert.equal((await readFile(path)).length, whole.length - 1);
});

test('a frame that went missing, or came from another producer, is an alarm', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir, { segmentBytesMax: 400 });
  for (let i = 0; i < 4; i += 1) await outbox.append(event(String(i)));
  await outbox.close();
  const names = (await readdir(dir)).filter((one) => one.endsWith('.log')).sort();
  assert.equal(names.length, 4);
  const second = await readFile(join(dir, names[1]!));
  await rm(join(dir, names[1]!));
  await assert.rejects(open(dir), { code: 'DATA_LOSS', message: /expected a segment that begins with record 2/ });
  await writeFile(join(dir, names[1]!), second);
  await rm(join(dir, names[3]!));
  await assert.rejects(open(dir), { code: 'DATA_LOSS', message: /records 4 to 4 are missing/ });
  const other = await folder(t);
  const foreign = await open(other);
  await foreign.append(event());
  await foreign.close();
  await cp(join(other, names[0]!), join(dir, names[0]!));
  await assert.rejects(open(dir), { code: 'DATA_LOSS', message: /has records of gateway-/ });
});

test('one writer per folder; a dead writer lets go', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir);
  await assert.rejects(open(dir), {
    code: 'FAILED_PRECONDITION',
    message: /in use by process \d+; expected one writer/,
  });
  await outbox.close();
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  await writeFile(join(dir, 'lock'), `${child.pid} 12345\n`);
  await (await open(dir)).close();
});

test('frames are read in order, across segments and restarts, and released only whole and covered', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir, { segmentBytesMax: 1000 });
  for (let i = 0; i < 20; i += 1) await outbox.append(event(String(i)));
  let position = outbox.firstPosition;
  const seen: number[] = [];
  for (let frame = await outbox.frameAt(position); frame; frame = await outbox.frameAt(position)) {
    for (const bytes of recordsOf(frame.bytes)) seen.push(placeOf(bytes).seq);
    assert.equal(frame.lastSeq, seen.at(-1));
    position = frame.next;
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  const waiting = outbox.committed(AbortSignal.timeout(10_000));
  await outbox.append(event('more'));
  await waiting;
  assert.equal((await outbox.frameAt(position))?.firstSeq, 21);
  const segments = async () => (await readdir(dir)).filter((one) => one.endsWith('.log')).sort();
  const before = await segments();
  assert.ok(before.length > 4);
  const secondBegins = Number.parseInt(before[1]!, 10);
  await outbox.release(secondBegins - 2);
  assert.equal((await segments()).length, before.length, 'not covered yet');
  await outbox.release(secondBegins - 1);
  assert.equal((await segments()).length, before.length - 1);
  await outbox.release(1_000_000);
  assert.equal((await segments()).length, 1, 'the newest segment stays');
  await outbox.close();
  const again = await open(dir);
  assert.equal((await again.append(event())).seq, 22);
  await again.close();
});

type Faults = Partial<Record<'write' | 'datasync' | 'truncate', string>>;

/** Files whose named steps throw the given codes while `on`; a failing write leaves five bytes. */
async function failing(dir: string, codes: Faults) {
  const files = await openSegmentFiles(dir);
  const fault = { on: false };
  const wrapped: SegmentFiles = {
    ...files,
    async open(name) {
      const file = await files.open(name);
      const faulty = async (code: string | undefined): Promise<void> => {
        throw Object.assign(new Error(`injected ${code}`), { code });
      };
      const fails = (step: keyof Faults): boolean => fault.on && codes[step] !== undefined;
      return {
        write: (bytes, at) =>
          fails('write') ? file.write(bytes.subarray(0, 5), at).then(() => faulty(codes.write)) : file.write(bytes, at),
        truncate: (length) => (fails('truncate') ? faulty(codes.truncate) : file.truncate(length)),
        datasync: () => (fails('datasync') ? faulty(codes.datasync) : file.datasync()),
        close: () => file.close(),
      };
    },
  };
  return { files: wrapped, fault };
}

test('disk full: what did not fit is refused, what was safe stays, and room again means records again', async (t) => {
  const dir = await folder(t);
  const { files, fault } = await failing(dir, { write: 'ENOSPC' });
  const outbox = await open(dir, { files });
  await outbox.append(event('a'));
  fault.on = true;
  const refused = await Promise.allSettled([outbox.append(event('b')), outbox.append(event('c'))]);
  for (const one of refused) {
    assert.equal(one.status, 'rejected');
    assert.equal(one.reason.details.reason, 'AUDIT_OUTBOX_FULL');
  }
  assert.equal(outbox.status, 'full');
  fault.on = false;
  assert.equal((await outbox.append(event('d'))).seq, 2);
  assert.equal(outbox.status, 'open');
  await outbox.close();
  assert.equal((await recordsIn(dir)).length, 2);
});

test('a failed fdatasync ends the outbox: no later success can vouch for those bytes', async (t) => {
  const dir = await folder(t);
  const { files, fault } = await failing(dir, { datasync: 'EIO' });
  const outbox = await open(dir, { files });
  await outbox.append(event('a'));
  fault.on = true;
  await assert.rejects(outbox.append(event('b')), { code: 'UNAVAILABLE' });
  fault.on = false;
  assert.equal(outbox.status, 'failed');
  await assert.rejects(outbox.append(event('c')), { code: 'UNAVAILABLE', message: /disk of the outbox failed/ });
  await outbox.close();
  const again = await open(dir);
  assert.ok(again.durableSeq >= 1, 'what can be re-read is the truth');
  await again.close();
});

test('a write error that is not a full disk, or a cut that fails, ends the outbox too', async (t) => {
  for (const codes of [{ write: 'EIO' }, { write: 'ENOSPC', truncate: 'EIO' }]) {
    const dir = await folder(t);
    const { files, fault } = await failing(dir, codes);
    const outbox = await open(dir, { files });
    await outbox.append(event('a'));
    fault.on = true;
    await assert.rejects(outbox.append(event('b')), { code: 'UNAVAILABLE', message: /disk of the outbox failed/ });
    assert.equal(outbox.status, 'failed');
    await outbox.close();
    const again = await open(dir);
    assert.equal(again.durableSeq, 1, 'the five bytes of the failed write are a torn tail');
    await again.close();
  }
});

test('an outbox at its hard limit refuses and says what to do', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir, { hardBytes: 600 });
  await outbox.append(event('a'));
  await outbox.append(event('b'));
  await assert.rejects(outbox.append(event('c')), {
    code: 'UNAVAILABLE',
    message: /the outbox holds \d+ of at most 600 bytes; the audit service must catch up/,
  });
  await outbox.close();
  await assert.rejects(outbox.append(event('d')), { code: 'UNAVAILABLE', message: /closed/ });
});

test('records are found by number and read in order, also across segments that were let go', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir, { segmentBytesMax: 1_200 });
  const ids: string[] = [];
  for (let i = 0; i < 12; i += 1) ids.push((await outbox.append(event(`${i}`))).id);
  const idOf = async (seq: number) => {
    const bytes = await outbox.recordAt(seq);
    return bytes && placeOf(bytes).id;
  };
  for (const seq of [1, 2, 7, 12]) assert.equal(await idOf(seq), ids[seq - 1]);
  assert.deepEqual([await idOf(0), await idOf(13)], [null, null]);
  const told: number[] = [];
  await outbox.release(7, async (lastSeq) => void told.push(lastSeq));
  assert.ok(outbox.firstSeq > 1 && outbox.firstSeq <= 8);
  assert.deepEqual(told, [outbox.firstSeq - 1]);
  await outbox.release(7, () => assert.fail('nothing goes'));
  assert.equal(await idOf(1), null);
  const left: string[] = [];
  for await (const bytes of outbox.records()) left.push(placeOf(bytes).id);
  assert.deepEqual(left, ids.slice(outbox.firstSeq - 1));
  await outbox.close();
});

test('nothing is let go when what must be written before cannot be', async (t) => {
  const dir = await folder(t);
  const outbox = await open(dir, { segmentBytesMax: 1_200 });
  for (let i = 0; i < 12; i += 1) await outbox.append(event());
  await assert.rejects(
    outbox.release(12, () => Promise.reject(new Error('no room'))),
    /no room/,
  );
  assert.equal(outbox.firstSeq, 1);
  assert.equal((await recordsIn(dir)).length, 12);
  await outbox.close();
});

test('a full disk is tried again without a record, which leaves no byte behind', async (t) => {
  const dir = await folder(t);
  const real = await openSegmentFiles(dir);
  let code: string | null = null;
  const files: SegmentFiles = {
    ...real,
    async open(name) {
      const file = await real.open(name);
      return {
        ...file,
        async write(bytes, at) {
          if (code !== null) throw Object.assign(new Error(code), { code });
          await file.write(bytes, at);
        },
      };
    },
  };
  const outbox = await open(dir, { files });
  await outbox.append(event('a'));
  const size = await real.size('0000000000000001.log');
  code = 'ENOSPC';
  await assert.rejects(outbox.append(event('b')), { details: { reason: 'AUDIT_OUTBOX_FULL' } });
  await outbox.retry();
  assert.equal(outbox.status, 'full');
  code = null;
  const [, receipt] = await Promise.all([outbox.retry(), outbox.append(event('c'))]);
  assert.equal(outbox.status, 'open');
  assert.equal(receipt.seq, 2);
  assert.equal((await recordsIn(dir)).length, 2);
  code = 'ENOSPC';
  await assert.rejects(outbox.append(event('d')));
  const full = await real.size('0000000000000001.log');
  assert.ok(full > size);
  code = 'EIO';
  await outbox.retry();
  assert.equal(outbox.status, 'failed');
  await outbox.close();
  assert.equal(await real.size('0000000000000001.log'), full);
});
