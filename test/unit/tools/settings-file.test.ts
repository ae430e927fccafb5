/** What is no file of settings is refused, and holds nobody up. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readSettingsFile } from '../../../services/tools/settings-file.ts';

test('a FIFO, a folder and a file that is too large are refused at once', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-settings-'));
  t.after(() => rmSync(folder, { recursive: true }));
  execFileSync('/usr/bin/mkfifo', [join(folder, 'fifo')]);
  writeFileSync(join(folder, 'file'), 'a: 1\n');
  const read = (name: string, bytesMax = 5): Promise<string> => readSettingsFile(join(folder, name), bytesMax);
  assert.equal(await read('file'), 'a: 1\n');
  await assert.rejects(read('file', 4), /expected at most 4 bytes, got 5/);
  await assert.rejects(read('.'), /expected a file/);
  await assert.rejects(read('fifo'), /expected a file/);
});
