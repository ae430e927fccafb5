// What of a server's list may be used: every definition is compared with the one that was pinned. A new tool is pinned as it
// comes; a changed one is in quarantine until the server takes the change back or an operator accepts it.
import { stripText } from '../model-output.ts';
import type { Listing } from './connection.ts';
import type { ForeignTool } from './foreign-tool.ts';
import type { Pin, Pins } from './pins.ts';
import type { McpServerSpec } from './server-spec.ts';

export type Change = { readonly name: string; readonly sha256: string; readonly fields: readonly string[] };

/** The parts in which two definitions differ. */
export function changedFields(before: ForeignTool, after: ForeignTool): string[] {
  const fields = Object.keys(before) as (keyof ForeignTool)[];
  return fields.filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]));
}

export type Judgement = {
  /** Usable, by the server's own names. */
  readonly pins: ReadonlyMap<string, Pin>;
  readonly changes: ReadonlyMap<string, Change>;
  /** Recorded for the first time now, and changes that were accepted now. */
  readonly recorded: readonly string[];
};

/** Pins what is new or accepted, on disk, before it is used. */
export async function judgeListing(spec: McpServerSpec, listing: Listing, pins: Pins): Promise<Judgement> {
  const { name: server, tools: wanted, accept } = spec;
  const offered = [...listing.tools.values()].filter(({ tool }) => wanted === null || wanted.includes(tool.name));
  const known = pins.of(server);
  const record: ForeignTool[] = [];
  const changes = new Map<string, Change>();
  for (const { tool, sha256 } of offered) {
    const pin = known.get(tool.name);
    if (pin?.sha256 === sha256) continue;
    if (!pin || accept.includes(sha256)) record.push(tool);
    else changes.set(tool.name, { name: tool.name, sha256, fields: changedFields(pin.tool, tool) });
  }
  if (record.length > 0) await pins.record(server, record);
  const held = pins.of(server);
  const listed = offered.flatMap(({ tool }) => held.get(tool.name) ?? []);
  return {
    pins: new Map(listed.map((pin) => [pin.tool.name, pin])),
    changes,
    recorded: record.map(({ name }) => name),
  };
}

/** Why a changed tool cannot be used, and what to do. */
export function quarantineReason(server: string, { name, sha256, fields }: Change): string {
  return (
    `the MCP server ${server} has changed ${fields.join(', ')} of its tool ${JSON.stringify(stripText(name).slice(0, 80))} ` +
    `since it was pinned; it is in quarantine until an operator has looked at the change and writes accept: [${sha256}] ` +
    `at mcp_servers.${server} of the pack`
  );
}
