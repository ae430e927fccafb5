import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { newestCheckpoint, readCheckpoints } from '#kit/audit/checkpoint-file.ts';
import { EvenSample } from '#kit/audit/even-sample.ts';
import { lastLineOf, linesOf } from '#kit/audit/line-file.ts';

async function read(path: string, ended = false): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of linesOf(path, { ended })) lines.push(line.toString());
  return lines;
}

test('lines come as they are, and the last whole one from the end, whatever the sizes', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'lines');
  const long = 'x'.repeat(200_000);
  const cases: [string, string[], string | null, number][] = [
    ['', [], null, 0],
    ['torn', ['torn'], null, 0],
    ['a\n', ['a'], 'a', 2],
    ['\n', [''], '', 1],
    ['a\nb\ntorn', ['a', 'b', 'torn'], 'b', 4],
    [`a\n${long}\n`, ['a', long], long, 200_003],
    [`${long}\nb\n${long}`, [long, 'b', long], 'b', 200_003],
  ];
  for (const [text, lines, last, end] of cases) {
    await writeFile(path, text);
    assert.deepEqual(await read(path), lines);
    assert.deepEqual(await read(path, true), text.endsWith('\n') ? lines : lines.slice(0, -1));
    const found = await lastLineOf(path);
    assert.deepEqual([found.line?.toString() ?? null, found.end, found.size], [last, end, text.length]);
  }
  assert.deepEqual(await lastLineOf(join(dir, 'none')), { line: null, end: 0, size: 0 });
});

test('checkpoints are read one by one, and a line that is none is named', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'checkpoints.jsonl');
  const line = (i: number): string => `${JSON.stringify({ ts: `t${i}`, note: `n${i}` })}\n`;
  await writeFile(path, `${Array.from({ length: 3_000 }, (_, i) => line(i)).join('')}{"ts":"torn`);
  assert.deepEqual(await newestCheckpoint(path), { ts: 't2999', note: 'n2999' });
  let count = 0;
  for await (const { note } of readCheckpoints(path)) assert.equal(note, `n${count++}`);
  assert.equal(count, 3_000);
  await writeFile(path, `${line(0)}{}\n`);
  await assert.rejects(newestCheckpoint(path), { code: 'DATA_LOSS', message: /the last line is no checkpoint/ });
  await assert.rejects(read(join(dir, 'none')), { code: 'ENOENT' });
  const reading = (async () => {
    for await (const _ of readCheckpoints(path)) count += 1;
  })();
  await assert.rejects(reading, { code: 'DATA_LOSS', message: /line 2 is no checkpoint; the file has been changed/ });
});

test('a sample is bounded, evenly spread, and has the first and the last', () => {
  for (const [count, max] of [
    [0, 5],
    [5, 5],
    [6, 5],
    [1_000, 10],
    [12_345, 100],
  ] as const) {
    const sample = new EvenSample<number>(max);
    for (let i = 0; i < count; i += 1) sample.add(i);
    const { items } = sample;
    assert.equal(items.length, Math.min(count, max));
    if (count === 0) continue;
    assert.deepEqual([items[0], items.at(-1)], [0, count - 1]);
    const gaps = items.slice(1).map((item, i) => item - items[i]!);
    assert.ok(Math.max(...gaps) <= (4 * count) / max + 1, `${gaps}`);
  }
});
