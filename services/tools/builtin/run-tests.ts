// run_tests: the command that an operator configured for the workspaces' tests.
import { commandAnswer } from '../command-tool.ts';
import type { LimitsPart } from '../definition.ts';
import type { Tool } from '../tool.ts';
import { builtinTool, checkItems, invalidArgument, listArgument } from './builtin-tool.ts';

export type TestCommand = {
  /** The first an absolute path inside the sandbox. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly limits: LimitsPart;
};

export function runTestsTool(command: TestCommand | null): Tool {
  return builtinTool({
    name: 'run_tests',
    description: "Runs the tests of the workspace's project with the configured command.",
    properties: {
      only: {
        type: 'array',
        maxItems: 32,
        items: { type: 'string', minLength: 1, maxLength: 1_024 },
        description: 'Names or paths of tests, handed to the command one by one; all when left out',
      },
    },
    required: [],
    annotations: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
    taint: { hasPrivate: true },
    ...(command && { limits: command.limits }),
    runs: command === null ? null : { argv: command.argv, env: command.env },
    unset:
      command === null
        ? 'not configured: set QUERN_TOOLS_TEST_COMMAND to what runs the tests, such as ["/usr/bin/npm","test"]'
        : null,
    async prepare(args, call) {
      const only = listArgument(args, 'only');
      checkItems(only, 'only');
      const option = only.find((item) => item.startsWith('-'));
      if (option !== undefined) throw invalidArgument('only', `${JSON.stringify(option)} would be an option`);
      return {
        kind: 'sandbox',
        command: {
          argv: [...(command?.argv ?? []), ...only],
          env: command?.env ?? {},
          stdin: null,
          workspace: { ...call.workspace, writable: true },
          binds: [],
          network: 'none',
        },
        answer: (end, output) => commandAnswer(end.exitCode, output, false),
      };
    },
  });
}
