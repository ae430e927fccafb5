/** Writes deploy/env.example from the services' own settings: `node scripts/env-example.ts [--check]`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { describeEnv, type EnvSpec } from '#kit/env.ts';
import { auditEnv } from '../services/audit/config.ts';
import { cliEnv } from '../services/cli/config.ts';
import { engineEnv } from '../services/engine/config.ts';
import { gatewayEnv } from '../services/gateway/config.ts';
import { tokenizerEnv } from '../services/tokenizer/config.ts';
import { toolsEnv } from '../services/tools/config.ts';

const FILE = join(import.meta.dirname, '..', 'deploy', 'env.example');

/** Read by scripts and tests only. */
const SET_UP = `# Moves what set-up downloads and builds; default: .cache in the checkout, for nats-server and Jaeger ~/.cache/quern (XDG).
# QUERN_CACHE_DIR=

# Suites that npm test leaves out, comma separated; they are then reported as skipped.
# QUERN_TEST_SKIP=

# Folder of a real Hugging Face tokenizer for the tests that want one.
# QUERN_TEST_TOKENIZER_DIR=

# Stretches every time limit of npm test on a slow machine.
# QUERN_TEST_TIMEOUT_FACTOR=1

# "all": tests of tool calls cut every output into three pieces in every way; default: in the likeliest ways.
# QUERN_TEST_SPLITS=

# Log level of the services that contract tests start; default: silent.
# QUERN_TEST_LOG=

# Which seeded bug is on in a build of the CMake preset "mutant"; nothing reads it in other builds.
# QUERN_MUTANT=
`;

/** The whole file. A variable that several processes read is described once. */
export function environmentExample(): string {
  const sections: [string, EnvSpec][] = [
    ['The command line and quern up', cliEnv],
    ['The gateway', gatewayEnv],
    ['The tokenizer service', tokenizerEnv],
    ['The engine service', engineEnv],
    ['The tool service', toolsEnv],
    ['The audit service', auditEnv],
  ];
  const seen = new Set<string>();
  const parts = sections.map(([title, spec]) => {
    const fresh = Object.fromEntries(Object.entries(spec).filter(([, field]) => !seen.has(field.name)));
    for (const field of Object.values(fresh)) seen.add(field.name);
    const lines = describeEnv(fresh).map((line) =>
      line.replaceAll(`${import.meta.dirname.replace(/\/scripts$/, '')}/`, ''),
    );
    return `## ${title}\n\n${lines.join('\n')}`;
  });
  const head =
    '# Every environment variable of Quern, with its default. Written by scripts/env-example.ts; do not edit.\n';
  return `${[head, ...parts, `## Set-up and tests\n\n${SET_UP}`].join('\n')}`;
}

if (import.meta.main) {
  const text = environmentExample();
  if (!process.argv.includes('--check')) writeFileSync(FILE, text);
  else if (readFileSync(FILE, 'utf8') !== text) {
    process.stderr.write('deploy/env.example is not what the settings say; run "node scripts/env-example.ts"\n');
    process.exitCode = 1;
  }
}
