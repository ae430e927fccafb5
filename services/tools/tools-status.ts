// Where tools come from and what is wrong there, for operators: packs, the policy, MCP servers.
import { McpServerState, type ToolsStatus as StatusMessage } from '#gen/quern/tools/v1/tools.ts';
import type { ServerStatus } from './mcp/server-state.ts';

/** A mistake in what an operator wrote: the file's name ("" is the pack folder itself), and what is wrong where. */
export type SettingsProblem = { readonly file: string; readonly message: string };

export type ToolsStatus = {
  readonly packDir: string;
  /** Null: the defaults hold. */
  readonly policyFile: string | null;
  readonly problems: readonly SettingsProblem[];
  readonly servers: readonly ServerStatus[];
};

export const noStatus: ToolsStatus = { packDir: '', policyFile: null, problems: [], servers: [] };

const STATES: Readonly<Record<ServerStatus['state'], McpServerState>> = {
  unknown: McpServerState.MCP_SERVER_STATE_ASKING,
  listed: McpServerState.MCP_SERVER_STATE_CONNECTED,
  quarantined: McpServerState.MCP_SERVER_STATE_QUARANTINED,
  failed: McpServerState.MCP_SERVER_STATE_FAILED,
};

export function statusMessage({ packDir, policyFile, problems, servers }: ToolsStatus): StatusMessage {
  return {
    packDir,
    policyFile: policyFile ?? '',
    problems: problems.map(({ file, message }) => ({ file, message })),
    mcpServers: servers
      .map(({ name, state, tools, problems: own }) => ({ name, state: STATES[state], tools, problems: [...own] }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}
