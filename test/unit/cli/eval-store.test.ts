/** The file of --out: what is overwritten, what goes on, and what is in it while a run lasts. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { linesOf, readEvaluation } from '../../../services/cli/eval/result.ts';
import { openStore, rowsOfBefore, targetFor } from '../../../services/cli/eval/store.ts';
import { failed, RUN, row } from './support/eval-rows.ts';

function fileIn(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'quern-eval-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'run.jsonl');
}

test('a row is in the file as soon as it has come; the whole run takes its place in order', async (t) => {
  const file = fileIn(t);
  const store = openStore(await targetFor(file, false), RUN, []);
  assert.ok(!existsSync(file), 'nothing is left behind by a run without a row');
  store.add(row(2));
  assert.deepEqual(await readEvaluation(file), { run: { ...RUN, partial: true }, rows: [row(2)] });
  store.add(failed(1, 'INTERNAL'));
  assert.deepEqual((await readEvaluation(file)).rows, [row(2), failed(1, 'INTERNAL')]);
  const whole = { run: RUN, rows: [failed(1, 'INTERNAL'), row(2)] };
  store.finish(whole);
  assert.equal(readFileSync(file, 'utf8'), linesOf(whole));
  assert.deepEqual(readdirSync(join(file, '..')), ['run.jsonl']);
});

test('a run goes on with the answers that an earlier one left, and only if it is the same run', async (t) => {
  const file = fileIn(t);
  const begun = { run: { ...RUN, partial: true as const }, rows: [row(2), failed(1, 'UNAVAILABLE')] };
  writeFileSync(file, linesOf(begun));
  const target = await targetFor(file, false);
  const ids = new Set(['hole1', 'hole2', 'hole3']);
  const later = { ...RUN, at: '2026-11-23T04:00:00.000Z', commit: 'other' };
  const kept = rowsOfBefore(target, later, ids, false);
  assert.deepEqual(kept, [row(2)], 'what had no answer is asked again');
  openStore(target, RUN, kept).add(row(3));
  assert.deepEqual((await readEvaluation(file)).rows, [row(2), row(3)]);
  const refused = (what: RegExp, ...[run, holes, withText]: [typeof RUN, Set<string>, boolean]): void => {
    assert.throws(() => rowsOfBefore(target, run, holes, withText), what);
  };
  const others = { ...RUN, model: { ...RUN.model, hash: 'x' }, settings: { ...RUN.settings, seed: 2 } };
  refused(
    /run\.jsonl holds a part of another run \(other hash, seed\); name another file, or begin/,
    others,
    ids,
    false,
  );
  refused(/\(other --with-text\)/, RUN, ids, true);
  refused(/\(other holes\)/, RUN, new Set(['hole1', 'hole3']), false);
  assert.deepEqual(rowsOfBefore(await targetFor(file, true), others, ids, false), [], '--force begins anew');
});

test('what is there already is kept unless --force says otherwise', async (t) => {
  const file = fileIn(t);
  writeFileSync(file, linesOf({ run: RUN, rows: [row(1)] }));
  const before = readFileSync(file, 'utf8');
  const hint = /name another file, or overwrite it with --force/;
  await assert.rejects(targetFor(file, false), /--out: .*run\.jsonl holds a run of mini, 2026-11-22T04:00:00\.000Z; /);
  await assert.rejects(targetFor(file, false), hint);
  assert.equal((await targetFor(file, true)).begun, null);
  assert.equal(readFileSync(file, 'utf8'), before);
  writeFileSync(file, 'my notes\n');
  await assert.rejects(targetFor(file, false), /run\.jsonl is there already; name another/);
  writeFileSync(file, '');
  assert.equal((await targetFor(file, false)).begun, null, 'an empty file is nothing to lose');
  await assert.rejects(targetFor(join(file, '..'), true), /--out: .* cannot be written \(EISDIR\)/);
  await assert.rejects(targetFor(join(file, '..', 'none', 'x'), false), /--out: .*x cannot be written \(ENOENT\)/);
});

test('a link stays a link, and a device stays a device', async (t) => {
  const file = fileIn(t);
  writeFileSync(file, '');
  const link = join(file, '..', 'link');
  symlinkSync(file, link);
  const evaluation = { run: RUN, rows: [row(1)] };
  openStore(await targetFor(link, false), RUN, []).finish(evaluation);
  assert.equal(readFileSync(file, 'utf8'), linesOf(evaluation));
  const device = await targetFor('/dev/null', false);
  assert.equal(device.isFile, false);
  const store = openStore(device, RUN, []);
  store.add(row(1));
  store.finish(evaluation);
  assert.ok(existsSync('/dev/null') && !existsSync('/dev/null.tmp'));
});
