// One pack: a YAML or JSON text with tools that are commands, and MCP servers. An OpenAI tool definition with a command beside it is
// a tool too.
import { z } from 'zod';
import { QuernError } from '#kit/errors.ts';
import { type CommandSpec, commandTool, fieldsOf } from './command-tool.ts';
import { defineTool } from './definition.ts';
import { type McpServerSpec, parseMcpServers } from './mcp/server-spec.ts';
import { checkSchema } from './schema-check.ts';
import { limitsFrom, limitsShape, parseSettings, shaped } from './settings-file.ts';
import type { JsonObject, JsonValue, Tool } from './tool.ts';
import {
  COMMAND_ARG_CHARS_MAX,
  COMMAND_ARGV_MAX,
  COMMAND_ENV_MAX,
  DEFINITION_BYTES_MAX,
  PACK_TOOLS_MAX,
} from './tool-limits.ts';

const text = z
  .string()
  .max(COMMAND_ARG_CHARS_MAX)
  .refine((value) => !value.includes('\0'), { error: 'expected text without NUL' });

const commandSchema = z.strictObject({
  argv: z.array(text).min(1).max(COMMAND_ARGV_MAX),
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'expected a name of a variable' }), text)
    .refine((env) => Object.keys(env).length <= COMMAND_ENV_MAX, {
      error: `expected at most ${COMMAND_ENV_MAX} variables`,
    })
    .default({}),
  stdin: z.enum(['none', 'json', 'call']).default('json'),
  workspace: z.enum(['none', 'read', 'write']).default('write'),
  network: z.enum(['none', 'proxy']).default('none'),
});

const jsonObject = z.record(z.string(), z.unknown());

const toolSchema = z.strictObject({
  name: z.string(),
  version: z.union([z.string(), z.number().transform(String)]).default('1'),
  description: z.string().default(''),
  input_schema: jsonObject.default({ type: 'object', additionalProperties: false }),
  output_schema: jsonObject.optional(),
  annotations: z
    .strictObject({
      read_only: z.boolean().optional(),
      destructive: z.boolean().optional(),
      idempotent: z.boolean().optional(),
      open_world: z.boolean().optional(),
    })
    .default({}),
  policy: z.strictObject({ decision: z.enum(['allow', 'ask', 'deny']).optional(), ...limitsShape }).default({}),
  /** What a call adds to the conversation, beside what follows from workspace and network. */
  taint: z
    .strictObject({
      read_untrusted: z.boolean().default(false),
      has_private: z.boolean().default(false),
      can_exfiltrate: z.boolean().default(false),
    })
    .default({ read_untrusted: false, has_private: false, can_exfiltrate: false }),
  command: commandSchema,
});

type WrittenTool = z.infer<typeof toolSchema>;

const packSchema = z.strictObject({
  tools: z.array(z.unknown()).max(PACK_TOOLS_MAX).default([]),
  mcp_servers: z.unknown().optional(),
});

export type Pack = { readonly tools: readonly Tool[]; readonly servers: readonly McpServerSpec[] };

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** OpenAI's forms, of chat completions (nested) and of responses (flat), in ours; anything else unchanged. */
function fromOpenAi(value: unknown): unknown {
  if (!isObject(value) || value.type !== 'function') return value;
  const { type: _, function: nested, ...outer } = value;
  const { parameters, strict: __, ...rest } = isObject(nested) ? { ...nested, ...outer } : outer;
  if (rest.command === undefined) {
    const message =
      'command: an OpenAI definition says what a tool takes, not what runs; add "command" beside "function"';
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'SETTINGS_INVALID' });
  }
  return { ...rest, ...(isObject(parameters) && { input_schema: parameters }) };
}

function invalid(message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'SETTINGS_INVALID' });
}

/** The paths stay those of the pack: mistakes further in begin with `path`. */
function within<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof QuernError) || path === '') throw error;
    const joint = /^(?:has no field|expected|not valid)\b/.test(error.message) ? ': ' : '.'; // a sentence, or a path that goes on
    throw new QuernError(error.code, `${path}${joint}${error.message}`, error.details, { cause: error });
  }
}

function checkCommand({ argv }: CommandSpec, inputSchema: JsonObject): void {
  const [program = ''] = argv;
  if (!/^\/(?!.*\/\.{1,2}(?:\/|$))[^{}]*$/.test(program)) {
    throw invalid(`command.argv[0]: expected an absolute path inside the sandbox, got ${JSON.stringify(program)}`);
  }
  const { properties = {} } = inputSchema as { properties?: JsonObject };
  for (const field of fieldsOf(argv)) {
    if (!Object.hasOwn(properties, field)) throw invalid(`command.argv: {${field}} is no property of input_schema`);
  }
}

function toolFrom(written: WrittenTool): Tool {
  const { command, annotations, taint } = written;
  const { decision, ...bounds } = written.policy;
  const inputSchema = checkSchema(written.input_schema as JsonObject, 'input_schema');
  const outputSchema = written.output_schema ? checkSchema(written.output_schema as JsonObject, 'output_schema') : null;
  checkCommand(command, inputSchema);
  const reachesOut = command.network === 'proxy';
  const { definition, fingerprint } = defineTool({
    name: written.name,
    version: written.version,
    kind: 'command',
    description: written.description,
    inputSchema,
    outputSchema,
    annotations: {
      readOnly: annotations.read_only,
      destructive: annotations.destructive,
      idempotent: annotations.idempotent,
      openWorld: annotations.open_world,
    },
    decision,
    ...limitsFrom(bounds),
    taint: {
      readUntrusted: taint.read_untrusted || reachesOut,
      hasPrivate: taint.has_private || command.workspace !== 'none',
      canExfiltrate: taint.can_exfiltrate || reachesOut,
    },
    runs: command as JsonValue,
  });
  return commandTool(definition, fingerprint, command);
}

/** One tool, as RegisterTool takes it: a definition of ours or of OpenAI with a command. Throws INVALID_ARGUMENT. */
export function parseTool(source: string): Tool {
  const bytes = Buffer.byteLength(source);
  if (bytes > DEFINITION_BYTES_MAX) throw invalid(`expected at most ${DEFINITION_BYTES_MAX} bytes, got ${bytes}`);
  return toolFrom(shaped(toolSchema, fromOpenAi(parseSettings(source))));
}

/** A pack: {tools: [...], mcp_servers: {...}}, or one tool alone. Throws INVALID_ARGUMENT with the place of the mistake. */
export function parsePack(source: string): Pack {
  const value = parseSettings(source);
  const isTool = isObject(value) && ['name', 'command', 'function'].some((key) => Object.hasOwn(value, key));
  if (isTool && value.tools === undefined && value.mcp_servers === undefined) {
    return { tools: [toolFrom(shaped(toolSchema, fromOpenAi(value)))], servers: [] };
  }
  const { tools, mcp_servers: servers } = shaped(packSchema, value);
  return {
    tools: tools.map((one, i) => within(`tools[${i}]`, () => toolFrom(shaped(toolSchema, fromOpenAi(one))))),
    servers: servers === undefined ? [] : parseMcpServers(servers, within),
  };
}
