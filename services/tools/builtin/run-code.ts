// run_code: a program that the model wrote. It arrives on stdin, before what the program itself reads from there, and is put into
// a file in the sandbox's own /tmp; no part of it is ever seen by a shell as its own text.

import { commandAnswer } from '../command-tool.ts';
import type { JsonObject, PreparedCall, Tool } from '../tool.ts';
import { COMMAND_ARGV_MAX } from '../tool-limits.ts';
import { artifactNames } from '../workspace-artifact.ts';
import { WORK } from '../workspace-path.ts';
import { builtinTool, checkItems, invalidArgument, listArgument, type Programs, textArgument } from './builtin-tool.ts';

/** $1 bytes of stdin become the file $2; the rest is the command, and what is left of stdin is its own. */
const LOADER = '/usr/bin/head -c "$1" >"$2" && shift 2 && exec "$@"';

type Language = 'python' | 'node' | 'bash';

const FILES: Record<Language, string> = { python: '/tmp/main.py', node: '/tmp/main.js', bash: '/tmp/main.sh' };
/** -s, -B: no site packages of a user, no compiled files in the workspace. */
const OPTIONS: Record<Language, string[]> = { python: ['-s', '-B'], node: [], bash: [] };
/** Modules of the workspace can be imported. */
const ENVIRONMENT: Record<Language, Record<string, string>> = {
  python: { PYTHONPATH: WORK, PYTHONUNBUFFERED: '1' },
  node: { NODE_PATH: `${WORK}/node_modules` },
  bash: {},
};

const TYPES: Record<string, string> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  svg: 'image/svg+xml',
  gif: 'image/gif',
  pdf: 'application/pdf',
  json: 'application/json',
  csv: 'text/csv',
  txt: 'text/plain',
  md: 'text/markdown',
  html: 'text/html',
};

function mediaType(path: string): string {
  return TYPES[/\.([a-z]+)$/i.exec(path)?.[1]?.toLowerCase() ?? ''] ?? '';
}

export function runCodeTool(programs: Programs): Tool {
  const found = (['python', 'node', 'bash'] as const).filter((language) => programs[language] !== null);
  const languages = programs.bash === null ? [] : found;

  function command(
    args: JsonObject,
    callStdin: Uint8Array | null,
  ): Pick<PreparedCall & { kind: 'sandbox' }, 'command'>['command'] {
    const language = textArgument(args, 'language', '') as Language;
    const interpreter = programs[language];
    if (programs.bash === null || interpreter === null) {
      throw invalidArgument(
        'language',
        `there is no ${language} in the sandbox; expected one of ${languages.join(', ')}`,
      );
    }
    const items = listArgument(args, 'args');
    checkItems(items, 'args');
    const code = Buffer.from(textArgument(args, 'code', ''));
    const stdin = Object.hasOwn(args, 'stdin')
      ? Buffer.from(textArgument(args, 'stdin', ''))
      : (callStdin ?? Buffer.alloc(0));
    const file = FILES[language];
    return {
      argv: [
        programs.bash,
        '-c',
        LOADER,
        'run_code',
        String(code.length),
        file,
        interpreter,
        ...OPTIONS[language],
        file,
        ...items,
      ],
      env: ENVIRONMENT[language],
      stdin: Buffer.concat([code, stdin]),
      workspace: null,
      binds: [],
      network: 'none',
    };
  }

  return builtinTool({
    name: 'run_code',
    description:
      'Runs a program in a sandbox without network. Its working folder is the workspace, which stays between calls.',
    properties: {
      language: { enum: ['python', 'node', 'bash'] },
      code: { type: 'string', minLength: 1, description: 'The whole program' },
      args: { type: 'array', maxItems: COMMAND_ARGV_MAX, items: { type: 'string', maxLength: 4_096 } },
      stdin: { type: 'string', description: 'What the program reads from its standard input' },
      artifacts: {
        type: 'array',
        maxItems: 16,
        items: { type: 'string', minLength: 1, maxLength: 1_024 },
        description: 'Files of the workspace to give back when the program has ended',
      },
    },
    required: ['language', 'code'],
    annotations: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
    taint: { hasPrivate: true },
    runs: { loader: LOADER, programs: { ...programs }, files: FILES, options: OPTIONS, environment: ENVIRONMENT },
    unavailable: () =>
      languages.length === 0 ? 'the toolchain has no bash, or nothing to run code with; install it there' : null,
    async prepare(args, call) {
      const artifacts = listArgument(args, 'artifacts');
      const wrong = artifacts.find((path) => artifactNames(path) === null);
      if (wrong !== undefined)
        throw invalidArgument('artifacts', `expected a path below the workspace, got ${JSON.stringify(wrong)}`);
      return {
        kind: 'sandbox',
        command: { ...command(args, call.stdin), workspace: { ...call.workspace, writable: true } },
        answer: (end, output) => ({
          ...commandAnswer(end.exitCode, output, false),
          artifacts: artifacts.map((path) => ({ path, mediaType: mediaType(path) })),
        }),
      };
    },
  });
}
