// The typed reader of environment variables. Only a service's config.ts calls it. Every mistake is reported at once,
// each with what was expected, what came and what to do.
import { resolve } from 'node:path';
import { QuernError } from './errors.ts';
import { nearest } from './nearest.ts';

/** `actual` says what came instead when quoting the text would not. */
export type Parsed<T> = { ok: true; value: T } | { ok: false; expected: string; actual?: string };

/** One variable. Build it with str, int, bool, duration_ms, bytes, oneOf, path or list, or with those of env-files.ts. */
export type Field<T> = {
  readonly name: string;
  readonly doc: string;
  /** What may stand there, in words: "an integer 1..65535". */
  readonly expected: string;
  /** Undefined: required. Null: may be absent and is then null. */
  readonly fallback: T | undefined;
  /** The fallback as one would write it. */
  readonly fallbackText: string;
  readonly secret: boolean;
  parse(text: string): Parsed<T>;
};

// biome-ignore lint/suspicious/noExplicitAny: a spec holds fields of any type; ValuesOf gives each its own back
export type EnvSpec = Record<string, Field<any>>;
export type ValuesOf<S extends EnvSpec> = { [K in keyof S]: S[K] extends Field<infer T> ? T : never };

type Common<D> = { doc: string; default?: D; secret?: boolean };
/** What a field yields: T, or T | null when its default is null. */
type Out<T, D> = null extends D ? T | null : T;

/** A variable of a kind of its own: `parse` reads the text, `write` gives the default as one would write it. */
export function field<T, D extends T | null>(
  name: string,
  options: Common<D>,
  expected: string,
  write: (value: T) => string,
  parse: (text: string) => Parsed<T>,
): Field<Out<T, D>> {
  const fallback = options.default;
  const fallbackText = fallback === undefined || fallback === null ? '' : write(fallback as T);
  const built: Field<T | null> = {
    name,
    doc: options.doc,
    expected,
    fallback: fallback as T | null | undefined,
    fallbackText,
    secret: options.secret ?? false,
    parse,
  };
  return built as unknown as Field<Out<T, D>>;
}

/** Any text; `pattern` with `expected` narrows it. */
export function str<const D extends string | null = string>(
  name: string,
  options: Common<D> & { pattern?: RegExp; expected?: string },
): Field<Out<string, D>> {
  const expected = options.expected ?? (options.pattern ? `text that matches ${options.pattern}` : 'text');
  return field<string, D>(name, options, expected, String, (text) =>
    options.pattern && !options.pattern.test(text) ? { ok: false, expected } : { ok: true, value: text },
  );
}

type Range = { min?: number; max?: number };

function rangeText({ min, max }: Range, unit: (value: number) => string): string {
  if (min !== undefined && max !== undefined) return ` ${unit(min)}..${unit(max)}`;
  if (min !== undefined) return ` >= ${unit(min)}`;
  return max === undefined ? '' : ` <= ${unit(max)}`;
}

function inRange(value: number, { min, max }: Range): boolean {
  return (min === undefined || value >= min) && (max === undefined || value <= max);
}

/** A decimal integer in min..max. */
export function int<const D extends number | null = number>(
  name: string,
  options: Common<D> & Range,
): Field<Out<number, D>> {
  const expected = `an integer${rangeText(options, String)}`;
  return field<number, D>(name, options, expected, String, (text) => {
    const value = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
    return Number.isSafeInteger(value) && inRange(value, options) ? { ok: true, value } : { ok: false, expected };
  });
}

/** 1/0, true/false, yes/no, on/off. */
export function bool<const D extends boolean | null = boolean>(
  name: string,
  options: Common<D>,
): Field<Out<boolean, D>> {
  const expected = '1 or 0 (also true/false, yes/no, on/off)';
  return field<boolean, D>(
    name,
    options,
    expected,
    (value) => (value ? '1' : '0'),
    (text) => {
      if (/^(?:1|true|yes|on)$/i.test(text)) return { ok: true, value: true };
      if (/^(?:0|false|no|off)$/i.test(text)) return { ok: true, value: false };
      return { ok: false, expected };
    },
  );
}

const DURATION_MS: Record<string, number> = { '': 1, ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_BYTES: Record<string, number> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** The value in the largest unit that divides it: 90000 -> "90s". */
function inUnits(value: number, units: [string, number][]): string {
  for (const [unit, size] of units) if (value !== 0 && value % size === 0) return `${value / size}${unit}`;
  return `${value}${units.at(-1)![0]}`;
}

const durationText = (ms: number): string =>
  inUnits(ms, [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1_000],
    ['ms', 1],
  ]);
const sizeText = (size: number): string =>
  inUnits(size, [
    ['TiB', 2 ** 40],
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
    ['', 1],
  ]);

function quantity(text: string, units: Record<string, number>): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text);
  const unit = match ? units[match[2]!.toLowerCase()] : undefined;
  return match && unit !== undefined ? Math.round(Number(match[1]) * unit) : Number.NaN;
}

/** A duration as 250ms, 1.5s, 2m, 1h, 1d, or a number of milliseconds. Yields milliseconds. */
export function duration_ms<const D extends number | null = number>(
  name: string,
  options: Common<D> & Range,
): Field<Out<number, D>> {
  const expected = `a duration${rangeText(options, durationText)} such as 250ms, 1.5s, 2m or 1h`;
  return field<number, D>(name, options, expected, durationText, (text) => {
    const value = quantity(text, DURATION_MS);
    return Number.isSafeInteger(value) && inRange(value, options) ? { ok: true, value } : { ok: false, expected };
  });
}

/** A size as 64KiB, 1GiB, 10MB, or a number of bytes. Yields bytes. */
export function bytes<const D extends number | null = number>(
  name: string,
  options: Common<D> & Range,
): Field<Out<number, D>> {
  const expected = `a size${rangeText(options, sizeText)} such as 512KiB, 64MiB or 10GB`;
  return field<number, D>(name, options, expected, sizeText, (text) => {
    const value = quantity(text, SIZE_BYTES);
    return Number.isSafeInteger(value) && inRange(value, options) ? { ok: true, value } : { ok: false, expected };
  });
}

/** One of a closed list of words. */
export function oneOf<const C extends readonly string[], const D extends C[number] | null = C[number]>(
  name: string,
  choices: C,
  options: Common<D>,
): Field<Out<C[number], D>> {
  const expected = `one of ${choices.join(', ')}`;
  return field<C[number], D>(name, options, expected, String, (text) =>
    choices.includes(text) ? { ok: true, value: text as C[number] } : { ok: false, expected },
  );
}

/** A file or folder; relative ones count from the working directory. Yields an absolute path. */
export function path<const D extends string | null = string>(name: string, options: Common<D>): Field<Out<string, D>> {
  const expected = 'a path';
  return field<string, D>(name, options, expected, String, (text) =>
    text.includes('\0') ? { ok: false, expected } : { ok: true, value: resolve(text) },
  );
}

/** Comma-separated items, spaces around them ignored, empty ones refused. `pattern` holds for each item. */
export function list<const D extends readonly string[] | null = readonly string[]>(
  name: string,
  options: Common<D> & { pattern?: RegExp; expected?: string; max?: number },
): Field<Out<readonly string[], D>> {
  const { pattern, max = 64 } = options;
  const expected = `up to ${max} comma-separated ${options.expected ?? 'items'}`;
  return field<readonly string[], D>(
    name,
    options,
    expected,
    (items) => items.join(','),
    (text) => {
      const items = text.split(',').map((item) => item.trim());
      const bad = items.length > max || items.some((item) => item === '' || (pattern && !pattern.test(item)));
      return bad ? { ok: false, expected } : { ok: true, value: items };
    },
  );
}

export type ReadEnvOptions<S extends EnvSpec = EnvSpec> = {
  /**
   * Every QUERN_* name of the whole mesh (deploy/env.example lists them). With it each other QUERN_* variable is a
   * mistake; without it, since the processes of one machine share an environment, only a name one edit (two, if it is
   * long) away from one of ours that is itself not set.
   */
  known?: Iterable<string>;
  /**
   * Rules between variables: problems as "NAME: expected ..., got ...; do ...". It sees what could be read; a variable
   * with a mistake of its own is undefined.
   */
  check?: (values: Partial<ValuesOf<S>>) => readonly string[];
};

function unknownProblems(env: NodeJS.ProcessEnv, spec: EnvSpec, names: Iterable<string> | undefined): string[] {
  const ours = new Set(Object.values(spec).map((one) => one.name));
  const known = names === undefined ? null : new Set([...names, ...ours]);
  const problems: string[] = [];
  for (const name of Object.keys(env).sort()) {
    if (!name.startsWith('QUERN_') || ours.has(name) || known?.has(name)) continue;
    const unset = [...(known ?? ours)].filter((candidate) => env[candidate] === undefined);
    const meant = nearest(name, unset, known ? 3 : name.length < 20 ? 1 : 2);
    if (meant) problems.push(`${name}: no such variable; did you mean ${meant}?`);
    else if (known) problems.push(`${name}: no such variable; remove it (deploy/env.example lists all)`);
  }
  return problems;
}

/**
 * Reads `spec` from `env`. An empty value counts as absent.
 * Throws one INVALID_ARGUMENT QuernError, reason CONFIG_INVALID, whose message and `fields` list every mistake.
 */
export function readEnv<const S extends EnvSpec>(
  env: NodeJS.ProcessEnv,
  spec: S,
  options: ReadEnvOptions<S> = {},
): ValuesOf<S> {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [key, one] of Object.entries(spec)) {
    const text = env[one.name]?.trim() ?? '';
    if (text === '') {
      if (one.fallback === undefined) {
        problems.push(`${one.name}: expected ${one.expected}, but it is not set; set it (${one.doc})`);
      } else {
        values[key] = one.fallback;
      }
      continue;
    }
    const parsed = one.parse(text);
    if (parsed.ok) values[key] = parsed.value;
    else {
      const actual = parsed.actual ?? (one.secret ? 'a value that does not fit' : `"${text}"`);
      const instead = one.fallback === undefined ? 'correct it' : 'correct it, or remove it for the default';
      const fallback = one.fallbackText === '' ? '' : ` ${one.fallbackText}`;
      problems.push(`${one.name}: expected ${parsed.expected}, got ${actual}; ${instead}${fallback} (${one.doc})`);
    }
  }
  problems.push(...(options.check?.(values as Partial<ValuesOf<S>>) ?? []));
  problems.push(...unknownProblems(env, spec, options.known));
  if (problems.length > 0) {
    const count = problems.length === 1 ? '1 mistake' : `${problems.length} mistakes`;
    const fields = problems.map((problem) => {
      const colon = problem.indexOf(':');
      return { field: problem.slice(0, colon), description: problem.slice(colon + 2) };
    });
    const message = `${count} in the environment:\n${problems.map((problem) => `  ${problem}`).join('\n')}`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'CONFIG_INVALID', fields });
  }
  return values as ValuesOf<S>;
}

/** The lines of deploy/env.example for one spec: a comment and the variable, commented out when it has a default. */
export function describeEnv(spec: EnvSpec): string[] {
  const lines: string[] = [];
  for (const one of Object.values(spec)) {
    const need = one.fallback === undefined ? ' Required.' : '';
    lines.push(`# ${one.doc}${/[.!?]$/.test(one.doc) ? '' : '.'} Expected: ${one.expected}.${need}`);
    lines.push(`${one.fallback === undefined ? '' : '# '}${one.name}=${one.secret ? '' : one.fallbackText}`, '');
  }
  return lines;
}

/** The variable names that a text in the form of deploy/env.example lists, commented out or not. */
export function namesInExample(text: string): string[] {
  return [...text.matchAll(/^#?\s*(QUERN_[A-Z0-9_]+)=/gm)].map((match) => match[1]!);
}
