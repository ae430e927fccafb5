// MCP servers as packs name them, from the start of the service to its end.
import type { WorkspaceCopies, WorkspaceDoor } from '../call-ports.ts';
import type { Registry } from '../registry.ts';
import { type McpOptions, type McpServers, openMcpServers } from './mcp-servers.ts';
import type { McpServerSpec } from './server-spec.ts';
import { serverOf } from './tool-names.ts';

export type PackServers = {
  readonly servers: McpServers;
  /** What the packs say now; failures are in the log and in the servers' status. */
  follow(specs: readonly McpServerSpec[]): void;
  close(): Promise<void>;
};

/** Begins with what the registry's packs say; it does not wait for any server. Throws as openMcpServers does. */
export async function openPackServers(options: McpOptions & { readonly registry: Registry }): Promise<PackServers> {
  const servers = await openMcpServers(options);
  const follow = (specs: readonly McpServerSpec[]): void => {
    servers.setServers(specs).catch((error: unknown) => {
      options.log.error({ err: error }, 'the MCP servers of the packs cannot be taken');
    });
  };
  follow(options.registry.mcpServers());
  return { servers, follow, close: () => servers.close() };
}

type Workspaces = WorkspaceDoor & WorkspaceCopies;

/**
 * The workspaces, where a server that idles in one is no reason to refuse a copy of it, and does not write to it while a call has
 * it for itself.
 */
export function freedFromServers(
  workspaces: Workspaces,
  servers: Pick<McpServers, 'endSession' | 'endWriters'>,
): Workspaces {
  return {
    async enter(caller, options) {
      const opened = await workspaces.enter(caller, options);
      return {
        ...opened,
        endIdle: () => servers.endWriters(caller, { except: '' }),
        async begin(how) {
          await opened.begin(how);
          if (how.hold === 'alone') await servers.endWriters(caller, { except: serverOf(how.tool) });
        },
      };
    },
    async snapshot(caller) {
      await servers.endSession(caller);
      return workspaces.snapshot(caller);
    },
    async discard(caller) {
      await servers.endSession(caller);
      return workspaces.discard(caller);
    },
    async rollback(caller, id) {
      await servers.endSession(caller);
      return workspaces.rollback(caller, id);
    },
  };
}
