/** Fills the compile cache of the tool service before it starts, or it would hold the compiler for as long as it runs. */
import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { TOOLS_NODE_OPTIONS, type ToolsPlan } from './tools-plan.ts';

/** Of all modules of the service; a second or so. */
const COMPILE_MS = 30_000;
/** What only its owner may write to, whatever the umask. */
const UMASK = 0o022;

/** Changes with Node, the checkout's place and any of the services' files. */
async function stampOf(root: string): Promise<string> {
  const entries = await readdir(join(root, 'services'), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  const changed = await Promise.all(files.map(async (file) => (await stat(file)).mtimeMs));
  return `${process.version} ${root} ${files.length} ${changed.reduce((newest, one) => Math.max(newest, one), 0)}\n`;
}

/** Folders that others may enter: the account that the service becomes reads what is in them. */
function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  makeFolder(dirname(folder));
  mkdirSync(folder);
  chmodSync(folder, 0o777 & ~UMASK);
}

/** In a process of its own. What fails here fails in the service, which says so. Does nothing when nothing has changed. */
export async function compileTools(
  { compileCache, view }: Pick<ToolsPlan, 'compileCache' | 'view'>,
  { path, ...checkout }: { root: string; node: string; path: string },
): Promise<void> {
  const stampPath = join(compileCache, 'compiled.txt');
  try {
    const stamp = await stampOf(checkout.root);
    if (stamp === (await readFile(stampPath, 'utf8').catch(() => ''))) return;
    makeFolder(compileCache);
    const { words, node, root } = view ?? { words: [], ...checkout };
    const [command = node, ...args] = [...words, node, ...TOOLS_NODE_OPTIONS, join(root, 'services/tools/main.ts')];
    const options = { env: { PATH: path, NODE_COMPILE_CACHE: compileCache }, timeout: COMPILE_MS };
    const mask = process.umask(UMASK); // the process that is started has it too
    const compiled = promisify(execFile)(command, [...args, '--compile'], options);
    process.umask(mask);
    await compiled;
    await writeFile(stampPath, stamp);
  } catch {
    // A cache that cannot be filled costs memory and nothing else.
  }
}
