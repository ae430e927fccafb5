// A digest of a workspace as it is: every name with kind, size, inode and times of change. Cheap enough to be taken while a person
// waits, and nothing inside a sandbox can change a file without changing it (the kernel sets the time of change).
import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { QuernError } from '#kit/errors.ts';
import { inFolder, type TreeEntry, walkTree } from './folder-tree.ts';
import { DIGEST_ENTRIES_MAX } from './limits.ts';

/** Of a folder what the walk itself may change is left out: its mode, and the time of that change. What is in it counts anyway. */
function lineOf({ folder, name }: Pick<TreeEntry, 'folder' | 'name'>, place: readonly string[] | number): string {
  const found = lstatSync(inFolder(folder, name), { throwIfNoEntry: false, bigint: true });
  if (!found) return JSON.stringify([place, name]);
  const { mode, size, ino, mtimeNs, ctimeNs } = found;
  const facts = found.isDirectory() ? ['folder', ino, mtimeNs] : [mode, size, ino, mtimeNs, ctimeNs];
  return JSON.stringify([place, name, ...facts.map(String)]);
}

/** Hex SHA-256. Throws RESOURCE_EXHAUSTED for a workspace of more entries than can be looked at. */
export async function workspaceDigest(
  root: string,
  options: { signal: AbortSignal } = { signal: new AbortController().signal },
): Promise<string> {
  const lines: string[] = [];
  const add = (entry: Pick<TreeEntry, 'folder' | 'name'>, place: readonly string[] | number): void => {
    if (lines.length >= DIGEST_ENTRIES_MAX) {
      const message = `the workspace has more than ${DIGEST_ENTRIES_MAX} entries: what an approval would mean cannot be told`;
      throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'WORKSPACE_TOO_LARGE' });
    }
    lines.push(lineOf(entry, place));
  };
  const visit = (entry: TreeEntry): void => add(entry, entry.path);
  await walkTree(root, visit, { ...options, deeper: (entry) => add(entry, entry.depth) });
  return createHash('sha256').update(lines.sort().join('\n')).digest('hex');
}
