// What all built-in tools have in common.
import { QuernError } from '#kit/errors.ts';
import type { Taint } from '#kit/taint.ts';
import { defineTool, type LimitsPart } from '../definition.ts';
import { checkSchema } from '../schema-check.ts';
import type { Annotations, CallContext, JsonObject, JsonValue, PreparedCall, Tool, ToolAnswer } from '../tool.ts';

/** Programs inside the sandbox, by absolute path; null: the toolchain has none. */
export type Programs = {
  readonly bash: string | null;
  readonly python: string | null;
  readonly node: string | null;
  readonly git: string | null;
};

export type BuiltinSpec = {
  readonly name: string;
  readonly description: string;
  readonly properties: { readonly [name: string]: JsonObject };
  readonly required: readonly string[];
  readonly annotations: Annotations;
  readonly taint: Partial<Taint>;
  readonly limits?: LimitsPart;
  readonly modelOutputBytes?: number;
  /** What would run, as far as it is fixed. */
  readonly runs: JsonValue;
  unavailable?(): string | null;
  /** What an operator must set for it to run; null: nothing. */
  readonly unset?: string | null;
  prepare(args: JsonObject, call: CallContext): Promise<PreparedCall>;
};

/** Grows with what a built-in does; its content is in the hash all the same. */
const VERSION = '1';

export function builtinTool(spec: BuiltinSpec): Tool {
  const schema: JsonObject = {
    type: 'object',
    properties: spec.properties,
    required: spec.required,
    additionalProperties: false,
  };
  const { definition, fingerprint } = defineTool({
    name: spec.name,
    version: VERSION,
    kind: 'builtin',
    description: spec.description,
    inputSchema: checkSchema(schema, 'input_schema'),
    annotations: spec.annotations,
    limits: spec.limits,
    modelOutputBytes: spec.modelOutputBytes,
    taint: { readUntrusted: false, hasPrivate: false, canExfiltrate: false, ...spec.taint },
    runs: spec.runs,
  });
  return {
    definition,
    fingerprint,
    unavailable: () => spec.unset ?? spec.unavailable?.() ?? null,
    isUnset: typeof spec.unset === 'string',
    prepare: (args, call) => spec.prepare(args, call),
  };
}

export const READS: Annotations = { readOnly: true, destructive: false, idempotent: true, openWorld: false };

/** Members that the schema has checked; `fallback` where the caller left one out. */
export function textArgument(args: JsonObject, name: string, fallback: string): string {
  const value = Object.hasOwn(args, name) ? args[name] : undefined;
  return typeof value === 'string' ? value : fallback;
}

export function numberArgument(args: JsonObject, name: string, fallback: number): number {
  const value = Object.hasOwn(args, name) ? args[name] : undefined;
  return typeof value === 'number' ? value : fallback;
}

export function listArgument(args: JsonObject, name: string): string[] {
  const value = Object.hasOwn(args, name) ? args[name] : undefined;
  return Array.isArray(value) ? value.filter((one: JsonValue): one is string => typeof one === 'string') : [];
}

export const answered = (content: string): ToolAnswer => ({
  ok: true,
  message: '',
  content,
  structured: null,
  artifacts: [],
});

export const failed = (message: string, content = ''): ToolAnswer => ({
  ok: false,
  message,
  content,
  structured: null,
  artifacts: [],
});

export function invalidArgument(name: string, description: string): QuernError {
  const field = `arguments.${name}`;
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

/** Text that becomes an item of a command's argv. */
export function checkItems(items: readonly string[], name: string): void {
  if (items.some((item) => item.includes('\0'))) throw invalidArgument(name, 'expected text without NUL');
}
