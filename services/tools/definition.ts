// How a definition comes about: what its source says, with the dangerous value where it says nothing, and the hash of it all.
import { QuernError } from '#kit/errors.ts';
import type { Taint } from '#kit/taint.ts';
import { canonicalSha256 } from './canonical.ts';
import type { SandboxLimits } from './jail/sandbox.ts';
import type { Annotations, Decision, JsonObject, JsonValue, ToolDefinition, ToolKind } from './tool.ts';
import {
  DEFAULT_LIMITS,
  DEFAULT_MODEL_OUTPUT_BYTES,
  DESCRIPTION_CHARS_MAX,
  HOST_LIMITS,
  HOST_MODEL_OUTPUT_BYTES,
} from './tool-limits.ts';

export type LimitsPart = { readonly [K in keyof SandboxLimits]?: SandboxLimits[K] | undefined };

export type DefinitionSource = {
  readonly name: string;
  readonly version: string;
  readonly kind: ToolKind;
  readonly description: string;
  /** As checkSchema() gave it. */
  readonly inputSchema: JsonObject;
  readonly outputSchema?: JsonObject | null | undefined;
  readonly annotations?: { readonly [K in keyof Annotations]?: boolean | undefined } | undefined;
  readonly decision?: Decision | undefined;
  readonly limits?: LimitsPart | undefined;
  readonly modelOutputBytes?: number | undefined;
  /** What a call of it adds to the conversation. */
  readonly taint: Taint;
  /** What would run, as far as the source fixes it. */
  readonly runs: JsonValue;
};

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const VERSION = /^[^\p{Cc}]{1,64}$/u;

function invalid(field: string, description: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

/** A missing hint has the dangerous value: no annotations = destructive, open-world, not read-only. */
export function withDangerousDefaults(annotations: DefinitionSource['annotations'] = {}): Annotations {
  return {
    readOnly: annotations.readOnly ?? false,
    destructive: annotations.destructive ?? true,
    idempotent: annotations.idempotent ?? false,
    openWorld: annotations.openWorld ?? true,
  };
}

/** The lower of each bound; what a part leaves out stays. */
export function lowestLimits(first: SandboxLimits, ...parts: readonly (LimitsPart | undefined)[]): SandboxLimits {
  const lowest: { -readonly [K in keyof SandboxLimits]: number } = { ...first };
  for (const part of parts) {
    for (const key of Object.keys(first) as (keyof SandboxLimits)[]) {
      lowest[key] = Math.min(lowest[key], part?.[key] ?? Number.POSITIVE_INFINITY);
    }
  }
  return lowest;
}

function limitsOf(part: LimitsPart = {}): SandboxLimits {
  const given = Object.fromEntries(Object.entries(part).filter(([, value]) => value !== undefined));
  return lowestLimits({ ...DEFAULT_LIMITS, ...given }, HOST_LIMITS);
}

/** Throws INVALID_ARGUMENT, naming the field, for a name, version or description that may not stand there. */
export function defineTool(source: DefinitionSource): { definition: ToolDefinition; fingerprint: string } {
  const { name, version, kind, description, inputSchema, outputSchema = null } = source;
  if (!NAME.test(name))
    throw invalid('name', `expected 1..64 of [A-Za-z0-9_-], got ${JSON.stringify(name.slice(0, 80))}`);
  if (kind !== 'mcp' && name.includes('__')) throw invalid('name', '"__" stands between an MCP server and its tool');
  if (!VERSION.test(version)) throw invalid('version', 'expected 1..64 characters');
  if (description.length > DESCRIPTION_CHARS_MAX) {
    throw invalid('description', `expected at most ${DESCRIPTION_CHARS_MAX} characters, got ${description.length}`);
  }
  const annotations = withDangerousDefaults(source.annotations);
  const policy = {
    decision: source.decision ?? 'allow',
    limits: limitsOf(source.limits),
    modelOutputBytes: Math.min(source.modelOutputBytes ?? DEFAULT_MODEL_OUTPUT_BYTES, HOST_MODEL_OUTPUT_BYTES),
    taint: source.taint,
  };
  const fingerprint = canonicalSha256(source.runs);
  const content: JsonObject = {
    name,
    version,
    kind,
    description,
    input_schema: inputSchema,
    output_schema: outputSchema,
    annotations,
    policy,
    runs: fingerprint,
  };
  const sha256 = canonicalSha256(content);
  const definition = { name, version, kind, description, inputSchema, outputSchema, annotations, policy, sha256 };
  return { definition, fingerprint };
}
