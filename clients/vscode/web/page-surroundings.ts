/**
 * The surroundings where a page has no files: documents are named by their folders, and nothing stands beside a prompt, since
 * nobody can read which files git ignores.
 */
import { isSecretPath } from '../../lsp/core/chunks/secrets.ts';
import type { Surroundings } from '../../lsp/surroundings.ts';

export function openPageSurroundings(): Surroundings {
  let folders: readonly { uri: string; name: string }[] = [];
  return {
    setFolders(given) {
      // The innermost folder names a file.
      folders = [...given].sort((a, b) => b.uri.length - a.uri.length);
    },
    describe(uri) {
      const inside = ({ uri: folder }: { uri: string }): boolean => uri.startsWith(`${folder.replace(/\/$/, '')}/`);
      const folder = folders.find(inside);
      const path = pathIn(uri, folder?.uri.replace(/\/$/, '') ?? null);
      return isSecretPath(path) ? null : { path, repository: folder?.name ?? '' };
    },
    pathBeside: () => Promise.resolve(null),
    declarationsBeside: () => [],
    saved() {},
    reset() {},
    close() {},
  };
}

function pathIn(uri: string, folder: string | null): string {
  const whole = uri.split(/[?#]/)[0] ?? '';
  const text = folder === null ? whole : whole.slice(folder.length + 1);
  const path = folder === null ? (text.split('/').at(-1) ?? text) : text;
  try {
    return decodeURIComponent(path);
  } catch {
    return path; // an escape that is none
  }
}
