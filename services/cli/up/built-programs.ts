/** Programs of others that a one-machine mesh starts: on PATH, or built by set-up into a cache folder. */
import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Where such programs are looked for. */
export type ProgramPlaces = {
  /** As in the environment. */
  path: string;
  /** Folders in which set-up leaves what it has built, each program in one that bears its name and version. */
  caches: readonly string[];
};

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Folders of the caches whose names begin so: cache by cache, in each the newest version first. */
export function builtFolders(caches: readonly string[], prefix: string): string[] {
  return caches.flatMap((cache) => {
    try {
      const names = readdirSync(cache).filter((name) => name.startsWith(prefix));
      names.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
      return names.map((name) => join(cache, name));
    } catch {
      return []; // no such folder: nothing was built there
    }
  });
}

/** Every executable of this name, on PATH first, then those that were built. */
export function findPrograms({ path, caches }: ProgramPlaces, name: string, prefix: string): string[] {
  const folders = [...path.split(delimiter).filter(Boolean), ...builtFolders(caches, prefix)];
  return folders.map((folder) => join(folder, name)).filter(isExecutable);
}
