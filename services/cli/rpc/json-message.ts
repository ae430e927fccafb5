/** A JSON message checked against its descriptor before it is sent: a misspelt field is an error, never ignored. */
import {
  createFileRegistry,
  type DescEnum,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  fromJson,
  type JsonValue,
  toBinary,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { QuernError } from '#kit/errors.ts';
import { nearest } from '#kit/nearest.ts';
import { descriptorSet } from '#kit/rpc/descriptor-image.ts';
import { shortText } from '#kit/text-cut.ts';

const EDITS_MAX = 3;
const SHOWN_CHARS = 60;

let cached: FileRegistry | undefined;

function registry(): FileRegistry {
  cached ??= createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptorSet()));
  return cached;
}

/**
 * The bytes of the request of `service` (full name) and `method`, read from canonical proto JSON; field names may be
 * those of the .proto files or camelCase. Throws INVALID_ARGUMENT with the path of the first wrong field.
 */
export function encodeRequest(service: string, method: string, json: object): Uint8Array {
  const message = registry()
    .getService(service)
    ?.methods.find(({ name }) => name === method)?.input;
  if (message === undefined) throw new QuernError('INVALID_ARGUMENT', `no method ${service}/${method}`);
  const call = `${service.slice(service.lastIndexOf('.') + 1)}/${method}`;
  checkMessage(call, message, json, '');
  try {
    return toBinary(message, fromJson(message, json as JsonValue, { registry: registry() }));
  } catch (cause) {
    const detail = (cause as Error).message.replace(/^cannot decode (\w+) (?:[\w.]+\.)?(\w+) from JSON: /, '$2: ');
    throw new QuernError('INVALID_ARGUMENT', `${call}: ${detail}`, {}, { cause });
  }
}

/** Types whose JSON form is not their list of fields. */
const hasOwnJson = ({ typeName }: DescMessage): boolean => typeName.startsWith('google.protobuf.');

function checkMessage(call: string, message: DescMessage, value: unknown, path: string): void {
  if (value === null || hasOwnJson(message)) return;
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new QuernError('INVALID_ARGUMENT', `${call}: ${path}: expected an object, got ${shown(value)}`);
  }
  for (const [name, inner] of Object.entries(value)) {
    const field = message.fields.find((each) => each.name === name || each.jsonName === name);
    if (field === undefined) throw new QuernError('INVALID_ARGUMENT', unknownField(call, message, name, path));
    checkField(call, field, inner, path === '' ? name : `${path}.${name}`);
  }
}

function checkField(call: string, field: DescField, value: unknown, path: string): void {
  if (value === null) return;
  if (field.fieldKind === 'list') {
    if (!Array.isArray(value))
      throw new QuernError('INVALID_ARGUMENT', `${call}: ${path}: expected an array, got ${shown(value)}`);
    for (const [index, each] of value.entries()) checkValue(call, field, each, `${path}[${index}]`);
  } else if (field.fieldKind === 'map') {
    if (typeof value !== 'object' || Array.isArray(value))
      throw new QuernError('INVALID_ARGUMENT', `${call}: ${path}: expected an object, got ${shown(value)}`);
    for (const [key, each] of Object.entries(value)) checkValue(call, field, each, `${path}.${key}`);
  } else checkValue(call, field, value, path);
}

function checkValue(call: string, field: DescField, value: unknown, path: string): void {
  if (field.message !== undefined) checkMessage(call, field.message, value, path);
  else if (field.enum !== undefined) checkEnum(call, field.enum, value, path);
}

function checkEnum(call: string, { values }: DescEnum, value: unknown, path: string): void {
  if (typeof value === 'number') return;
  const names = values.map(({ name }) => name);
  if (typeof value === 'string' && names.includes(value)) return;
  const near =
    typeof value === 'string' ? values.find(({ localName }) => localName === value.toUpperCase()) : undefined;
  const meant = near?.name ?? nearest(String(value).toUpperCase(), names, EDITS_MAX);
  const hint = meant === null ? '' : `; did you mean ${meant}?`;
  throw new QuernError(
    'INVALID_ARGUMENT',
    `${call}: ${path}: expected one of ${names.join(', ')}, got ${shown(value)}${hint}`,
  );
}

function unknownField(call: string, message: DescMessage, name: string, path: string): string {
  const where = path === '' ? `${call} has` : `${call}: "${path}" has`;
  const meant = suggestions(message, name).map((each) => `"${each}"`);
  const hint = meant.length === 0 ? '' : `; did you mean ${meant.join(' or ')}?`;
  const fields = message.members.map((member) =>
    member.kind === 'oneof' ? member.fields.map((each) => each.name).join(' | ') : member.name,
  );
  const list = fields.length === 0 ? 'It takes no fields' : `Fields: ${fields.join(', ')}`;
  return `${where} no field "${name}"${hint || '.'} ${list}`;
}

/** Fields of that name in a message below, else the closest name here; a oneof stands for its fields. */
function suggestions(message: DescMessage, name: string): string[] {
  const below = message.fields.filter(
    (field) => field.fieldKind === 'message' && field.message.fields.some((inner) => inner.name === name),
  );
  if (below.length > 0) return below.map((field) => `${field.name}.${name}`);
  const members = [...message.members, ...message.oneofs.flatMap(({ fields }) => fields)];
  const found = nearest(
    name,
    members.map((member) => member.name),
    Math.min(EDITS_MAX, Math.ceil(name.length / 2)),
  );
  const member = members.find((each) => each.name === found);
  if (member === undefined) return [];
  return member.kind === 'oneof' ? member.fields.map((field) => field.name) : [member.name];
}

function shown(value: unknown): string {
  return shortText(JSON.stringify(value), SHOWN_CHARS);
}
