/** `quern infill FILE:LINE:COL`: fill in the middle at a place in a file. */
import { readFile, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { InfillMode, type InfillRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { Command } from '../command.ts';
import { connect, GATEWAY_OPTIONS } from '../gateway-client.ts';
import { parseOptions } from '../options.ts';
import { printStream } from '../print-stream.ts';
import { SAMPLING_OPTIONS, samplingFrom, samplingHelp } from '../sampling-options.ts';
import { textFor, visible } from '../terminal-text.ts';

const DEFAULTS = { maxTokens: 64, temperature: 0 };

export const infill: Command = {
  help: `usage: quern infill [options] FILE:LINE[:COL]

Fills in at a place of FILE. LINE and COL count from 1, as editors show them: COL 1 is before the first character of the
line; without COL the end of the line is meant. COL counts UTF-16 units.

${samplingHelp(DEFAULTS)}
  --single-line      stop at the end of the line
  --unbounded        stop where the model does, not where the code around the place ends
  --in-place         write the text into FILE
  --show             print the lines around the place with the text in them
  --quiet            no figures`,
  async run(args, io) {
    const { values, positionals } = parseOptions(args, {
      ...GATEWAY_OPTIONS,
      ...SAMPLING_OPTIONS,
      'single-line': { type: 'boolean' },
      unbounded: { type: 'boolean' },
      'in-place': { type: 'boolean' },
      show: { type: 'boolean' },
      quiet: { type: 'boolean' },
    });
    const place = parsePlace(positionals);
    const source = await readSource(place.file);
    const offset = offsetOf(source, place);
    const prefix = source.slice(0, offset);
    const suffix = source.slice(offset);
    const request: InfillRequest = {
      model: values.model ?? '',
      prefix,
      suffix,
      path: basename(place.file),
      repository: '',
      chunks: [],
      sampling: samplingFrom(values, DEFAULTS),
      stop: values.stop ?? [],
      options: undefined,
      mode: modeOf(values),
    };
    const live = !values.show;
    const gateway = connect(values, io);
    const events = gateway.infill(request, { signal: io.signal });
    const { text, figures } = await printStream(events, live ? io.stdout : undefined).finally(gateway.close);
    io.stdout.write(live ? '\n' : surroundings(prefix, text, suffix, io.stdout.isTTY === true));
    if (values['in-place']) await writeFile(place.file, prefix + text + suffix);
    if (!values.quiet) io.stderr.write(textFor(io.stderr, figures));
    return 0;
  },
};

function modeOf(values: { 'single-line'?: boolean; unbounded?: boolean }): InfillMode {
  if (values['single-line']) return InfillMode.INFILL_MODE_SINGLE_LINE;
  return values.unbounded ? InfillMode.INFILL_MODE_UNBOUNDED : InfillMode.INFILL_MODE_AUTO;
}

export type Place = { file: string; line: number; column: number | undefined };

const FORM = 'FILE:LINE[:COL], counted from 1';

/** Parses FILE:LINE[:COL]; FILE may hold colons. */
export function parsePlace(positionals: string[]): Place {
  const [text, ...rest] = positionals;
  const match = text === undefined || rest.length > 0 ? null : /^(.+?):(\d+)(?::(\d+))?$/.exec(text);
  if (match === null || match[1] === undefined) {
    const got = text === undefined ? 'nothing' : `"${positionals.join(' ')}"`;
    throw new QuernError('INVALID_ARGUMENT', `expected a place ${FORM}, got ${got}`);
  }
  return { file: match[1], line: Number(match[2]), column: match[3] === undefined ? undefined : Number(match[3]) };
}

const READ_ERRORS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'this user may not read it',
};

async function readSource(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new QuernError(
      'INVALID_ARGUMENT',
      `cannot read ${file}: ${READ_ERRORS[code ?? ''] ?? message}`,
      {},
      { cause: error },
    );
  }
}

/** The UTF-16 offset of a place; INVALID_ARGUMENT when the file has no such place. */
export function offsetOf(source: string, place: Place): number {
  const lines = source.split('\n');
  const line = lines[place.line - 1];
  if (line === undefined) {
    const range = lines.length === 1 ? 'line 1, the only one' : `a line from 1 to ${lines.length}`;
    throw new QuernError('INVALID_ARGUMENT', `${place.file}: expected ${range}, got ${place.line}`);
  }
  const width = line.endsWith('\r') ? line.length - 1 : line.length;
  const column = place.column ?? width + 1;
  if (column < 1 || column > width + 1) {
    const range = width === 0 ? 'column 1 in an empty line' : `a column from 1 to ${width + 1}`;
    throw new QuernError('INVALID_ARGUMENT', `${place.file}:${place.line}: expected ${range}, got ${column}`);
  }
  return lines.slice(0, place.line - 1).reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
}

function surroundings(prefix: string, text: string, suffix: string, color: boolean): string {
  const before = prefix.split('\n').slice(-4).join('\n');
  const after = suffix.split('\n').slice(0, 4).join('\n');
  if (!color) return `${before}${text}${after}\n`;
  return `${visible(before)}\u001b[32m${visible(text)}\u001b[0m${visible(after)}\n`;
}
