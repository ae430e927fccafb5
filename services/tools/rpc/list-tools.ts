// ListTools: what the caller's tenant may see, with its policy.
import type { ListToolsRequest, ListToolsResponse } from '#gen/quern/tools/v1/tools.ts';
import type { ToolsContext } from '../context.ts';
import { ownerField } from '../request-fields.ts';
import { toolMessage } from '../tool-message.ts';
import { statusMessage } from '../tools-status.ts';

const NO_TAINT = { readUntrusted: false, hasPrivate: false, canExfiltrate: false };

export function listTools({ catalog, status }: ToolsContext, { caller }: ListToolsRequest): ListToolsResponse {
  const { tenant } = ownerField(caller);
  const tools = catalog
    .list()
    .map((tool) => toolMessage(tool, catalog.verdict(tool, { tenant, taint: NO_TAINT })))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return { tools, status: statusMessage(status()) };
}
