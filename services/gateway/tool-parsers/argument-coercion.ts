// Arguments in the types that a tool's JSON Schema names, at every depth. Models write numbers as text, booleans as words
// and objects as JSON in a string; tools want what they asked for. A value that already fits is never changed.
import { COERCION_STEPS_MAX, SCHEMA_REFS_MAX, SCHEMA_VISITS_MAX } from './limits.ts';
import { JsonNumber, type Lossless, NUMBER, parseLossless, writeLossless } from './lossless-json.ts';

type SchemaObject = { readonly [key: string]: unknown };
type TypeName = 'string' | 'integer' | 'number' | 'boolean' | 'null' | 'object' | 'array';
/** One thing that a value may be; type null: anything. */
type Alternative = { type: TypeName | null; schema: Schema };

/** A schema with the document it stands in, for its $refs. Null: nothing is known, every value fits. */
export type Schema = { readonly own: SchemaObject; readonly root: SchemaObject } | null;

const TYPES: ReadonlySet<unknown> = new Set(['string', 'integer', 'number', 'boolean', 'null', 'object', 'array']);
/** 5.0 and 1e3 are integers too (JSON Schema 2020-12, 4.2.3). */
const INTEGER = /^-?(?:0|[1-9]\d*)(?:\.0+)?(?:[eE]\+?\d+)?$/;
const WORDS: ReadonlyMap<string, boolean | null> = new Map([
  ['true', true],
  ['false', false],
  ['True', true],
  ['False', false],
  ['null', null],
  ['None', null],
]);

function isObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function own(object: SchemaObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/** The schema of a tool's parameters from its JSON text; what does not parse says nothing. */
export function readSchema(json: string): Schema {
  try {
    const value: unknown = json.trim() === '' ? null : JSON.parse(json);
    return isObject(value) ? resolve(value, value) : null;
  } catch {
    return null;
  }
}

/** Follows "#/$defs/Name"; what leads nowhere says nothing. */
function resolve(value: unknown, root: SchemaObject): Schema {
  let at = value;
  for (let links = 0; links <= SCHEMA_REFS_MAX; links += 1) {
    if (!isObject(at)) return null;
    const ref = own(at, '$ref');
    if (typeof ref !== 'string') return { own: at, root };
    if (ref !== '#' && !ref.startsWith('#/')) return null;
    at = ref
      .split('/')
      .slice(1)
      .reduce<unknown>((node, part) => {
        const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
        if (Array.isArray(node)) return node[Number(key)];
        return isObject(node) ? own(node, key) : undefined;
      }, root);
  }
  return null;
}

/** Of a value without a type: what its enum, const or keywords say. */
function impliedTypes(schema: SchemaObject): TypeName[] {
  const listed = own(schema, 'enum');
  const values = Object.hasOwn(schema, 'const') ? [own(schema, 'const')] : Array.isArray(listed) ? listed : [];
  if (values.length > 0) {
    const name = (value: unknown): TypeName =>
      value === null ? 'null' : Array.isArray(value) ? 'array' : (typeof value as TypeName);
    return [...new Set(values.map(name))];
  }
  if (isObject(own(schema, 'properties'))) return ['object'];
  return own(schema, 'items') !== undefined ? ['array'] : [];
}

/** At least one. `visits`: schemas that may still be looked at, since one may lead to itself. */
function alternativesOf(schema: Schema, visits = { left: SCHEMA_VISITS_MAX }): Alternative[] {
  visits.left -= 1;
  if (schema === null || visits.left < 0) return [{ type: null, schema: null }];
  const { own: object, root } = schema;
  for (const keyword of ['anyOf', 'oneOf']) {
    const branches = own(object, keyword);
    if (Array.isArray(branches) && branches.length > 0) {
      return branches.slice(0, SCHEMA_VISITS_MAX).flatMap((branch) => alternativesOf(resolve(branch, root), visits));
    }
  }
  const all = own(object, 'allOf');
  if (Array.isArray(all) && all.length > 0 && !Object.hasOwn(object, 'type')) {
    return alternativesOf(merged([...all, { ...object, allOf: undefined }], root), visits);
  }
  const type = own(object, 'type');
  const named = (Array.isArray(type) ? type : [type]).filter((one) => TYPES.has(one)) as TypeName[];
  const types = named.length > 0 ? named : impliedTypes(object);
  return types.length > 0 ? types.map((one) => ({ type: one, schema })) : [{ type: null, schema }];
}

/** What all parts say together; the first one that says something about a keyword counts, properties are joined. */
function merged(parts: readonly unknown[], root: SchemaObject): Schema {
  const result = new Map<string, unknown>();
  const properties = new Map<string, unknown>();
  for (const part of parts) {
    const resolved = resolve(part, root)?.own ?? {};
    for (const [key, value] of Object.entries(resolved)) {
      if (key === 'properties' && isObject(value)) {
        for (const [name, child] of Object.entries(value)) if (!properties.has(name)) properties.set(name, child);
      } else if (value !== undefined && !result.has(key)) result.set(key, value);
    }
  }
  if (properties.size > 0) result.set('properties', Object.fromEntries(properties));
  return { own: Object.fromEntries(result), root };
}

/** Of a property of an object. Null: the schema does not know it. */
export function propertySchema(schema: Schema, name: string): Schema {
  for (const { type, schema: one } of alternativesOf(schema)) {
    if (one === null || (type !== 'object' && type !== null)) continue;
    const properties = own(one.own, 'properties');
    if (isObject(properties) && Object.hasOwn(properties, name)) return resolve(properties[name], one.root);
    const rest = own(one.own, 'additionalProperties');
    if (isObject(rest)) return resolve(rest, one.root);
  }
  return null;
}

/** Of an item of an array. */
export function itemSchema(schema: Schema, index: number): Schema {
  for (const { type, schema: one } of alternativesOf(schema)) {
    if (one === null || (type !== 'array' && type !== null)) continue;
    const first = own(one.own, 'prefixItems');
    if (Array.isArray(first) && index < first.length) return resolve(first[index], one.root);
    return resolve(own(one.own, 'items'), one.root);
  }
  return null;
}

/** A string, object or array of JSON may go out while it comes: no part of it can turn it into something else. */
export function streams(schema: Schema, type: 'string' | 'object' | 'array'): boolean {
  const all = alternativesOf(schema);
  const fits = (one: Alternative): boolean => one.type === type || one.type === null;
  return type === 'string' ? all.some(fits) : all.length === 1 && fits(all[0]!);
}

/** Raw text (an XML value) that stays the text it is, whatever comes. */
export function staysText(schema: Schema): boolean {
  const first = alternativesOf(schema)[0]!;
  return first.type === 'string' || first.type === null;
}

class Coercion {
  #steps = 0;

  #fits(value: Lossless, { type }: Alternative): boolean {
    if (type === null) return true;
    if (typeof value === 'string') return type === 'string';
    if (value instanceof JsonNumber) return type === 'number' || (type === 'integer' && INTEGER.test(value.text));
    if (typeof value === 'boolean') return type === 'boolean';
    if (value === null) return type === 'null';
    return type === (Array.isArray(value) ? 'array' : 'object');
  }

  /** The parts of an object or array; undefined when one of them fits nowhere. */
  #inside(value: Lossless, { schema }: Alternative): Lossless | undefined {
    if (schema === null) return value;
    if (Array.isArray(value)) {
      const items: Lossless[] = [];
      for (const [index, item] of value.entries()) {
        const made = this.value(item, itemSchema(schema, index));
        if (made === undefined) return undefined;
        items.push(made);
      }
      return items;
    }
    if (!(value instanceof Map)) return value;
    const members = new Map<string, Lossless>();
    for (const [key, child] of value) {
      const made = this.value(child, propertySchema(schema, key));
      if (made === undefined) return undefined;
      members.set(key, made);
    }
    return members;
  }

  #fromText(text: string, alternative: Alternative): Lossless | undefined {
    const { type } = alternative;
    if (type === 'string' || type === null) return text;
    const literal = text.trim();
    if (type === 'integer' || type === 'number') {
      return (type === 'integer' ? INTEGER : NUMBER).test(literal) ? new JsonNumber(literal) : undefined;
    }
    if (type === 'boolean' || type === 'null') {
      const word = WORDS.get(literal);
      return word !== undefined && (word === null) === (type === 'null') ? word : undefined;
    }
    const value = parseLossless(literal);
    if (value === undefined || typeof value !== 'object' || !this.#fits(value, alternative)) return undefined;
    return this.#inside(value, alternative);
  }

  /** Undefined: it fits no alternative. What fits as it is comes first, then what can be read as one, in order. */
  value(value: Lossless, schema: Schema): Lossless | undefined {
    this.#steps += 1;
    if (this.#steps > COERCION_STEPS_MAX) return undefined;
    const all = alternativesOf(schema);
    for (const one of all) {
      const made = this.#fits(value, one) ? this.#inside(value, one) : undefined;
      if (made !== undefined) return made;
    }
    for (const one of all) {
      if (typeof value === 'string') {
        const made = this.#fromText(value, one);
        if (made !== undefined) return made;
      } else if (one.type === 'string' && value !== null) return writeLossless(value);
    }
    return undefined;
  }

  text(text: string, schema: Schema): Lossless | undefined {
    for (const one of alternativesOf(schema)) {
      const made = this.#fromText(text, one);
      if (made !== undefined) return made;
    }
    return undefined;
  }
}

/** A JSON value as the schema wants it. Undefined: it cannot be read so. */
export function coerceValue(value: Lossless, schema: Schema): Lossless | undefined {
  return new Coercion().value(value, schema);
}

/** Text without a type of its own: the schema's alternatives are tried in order. */
export function coerceText(text: string, schema: Schema): Lossless | undefined {
  return new Coercion().text(text, schema);
}
