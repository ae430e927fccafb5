// A first check of a plan's arguments against a tool's JSON Schema, so that the model hears of a mistake before anything runs.
// It knows the plain keywords and no regular expressions, which foreign schemas could use to block us; what it does not know
// it lets pass. The tool service checks every call in full.

import { isJsonObject, type JsonObject } from './json-value.ts';
import { SCHEMA_DEPTH_MAX } from './limits.ts';

/** Visits of a schema at a value; beyond it the rest passes. */
const VISITS_MAX = 50_000;

type Check = { visits: number; isOpen: (text: string) => boolean };

const TYPE_NAMES = ['null', 'boolean', 'object', 'array', 'number', 'integer', 'string'];

function isOfType(value: unknown, type: unknown): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'object':
      return isJsonObject(value);
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

function typeProblem(schema: JsonObject, value: unknown, path: string): string | null {
  const types = (Array.isArray(schema.type) ? schema.type : [schema.type]).filter((type) => TYPE_NAMES.includes(type));
  if (types.length === 0 || types.some((type) => isOfType(value, type))) return null;
  return `${path}: expected ${types.join(' or ')}, got ${kindOf(value)}`;
}

function valueProblem(schema: JsonObject, value: unknown, path: string): string | null {
  const text = JSON.stringify(value);
  if (Array.isArray(schema.enum) && !schema.enum.some((one) => JSON.stringify(one) === text)) {
    return `${path}: expected one of ${JSON.stringify(schema.enum).slice(0, 200)}, got ${text.slice(0, 60)}`;
  }
  if ('const' in schema && JSON.stringify(schema.const) !== text) {
    return `${path}: expected ${JSON.stringify(schema.const).slice(0, 60)}, got ${text.slice(0, 60)}`;
  }
  return null;
}

type Bound = [keyword: string, isBroken: (size: number, bound: number) => boolean, words: string];

const LESS: Bound[1] = (size, bound) => size < bound;
const MORE: Bound[1] = (size, bound) => size > bound;
const NUMBER_BOUNDS: Bound[] = [
  ['minimum', LESS, 'at least'],
  ['maximum', MORE, 'at most'],
  ['exclusiveMinimum', (size, bound) => size <= bound, 'more than'],
  ['exclusiveMaximum', (size, bound) => size >= bound, 'less than'],
];
const LENGTH_BOUNDS: Bound[] = [
  ['minLength', LESS, 'at least'],
  ['maxLength', MORE, 'at most'],
];
const ITEM_BOUNDS: Bound[] = [
  ['minItems', LESS, 'at least'],
  ['maxItems', MORE, 'at most'],
];

function sizeProblem(schema: JsonObject, value: unknown, path: string): string | null {
  const [bounds, size, unit] =
    typeof value === 'number'
      ? [NUMBER_BOUNDS, value, '']
      : typeof value === 'string'
        ? [LENGTH_BOUNDS, [...value].length, ' characters']
        : Array.isArray(value)
          ? [ITEM_BOUNDS, value.length, ' elements']
          : [[], 0, ''];
  for (const [keyword, isBroken, words] of bounds as Bound[]) {
    const bound = schema[keyword];
    if (typeof bound === 'number' && isBroken(size as number, bound)) {
      return `${path}: expected ${words} ${bound}${unit}, got ${size}`;
    }
  }
  return null;
}

function objectProblem(
  schema: JsonObject,
  value: JsonObject,
  path: string,
  depth: number,
  check: Check,
): string | null {
  const properties = isJsonObject(schema.properties) ? schema.properties : {};
  for (const name of Array.isArray(schema.required) ? schema.required : []) {
    if (typeof name === 'string' && !Object.hasOwn(value, name))
      return `${path}: expected "${name.slice(0, 64)}", which is missing`;
  }
  for (const [name, inner] of Object.entries(value)) {
    const below = `${path}.${name.slice(0, 64)}`;
    const known = Object.hasOwn(properties, name);
    if (!known && schema.additionalProperties === false && !('patternProperties' in schema)) {
      const names = Object.keys(properties).slice(0, 16).join(', ') || 'none';
      return `${below}: no such argument; expected one of: ${names}`;
    }
    const problem = known ? problemAt(properties[name], inner, below, depth + 1, check) : null;
    if (problem !== null) return problem;
  }
  return null;
}

function choiceProblem(schema: JsonObject, value: unknown, path: string, depth: number, check: Check): string | null {
  for (const branch of Array.isArray(schema.allOf) ? schema.allOf : []) {
    const problem = problemAt(branch, value, path, depth + 1, check);
    if (problem !== null) return problem;
  }
  for (const keyword of ['anyOf', 'oneOf']) {
    const branches = schema[keyword];
    if (!Array.isArray(branches) || branches.length === 0) continue;
    const problems = branches.map((branch) => problemAt(branch, value, path, depth + 1, check));
    if (problems.every((problem) => problem !== null)) return problems[0] as string;
  }
  return null;
}

function problemAt(schema: unknown, value: unknown, path: string, depth: number, check: Check): string | null {
  check.visits += 1;
  if (schema === false) return `${path}: not allowed here`;
  if (!isJsonObject(schema) || depth > SCHEMA_DEPTH_MAX || check.visits > VISITS_MAX) return null;
  const problem = typeProblem(schema, value, path);
  if (problem !== null) return problem;
  if (typeof value === 'string' && check.isOpen(value)) return null;
  const own = valueProblem(schema, value, path) ?? sizeProblem(schema, value, path);
  if (own !== null) return own;
  if (isJsonObject(value)) {
    const inner = objectProblem(schema, value, path, depth, check);
    if (inner !== null) return inner;
  }
  if (Array.isArray(value) && isJsonObject(schema.items)) {
    for (const [i, item] of value.entries()) {
      const inner = problemAt(schema.items, item, `${path}[${i}]`, depth + 1, check);
      if (inner !== null) return inner;
    }
  }
  return choiceProblem(schema, value, path, depth, check);
}

/** The first thing wrong with arguments, or null. `isOpen`: a string whose text is not known yet, which fits wherever one may. */
export function schemaProblem(schemaJson: string, value: JsonObject, isOpen: (text: string) => boolean): string | null {
  let schema: unknown;
  try {
    schema = JSON.parse(schemaJson);
  } catch {
    return null; // a tool without arguments has none
  }
  return problemAt(schema, value, 'arguments', 0, { visits: 0, isOpen });
}
