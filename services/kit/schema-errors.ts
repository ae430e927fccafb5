// What a schema's refusal says, in the words of the other messages: what was expected and what came. Given to
// safeParse({ error: describeIssue }); messages that stand in a schema itself win over these.
import type { z } from 'zod';

type RawIssue = Parameters<z.core.$ZodErrorMap>[0];

const TYPES: Record<string, string> = {
  int: 'a whole number',
  integer: 'a whole number',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'an array',
  object: 'an object',
  record: 'an object',
  null: 'null',
};

const SHOWN_CHARS_MAX = 60;

/** What a JSON value is: "a string", "an array", "null". */
function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'boolean') return String(value);
  return TYPES[typeof value] ?? typeof value;
}

function got(input: unknown): string {
  return input === undefined ? 'but it is missing' : `got ${kindOf(input)}`;
}

/** A number or word as it came; anything longer by its kind, since it may be someone's text. */
function gotValue(input: unknown): string {
  const text = typeof input === 'number' || typeof input === 'string' ? JSON.stringify(input) : undefined;
  return text === undefined || text.length > SHOWN_CHARS_MAX ? got(input) : `got ${text}`;
}

type Bound = { origin: string; inclusive?: boolean; input?: unknown };

/** `most`: the bound is a maximum. */
function describeBound(issue: Bound, bound: number | bigint, most: boolean): string {
  const { input } = issue;
  const limit = most ? (issue.inclusive ? 'at most' : 'less than') : issue.inclusive ? 'at least' : 'more than';
  const plural = Number(bound) === 1 ? '' : 's';
  if (typeof input === 'string') return `expected ${limit} ${bound} character${plural}, got ${input.length}`;
  if (Array.isArray(input)) return `expected ${limit} ${bound} element${plural}, got ${input.length}`;
  return `expected a number of ${limit} ${bound}, ${gotValue(input)}`;
}

function describeType(expected: string, input: unknown): string {
  const wanted = TYPES[expected] ?? expected;
  return typeof input === 'number' ? `expected ${wanted}, got ${input}` : `expected ${wanted}, ${got(input)}`;
}

/** "expected a string or an array, got a number": what the branches that refused the value itself wanted. */
function describeUnion(branches: readonly (readonly z.core.$ZodIssue[])[], input: unknown): string {
  const wanted = branches
    .map(([first]) => (first !== undefined && first.path.length === 0 ? first : undefined))
    .map((issue) => (issue?.code === 'invalid_type' ? TYPES[issue.expected] : undefined));
  const known = [...new Set(wanted.filter((each) => each !== undefined))];
  return known.length === 0 ? `not valid, ${got(input)}` : `expected ${known.join(' or ')}, ${got(input)}`;
}

/** One sentence for one issue; the caller puts the field's path in front. */
export function describeIssue(issue: RawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return describeType(issue.expected, issue.input);
    case 'too_big':
      return describeBound(issue, issue.maximum, true);
    case 'too_small':
      return describeBound(issue, issue.minimum, false);
    case 'invalid_value':
      return `expected one of ${issue.values.join(', ')}, ${gotValue(issue.input)}`;
    case 'invalid_format':
      return issue.format === 'regex'
        ? `expected text that matches ${issue.pattern}, ${gotValue(issue.input)}`
        : `expected ${issue.format} text, ${gotValue(issue.input)}`;
    case 'unrecognized_keys':
      return `has no field ${issue.keys.map((key) => JSON.stringify(key)).join(', ')}`;
    case 'invalid_union':
      return describeUnion(issue.errors, issue.input);
    case 'invalid_key':
      return issue.issues[0]?.message ?? 'a name that is not allowed here';
    default:
      return 'not valid';
  }
}
