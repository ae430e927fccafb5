// What a tool's JSON Schema (2020-12) may be before anything compiles it: bounded, self-contained, with patterns that no text
// makes slow. Foreign schemas come from MCP servers and clients.
import { QuernError } from '#kit/errors.ts';
import { linearPattern } from './linear-pattern.ts';
import type { JsonObject, JsonValue } from './tool.ts';
import { SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX } from './tool-limits.ts';

const DIALECTS = new Set([
  'https://json-schema.org/draft/2020-12/schema',
  'https://json-schema.org/draft/2019-09/schema',
  'http://json-schema.org/draft-07/schema',
]);

/** They would name, or look up, schemas outside the definition, or change what a reference means by where it is used. */
const REFUSED = new Set(['$dynamicRef', '$dynamicAnchor', '$recursiveRef', '$recursiveAnchor', '$vocabulary']);

/** Keywords whose members are names chosen by the schema's author, each with a schema. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas']);
/** Keywords whose content is data, not a schema. */
const DATA = new Set(['const', 'enum', 'default', 'examples', 'example']);

function invalid(path: string, message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${path}: ${message}`, {
    reason: 'SCHEMA_INVALID',
    fields: [{ field: path, description: message }],
  });
}

const isObject = (value: JsonValue | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function checkName(name: string, path: string): void {
  if (name === '__proto__') throw invalid(path, 'the name "__proto__" is not allowed');
}

function checkKeyword(key: string, value: JsonValue, path: string, isRoot: boolean): void {
  if (REFUSED.has(key)) throw invalid(path, 'is not supported; use $ref to a part of this schema');
  if ((key === '$id' || key === '$anchor') && !isRoot) throw invalid(path, 'only the whole schema may have a name');
  if (key === '$ref' && (typeof value !== 'string' || !/^#(?:\/|$)/.test(value))) {
    throw invalid(
      path,
      `expected a part of this schema such as "#/$defs/name", got ${JSON.stringify(value).slice(0, 80)}`,
    );
  }
  if (key === 'pattern') takePattern(value, path);
  if (key === 'patternProperties' && isObject(value)) for (const name of Object.keys(value)) takePattern(name, path);
}

function takePattern(value: JsonValue, path: string): void {
  if (typeof value !== 'string') throw invalid(path, 'expected a regular expression as text');
  try {
    linearPattern(value);
  } catch (error) {
    if (error instanceof QuernError) throw invalid(path, error.message);
    throw error;
  }
}

/** Recursion is bounded by the depth. */
function walk(value: JsonValue, path: string, depth: number, holds: 'schema' | 'named' | 'data'): void {
  if (depth > SCHEMA_DEPTH_MAX) throw invalid(path, `expected a depth of at most ${SCHEMA_DEPTH_MAX}`);
  if (Array.isArray(value)) {
    for (const [i, one] of value.entries()) walk(one, `${path}[${i}]`, depth + 1, holds === 'named' ? 'schema' : holds);
    return;
  }
  if (!isObject(value)) return;
  for (const [key, one] of Object.entries(value)) {
    const at = `${path}.${key}`;
    checkName(key, at);
    if (holds === 'schema') checkKeyword(key, one, at, depth === 0);
    const inner = holds === 'data' || (holds === 'schema' && DATA.has(key)) ? 'data' : 'schema';
    walk(one, at, depth + 1, holds === 'schema' && NAMED.has(key) ? 'named' : inner);
  }
}

/**
 * Checks a schema of an object and gives it back without `$schema` and `$id`. `path` names it in messages. Throws
 * INVALID_ARGUMENT, reason SCHEMA_INVALID. That it compiles is for the argument checker to say.
 */
export function checkSchema(schema: JsonValue, path: string): JsonObject {
  if (!isObject(schema)) throw invalid(path, 'expected a JSON Schema, an object');
  walk(schema, path, 0, 'schema'); // before anything recursive: it bounds the depth
  const bytes = Buffer.byteLength(JSON.stringify(schema));
  if (bytes > SCHEMA_BYTES_MAX) throw invalid(path, `expected at most ${SCHEMA_BYTES_MAX} bytes, got ${bytes}`);
  const { $schema, $id: _, ...rest } = schema;
  if ($schema !== undefined && !(typeof $schema === 'string' && DIALECTS.has($schema.replace(/#$/, '')))) {
    throw invalid(`${path}.$schema`, 'expected https://json-schema.org/draft/2020-12/schema');
  }
  if (rest.type !== 'object') throw invalid(`${path}.type`, 'expected "object": arguments are always an object');
  return rest;
}
