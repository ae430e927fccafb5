/** An exported file, verified offline: whatever was done to it is named. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { newSigningKey, signerOf, verifierKey } from '#kit/audit/checkpoint.ts';
import { subtreesBetween } from '#kit/audit/merkle.ts';
import type { QuernError } from '#kit/errors.ts';
import { manifestPath, manifestText, readNote, verifyExport } from '../../../services/cli/audit/export-file.ts';
import { chainsBefore, makeLog, noteAt, ORIGIN, signer, subtreeHashes } from '../kit/audit/support/log.ts';

const OLDER = '; an export from before that checkpoint looks the same: compare their times, or export again';
const SIZE = 30;
const log = makeLog(SIZE);

type Written = { records?: readonly Buffer[]; checkpoints?: string[]; keys?: string[]; tail?: string };

/** An export of the records [first, end); `over` says what was done to it. */
function exported(t: TestContext, [first, end]: [number, number], over: Written = {}, whole = log): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-export-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'audit.jsonl');
  const records = over.records ?? whole.slice(first, end);
  writeFileSync(file, records.map((bytes) => `${bytes}\n`).join('') + (over.tail ?? ''));
  const hash = subtreeHashes(whole);
  const heads = [...chainsBefore(whole, first)].map(([producer, { seq, sha256 }]) => ({
    producer,
    seq: BigInt(seq),
    sha256,
  }));
  const text = manifestText({
    origin: ORIGIN,
    verifierKeys: over.keys ?? [verifierKey(signer)],
    first: BigInt(first),
    count: BigInt(end - first),
    treeSize: BigInt(whole.length),
    before: subtreesBetween(0, first).map(hash),
    after: subtreesBetween(end, whole.length).map(hash),
    checkpoints: over.checkpoints ?? [20, SIZE].filter((size) => size >= first).map((size) => noteAt(whole, size)),
    producers: heads,
    exported: '2026-01-02T00:00:00.000Z',
  });
  writeFileSync(manifestPath(file), text);
  return file;
}

async function verdictOf(
  file: string,
  over: { key?: string; trusted?: string } = {},
): Promise<[string, number | null]> {
  const { verdict, index } = await verifyExport(file, { key: over.key, trusted: over.trusted });
  return [verdict, index];
}

test('an export is ok as it was written, whole or in part, with a trusted checkpoint and a key from elsewhere', async (t) => {
  assert.deepEqual(await verdictOf(exported(t, [0, 30])), ['ok', null]);
  const file = exported(t, [7, 25]);
  const { message, ownKeys, first } = await verifyExport(file, { key: undefined, trusted: noteAt(log, 20) });
  assert.deepEqual([message, ownKeys, first], ['18 records, 18 of them signed', true, 7]);
  assert.deepEqual(await verdictOf(file, { key: verifierKey(signer) }), ['ok', null]);
});

test('altered, missing, reordered and truncated name the record', async (t) => {
  const changed = log.map((bytes, i) => (i === 12 ? Buffer.from(bytes.toString().replace('"ok"', '"no"')) : bytes));
  assert.deepEqual(await verdictOf(exported(t, [0, 30], { records: changed })), ['altered', 12]);
  const missing = log.filter((_, i) => i !== 12);
  assert.deepEqual(await verdictOf(exported(t, [0, 30], { records: missing })), ['missing', 12]);
  const twice = [...log.slice(0, 13), log[12]!, ...log.slice(13, 29)];
  assert.deepEqual(await verdictOf(exported(t, [0, 30], { records: twice })), ['reordered', 13]);
  assert.deepEqual(await verdictOf(exported(t, [0, 30], { records: log.slice(0, 28) })), ['truncated', 28]);
  const added = exported(t, [0, 20], { records: [...log.slice(0, 20), Buffer.from('{}')] });
  assert.deepEqual(await verdictOf(added), ['altered', 20]);
});

test('rechained: records that follow one another, but are not those that were signed', async (t) => {
  const other = makeLog(SIZE, (i) => (i === 12 ? { tenant: 'x' } : {}));
  assert.deepEqual(await verdictOf(exported(t, [0, 30], { records: other })), ['rechained', 0]);
});

test('forked and bad_signature: what was signed elsewhere contradicts the export', async (t) => {
  const forger = signerOf(ORIGIN, newSigningKey());
  const other = makeLog(SIZE, (i) => (i === 12 ? { tenant: 'x' } : {}));
  const forged = exported(t, [0, 30], { keys: [verifierKey(forger)], checkpoints: [noteAt(other, 30, forger)] }, other);
  assert.deepEqual(await verdictOf(forged), ['ok', null], 'whoever makes the keys too is found by nothing inside');
  assert.deepEqual(await verdictOf(forged, { trusted: noteAt(log, 20) }), ['bad_signature', null]);
  assert.deepEqual(await verdictOf(forged, { key: verifierKey(signer) }), ['bad_signature', null]);
  const two = exported(t, [0, 30], {}, other); // the log's own key has signed both
  assert.deepEqual(await verdictOf(two, { trusted: noteAt(log, 20) }), ['forked', null]);
});

test('records added behind a trusted checkpoint and signed by a key that the export brings along are not taken', async (t) => {
  const forger = signerOf(ORIGIN, newSigningKey());
  const added = makeLog(6, (i) => (i >= 3 ? { tenant: 'x' } : {}));
  const [real, forged] = [verifierKey(signer), verifierKey(forger)];
  const trusted = noteAt(log, 3);
  assert.equal(noteAt(added, 3), trusted, 'the first three are true');
  for (const keys of [[real, forged], [forged, real], [forged]]) {
    const checkpoints = [trusted, noteAt(added, 6, forger)];
    const file = exported(t, [0, 6], { keys, checkpoints }, added);
    assert.deepEqual(await verdictOf(file, { trusted }), ['bad_signature', null], `${keys.length}`);
    assert.deepEqual(await verdictOf(file, { key: real }), ['bad_signature', null]);
  }
  const both = exported(t, [0, 6], { keys: [real, forged], checkpoints: [trusted, noteAt(added, 6, forger)] }, added);
  const { message } = await verifyExport(both, { key: undefined, trusted });
  const expected = `checkpoint 2 of 2 does not open with ${real.split('+').slice(0, 2).join('+')}: `;
  assert.equal(message, `${expected}checkpoint: no known key has signed it`);
  const honest = exported(t, [0, 6], { keys: [real, forged], checkpoints: [noteAt(log, 6)] }, log.slice(0, 6));
  assert.deepEqual(await verdictOf(honest, { trusted }), ['ok', null], 'a key too many is no harm');
});

test('records that no signed checkpoint covers are not ok, whatever key or note is trusted', async (t) => {
  const key = verifierKey(signer);
  const added = makeLog(6, (i) => (i >= 3 ? { tenant: 'x' } : {}));
  const bare = exported(t, [0, 6], { checkpoints: [] }, added);
  for (const over of [{ key }, {}]) assert.deepEqual(await verdictOf(bare, over), ['bad_signature', 0]);
  assert.deepEqual(await verdictOf(bare, { trusted: noteAt(log, 3) }), ['bad_signature', 3]);
  const short = exported(t, [0, 6], { checkpoints: [noteAt(log, 3)] }, added);
  const { verdict, index, message, covered } = await verifyExport(short, { key, trusted: undefined });
  assert.deepEqual([verdict, index, covered], ['bad_signature', 3, 3]);
  assert.match(message, /^no signed checkpoint covers record 3, the first of 3 for which nothing vouches/);
  const behind = exported(t, [3, 6], { checkpoints: [noteAt(log, 3)] }, added);
  assert.deepEqual(await verdictOf(behind, { key }), ['bad_signature', 3]);
  const gapped = makeLog(7).filter((_, i) => i !== 4);
  const lacking = exported(t, [0, 6], { checkpoints: [] }, gapped);
  assert.deepEqual(await verdictOf(lacking, { key }), ['bad_signature', 0], 'a gap is told of what was signed');
  assert.deepEqual(await verdictOf(exported(t, [0, 0], { checkpoints: [] }, []), { key }), ['ok', null], 'no records');
});

test('gap: what was signed lacks records of a producer', async (t) => {
  const gapped = makeLog(SIZE + 1).filter((_, i) => i !== 12);
  assert.deepEqual(await verdictOf(exported(t, [0, 30], {}, gapped)), ['gap', 12]);
});

test('truncated: a later checkpoint was kept elsewhere', async (t) => {
  const longer = makeLog(40);
  const { verdict, message } = await verifyExport(exported(t, [0, 30]), {
    key: undefined,
    trusted: noteAt(longer, 40),
  });
  assert.deepEqual([verdict, message], ['truncated', `the log ends after 30 records, but 40 were signed${OLDER}`]);
});

test('a file whose end was cut inside a record is not taken for whole', async (t) => {
  const file = exported(t, [0, 30]);
  const text = readFileSync(file, 'utf8');
  for (const cut of [2, 40]) {
    writeFileSync(file, text.slice(0, -cut));
    assert.notEqual((await verifyExport(file, { key: undefined, trusted: undefined })).verdict, 'ok');
  }
});

test('what is no export says what is missing', async (t) => {
  const file = exported(t, [0, 30]);
  const verify = (path: string) => verifyExport(path, { key: undefined, trusted: undefined });
  await assert.rejects(verify(`${file}.csv`), {
    code: 'INVALID_ARGUMENT',
    message: /only an export in the form jsonl can be verified/,
  });
  writeFileSync(manifestPath(file), '{"quern_audit_export": 2}');
  await assert.rejects(verify(file), { message: /expected the manifest of a Quern audit export, version 1/ });
});

test('a trusted checkpoint is a note, or the last line of a witness', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'quern-note-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'note');
  const [old, note] = [noteAt(log, 10), noteAt(log, 20)];
  writeFileSync(file, note);
  assert.equal(await readNote(file), note);
  writeFileSync(
    file,
    [old, note].map((one) => `${JSON.stringify({ ts: '2026-01-01T00:00:00.000Z', note: one })}\n`).join(''),
  );
  assert.equal(await readNote(file), note);
  await assert.rejects(readNote(join(dir, 'none')), { message: /cannot be read \(ENOENT\)/ });
});

test('a trusted checkpoint that is no note is refused, with what was expected and what was found', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'quern-note-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'note');
  const note = noteAt(log, 20);
  const [body = '', signature = ''] = note.split('\n\n');
  for (const [text, found] of [
    ['', /note is empty and is none/],
    [' \n\n', /note is empty/],
    ['{"note": 1}\n', /begins with "\{"note": 1\}" and is none/],
    [verifierKey(signer), /begins with "quern\.test\/audit\+[^"]*" and is none \(.*text, an empty line, signatures\)/],
    ['\u001b[2J\n', /begins with "\u241b\[2J"/],
    [body, /text, an empty line, signatures/],
    [note.slice(0, -1), /without the end of its last line/],
    [`${body}\n\n${signature.slice(2)}`, /a signature line is malformed/],
    [note.replace('\n20\n', '\ntwenty\n'), /three lines: origin, size, root/],
    [`${JSON.stringify({ ts: '2026-01-01T00:00:00.000Z', note: 'x' })}\n`, /begins with "x" and is none/],
    [`${'x'.repeat(100_000)}\n`, /the last line of .*note holds no signed checkpoint/],
  ] as const) {
    writeFileSync(file, text);
    const expected =
      /^--trusted-checkpoint: expected a file with a signed checkpoint, as "quern audit head --note" prints it/;
    await assert.rejects(readNote(file), ({ code, message }: QuernError) => {
      assert.equal(code, 'INVALID_ARGUMENT');
      assert.match(message, expected);
      assert.match(message, found);
      return true;
    });
  }
});
