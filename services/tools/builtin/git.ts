// git, to read only. The repository's own configuration, hooks and attributes could name programs: git gets a folder in /tmp as its
// repository, which links to objects, refs, index and logs of the real one and has a configuration of ours. The workspace is
// read-only as well.

import { commandAnswer } from '../command-tool.ts';
import type { Tool } from '../tool.ts';
import { COMMAND_ARGV_MAX } from '../tool-limits.ts';
import { WORK } from '../workspace-path.ts';
import {
  builtinTool,
  checkItems,
  invalidArgument,
  listArgument,
  type Programs,
  READS,
  textArgument,
} from './builtin-tool.ts';

const SUBCOMMANDS = [
  ...['status', 'diff', 'log', 'show', 'blame', 'ls-files', 'ls-tree', 'rev-parse', 'rev-list', 'for-each-ref'],
  ...['shortlog', 'describe', 'cat-file', 'merge-base', 'diff-tree'],
] as const;

/** Options that would write, run something, or read outside; the sandbox stops them too. */
const REFUSED =
  /^--(?:o|ou|out|outp|outpu|output|ext-diff|textconv|exec-path|git-dir|work-tree|no-index|help|filters)(?:=|$)/;

/** $1: git, the rest its arguments. Only the format of hashes is taken from the repository's configuration. */
const LOADER = `
g=/tmp/repository
[ -d .git ] && [ ! -L .git ] || { echo "the workspace is no git repository (there is no folder .git)" >&2; exit 2; }
[ -f .git/HEAD ] && [ ! -L .git/HEAD ] || { echo "the workspace has no .git/HEAD" >&2; exit 2; }
/usr/bin/mkdir -p "$g" && /usr/bin/head -c 4096 .git/HEAD >"$g/HEAD" || exit 2
for one in objects refs packed-refs index logs shallow ORIG_HEAD; do
  { [ -f ".git/$one" ] || [ -d ".git/$one" ]; } && /usr/bin/ln -s "$PWD/.git/$one" "$g/$one"
done
format=0
[ -f .git/config ] && [ "$("$1" config --no-includes --file .git/config --get extensions.objectformat 2>/dev/null)" = sha256 ] && format=1
printf '[core]\\n\\trepositoryformatversion = %s\\n\\tbare = false\\n' "$format" >"$g/config"
[ "$format" = 1 ] && printf '[extensions]\\n\\tobjectformat = sha256\\n' >>"$g/config"
exec "$@"
`.trim();

const OPTIONS = [
  ...['--no-pager', '--no-optional-locks', '--literal-pathspecs'],
  ...['-c', 'core.fsmonitor=false', '-c', 'core.hooksPath=/dev/null', '-c', 'core.attributesFile=/dev/null'],
  ...['-c', 'protocol.allow=never', '-c', 'color.ui=false', '-c', 'log.showSignature=false'],
];

const ENVIRONMENT = {
  GIT_DIR: '/tmp/repository',
  GIT_WORK_TREE: WORK,
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_ATTR_NOSYSTEM: '1',
  GIT_NO_LAZY_FETCH: '1',
  GIT_TERMINAL_PROMPT: '0',
  GIT_PAGER: '/usr/bin/cat',
};

/** Those of their options that run what a repository or its attributes name are off. */
const SAFE: Record<string, string[]> = {
  diff: ['--no-ext-diff', '--no-textconv'],
  log: ['--no-ext-diff', '--no-textconv'],
  show: ['--no-ext-diff', '--no-textconv'],
  'diff-tree': ['--no-ext-diff', '--no-textconv'],
};

export function gitTool({ bash, git }: Programs): Tool {
  return builtinTool({
    name: 'git',
    description:
      "Reads the workspace's git repository: status, diff, log, show, blame and the like. It changes nothing.",
    properties: {
      command: { enum: SUBCOMMANDS },
      args: {
        type: 'array',
        maxItems: COMMAND_ARGV_MAX,
        items: { type: 'string', maxLength: 1_024 },
        description: 'Its arguments, one item each',
      },
    },
    required: ['command'],
    annotations: READS,
    taint: { hasPrivate: true },
    limits: { wallMs: 20_000, cpuMs: 20_000 },
    runs: { loader: LOADER, git, bash, options: OPTIONS, environment: ENVIRONMENT },
    unavailable: () =>
      bash === null || git === null ? 'the toolchain has no git or no bash; install them there' : null,
    async prepare(args, call) {
      const subcommand = textArgument(args, 'command', '');
      const items = listArgument(args, 'args');
      checkItems(items, 'args');
      const end = items.indexOf('--');
      const refused = items.slice(0, end === -1 ? items.length : end).find((item) => REFUSED.test(item));
      if (refused !== undefined)
        throw invalidArgument('args', `the option ${JSON.stringify(refused)} is not for reading`);
      return {
        kind: 'sandbox',
        command: {
          argv: [
            bash ?? '',
            '-c',
            LOADER,
            'git',
            git ?? '',
            ...OPTIONS,
            subcommand,
            ...(SAFE[subcommand] ?? []),
            ...items,
          ],
          env: ENVIRONMENT,
          stdin: null,
          workspace: { ...call.workspace, writable: false },
          binds: [],
          network: 'none',
        },
        answer: (ended, output) => commandAnswer(ended.exitCode, output, false),
      };
    },
  });
}
