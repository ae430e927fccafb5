// Canonical JSON (RFC 8785): the same value always gives the same bytes, so that a hash names a definition.
import { QuernError } from '#kit/errors.ts';
import { sha256Hex } from '#kit/secure.ts';
import type { JsonValue } from './tool.ts';

function invalid(path: string, message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${path === '' ? 'value' : path}: ${message}`);
}

function textOf(value: JsonValue | undefined, path: string): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') {
    if (!value.isWellFormed()) throw invalid(path, 'expected well-formed text, got a lone surrogate');
    return JSON.stringify(value);
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw invalid(path, `expected a finite number, got ${value}`);
    return JSON.stringify(value === 0 ? 0 : value); // no -0
  }
  if (Array.isArray(value)) return `[${value.map((one, i) => textOf(one, `${path}[${i}]`)).join(',')}]`;
  if (typeof value !== 'object') throw invalid(path, `expected a JSON value, got ${typeof value}`);
  const entries = Object.entries(value as { [key: string]: JsonValue })
    .filter(([, one]) => one !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, one]) => `${textOf(key, path)}:${textOf(one, path === '' ? key : `${path}.${key}`)}`);
  return `{${entries.join(',')}}`;
}

/** Keys sorted by UTF-16 units, no blanks, numbers as ECMAScript writes them. Throws INVALID_ARGUMENT for what is not JSON. */
export function canonicalJson(value: JsonValue): string {
  return textOf(value, '');
}

/** Hex SHA-256 of the canonical JSON. */
export function canonicalSha256(value: JsonValue): string {
  return sha256Hex(canonicalJson(value));
}
