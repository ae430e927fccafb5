// Files of a workspace that a call hands out.
import { createHash } from 'node:crypto';
import { closeSync, read as readCallback } from 'node:fs';
import { promisify } from 'node:util';
import type { ReadArtifact } from './call-ports.ts';
import { openPlainFile } from './folder-tree.ts';
import type { ArtifactFile } from './tool.ts';
import { ARTIFACT_BYTES_MAX, ARTIFACT_INLINE_BYTES_MAX, PATH_CHARS_MAX } from './tool-limits.ts';

const read = promisify(readCallback);

/** Names of a path below a workspace; null: it is none. */
export function artifactNames(path: string): string[] | null {
  if (path.length > PATH_CHARS_MAX || path.includes('\0')) return null;
  const names = path.split('/').filter((name) => name !== '.');
  if (names.length === 0 || names.some((name) => name === '' || name === '..')) return null;
  return names.map((name) => Buffer.from(name).toString('latin1'));
}

/** Null: not a plain file below `root`, or too large. */
export async function readArtifact(root: string, { path, mediaType }: ArtifactFile): Promise<ReadArtifact | null> {
  const names = artifactNames(path);
  const opened = names && openPlainFile(root, names);
  if (!opened) return null;
  try {
    const { file } = opened;
    const digest = createHash('sha256');
    const kept: Buffer[] = [];
    let size = 0;
    const chunk = Buffer.alloc(256 * 1024);
    for (;;) {
      const { bytesRead } = await read(file, chunk, 0, chunk.length, size);
      if (bytesRead === 0) break;
      size += bytesRead;
      if (size > ARTIFACT_BYTES_MAX) return null;
      digest.update(chunk.subarray(0, bytesRead));
      if (size <= ARTIFACT_INLINE_BYTES_MAX) kept.push(Buffer.from(chunk.subarray(0, bytesRead)));
    }
    const data = size <= ARTIFACT_INLINE_BYTES_MAX ? Buffer.concat(kept) : Buffer.alloc(0);
    return {
      path: names.map((name) => Buffer.from(name, 'latin1').toString()).join('/'),
      size,
      sha256: digest.digest(),
      mediaType,
      data,
    };
  } finally {
    closeSync(opened.file);
  }
}
