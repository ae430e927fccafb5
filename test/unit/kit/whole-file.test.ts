// A file that is written whole is there whole or as it was, and nothing is left beside it.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeWholeFile } from '#kit/whole-file.ts';

test('readers see one text or the other, whoever writes at the same time', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-whole-'));
  t.after(() => rm(dir, { recursive: true }));
  const path = join(dir, 'file');
  const texts = ['a', 'b', 'c'].map((letter) => letter.repeat(100_000));
  await writeWholeFile(path, texts[0]!);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  let writing = true;
  const reading = (async () => {
    const seen = new Set<string>();
    while (writing) seen.add(await readFile(path, 'utf8'));
    return seen;
  })();
  await Promise.all([...texts, ...texts].map((text) => writeWholeFile(path, text)));
  writing = false;
  for (const seen of await reading) assert(texts.includes(seen));
  assert.deepEqual(await readdir(dir), ['file']);
});

test('what cannot take the place leaves what was there, and nothing else', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-whole-'));
  t.after(() => rm(dir, { recursive: true }));
  await mkdir(join(dir, 'folder'));
  await writeFile(join(dir, 'folder', 'kept'), 'x');
  await assert.rejects(writeWholeFile(join(dir, 'folder'), 'text'));
  assert.deepEqual(await readdir(dir), ['folder']);
  await assert.rejects(writeWholeFile(join(dir, 'absent', 'file'), 'text'), { code: 'ENOENT' });
});
