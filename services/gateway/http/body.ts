// The JSON body of a request, bounded, and its validation with errors that name the field.
import type { IncomingMessage } from 'node:http';
import type { z } from 'zod';
import { QuernError } from '#kit/errors.ts';
import { describeIssue } from '#kit/schema-errors.ts';
import { HTTP_BODY_BYTES_MAX, HTTP_JSON_DEPTH_MAX } from '../limits.ts';
import { HttpFailure } from './failure.ts';

function tooLarge(): HttpFailure {
  const message = `the body exceeds ${HTTP_BODY_BYTES_MAX} bytes; send less`;
  return new HttpFailure(413, 'request_too_large', message, { connection: 'close' });
}

/** Reads the whole body. Throws 413 as soon as it is known to be too large. */
export function readBody(request: IncomingMessage): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > HTTP_BODY_BYTES_MAX) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > HTTP_BODY_BYTES_MAX) {
        request.removeAllListeners('data');
        request.resume(); // drained, not kept; the connection closes after the answer
        reject(tooLarge());
      } else {
        chunks.push(chunk);
      }
    });
    request.once('end', () => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    request.once('error', (cause) => reject(clientGone(cause)));
    request.once('close', () => {
      if (!request.readableEnded) reject(clientGone(undefined));
    });
  });
}

export function clientGone(cause: unknown): QuernError {
  return new QuernError('CANCELLED', 'the client closed the connection', { reason: 'CLIENT_GONE' }, { cause });
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Deepest nesting of arrays and objects, for text that is JSON. */
export function jsonDepth(text: Uint8Array): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const byte = text[i];
    if (inString) {
      if (byte === BACKSLASH) i += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) {
      inString = true;
    } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      depth += 1;
      if (depth > deepest) deepest = depth;
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) {
      depth -= 1;
    }
  }
  return deepest;
}

/** Throws 400 for what is not JSON, or nested so deeply that walking it would exhaust the stack. */
export function parseJson(body: Buffer): unknown {
  const depth = jsonDepth(body);
  if (depth > HTTP_JSON_DEPTH_MAX) {
    const message = `expected JSON of at most ${HTTP_JSON_DEPTH_MAX} levels, got ${depth}; nest less`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'JSON_TOO_DEEP' });
  }
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : '';
    const actual = body.length === 0 ? 'an empty body' : `a body that does not parse (${detail.slice(0, 200)})`;
    throw new QuernError(
      'INVALID_ARGUMENT',
      `expected a JSON object, got ${actual}`,
      { reason: 'INVALID_JSON' },
      { cause },
    );
  }
}

type Issue = z.core.$ZodIssue;

/** Of a union's complaints the one that got furthest: the caller meant that branch. */
function deepest(issue: Issue, before: readonly PropertyKey[] = []): { path: PropertyKey[]; message: string } {
  const path = [...before, ...issue.path];
  if (issue.code !== 'invalid_union') return { path, message: issue.message };
  let best: { path: PropertyKey[]; message: string } = { path, message: issue.message };
  for (const branch of issue.errors) {
    const first = branch[0];
    if (!first) continue;
    const found = deepest(first, path);
    if (found.path.length > best.path.length) best = found;
  }
  return best;
}

/** messages[2].content */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const key of path) {
    if (typeof key === 'number') text += `[${key}]`;
    else text += text === '' ? String(key) : `.${String(key)}`;
  }
  return text;
}

/** The body as the schema's type. Throws INVALID_ARGUMENT naming each wrong field by its path. */
export function validate<S extends z.ZodType>(schema: S, json: unknown): z.output<S> {
  const parsed = schema.safeParse(json, { error: describeIssue });
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map((issue) => {
    const { path, message } = deepest(issue);
    return { field: formatPath(path) || 'body', description: message };
  });
  const first = fields[0] ?? { field: 'body', description: 'not valid' };
  const more = fields.length > 1 ? ` (and ${fields.length - 1} more)` : '';
  throw new QuernError('INVALID_ARGUMENT', `${first.field}: ${first.description}${more}`, { fields });
}
