// Filters of Jinja that chat templates use and @huggingface/jinja lacks (select, reject, map with a filter's name) or
// does otherwise (string: models were trained on Python's spelling of lists, dictionaries and booleans; items: a tool
// without parameters has no properties to list, which is no error in Python).
// The parsed template is rewritten: `x | reject("in", y)` becomes a call of a function that gets x, "in" and y.
import { pythonText } from './python-text.ts';

/** What a template's value looks like to a function: lists hold the library's wrapped values. */
type Wrapped = { type: string; value: unknown };

type Node = { type?: string; [key: string]: unknown };

/** Names of the functions; no template or caller has a variable called like this. */
const FUNCTIONS = { select: '__select', reject: '__reject', map: '__map', string: '__string' } as const;

export const FILTER_FUNCTION_NAMES: readonly string[] = Object.values(FUNCTIONS);

const isWrapped = (value: unknown): value is Wrapped =>
  typeof value === 'object' && value !== null && 'type' in value && 'value' in value;

/** A plain JavaScript value from a wrapped one, at every depth. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  if (!isWrapped(value)) return value;
  return value.type === 'NullValue' ? null : plain(value.value);
}

const TESTS: Record<string, (value: unknown, argument: unknown) => boolean> = {
  in: (value, argument) =>
    typeof argument === 'string'
      ? argument.includes(String(value))
      : Array.isArray(argument) && argument.includes(value),
  equalto: (value, argument) => value === argument,
  eq: (value, argument) => value === argument,
  '==': (value, argument) => value === argument,
  ne: (value, argument) => value !== argument,
  '!=': (value, argument) => value !== argument,
  defined: (value) => value !== undefined,
  undefined: (value) => value === undefined,
  none: (value) => value === null,
  string: (value) => typeof value === 'string',
  number: (value) => typeof value === 'number',
  integer: (value) => Number.isInteger(value),
  boolean: (value) => typeof value === 'boolean',
  mapping: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
};

const isTrue = (value: unknown): boolean =>
  Array.isArray(value)
    ? value.length > 0
    : typeof value === 'object' && value !== null
      ? Object.keys(value).length > 0
      : Boolean(value);

function keep(list: unknown, name: unknown, argument: unknown, wanted: boolean): unknown[] {
  const test = name === undefined ? isTrue : TESTS[String(name)];
  if (!test) throw new Error(`Unknown test: ${String(name)}`);
  const items = plain(list);
  if (!Array.isArray(items)) throw new Error('select and reject expect a list');
  const compared = plain(argument);
  return items.filter((item) => test(item, compared) === wanted);
}

const MAPS: Record<string, (text: string) => string> = {
  trim: (text) => text.trim(),
  upper: (text) => text.toUpperCase(),
  lower: (text) => text.toLowerCase(),
  string: (text) => text,
};

function mapped(list: unknown, name: unknown): string[] {
  const change = MAPS[String(name)];
  if (!change)
    throw new Error(`map: expected attribute=, or one of ${Object.keys(MAPS).join(', ')}, got ${String(name)}`);
  const items = plain(list);
  if (!Array.isArray(items)) throw new Error('map expects a list');
  return items.map((item) => change(String(item)));
}

/** The functions, as variables for the template. */
export const FILTER_FUNCTIONS: Readonly<Record<string, unknown>> = {
  [FUNCTIONS.select]: (list: unknown, test?: unknown, argument?: unknown) => keep(list, test, argument, true),
  [FUNCTIONS.reject]: (list: unknown, test?: unknown, argument?: unknown) => keep(list, test, argument, false),
  [FUNCTIONS.map]: (list: unknown, name: unknown) => mapped(list, name),
  // In a list, because alone null and undefined look the same to a function.
  [FUNCTIONS.string]: (list: readonly unknown[]) => pythonText(plain(list[0])),
};

/** The filter's function and arguments when it is one of ours, else null. */
function ourFilter(filter: Node): { name: string; args: unknown[] } | null {
  const isCall = filter.type === 'CallExpression';
  const callee = (isCall ? filter.callee : filter) as Node;
  const args = isCall ? (filter.args as Node[]) : [];
  if (callee.type !== 'Identifier') return null;
  const name = callee.value as string;
  if (name === 'select' || name === 'reject') return { name: FUNCTIONS[name], args };
  if (name === 'string') return { name: FUNCTIONS.string, args: [] };
  // map(attribute=...) is the library's own.
  return name === 'map' && args[0]?.type === 'StringLiteral' ? { name: FUNCTIONS.map, args } : null;
}

/** `x | items` as `x | default({}) | items`: Jinja's gives nothing for what is not defined. */
function itemsOfNothing(expression: Node): void {
  const { type, value } = expression.filter as Node;
  if (type !== 'Identifier' || value !== 'items') return;
  const args = [{ type: 'ObjectLiteral', value: new Map() }];
  const orNothing = { type: 'CallExpression', callee: { type: 'Identifier', value: 'default' }, args };
  expression.operand = { type: 'FilterExpression', operand: expression.operand, filter: orNothing };
}

/** Rewrites those filters in a parsed template, in place. */
export function rewriteFilters(node: unknown): void {
  if (Array.isArray(node)) {
    for (const one of node) rewriteFilters(one);
    return;
  }
  if (node instanceof Map) {
    for (const [key, value] of node) {
      rewriteFilters(key);
      rewriteFilters(value);
    }
    return;
  }
  if (typeof node !== 'object' || node === null) return;
  const expression = node as Node;
  for (const child of Object.values(expression)) rewriteFilters(child);
  if (expression.type !== 'FilterExpression') return;
  itemsOfNothing(expression);
  const filter = ourFilter(expression.filter as Node);
  if (!filter) return;
  const operand = { type: 'ArrayLiteral', value: [expression.operand] };
  expression.type = 'CallExpression';
  expression.callee = { type: 'Identifier', value: filter.name };
  expression.args = [filter.name === FUNCTIONS.string ? operand : expression.operand, ...filter.args];
}
