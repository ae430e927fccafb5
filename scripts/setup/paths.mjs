// Where things are in a checkout. All paths are absolute.
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const nodeModules = join(root, 'node_modules');
export const nativeDir = join(root, 'engine-native');

/** Downloads and logs; QUERN_CACHE_DIR moves it, for instance to a folder that CI keeps. */
export const cacheDir = process.env.QUERN_CACHE_DIR ? resolve(process.env.QUERN_CACHE_DIR) : join(root, '.cache');
/**
 * What one checkout after the other can use, nats-server and Jaeger, lies in the user's cache folder (XDG; a folder that is not
 * absolute is passed over), unless QUERN_CACHE_DIR says otherwise. services/cli/config.ts looks in the same folders.
 */
export const programsDir = process.env.QUERN_CACHE_DIR ? cacheDir : join(xdgCache(), 'quern');
/** Where it may lie: earlier versions built nats-server into the checkout. */
const programCaches = [programsDir, cacheDir];
export const cudaDir = process.env.QUERN_CACHE_DIR ? join(cacheDir, 'cuda') : join(root, '.cuda');

/** The Node that runs services and tests. */
export const node24 = join(nodeModules, `node-linux-${process.arch}`, 'bin', 'node');

function xdgCache() {
  const dir = process.env.XDG_CACHE_HOME ?? '';
  return isAbsolute(dir) ? dir : join(homedir(), '.cache');
}

/** The first executable `folder/...names` in the cache folders, or null. */
export function findBuilt(...names) {
  return programCaches.map((dir) => join(dir, ...names)).find(isExecutable) ?? null;
}

export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A command of an installed npm package. */
export const packageBin = (name) => join(nodeModules, '.bin', name);

/** The first `name` on PATH outside node_modules, or null. Inside npm scripts node_modules/.bin comes first on PATH. */
export function findOnPath(name) {
  for (const dir of systemPath().split(delimiter)) {
    if (dir && existsSync(join(dir, name))) return join(dir, name);
  }
  return null;
}

/** PATH without node_modules/.bin folders. */
export function systemPath() {
  const isOwn = (dir) => dir.includes('node_modules') || dir.includes('node-gyp-bin');
  return (process.env.PATH ?? '')
    .split(delimiter)
    .filter((dir) => !isOwn(dir))
    .join(delimiter);
}

/** All files under `dir`, absolute and sorted; `keep(name, isDirectory)` prunes. */
export function listFiles(dir, keep) {
  if (!existsSync(dir)) return [];
  const found = [];
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (!keep(entry.name, entry.isDirectory())) continue;
    const path = join(dir, entry.name);
    if (entry.isDirectory()) found.push(...listFiles(path, keep));
    else found.push(path);
  }
  return found.sort();
}

/** SHA-256 over the names and contents of files and over some further strings. */
export function hashFiles(files, ...strings) {
  const hash = createHash('sha256');
  for (const text of strings) hash.update(`${text}\0`);
  for (const file of files)
    hash
      .update(`${file.slice(root.length)}\0`)
      .update(readFileSync(file))
      .update('\0');
  return hash.digest('hex');
}
