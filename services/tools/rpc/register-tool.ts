// RegisterTool and RemoveTool: tools that stay over a restart. That the set of tools changes is recorded before it does.
import type {
  RegisterToolRequest,
  RegisterToolResponse,
  RemoveToolRequest,
  RemoveToolResponse,
} from '#gen/quern/tools/v1/tools.ts';
import type { ToolsContext } from '../context.ts';
import { invalidField, ownerField } from '../request-fields.ts';
import { toolMessage } from '../tool-message.ts';
import { parseTool } from '../tool-pack.ts';

const NO_TAINT = { readUntrusted: false, hasPrivate: false, canExfiltrate: false };
const NAME_CHARS_MAX = 64;

export async function registerTool(
  { catalog, packs, audit }: ToolsContext,
  { caller, definitionJson }: RegisterToolRequest,
): Promise<RegisterToolResponse> {
  const by = ownerField(caller);
  const { name, sha256: sha } = parseTool(definitionJson).definition; // before it is recorded
  await audit.registry('tool.registered', by, { name, sha });
  const tool = await packs.register(definitionJson);
  const verdict = catalog.verdict(tool, { tenant: by.tenant, taint: NO_TAINT });
  return { tool: toolMessage(tool, verdict) };
}

export async function removeTool(
  { packs, audit }: ToolsContext,
  { caller, name }: RemoveToolRequest,
): Promise<RemoveToolResponse> {
  const by = ownerField(caller);
  if (name.length < 1 || name.length > NAME_CHARS_MAX) {
    throw invalidField('name', `expected 1 to ${NAME_CHARS_MAX} characters, got ${name.length}`);
  }
  await audit.registry('tool.removed', by, { name, sha: '' });
  await packs.remove(name);
  return {};
}
