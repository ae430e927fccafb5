// The folder of tool packs, read again when it changes. A file with a mistake is reported and what it said before goes on to
// hold; only a file that is gone takes its tools along.
import { type FSWatcher, watch } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { writeWholeFile } from '#kit/whole-file.ts';
import type { McpServerSpec } from './mcp/server-spec.ts';
import { readSettingsFile } from './settings-file.ts';
import type { Tool } from './tool.ts';
import { PACK_BYTES_MAX, PACK_FILES_MAX, PACK_LOOK_MS, PACK_SETTLE_MS } from './tool-limits.ts';
import { parsePack } from './tool-pack.ts';
import type { SettingsProblem } from './tools-status.ts';

export type PackTools = {
  /** By name, each with the file it comes from. */
  readonly tools: ReadonlyMap<string, { tool: Tool; file: string }>;
  /** MCP servers, each name once. */
  readonly servers: readonly McpServerSpec[];
  readonly problems: readonly SettingsProblem[];
};

export type PackFolder = {
  current(): PackTools;
  /** Looks now. Does nothing when nothing changed. */
  reload(): Promise<void>;
  /** Writes the file of a registered tool, whole or not at all, and reads it. */
  write(name: string, source: string): Promise<void>;
  /** Removes the file of a registered tool; false: there was none. */
  remove(name: string): Promise<boolean>;
  close(): Promise<void>;
};

type FileState = {
  signature: string;
  tools: readonly Tool[];
  servers: readonly McpServerSpec[];
  problem: string | null;
};

const PACK_FILE = /^[^.].*\.(?:ya?ml|json)$/;
/** "~" sorts last, so that what operators wrote wins over what was registered. */
const registeredFile = (name: string): string => `~registered-${name}.json`;

/** The file's tools, or why not and those that it had before. */
async function readPackFile(
  path: string,
  signature: string,
  before: FileState | undefined,
  admit: (tool: Tool) => Promise<void>,
): Promise<FileState> {
  try {
    const { tools, servers } = parsePack(await readSettingsFile(path, PACK_BYTES_MAX));
    for (const [i, tool] of tools.entries()) {
      const twice = tools.findIndex((other) => other.definition.name === tool.definition.name) !== i;
      if (twice) throw new QuernError('INVALID_ARGUMENT', `tools[${i}].name: "${tool.definition.name}" stands twice`);
      await admit(tool);
    }
    return { signature, tools, servers, problem: null };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const message = error instanceof QuernError ? error.message : `cannot be read (${code ?? 'unknown'})`;
    const { tools = [], servers = [] } = before ?? {};
    return {
      signature,
      tools,
      servers,
      problem: tools.length + servers.length > 0 ? `${message}; what it said before still holds` : message,
    };
  }
}

/** First file first: the second tool of a name is a mistake of its file. */
function merge(files: ReadonlyMap<string, FileState>, isReserved: (name: string) => boolean): PackTools {
  const tools = new Map<string, { tool: Tool; file: string }>();
  const servers = new Map<string, { server: McpServerSpec; file: string }>();
  const problems: SettingsProblem[] = [];
  for (const [file, state] of files) {
    if (state.problem !== null) problems.push({ file, message: state.problem });
    for (const tool of state.tools) {
      const { name } = tool.definition;
      const first = tools.get(name);
      if (isReserved(name)) problems.push({ file, message: `the name "${name}" belongs to a built-in tool` });
      else if (first) problems.push({ file, message: `the tool "${name}" is already in ${first.file}` });
      else tools.set(name, { tool, file });
    }
    for (const server of state.servers) {
      const { name } = server;
      const first = servers.get(name);
      if (first) problems.push({ file, message: `the MCP server "${name}" is already in ${first.file}` });
      else servers.set(name, { server, file });
    }
  }
  return { tools, servers: [...servers.values()].map(({ server }) => server), problems };
}

export async function openPackFolder(options: {
  readonly dir: string;
  /** Compiles a tool's schemas; throws INVALID_ARGUMENT. */
  readonly admit: (tool: Tool) => Promise<void>;
  /** Names that packs cannot have. */
  readonly isReserved: (name: string) => boolean;
  /** After each reading that changed something. */
  readonly onChange: (tools: PackTools) => void;
}): Promise<PackFolder> {
  const { dir, admit, isReserved, onChange } = options;
  let files = new Map<string, FileState>();
  let current: PackTools = { tools: new Map(), servers: [], problems: [] };
  let turn: Promise<unknown> = Promise.resolve();
  let settle: NodeJS.Timeout | null = null;

  async function signatures(): Promise<Map<string, string>> {
    const names = (await readdir(dir)).filter((name) => PACK_FILE.test(name)).sort();
    const found = new Map<string, string>();
    for (const name of names) {
      const { mtimeNs, size, ino } = await stat(join(dir, name), { bigint: true }).catch(() => ({
        mtimeNs: 0,
        size: 0,
        ino: 0,
      }));
      found.set(name, `${mtimeNs}/${size}/${ino}`);
    }
    return found;
  }

  async function look(): Promise<void> {
    const found = await signatures();
    const isSame = found.size === files.size && [...found].every(([name, one]) => files.get(name)?.signature === one);
    if (isSame) return;
    const next = new Map<string, FileState>();
    for (const [name, signature] of found) {
      const before = files.get(name);
      if (next.size >= PACK_FILES_MAX) {
        next.set(name, { signature, tools: [], servers: [], problem: `expected at most ${PACK_FILES_MAX} files` });
      } else
        next.set(
          name,
          before?.signature === signature ? before : await readPackFile(join(dir, name), signature, before, admit),
        );
    }
    files = next;
    current = merge(files, isReserved);
    onChange(current);
  }

  /** One after the other; a failed one does not stop the next. */
  function inTurn<T>(run: () => Promise<T>): Promise<T> {
    const result = turn.then(run);
    turn = result.catch(() => undefined);
    return result;
  }

  const reload = (): Promise<void> => inTurn(look);
  /** A folder that cannot be read keeps what was read, as a file does. */
  const reloadQuietly = (): void => void reload().catch((error) => report(error));
  function report(error: unknown): void {
    const { code } = error as NodeJS.ErrnoException;
    const message = code ? `the folder cannot be read (${code})` : toQuernError(error).message;
    current = { ...current, problems: [...current.problems.filter(({ file }) => file !== ''), { file: '', message }] };
    onChange(current);
  }

  await mkdir(dir, { recursive: true, mode: 0o700 });
  await reload();
  let watcher: FSWatcher | null = null;
  try {
    watcher = watch(dir, () => {
      settle ??= setTimeout(() => {
        settle = null;
        reloadQuietly();
      }, PACK_SETTLE_MS);
    });
    watcher.on('error', () => watcher?.close()); // the interval goes on
  } catch {
    // No watches left, or none on this file system: the interval looks.
  }
  const interval = setInterval(reloadQuietly, PACK_LOOK_MS);
  interval.unref();

  return {
    current: () => current,
    reload,
    write: (name, source) =>
      inTurn(async () => {
        await writeWholeFile(join(dir, registeredFile(name)), source);
        await look();
      }),
    remove: (name) =>
      inTurn(async () => {
        if (!files.has(registeredFile(name))) return false;
        await rm(join(dir, registeredFile(name)), { force: true });
        await look();
        return true;
      }),
    async close() {
      clearInterval(interval);
      if (settle) clearTimeout(settle);
      watcher?.close();
      await turn;
    },
  };
}
