// A digest of a workspace as it is: every name with kind, size, inode and times of change. Cheap enough to be taken while a person
// waits, and nothing inside a sandbox can change a file without changing it (the kernel sets the time of change).
import { createHash } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { DIGEST_ENTRIES_MAX } from './limits.ts';

/** Hex SHA-256. Throws RESOURCE_EXHAUSTED for a workspace of more entries than can be looked at. */
export async function workspaceDigest(root: string): Promise<string> {
  const digest = createHash('sha256');
  const folders = [''];
  let entries = 0;
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const names = (await readdir(join(root, folder))).sort();
    entries += names.length;
    if (entries > DIGEST_ENTRIES_MAX) {
      const message = `the workspace has more than ${DIGEST_ENTRIES_MAX} entries: what an approval would mean cannot be told`;
      throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'WORKSPACE_TOO_LARGE' });
    }
    for (const name of names) {
      const path = join(folder, name);
      const { mode, size, ino, mtimeNs, ctimeNs } = await lstat(join(root, path), { bigint: true });
      digest.update(JSON.stringify([path, ...[mode, size, ino, mtimeNs, ctimeNs].map(String)]));
      if ((mode & 0o170000n) === 0o040000n) folders.push(path);
    }
  }
  return digest.digest('hex');
}
