// Reads an outbox folder as it lies on the disk, with nothing of the gateway in between.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { recordsOf, scanFrames } from '#kit/audit/frame.ts';
import type { AuditRecord } from '#kit/audit/record.ts';

/** All records of the kept segments, oldest first; a last frame that is on its way is left out. */
export async function recordsIn(dir: string): Promise<AuditRecord[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.log')).sort();
  const records: AuditRecord[] = [];
  for (const name of names) {
    const { verdict, payloads } = scanFrames(await readFile(join(dir, name)));
    assert.notEqual(verdict, 'damaged', name);
    for (const payload of payloads) {
      for (const bytes of recordsOf(payload)) records.push(JSON.parse(bytes.toString('utf8')) as AuditRecord);
    }
  }
  return records;
}

export const named = (records: readonly AuditRecord[], action: AuditRecord['action']): AuditRecord[] =>
  records.filter((record) => record.action === action);

/** Every accepted record has exactly one finished one, which names it. */
export function assertPaired(records: readonly AuditRecord[]): void {
  const accepted = named(records, 'request.accepted').map(({ id }) => id);
  const finished = named(records, 'request.finished').map(({ parent_id: id }) => id);
  assert.deepEqual(finished.toSorted(), accepted.toSorted());
}
