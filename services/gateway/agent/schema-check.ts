// A first look at a plan's arguments, so that the model hears of the plainest mistakes before anything runs: names that are missing
// and values of the wrong type, at the top level. The tool service checks every call in full; nothing that it takes is refused here.
import { isJsonObject, type JsonObject } from './json-value.ts';

const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  null: (value) => value === null,
  boolean: (value) => typeof value === 'boolean',
  object: isJsonObject,
  array: Array.isArray,
  number: (value) => typeof value === 'number',
  integer: Number.isInteger,
  string: (value) => typeof value === 'string',
};

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

/** The types a schema names; none: it names none, or what is not known here. */
function typesOf(schema: unknown): readonly string[] {
  if (!isJsonObject(schema) || schema.nullable === true) return [];
  const types: unknown[] = Array.isArray(schema.type) ? schema.type : [schema.type];
  const isKnown = types.length <= 7 && types.every((type) => typeof type === 'string' && Object.hasOwn(TYPES, type));
  return isKnown ? (types as string[]) : [];
}

/** The first thing wrong with arguments, or null. */
export function schemaProblem(schemaJson: string, value: JsonObject): string | null {
  let schema: unknown;
  try {
    schema = JSON.parse(schemaJson);
  } catch {
    return null; // a tool without arguments has none
  }
  if (!isJsonObject(schema)) return null;
  for (const name of Array.isArray(schema.required) ? schema.required : []) {
    if (typeof name === 'string' && !Object.hasOwn(value, name))
      return `arguments: expected "${name.slice(0, 64)}", which is missing`;
  }
  const properties = isJsonObject(schema.properties) ? schema.properties : {};
  for (const [name, inner] of Object.entries(value)) {
    const types = Object.hasOwn(properties, name) ? typesOf(properties[name]) : [];
    if (types.length === 0 || types.some((type) => TYPES[type]?.(inner))) continue;
    return `arguments.${name.slice(0, 64)}: expected ${types.join(' or ')}, got ${kindOf(inner)}`;
  }
  return null;
}
