// A tool as an MCP server describes it, and the hash by which a change of it is seen.
import { z } from 'zod';
import { QuernError } from '#kit/errors.ts';
import { canonicalSha256 } from '../canonical.ts';
import type { JsonObject, JsonValue } from '../tool.ts';
import { SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX } from '../tool-limits.ts';
import { MCP_TOOL_NAME_CHARS_MAX } from './limits.ts';

/** What of a server's definition reaches models, people and policies. All of it is pinned. */
export type ForeignTool = {
  readonly name: string;
  readonly title: string | null;
  readonly description: string;
  readonly inputSchema: JsonObject;
  readonly outputSchema: JsonObject | null;
  /** Hints as the server sent them. */
  readonly annotations: JsonObject;
};

/** Far above what a schema of SCHEMA_BYTES_MAX and a description need. */
const DEFINITION_BYTES_MAX = 4 * SCHEMA_BYTES_MAX;

const schemaObject = z.custom<JsonObject>(
  (value) => typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'object',
  'expected a JSON Schema with the type "object"',
);

/** What is pinned and no more: the SDK's schema of a tool checks icons and schemas to their last element, which costs seconds. */
const definitionSchema = z.object({
  name: z.string(),
  title: z.string().optional(),
  description: z.string().optional(),
  inputSchema: schemaObject,
  outputSchema: schemaObject.optional(),
  annotations: z
    .object({
      title: z.string().optional(),
      readOnlyHint: z.boolean().optional(),
      destructiveHint: z.boolean().optional(),
      idempotentHint: z.boolean().optional(),
      openWorldHint: z.boolean().optional(),
    })
    .optional(),
});

function checkDepth(value: JsonValue, depth: number): void {
  if (depth > SCHEMA_DEPTH_MAX + 2) throw new QuernError('INVALID_ARGUMENT', 'nested too deep');
  if (typeof value !== 'object' || value === null) return;
  for (const one of Object.values(value)) checkDepth(one as JsonValue, depth + 1);
}

/** Throws INVALID_ARGUMENT, in words for an operator. */
export function parseForeignTool(value: unknown): ForeignTool {
  checkDepth(value as JsonValue, 0);
  const bytes = Buffer.byteLength(JSON.stringify(value) ?? '');
  if (bytes > DEFINITION_BYTES_MAX) {
    throw new QuernError('INVALID_ARGUMENT', `expected at most ${DEFINITION_BYTES_MAX} bytes, got ${bytes}`);
  }
  const parsed = definitionSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new QuernError('INVALID_ARGUMENT', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not valid'}`);
  }
  const { name, title, description, inputSchema, outputSchema, annotations } = parsed.data;
  if (name === '' || name.length > MCP_TOOL_NAME_CHARS_MAX) {
    throw new QuernError('INVALID_ARGUMENT', `name: expected 1..${MCP_TOOL_NAME_CHARS_MAX} characters`);
  }
  const { title: shownTitle, ...hints } = annotations ?? {};
  return {
    name,
    title: title ?? shownTitle ?? null,
    description: description ?? '',
    inputSchema,
    outputSchema: outputSchema ?? null,
    annotations: JSON.parse(JSON.stringify(hints)) as JsonObject, // without what is absent
  };
}

/** Hex SHA-256. Throws INVALID_ARGUMENT for text that is not well formed. */
export function foreignSha256(tool: ForeignTool): string {
  return canonicalSha256({ ...tool });
}
