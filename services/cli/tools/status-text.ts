/** Where tools come from and what is wrong there, for a terminal. */
import { McpServerState, type ToolsStatus } from '#gen/quern/tools/v1/tools.ts';
import { formatNarrowTable } from '../table.ts';

const STATES: Readonly<Partial<Record<McpServerState, string>>> = {
  [McpServerState.MCP_SERVER_STATE_ASKING]: 'asking',
  [McpServerState.MCP_SERVER_STATE_CONNECTED]: 'connected',
  [McpServerState.MCP_SERVER_STATE_QUARANTINED]: 'quarantined',
  [McpServerState.MCP_SERVER_STATE_FAILED]: 'failed',
};

export const serverState = (state: McpServerState): string => STATES[state] ?? 'unknown';

/** One line for each mistake in packs and policy; "" = none. */
export function problemLines({ problems }: ToolsStatus): string {
  return problems.map(({ file, message }) => `${file === '' ? 'pack folder' : file}: ${message}\n`).join('');
}

/** Below the table of tools: the files in use, MCP servers, mistakes. `columns`: of the terminal. */
export function statusText(status: ToolsStatus, columns: number): string {
  const { packDir, policyFile, mcpServers, problems } = status;
  const parts = [
    `\npack folder  ${packDir === '' ? 'none' : packDir}\n`,
    `policy       ${policyFile === '' ? 'none: the defaults hold' : policyFile}\n`,
  ];
  if (mcpServers.length > 0) {
    const rows = mcpServers.map(({ name, state, tools, problems: own }) => [
      name,
      serverState(state),
      String(tools),
      own.join('; '),
    ]);
    parts.push('\n', formatNarrowTable(['mcp server', 'state', 'tools', 'problem'], rows, columns));
  }
  if (problems.length > 0)
    parts.push('\nwrong in packs and policy:\n', problemLines(status).replaceAll(/^/gm, '  ').trimEnd(), '\n');
  return parts.join('');
}
