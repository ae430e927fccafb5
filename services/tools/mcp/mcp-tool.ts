// A server's tool as one of the registry's: its pinned definition, with what the operator says over what the server says.
import { QuernError } from '#kit/errors.ts';
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

/** A server's own hint counts where it makes the rules stricter; else the operator says so, or the dangerous value holds. */
function hintsOf(spec: McpServerSpec, { tool: { annotations: said } }: Pin) {
  const strictly = (name: string, strict: boolean): boolean | undefined => (said[name] === strict ? strict : undefined);
  const { readOnly, destructive, idempotent, openWorld } = spec.annotations;
  return {
    readOnly: readOnly ?? strictly('readOnlyHint', false),
    destructive: destructive ?? strictly('destructiveHint', true),
    idempotent: idempotent ?? strictly('idempotentHint', false),
    openWorld: openWorld ?? (spec.taint.canExfiltrate || strictly('openWorldHint', true)),
  };
}

/** Keywords whose members have names that the server chose. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas']);
const WORDS = new Set(['title', 'description', '$comment']);

/** A schema without hidden characters in its words. Its names and values stay: arguments are checked against them. */
function shownSchema(value: JsonValue, isNamed = false): JsonValue {
  if (Array.isArray(value)) return value.map((one) => shownSchema(one));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, one]): [string, JsonValue] => {
    if (!isNamed && WORDS.has(key) && typeof one === 'string') return [key, stripText(one)];
    return [key, shownSchema(one as JsonValue, !isNamed && NAMED.has(key))];
  });
  return Object.fromEntries(entries);
}

/** Throws INVALID_ARGUMENT when hidden characters stand where they cannot be left out: in a name or a value. */
function offeredSchema(schema: JsonObject, path: string): JsonObject {
  const shown = shownSchema(checkSchema(schema, path)) as JsonObject;
  if (holdsHidden(shown)) {
    throw new QuernError('INVALID_ARGUMENT', `${path}: a name or a value has hidden or control characters`);
  }
  return shown;
}

/** Line ends hide nothing. */
const isHiding = (text: string): boolean => stripText(text) !== text.replaceAll(/\r\n?/g, '\n');

function holdsHidden(value: JsonValue): boolean {
  if (typeof value === 'string') return isHiding(value);
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([key, one]) => isHiding(key) || holdsHidden(one as JsonValue));
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
    inputSchema: offeredSchema(inputSchema, 'inputSchema'),
    outputSchema: outputSchema && offeredSchema(outputSchema, 'outputSchema'),
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
