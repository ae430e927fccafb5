/** `quern tools list` and `quern tools capabilities`. */
import { type Capability, Decision, type Tool, ToolKind } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import type { Io } from '../command.ts';
import { parseOptions } from '../options.ts';
import { formatNarrowTable } from '../table.ts';
import { textFor } from '../terminal-text.ts';
import { problemLines, statusText } from './status-text.ts';
import { connectTools, TOOLS_OPTIONS } from './tools-client.ts';
import { callerOf, WHO_OPTIONS } from './words.ts';

const COLUMNS = 120;

function word(values: Readonly<Record<string, number>>, value: number): string {
  const name = Object.entries(values).find(([, one]) => one === value)?.[0] ?? '';
  return name.slice(name.lastIndexOf('_') + 1).toLowerCase();
}

function plain(verb: string, positionals: readonly string[]): void {
  if (positionals.length === 0) return;
  throw new QuernError('INVALID_ARGUMENT', `quern tools ${verb} takes options only, got "${positionals.join(' ')}"`);
}

function toolObject({
  name,
  version,
  kind,
  description,
  annotations,
  decision,
  limits,
  sha256,
  unavailable,
  notConfigured = false,
  ...rest
}: Tool) {
  return {
    name,
    version,
    kind: word(ToolKind, kind),
    description,
    decision: word(Decision, decision),
    annotations,
    limits,
    unavailable,
    not_configured: notConfigured,
    input_schema: JSON.parse(rest.inputSchemaJson) as unknown,
    output_schema: rest.outputSchemaJson === '' ? null : (JSON.parse(rest.outputSchemaJson) as unknown),
    sha256: sha256.toString('hex'),
  };
}

const firstSentence = (text: string): string => text.split(/(?<=[.!?])\s|\n/)[0] ?? '';

/** What cannot run is not "allowed", whatever the policy says. */
function toolRow({ name, kind, decision, description, unavailable, notConfigured = false }: Tool): string[] {
  const kindWord = word(ToolKind, kind);
  if (notConfigured) return [name, kindWord, 'not set', unavailable];
  if (unavailable !== '') return [name, kindWord, 'cannot run', unavailable];
  return [name, kindWord, word(Decision, decision), firstSentence(description)];
}

export async function listTools(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseOptions(args, { ...TOOLS_OPTIONS, ...WHO_OPTIONS, json: { type: 'boolean' } });
  plain('list', positionals);
  const client = connectTools(values.address, io);
  try {
    const { tools, status } = await client.list({ caller: callerOf(values, { session: 'cli', request: uuidv7() }) });
    if (values.json) {
      io.stdout.write(`${textFor(io.stdout, JSON.stringify(tools.map(toolObject), null, 2))}\n`);
      if (status) io.stderr.write(textFor(io.stderr, problemLines(status)));
      return 0;
    }
    const rows = tools.map(toolRow);
    io.stdout.write(formatNarrowTable(['tool', 'kind', 'state', 'what'], rows, io.stdout.columns ?? COLUMNS));
    if (status) io.stdout.write(textFor(io.stdout, statusText(status, io.stdout.columns ?? COLUMNS)));
    return 0;
  } finally {
    client.close();
  }
}

function capabilityRow({ name, available, detail, remedy }: Capability): string[] {
  return [name, available ? 'ok' : 'missing', available || remedy === '' ? detail : `${detail} -> ${remedy}`];
}

/** Exit code 1 when there is no sandbox. */
export async function showCapabilities(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseOptions(args, {
    ...TOOLS_OPTIONS,
    json: { type: 'boolean' },
    probe: { type: 'boolean' },
  });
  plain('capabilities', positionals);
  const client = connectTools(values.address, io);
  try {
    const { tier, capabilities, probedUnixMs } = await client.capabilities(values.probe ?? false);
    const probed = new Date(Number(probedUnixMs)).toISOString();
    if (values.json) io.stdout.write(`${JSON.stringify({ tier, probed, capabilities }, null, 2)}\n`);
    else {
      const head = tier === '' ? 'no sandbox: nothing that needs one runs' : `sandbox tier ${tier}`;
      const table = formatNarrowTable(
        ['layer', 'state', 'seen'],
        capabilities.map(capabilityRow),
        io.stdout.columns ?? COLUMNS,
      );
      io.stdout.write(`${head} (tested ${probed})\n\n${table}`);
    }
    return tier === '' ? 1 : 0;
  } finally {
    client.close();
  }
}
