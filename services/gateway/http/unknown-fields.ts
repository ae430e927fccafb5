// Fields of a body that this path does not read and that its caller most likely meant to be read: told in a header, never refused, for
// OpenAI's clients send much that is not known here.
import type { z } from 'zod';
import { nearest } from '#kit/nearest.ts';
import { validate } from './body.ts';
import type { Exchange } from './exchange.ts';
import { sharedFields } from './sampling-schema.ts';

export const UNKNOWN_FIELDS_HEADER = 'x-quern-unknown-fields';

const EDITS_MAX = 2;
/** One edit for so many characters: of "id" nothing can be told. */
const CHARS_PER_EDIT = 4;
const TOLD_MAX = 8;
const LOOKED_AT_MAX = 64;
const NAME_CHARS_MAX = 48;

/** What some other path reads. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  ...Object.keys(sharedFields),
  ...['max_tokens', 'max_completion_tokens', 'max_length', 'n_predict', 'n_cmpl', 'suffix', 'echo', 'logprobs'],
  ...['parse_special', 'tool_execution', 'session_id', 'chat_template_kwargs', 'parallel_tool_calls'],
  ...['path', 'repository', 'language_id', 'mode', 'soft_deadline_ms', 't_max_predict_ms', 'max_prompt_tokens'],
  'response_fields',
]);

/** "max_tokens" of maxTokens and max-tokens. */
const snakeCase = (name: string): string =>
  name
    .replace(/(?<=[a-z0-9])[A-Z]/g, (capital) => `_${capital}`)
    .replaceAll('-', '_')
    .toLowerCase();

/** "max_token=max_tokens", "coalesce_ms" for a field of another path, null for what means nothing here. */
function told(name: string, known: readonly string[]): string | null {
  if (name.length > NAME_CHARS_MAX) return null;
  if (ELSEWHERE.has(name)) return name;
  const meant = nearest(snakeCase(name), known, Math.min(EDITS_MAX, Math.floor(name.length / CHARS_PER_EDIT)));
  return meant === null ? null : `${name.replace(/[^\w.-]/g, '?')}=${meant}`;
}

/** Fit for a header: at most TOLD_MAX of them, "..." behind those when there are more; "" = none. */
export function unknownFields(body: unknown, known: readonly string[]): string {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return '';
  const names = new Set(known);
  const unknown = Object.keys(body).filter((name) => !names.has(name));
  const all = unknown.slice(0, LOOKED_AT_MAX).flatMap((name) => told(name, known) ?? []);
  return [...all.slice(0, TOLD_MAX), ...(all.length > TOLD_MAX ? ['...'] : [])].join(', ');
}

/** As `validate`, and tells the caller, whatever becomes of the request, of fields that look like mistakes. */
export function readFields<S extends z.ZodObject>(
  schema: S,
  { body, response }: Pick<Exchange, 'body' | 'response'>,
): z.output<S> {
  const unknown = unknownFields(body, Object.keys(schema.shape));
  if (unknown !== '') response.setHeader(UNKNOWN_FIELDS_HEADER, unknown);
  return validate(schema, body);
}
