// A server's tool as one of the registry's: its pinned definition, with what the operator says over what the server says.

import { defineTool } from '../definition.ts';
import { stripText } from '../model-output.ts';
import { checkSchema } from '../schema-check.ts';
import type { CallContext, JsonObject, JsonValue, Tool, ToolAnswer } from '../tool.ts';
import { DESCRIPTION_CHARS_MAX } from '../tool-limits.ts';
import type { Pin } from './pins.ts';
import type { McpServerSpec } from './server-spec.ts';
import { registeredName } from './tool-names.ts';

export type RunMcpCall = (
  pin: Pin,
  tool: Tool,
  args: JsonObject,
  call: CallContext,
  options: { signal: AbortSignal },
) => Promise<ToolAnswer>;

const CUT = ' [...]';

/** What a model reads of it: no hidden characters, and not too long. */
function shownDescription({ tool: { title, description } }: Pin): string {
  const text = stripText(title === null ? description : `${title}\n${description}`).trim();
  if (text.length <= DESCRIPTION_CHARS_MAX) return text;
  return `${text.slice(0, DESCRIPTION_CHARS_MAX - CUT.length).toWellFormed()}${CUT}`;
}

const hint = (hints: JsonObject, name: string): boolean | undefined =>
  typeof hints[name] === 'boolean' ? hints[name] : undefined;

function hintsOf(spec: McpServerSpec, { tool: { annotations: said } }: Pin) {
  const reachesOut = spec.taint.canExfiltrate;
  const { readOnly, destructive, idempotent, openWorld } = spec.annotations;
  return {
    readOnly: readOnly ?? hint(said, 'readOnlyHint'),
    destructive: destructive ?? hint(said, 'destructiveHint'),
    idempotent: idempotent ?? hint(said, 'idempotentHint'),
    openWorld: openWorld ?? (reachesOut ? true : hint(said, 'openWorldHint')),
  };
}

/** Where it runs, for the digest that an approval binds. */
function runsOf(spec: McpServerSpec, pin: Pin): JsonValue {
  const place =
    spec.kind === 'http'
      ? { url: spec.url.href }
      : {
          command: [spec.command, ...spec.args],
          env: spec.env,
          binds: spec.binds.map(({ from, to }) => ({ from, to })),
          workspace: spec.workspace,
          network: spec.network,
        };
  return { server: spec.name, tool: pin.tool.name, pin: pin.sha256, ...place };
}

/** Throws INVALID_ARGUMENT for a definition that the registry would not take. */
export function mcpTool(
  spec: McpServerSpec,
  pin: Pin,
  { unavailable, run }: { unavailable: () => string | null; run: RunMcpCall },
): Tool {
  const { inputSchema, outputSchema, name } = pin.tool;
  const made = defineTool({
    name: registeredName(spec.name, name),
    version: pin.sha256.slice(0, 12),
    kind: 'mcp',
    description: shownDescription(pin),
    inputSchema: checkSchema(inputSchema, 'inputSchema'),
    outputSchema: outputSchema && checkSchema(outputSchema, 'outputSchema'),
    annotations: hintsOf(spec, pin),
    decision: spec.decision,
    limits: spec.limits,
    modelOutputBytes: spec.modelOutputBytes,
    taint: spec.taint,
    runs: runsOf(spec, pin),
  });
  const tool: Tool = {
    ...made,
    unavailable,
    prepare: async (args, call) => ({
      kind: 'function',
      tier: spec.kind === 'http' ? 'host' : 'mcp',
      run: ({ signal }) => run(pin, tool, args, call, { signal }),
    }),
  };
  return tool;
}
