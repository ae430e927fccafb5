// Where arguments do not fit their schema, as a sentence for the model or person that wrote them: what was expected, what came, and
// what was probably meant.
import type { ErrorObject } from 'ajv/dist/2020.js';
import { nearest } from '#kit/nearest.ts';

const SHOWN_CHARS_MAX = 60;
const LISTED_CHARS_MAX = 400;
/** Of a foreign schema; looking for what was meant must not take long. */
const NAMES_MAX = 200;
const EDITS_MAX = 2;
/** Names that are shown of those that no schema has. */
const STRANGERS_MAX = 3;

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > SHOWN_CHARS_MAX ? `${text.slice(0, SHOWN_CHARS_MAX)}…` : text;
}

/** `"a", "b" or "c"` */
function oneOf(values: readonly unknown[]): string {
  const texts = values.map((value) => JSON.stringify(value));
  const all = texts.length > 1 ? `${texts.slice(0, -1).join(', ')} or ${texts.at(-1)}` : texts.join();
  return all.length > LISTED_CHARS_MAX ? `${all.slice(0, LISTED_CHARS_MAX)}…` : all;
}

function meant(name: unknown, candidates: readonly unknown[]): string {
  if (typeof name !== 'string' || name.length > SHOWN_CHARS_MAX) return '';
  const names = candidates.slice(0, NAMES_MAX).filter((one) => typeof one === 'string');
  const close = nearest(name.toLowerCase(), names, EDITS_MAX);
  return close === null ? '' : `; did you mean ${JSON.stringify(close)}?`;
}

const keysOf = (value: unknown): string[] => (typeof value === 'object' && value !== null ? Object.keys(value) : []);

/** Names what came under names that the schema does not have: one of them is probably meant. */
function missing({ params, parentSchema, data }: ErrorObject): string {
  const there = new Set(keysOf(data));
  const all = (Array.isArray(parentSchema?.required) ? parentSchema.required : []).filter((name) => !there.has(name));
  const names = all.includes(params.missingProperty) ? all : [params.missingProperty];
  const listed = names
    .map((name) => JSON.stringify(name))
    .join(', ')
    .slice(0, LISTED_CHARS_MAX);
  const known = new Set(keysOf(parentSchema?.properties));
  const unknown = [...there].filter((name) => !known.has(name)).slice(0, STRANGERS_MAX);
  const got = known.size === 0 || unknown.length === 0 ? '' : `, got ${unknown.map(shown).join(', ')}`;
  return `${names.length === 1 ? `the field ${listed} is missing` : `the fields ${listed} are missing`}${got}`;
}

/** `error`: of a checker that is verbose. */
export function schemaProblem(error: ErrorObject): string {
  const path = `arguments${error.instancePath.replaceAll('/', '.')}`;
  const { keyword, params, parentSchema, data } = error;
  const got = `got ${shown(data)}`;
  switch (keyword) {
    case 'additionalProperties': {
      const name = params.additionalProperty;
      return `${path}: has no field ${shown(name)}${meant(name, keysOf(parentSchema?.properties))}`;
    }
    case 'required':
      return `${path}: ${missing(error)}`;
    case 'enum':
      return `${path}: expected ${oneOf(params.allowedValues)}, ${got}${meant(data, params.allowedValues)}`;
    case 'const':
      return `${path}: expected ${oneOf([params.allowedValue])}, ${got}`;
    case 'type':
      return `${path}: expected ${[params.type].flat().join(' or ')}, ${got}`;
    default:
      return `${path}: ${error.message ?? keyword}, ${got}`;
  }
}
