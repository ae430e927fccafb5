// The arguments of a call as text from a model: bounds first, then grammar. JSON.parse alone would take the last of two equal
// keys, and a checker and a tool that disagree about which one counts are a way around the check.

import type { JsonObject, JsonValue } from './tool.ts';
import { ARGUMENTS_BYTES_MAX, ARGUMENTS_DEPTH_MAX, ARGUMENTS_KEYS_MAX } from './tool-limits.ts';

export type ParsedArguments = { ok: true; value: JsonObject } | { ok: false; message: string };

class Refusal extends Error {}

type Frame = { keys: Set<string> | null; expectsKey: boolean };

const SHOWN_KEY_CHARS_MAX = 60;
/** Of the text around a mistake. */
const SHOWN_CHARS_MAX = 20;

/** Where the string that begins at `at` (its quote) ends: after the closing quote, or at the end of the text. */
function stringEnd(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

function keyOf(raw: string): string {
  try {
    return String(JSON.parse(raw));
  } catch {
    return raw; // JSON.parse of the whole will say what is wrong
  }
}

function takeKey(frame: Frame, raw: string): void {
  const key = keyOf(raw);
  const shown = JSON.stringify(key.slice(0, SHOWN_KEY_CHARS_MAX));
  if (key === '__proto__') throw new Refusal('the key "__proto__" is not allowed');
  if (frame.keys!.has(key)) throw new Refusal(`the key ${shown} stands twice in one object`);
  frame.keys!.add(key);
  frame.expectsKey = false;
}

/** Depth, number of keys, and keys that stand twice, in one pass over the text; grammar is JSON.parse's. */
function checkShape(text: string): void {
  const frames: Frame[] = [];
  let keys = 0;
  for (let at = 0; at < text.length; ) {
    const char = text[at]!;
    const frame = frames.at(-1);
    if (char === '"') {
      const end = stringEnd(text, at);
      if (frame?.keys && frame.expectsKey) {
        if (++keys > ARGUMENTS_KEYS_MAX) throw new Refusal(`expected at most ${ARGUMENTS_KEYS_MAX} keys`);
        takeKey(frame, text.slice(at, end));
      }
      at = end;
      continue;
    }
    if (char === '{' || char === '[') {
      frames.push({ keys: char === '{' ? new Set() : null, expectsKey: char === '{' });
      if (frames.length > ARGUMENTS_DEPTH_MAX) throw new Refusal(`expected a depth of at most ${ARGUMENTS_DEPTH_MAX}`);
    } else if (char === '}' || char === ']') frames.pop();
    else if (char === ',' && frame) frame.expectsKey = frame.keys !== null;
    at++;
  }
}

function wellFormed(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed();
  if (Array.isArray(value)) return value.every(wellFormed);
  if (typeof value !== 'object' || value === null) return true;
  return Object.entries(value).every(([key, one]) => key.isWellFormed() && wellFormed(one));
}

export type ParsedJson = { ok: true; value: JsonValue } | { ok: false; message: string };

/** Reads JSON that a tool or model wrote: grammar, depth, number of keys, keys that stand twice. `name` begins the messages. */
export function parseBoundedJson(text: string, name: string): ParsedJson {
  try {
    checkShape(text);
    const value = JSON.parse(text) as JsonValue;
    if (!wellFormed(value)) return { ok: false, message: `${name}: expected well-formed text, got a lone surrogate` };
    return { ok: true, value };
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, message: `${name}: ${error.message}` };
    if (error instanceof SyntaxError) return { ok: false, message: `${name}: not JSON: ${syntaxProblem(error, text)}` };
    throw error;
  }
}

/** Reads the arguments of a call. "" is an empty object, as models send it for tools without parameters. */
export function parseArguments(text: string): ParsedArguments {
  const bytes = Buffer.byteLength(text);
  if (bytes > ARGUMENTS_BYTES_MAX) {
    return { ok: false, message: `arguments: expected at most ${ARGUMENTS_BYTES_MAX} bytes, got ${bytes}` };
  }
  const parsed = parseBoundedJson(text.trim() === '' ? '{}' : text, 'arguments');
  if (!parsed.ok) return parsed;
  const { value } = parsed;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { ok: false, message: 'arguments: expected a JSON object' };
  }
  return { ok: true, value: value as JsonObject };
}

/** Of V8's words only the place is of use: they quote as much of the text as they like. */
function syntaxProblem(error: SyntaxError, text: string): string {
  if (/end of JSON|Unterminated/.test(error.message)) return 'it ends too early';
  const place = /position (\d+)/.exec(error.message)?.[1];
  const shown = (from: number, to?: number): string => JSON.stringify(text.slice(from, to));
  if (place === undefined) return `expected an object such as {"name": "value"}, got ${shown(0, SHOWN_CHARS_MAX)}`;
  const at = Number(place);
  return `${shown(at, at + 1)} may not stand at position ${at}, after ${shown(Math.max(0, at - SHOWN_CHARS_MAX), at)}`;
}
