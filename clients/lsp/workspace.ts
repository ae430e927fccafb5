/** The files of the workspace: how they are named to the mesh, and which of them may stand beside another's prompt. */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ignore, { type Ignore } from 'ignore';
import { isSecretPath } from './core/chunks/secrets.ts';
import type { FileName } from './surroundings.ts';

/** A larger file of rules is none. */
const IGNORE_BYTES_MAX = 256 * 1024;
/** Folders and files whose rules are remembered. */
const REMEMBERED_MAX = 4_096;

type Folder = { path: string; name: string };

/** The path of a file: URI, or null for what is not on this machine's disk. */
function pathOf(uri: string): string | null {
  try {
    return uri.startsWith('file:') ? fileURLToPath(uri) : null;
  } catch {
    return null; // a host or an escape that no path can have
  }
}

const within = (folder: string, path: string): boolean => path.startsWith(folder.endsWith(sep) ? folder : folder + sep);

const toSlashes = (path: string): string => (sep === '/' ? path : path.replaceAll(sep, '/'));

export class Workspace {
  #folders: Folder[] = [];
  readonly #rules = new Map<string, Promise<Ignore | null>>();
  readonly #roots = new Map<string, Promise<string>>();

  setFolders(folders: readonly { uri: string; name: string }[]): void {
    this.#folders = folders.flatMap(({ uri, name }) => {
      const path = pathOf(uri);
      return path === null ? [] : [{ path, name }];
    });
    this.reset();
  }

  get roots(): string[] {
    return this.#folders.map(({ path }) => path);
  }

  /** Files of rules may have changed. */
  reset(): void {
    this.#rules.clear();
    this.#roots.clear();
  }

  /** How a file is named to the mesh; null: nothing of it may be sent. */
  describe(uri: string): FileName | null {
    const path = pathOf(uri);
    const name = path === null ? decodeName(uri) : path;
    if (isSecretPath(name)) return null;
    const folder = path === null ? undefined : this.#folderOf(path);
    if (path === null || !folder) return { path: basename(name), repository: '' };
    return { path: toSlashes(relative(folder.path, path)), repository: folder.name };
  }

  /** The path to name a file by beside another's prompt; null where git ignores it, or it is not of the workspace. */
  async pathBeside(uri: string): Promise<string | null> {
    const path = pathOf(uri);
    const folder = path === null ? undefined : this.#folderOf(path);
    const described = this.describe(uri);
    if (path === null || !folder || described === null || (await this.#isIgnored(folder.path, path))) return null;
    return described.path;
  }

  #folderOf(path: string): Folder | undefined {
    const fitting = this.#folders.filter((folder) => within(folder.path, path));
    return fitting.sort((a, b) => b.path.length - a.path.length)[0];
  }

  /**
   * As git does: a folder that is ignored hides all that is in it; of rules, those of the innermost folder win. Stricter
   * where an inner rule takes back a folder: what an outer rule says of that folder still holds for the files in it.
   */
  async #isIgnored(folder: string, path: string): Promise<boolean> {
    const root = await this.#rootOf(folder);
    const parts = relative(root, path).split(sep);
    if (parts.includes('.git')) return true;
    const rules: { at: string; ignore: Ignore }[] = [];
    const add = async (at: string, file: string): Promise<void> => {
      const found = await this.#rulesIn(file);
      if (found) rules.unshift({ at, ignore: found });
    };
    await add(root, join(root, '.git', 'info', 'exclude'));
    let at = root;
    for (const [i, part] of parts.entries()) {
      await add(at, join(at, '.gitignore'));
      at = join(at, part);
      if (verdict(rules, at, i < parts.length - 1)) return true;
    }
    return false;
  }

  #rulesIn(file: string): Promise<Ignore | null> {
    return remember(this.#rules, file, async () => {
      try {
        const { size } = await stat(file);
        return size > IGNORE_BYTES_MAX ? null : ignore().add(await readFile(file, 'utf8'));
      } catch {
        return null; // there is none, or this user may not read it
      }
    });
  }

  /** The repository that a folder lies in, or the folder itself. */
  #rootOf(folder: string): Promise<string> {
    return remember(this.#roots, folder, async () => {
      for (let at = folder; ; at = dirname(at)) {
        const found = await stat(join(at, '.git')).then(
          () => true,
          () => false,
        );
        if (found) return at;
        if (dirname(at) === at) return folder;
      }
    });
  }
}

function verdict(rules: readonly { at: string; ignore: Ignore }[], path: string, isFolder: boolean): boolean {
  for (const { at, ignore: rule } of rules) {
    const { ignored, unignored } = rule.test(toSlashes(relative(at, path)) + (isFolder ? '/' : ''));
    if (ignored || unignored) return ignored;
  }
  return false;
}

/** Name of a document that is no file, such as untitled:Notes. */
function decodeName(uri: string): string {
  try {
    return decodeURIComponent(uri.replace(/^[a-z][a-z0-9+.-]*:/i, ''));
  } catch {
    return uri;
  }
}

function remember<T>(known: Map<string, Promise<T>>, key: string, find: () => Promise<T>): Promise<T> {
  const found = known.get(key);
  if (found) return found;
  if (known.size >= REMEMBERED_MAX) known.clear();
  const fresh = find();
  known.set(key, fresh);
  return fresh;
}
