// What tools there are: those that ship with Quern, those of packs, those of MCP servers. Reading it is a look-up; what changes
// it (a pack's file, RegisterTool, an MCP server's list) replaces whole sets.
import { QuernError } from '#kit/errors.ts';
import { nearest } from '#kit/nearest.ts';
import type { ArgumentChecker, CheckedArguments, CheckOptions } from './argument-check.ts';
import type { McpServerSpec } from './mcp/server-spec.ts';
import { openPackFolder, type PackFolder } from './pack-folder.ts';
import type { Tool } from './tool.ts';
import { TOOLS_MAX } from './tool-limits.ts';
import { parseTool } from './tool-pack.ts';
import type { SettingsProblem } from './tools-status.ts';

export type Registry = {
  /** Sorted by name. */
  list(): readonly Tool[];
  /** Throws NOT_FOUND, reason TOOL_UNKNOWN. */
  get(name: string): Tool;
  /** Arguments as they came, against the tool's input schema. */
  check(tool: Tool, argumentsJson: string, options: CheckOptions): Promise<CheckedArguments>;
  /** A structured result as JSON, against the tool's output schema. */
  checkResult(tool: Tool, json: string, options: CheckOptions): Promise<CheckedArguments>;
  /** Mistakes in packs, for logs and health. */
  problems(): readonly SettingsProblem[];
  /** The MCP servers that packs name. */
  mcpServers(): readonly McpServerSpec[];
  /**
   * Writes a pack with one tool. The same definition again is no error; ALREADY_EXISTS for the same name and version with other
   * content, or a name that another file or a built-in has. FAILED_PRECONDITION without a folder.
   */
  register(source: string): Promise<Tool>;
  /** NOT_FOUND when there is none; FAILED_PRECONDITION for one that did not come with register(). */
  remove(name: string): Promise<void>;
  /** The tools of one MCP server, in place of those it had. Their names begin with `<server>__`. */
  setServerTools(server: string, tools: readonly Tool[]): Promise<void>;
  /** Looks at the packs now. */
  reload(): Promise<void>;
  close(): Promise<void>;
};

const byName = (a: Tool, b: Tool): number => (a.definition.name < b.definition.name ? -1 : 1);

/** Throws INVALID_ARGUMENT when a built-in's own schema is wrong, and what reading the folder throws. */
export async function createRegistry(options: {
  readonly builtins: readonly Tool[];
  /** Null: no packs, and register() is refused. */
  readonly packDir: string | null;
  readonly checker: ArgumentChecker;
  /** Called with all mistakes after each reading of the packs. */
  readonly onProblems?: (problems: readonly SettingsProblem[]) => void;
  /** Called with all MCP servers after each later reading. */
  readonly onServers?: (servers: readonly McpServerSpec[]) => void;
}): Promise<Registry> {
  const { builtins, packDir, checker, onProblems, onServers } = options;
  const ownNames = new Map(builtins.map((tool) => [tool.definition.name, tool]));
  const servers = new Map<string, readonly Tool[]>();
  let tools: readonly Tool[] = [];
  let named = new Map<string, Tool>();
  let packs: PackFolder | null = null;
  const { signal } = new AbortController();

  async function admit(tool: Tool): Promise<void> {
    const { inputSchema, outputSchema, kind } = tool.definition;
    const ignoreUnknown = kind === 'mcp';
    await checker.compile(inputSchema, { signal, ignoreUnknown });
    if (outputSchema) await checker.compile(outputSchema, { signal, ignoreUnknown });
  }

  function update(): void {
    const fromPacks = [...(packs?.current().tools.values() ?? [])].map(({ tool }) => tool);
    tools = [...builtins, ...fromPacks, ...[...servers.values()].flat()].slice(0, TOOLS_MAX).sort(byName);
    named = new Map(tools.map((tool) => [tool.definition.name, tool]));
  }

  for (const tool of builtins) await admit(tool);
  update();
  if (packDir !== null) {
    packs = await openPackFolder({
      dir: packDir,
      admit,
      isReserved: (name) => ownNames.has(name),
      onChange: (found) => {
        update();
        onProblems?.(found.problems);
        if (packs) onServers?.(found.servers);
      },
    });
    update();
  }

  function folder(): PackFolder {
    if (packs) return packs;
    const message = 'this service has no folder of tool packs: an operator has to name one';
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'NO_PACK_FOLDER' });
  }

  function get(name: string): Tool {
    const tool = named.get(name);
    if (tool) return tool;
    const close = nearest(name, named.keys(), 3);
    const advice = close === null ? 'ListTools names them' : `did you mean "${close}"?`;
    const message = `there is no tool ${JSON.stringify(name.slice(0, 80))}; ${advice}`;
    throw new QuernError('NOT_FOUND', message, { reason: 'TOOL_UNKNOWN' });
  }

  function refuseClash(tool: Tool): void {
    const { name, version, sha256 } = tool.definition;
    const present = named.get(name);
    if (!present || present.definition.sha256 === sha256) return;
    const file = packs?.current().tools.get(name)?.file;
    const isRegistered = file?.startsWith('~registered-') ?? false;
    if (isRegistered && present.definition.version !== version) return;
    const message = isRegistered
      ? `tool "${name}" ${version} exists with another content; give it another version`
      : `the name "${name}" belongs to ${file === undefined ? 'a built-in tool' : `the pack ${file}`}`;
    throw new QuernError('ALREADY_EXISTS', message, { reason: 'TOOL_EXISTS' });
  }

  return {
    list: () => tools,
    get,
    check: (tool, argumentsJson, asked) => checker.check(tool.definition.inputSchema, argumentsJson, asked),
    checkResult: ({ definition: { outputSchema } }, json, asked) => checker.check(outputSchema ?? {}, json, asked),
    problems: () => packs?.current().problems ?? [],
    mcpServers: () => packs?.current().servers ?? [],
    async register(source) {
      const target = folder();
      const tool = parseTool(source);
      refuseClash(tool);
      if (!named.has(tool.definition.name) && tools.length >= TOOLS_MAX) {
        throw new QuernError('RESOURCE_EXHAUSTED', `expected at most ${TOOLS_MAX} tools`);
      }
      await admit(tool);
      await target.write(tool.definition.name, source);
      return get(tool.definition.name);
    },
    async remove(name) {
      get(name);
      if (await folder().remove(name)) return;
      const file = packs?.current().tools.get(name)?.file;
      const place =
        file === undefined ? 'it ships with Quern or comes from an MCP server' : `it stands in the pack ${file}`;
      throw new QuernError('FAILED_PRECONDITION', `tool "${name}" was not registered: ${place}`, {
        reason: 'TOOL_FIXED',
      });
    },
    async setServerTools(server, list) {
      for (const tool of list) await admit(tool);
      if (list.length > 0) servers.set(server, list);
      else servers.delete(server);
      update();
    },
    reload: async () => packs?.reload(),
    close: async () => packs?.close(),
  };
}
