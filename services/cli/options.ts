/** Command-line options: node:util's parser with messages a person can act on. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { QuernError } from '#kit/errors.ts';
import { didYouMean } from './did-you-mean.ts';

type OptionSpecs = NonNullable<ParseArgsConfig['options']>;

/**
 * Parses `args`; throws INVALID_ARGUMENT naming the option and the known ones. `elsewhere` says of options that programs of
 * the same kind have what stands for them here.
 */
export function parseOptions<T extends OptionSpecs>(
  args: string[],
  options: T,
  elsewhere: Readonly<Record<string, string>> = {},
) {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    const known = Object.keys(options).map((name) => `--${name}`);
    const message = refusal((error as Error).message, args);
    const written = /^Unknown option '(--?[^'=]+)/.exec(message)?.[1];
    const hint = written === undefined ? '' : hintFor(written, known, elsewhere);
    throw new QuernError('INVALID_ARGUMENT', `${message}${hint} (known options: ${known.join(', ') || 'none'})`);
  }
}

/** Node's sentence in one line; where a value looks like an option, how such a value is written. */
function refusal(message: string, args: readonly string[]): string {
  const option = /^Option '[^']*?(--[\w-]+)[^']*' argument is ambiguous/.exec(message)?.[1];
  if (option === undefined) return message.split('. To specify')[0] ?? '';
  const got = args[args.indexOf(option) + 1] ?? '';
  return `${option}: expected a value, got "${got}"; one that begins with "-" is written ${option}=${got}`;
}

function hintFor(written: string, known: readonly string[], elsewhere: Readonly<Record<string, string>>): string {
  const here = Object.hasOwn(elsewhere, written) ? elsewhere[written] : undefined;
  return here === undefined ? didYouMean(written, known) : `; here it is ${here}`;
}

/** A whole number option within [min, max], or the default when absent. */
export function wholeNumber(
  name: string,
  text: string | undefined,
  fallback: number,
  min: number,
  max: number,
): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!/^-?\d+$/.test(text) || value < min || value > max) {
    throw new QuernError('INVALID_ARGUMENT', `--${name}: expected a whole number from ${min} to ${max}, got "${text}"`);
  }
  return value;
}

/** A decimal option within [min, max], or undefined when absent. */
export function decimal(name: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max) {
    throw new QuernError('INVALID_ARGUMENT', `--${name}: expected a number from ${min} to ${max}, got "${text}"`);
  }
  return value;
}

/** One of a closed list of words, or undefined when absent. */
export function choice<const T extends string>(
  name: string,
  value: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (value === undefined) return undefined;
  const found = choices.find((each) => each === value);
  if (found === undefined)
    throw new QuernError('INVALID_ARGUMENT', `--${name}: expected one of ${choices.join(', ')}, got "${value}"`);
  return found;
}
