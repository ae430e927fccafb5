// A tool that is a command: an argv template, filled in without a shell.
import { QuernError } from '#kit/errors.ts';
import { canonicalJson } from './canonical.ts';
import type { NetworkMode } from './jail/sandbox.ts';
import { parseBoundedJson } from './json-arguments.ts';
import type { CapturedOutput, JsonObject, JsonValue, Tool, ToolAnswer, ToolDefinition } from './tool.ts';
import { COMMAND_ARGV_MAX } from './tool-limits.ts';

export type CommandSpec = {
  /** The first an absolute path inside the sandbox. "{field}" stands for a field of the arguments, see docs/tools.md. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** json: the arguments; call: what the caller sent as stdin. */
  readonly stdin: 'none' | 'json' | 'call';
  readonly workspace: 'none' | 'read' | 'write';
  readonly network: NetworkMode;
};

const FIELD = /\{([A-Za-z_][A-Za-z0-9_-]*)\}/g;

/** Fields that a template names. */
export function fieldsOf(argv: readonly string[]): string[] {
  return argv.flatMap((item) => [...item.matchAll(FIELD)].map((match) => match[1]!));
}

function invalid(field: string, description: string): QuernError {
  const path = `arguments.${field}`;
  return new QuernError('INVALID_ARGUMENT', `${path}: ${description}`, { fields: [{ field: path, description }] });
}

const memberOf = (args: JsonObject, field: string): JsonValue | undefined =>
  Object.hasOwn(args, field) ? args[field] : undefined;

function textOf(value: JsonValue, field: string): string {
  if (typeof value === 'object') throw invalid(field, 'expected text, a number or true or false');
  const text = String(value);
  if (text.includes('\0')) throw invalid(field, 'expected text without NUL');
  return text;
}

/** One item of the template: none when a field it names is absent, several when it is a list. */
function fillItem(item: string, args: JsonObject, mayBeOption: boolean): string[] {
  const [whole] = item.match(/^\{([A-Za-z_][A-Za-z0-9_-]*)\}$/) ?? [];
  if (whole === undefined) {
    const fields = fieldsOf([item]);
    if (fields.some((field) => memberOf(args, field) === undefined || memberOf(args, field) === null)) return [];
    return [item.replaceAll(FIELD, (_, field: string) => textOf(memberOf(args, field)!, field))];
  }
  const field = whole.slice(1, -1);
  const value = memberOf(args, field);
  if (value === undefined || value === null) return [];
  const texts = Array.isArray(value) ? value.map((one: JsonValue) => textOf(one, field)) : [textOf(value, field)];
  for (const text of texts) {
    if (text.startsWith('-') && !mayBeOption) {
      throw invalid(field, `must not begin with "-", which ${JSON.stringify(item)} would make an option`);
    }
  }
  return texts;
}

/**
 * The argv of a call. A value is always one item, or one per element of a list; one that begins with "-" is refused where it
 * would be an option, that is before an item "--". Throws INVALID_ARGUMENT.
 */
export function fillArgv(argv: readonly string[], args: JsonObject): string[] {
  const separator = argv.indexOf('--');
  const filled = argv.flatMap((item, i) => fillItem(item, args, separator !== -1 && i > separator));
  if (filled.length > COMMAND_ARGV_MAX * 16) throw invalid('', `expected fewer than ${COMMAND_ARGV_MAX * 16} items`);
  return filled;
}

/** What a command's output means: exit 0 is success; with an output schema stdout is JSON. */
export function commandAnswer(exitCode: number | null, output: CapturedOutput, isJson: boolean): ToolAnswer {
  const ok = exitCode === 0;
  const parts = [output.stdout, output.stderr === '' ? '' : `[stderr]\n${output.stderr}`].filter((part) => part !== '');
  const answer: ToolAnswer = {
    ok,
    message: ok ? '' : `exit code ${exitCode}`,
    content: parts.join(output.stdout.endsWith('\n') ? '' : '\n'),
    structured: null,
    artifacts: [],
  };
  if (!ok || !isJson) return answer;
  const parsed = output.cut ? { ok: false as const, message: 'it was cut' } : parseBoundedJson(output.stdout, 'output');
  if (parsed.ok) return { ...answer, structured: parsed.value };
  return { ...answer, ok: false, message: `the tool promises a structured result: ${parsed.message}` };
}

export function commandTool(definition: ToolDefinition, fingerprint: string, spec: CommandSpec): Tool {
  return {
    definition,
    fingerprint,
    unavailable: () => null,
    async prepare(args, call) {
      const { workspace } = call;
      const stdin =
        spec.stdin === 'json' ? Buffer.from(canonicalJson(args)) : spec.stdin === 'call' ? call.stdin : null;
      return {
        kind: 'sandbox',
        command: {
          argv: fillArgv(spec.argv, args),
          env: spec.env,
          stdin,
          workspace: spec.workspace === 'none' ? null : { ...workspace, writable: spec.workspace === 'write' },
          binds: [],
          network: spec.network,
        },
        answer: (end, output) => commandAnswer(end.exitCode, output, definition.outputSchema !== null),
      };
    },
  };
}
