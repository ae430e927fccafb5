/** The files that holes are cut into: the held-out set that comes with Quern, or folders of the user. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { ENDINGS, languageOf } from './syntax.ts';

export type Source = {
  /** "pypi:Flask/flask/views.py", or below the folder that was given. */
  path: string;
  language: string;
  /** Of the text, hex. */
  sha256: string;
  text: string;
};

/** As training/data.py takes files: what is shorter says nothing, what is longer was mostly made by a program. */
const FILE_BYTES_MIN = 300;
const FILE_BYTES_MAX = 80_000;
const FILES_MAX = 20_000;
const SKIPPED = new Set(['node_modules', 'dist', 'build', 'vendor', 'target', '__pycache__']);

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

type HeldOut = { files: { package: string; path: string; sha256: string; text: string }[] };

/** Files of packages that training/held-out-manifest.json keeps out of quern-mini's training. */
export async function heldOutSources(): Promise<Source[]> {
  const { files } = JSON.parse(await readFile(new URL('held-out.json', import.meta.url), 'utf8')) as HeldOut;
  return files.map(({ package: name, path, text }) => ({
    path: `${name}/${path}`,
    language: languageOf(path) ?? '',
    sha256: sha256(text),
    text,
  }));
}

/** INVALID_ARGUMENT where there is no such folder or file, or nothing in it that can be evaluated. */
export async function sourcesIn(places: readonly string[]): Promise<Source[]> {
  const found: Source[] = [];
  for (const place of places) {
    const base = resolve(place);
    const info = await stat(base).catch(() => null);
    if (info === null)
      throw new QuernError(
        'INVALID_ARGUMENT',
        `--sources: expected a folder or file, got ${place}, which is not there`,
      );
    for (const file of info.isDirectory() ? await filesBelow(base) : [base]) {
      const source = await readSource(file, info.isDirectory() ? relative(base, file) : relative(resolve('.'), file));
      if (source) found.push(source);
    }
  }
  // The order decides which holes a seed draws: it must not depend on that of the folders.
  const order = (source: Source): string => `${source.path}\n${source.sha256}`;
  found.sort((a, b) => (order(a) < order(b) ? -1 : 1));
  const seen = new Set<string>();
  const once = found.filter(({ sha256: hash }) => !seen.has(hash) && seen.add(hash));
  if (once.length > 0) return once;
  const wanted = `files of ${FILE_BYTES_MIN} to ${FILE_BYTES_MAX} bytes that end in ${ENDINGS.join(', ')}`;
  throw new QuernError('INVALID_ARGUMENT', `--sources: expected ${wanted}; there are none in ${places.join(', ')}`);
}

const unreadable = (place: string) => (error: NodeJS.ErrnoException) => {
  throw new QuernError('INVALID_ARGUMENT', `--sources: ${place} cannot be read (${error.code})`);
};

async function filesBelow(folder: string): Promise<string[]> {
  const files: string[] = [];
  const folders = [folder];
  for (let at = folders.pop(); at !== undefined; at = folders.pop()) {
    if (files.length > FILES_MAX)
      throw new QuernError('INVALID_ARGUMENT', `--sources: expected at most ${FILES_MAX} files, ${folder} has more`);
    for (const entry of await readdir(at, { withFileTypes: true }).catch(unreadable(at))) {
      if (entry.name.startsWith('.') || SKIPPED.has(entry.name)) continue;
      if (entry.isDirectory()) folders.push(join(at, entry.name));
      else if (entry.isFile() && languageOf(entry.name) !== null) files.push(join(at, entry.name));
    }
  }
  return files.sort();
}

async function readSource(file: string, path: string): Promise<Source | null> {
  const language = languageOf(file);
  const bytes = await readFile(file).catch(unreadable(file));
  if (language === null || bytes.length < FILE_BYTES_MIN || bytes.length > FILE_BYTES_MAX) return null;
  const text = bytes.toString('utf8').replaceAll('\r\n', '\n');
  return text.includes('\0') || text.includes('\ufffd') ? null : { path, language, sha256: sha256(text), text };
}
